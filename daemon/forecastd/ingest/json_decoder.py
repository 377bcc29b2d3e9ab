"""JSON records to observations, a poll at a time.

Records are decoded into typed structs made from the configured field paths. A poll without a bad
record passes through one C loop; one with a bad record falls back to a closer look at each, so that
it costs that record alone. (Joining a poll into one text to decode it by a single call is slower,
and not safe: what one sender wrote could be read as the record of another.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, compress, repeat
from operator import attrgetter
from typing import Any

import msgspec
import numpy as np

from forecastd.errors import DecodeError
from forecastd.ingest.event_time import (
    TIME_WANTED,
    TimeFormat,
    to_ms,
    to_ms_or_zero,
    whole_numbers_to_ms,
)
from forecastd.ingest.json_faults import invalid
from forecastd.records import (
    EARLIEST_MS,
    SERIES_BYTES_MAX,
    Decoded,
    Ints,
    Observations,
    Record,
    Reject,
    TopicPartition,
)

_LATEST_MS = 253_402_300_799_999  # 9999-12-31: where a timestamp is absurd whatever its record says
_FLOAT32_MAX = float(np.finfo(np.float32).max)
_NOT_DECODED = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


@dataclass(frozen=True, slots=True)
class Fields:
    """Where in a record the observation is.

    Attributes:
        series: field paths that name the series; none: the record key.
        separator: between the parts of a joined name.
        time: field path of the event time; None: the record's timestamp.
        time_format: form of the event time.
        values: field paths of the F values.
        max_ahead_ms: how far after its record's timestamp an event time may lie.
    """

    series: tuple[str, ...]
    separator: str
    time: str | None
    time_format: TimeFormat
    values: tuple[str, ...]
    max_ahead_ms: int


class JsonDecoder:
    """Decodes the records of one partition of one poll."""

    def __init__(self, fields: Fields) -> None:
        self._fields = fields
        paths: dict[str, Any] = dict.fromkeys(fields.values, float)
        paths |= dict.fromkeys(fields.series, str | int)
        if fields.time is not None:
            paths[fields.time] = str | int | float
        struct, names = _struct(paths)
        self._decoder = msgspec.json.Decoder(struct | list[struct])  # type: ignore[valid-type]  # made at run time
        self._series = _getter([names[path] for path in fields.series])
        self._values = _getter([names[path] for path in fields.values])
        self._time = _getter([names[fields.time]]) if fields.time is not None else None

    def decode(self, partition: TopicPartition, records: Sequence[Record]) -> Decoded:
        """Observations of records in offset order, and the records that hold none.

        A record with several observations is taken whole or not at all.
        """
        owners = [record for record in records if record.value is not None]
        tombstones = len(records) - len(owners)
        rejects: list[Reject] = []
        items = self._parse_all(owners)
        if items is None:
            items, owners = self._parse_each(partition, owners, rejects)
        if list in set(map(type, items)):
            items, owners = _flat(items, owners)
        observations = self._observations(partition, items, owners, rejects)
        rejects.sort(key=lambda reject: reject.record.offset)
        return Decoded(observations, rejects, tombstones)

    def _parse_all(self, records: Sequence[Record]) -> list[Any] | None:
        """What each record holds; None when any of them needs a closer look."""
        try:
            values = [record.value for record in records]
            parsed = list(map(self._decoder.decode, values))  # type: ignore[arg-type]  # present
        except _NOT_DECODED:
            return None
        return None if [] in parsed else parsed

    def _parse_each(
        self, partition: TopicPartition, records: Sequence[Record], rejects: list[Reject]
    ) -> tuple[list[Any], list[Record]]:
        """What each record holds that can be parsed, and those records."""
        parsed: list[Any] = []
        owners: list[Record] = []
        for record in records:
            try:
                parsed.append(self._parse(f"{partition}@{record.offset}", record.value))
                owners.append(record)
            except DecodeError as error:
                rejects.append(Reject(partition, record, error.reason, str(error)))
        return parsed, owners

    def _parse(self, at: str, value: bytes | None) -> Any:
        if not value:
            raise DecodeError(at, "empty", "no bytes", "a JSON object or a non-empty array of them")
        try:
            parsed = self._decoder.decode(value)
        except msgspec.ValidationError as error:
            raise invalid(at, str(error)) from error
        except RecursionError as error:
            raise DecodeError(at, "json", "JSON nested too deeply", "an observation") from error
        except _NOT_DECODED as error:
            said = str(error).removeprefix("JSON is malformed: ")
            said = said[:1].lower() + said[1:]
            raise DecodeError(at, "json", f"not JSON: {said}", "a JSON object or array") from error
        if parsed == []:
            raise DecodeError(at, "empty", "an empty array", "at least one observation")
        return parsed

    def _observations(
        self,
        partition: TopicPartition,
        items: list[Any],
        owners: list[Record],
        rejects: list[Reject],
    ) -> Observations:
        """Arrays of the observations that can be used; records with any other are rejected."""
        series = self._names(items, owners)
        offsets = np.array([record.offset for record in owners], np.int64)
        stamps = np.array([record.timestamp for record in owners], np.int64)
        at_ms = stamps if self._time is None else self._times(items)
        values = np.array(list(map(self._values, items)), np.float64)
        values = values.reshape(len(items), len(self._fields.values))
        latest = np.minimum(stamps, _LATEST_MS) + self._fields.max_ahead_ms
        np.minimum(latest, _LATEST_MS, out=latest)
        latest[stamps < 0] = _LATEST_MS  # a record of the oldest form has no timestamp
        good = (np.abs(values) <= _FLOAT32_MAX).all(axis=1)
        good &= (at_ms >= EARLIEST_MS) & (at_ms <= latest)
        # 128 characters are at most 512 bytes, so that nearly no name needs to be encoded.
        if "" in series or max(map(len, series), default=0) > SERIES_BYTES_MAX // 4:
            good &= [0 < len(name.encode()) <= SERIES_BYTES_MAX for name in series]
        if not good.all():
            for at in np.flatnonzero(~good).tolist():
                if not rejects or rejects[-1].record is not owners[at]:
                    first = int(np.searchsorted(offsets, owners[at].offset))
                    rejects.append(self._reject(partition, items, owners, at, first))
            good = ~np.isin(offsets, offsets[~good])
            series = list(compress(series, good.tolist()))
            at_ms, values = at_ms[good], values[good]
            offsets, stamps = offsets[good], stamps[good]
        return Observations(partition, series, at_ms, values, offsets, stamps)

    def _names(self, items: list[Any], owners: list[Record]) -> list[str]:
        """Series names; empty where a key is not UTF-8."""
        if not self._fields.series:
            return [_utf8(record.key) for record in owners]
        parts = map(self._series, items)
        if len(self._fields.series) == 1:
            return [part if type(part) is str else str(part) for part in parts]
        return [self._fields.separator.join(map(str, several)) for several in parts]

    def _times(self, items: list[Any]) -> Ints:
        """Event times; 0 where there is none to be read."""
        assert self._time is not None
        times = list(map(self._time, items))
        if set(map(type, times)) == {int} and max(map(abs, times)) < 2**63:
            return whole_numbers_to_ms(np.array(times, np.int64), self._fields.time_format)
        read = (to_ms_or_zero(time, self._fields.time_format) for time in times)
        return np.fromiter(read, np.int64, len(times))

    def _reject(
        self, partition: TopicPartition, items: list[Any], owners: list[Record], at: int, first: int
    ) -> Reject:
        """Reject the record that holds item `at`, the first of whose items is `first`."""
        record, place = owners[at], f"{partition}@{owners[at].offset}"
        if at > first or (at + 1 < len(owners) and owners[at + 1] is record):
            place = f"{place}[{at - first}]"
        try:
            self._explain(place, items[at], record)
        except DecodeError as error:
            return Reject(partition, record, error.reason, str(error))
        raise AssertionError(f"{place}: rejected without a reason")

    def _explain(self, at: str, item: Any, record: Record) -> None:
        """Raise what is wrong with an observation that has the right types."""
        for path, value in zip(self._fields.values, _as_tuple(self._values(item)), strict=True):
            if not abs(value) <= _FLOAT32_MAX:
                found = f"field '{path}' is {value:g}"
                raise DecodeError(at, "number", found, "a finite number in float32's range")
        self._explain_name(at, item, record)
        self._explain_time(at, item, record)

    def _explain_name(self, at: str, item: Any, record: Record) -> None:
        where = f"field '{'+'.join(self._fields.series)}'" if self._fields.series else "the key"
        (name,) = self._names([item], [record])
        size = len(name.encode())
        if not size and record.key and not self._fields.series:
            raise DecodeError(at, "series", f"{where} is not UTF-8", "a series name")
        if not 0 < size <= SERIES_BYTES_MAX:
            found = f"{where} has {size} bytes"
            raise DecodeError(at, "series", found, f"a series name of 1 to {SERIES_BYTES_MAX}")

    def _explain_time(self, at: str, item: Any, record: Record) -> None:
        if self._time is None:
            time, at_ms = record.timestamp, record.timestamp
            where = "the record's timestamp"
        else:
            time, where = self._time(item), f"field '{self._fields.time}'"
            try:
                at_ms = min(to_ms(time, self._fields.time_format), 2**62)
            except (ValueError, OverflowError) as error:
                wanted = TIME_WANTED[self._fields.time_format]
                raise DecodeError(at, "time", f"{where} is {_quoted(time)}", wanted) from error
        found = f"{where} is {_quoted(time)}"
        if at_ms < EARLIEST_MS:
            raise DecodeError(at, "time", found, "a time from 1990 on")
        if at_ms > _LATEST_MS:
            raise DecodeError(at, "time", found, "a time before the year 10000")
        if at_ms > record.timestamp + self._fields.max_ahead_ms:
            wanted = "a time at most ingest.max_ahead after the record's own timestamp"
            raise DecodeError(at, "time", f"{found} ({at_ms} ms)", wanted)


def _struct(paths: dict[str, Any]) -> tuple[type[msgspec.Struct], dict[str, str]]:
    """A struct type for dotted paths, and the attribute path of each.

    Attributes get plain names, so that a field of any name can be read.
    """
    groups: dict[str, dict[str, Any]] = {}
    for path, kind in paths.items():
        head, _, rest = path.partition(".")
        groups.setdefault(head, {})[rest] = kind
    fields: list[tuple[str, Any]] = []
    renamed: dict[str, str] = {}
    names: dict[str, str] = {}
    for number, (head, below) in enumerate(groups.items()):
        attribute = f"f{number}"
        renamed[attribute] = head
        if "" in below:
            fields.append((attribute, below[""]))
            names[head] = attribute
            continue
        inner, inner_names = _struct(below)
        fields.append((attribute, inner))
        names |= {f"{head}.{path}": f"{attribute}.{name}" for path, name in inner_names.items()}
    struct = msgspec.defstruct("Observation", fields, rename=renamed, gc=False)
    return struct, names


def _flat(items: list[Any], owners: list[Record]) -> tuple[list[Any], list[Record]]:
    """One item an observation, and the record of each."""
    counts = [len(item) if type(item) is list else 1 for item in items]
    flat = chain.from_iterable(item if type(item) is list else (item,) for item in items)
    return list(flat), list(chain.from_iterable(map(repeat, owners, counts)))


def _getter(paths: list[str]) -> Any:
    return attrgetter(*paths) if paths else None


def _as_tuple(values: Any) -> tuple[float, ...]:
    return values if isinstance(values, tuple) else (values,)


def _utf8(key: bytes | None) -> str:
    try:
        return (key or b"").decode()
    except UnicodeDecodeError:
        return ""


def _quoted(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
