"""A finished window as the windows topic holds it: the steps, and the scale they were fed with.

    magic "fcw" | schema 1 byte | crc32 4 bytes | timesteps, features, partition | topic | series
    | number, offsets, first time | gaps | steps, median, spread, the step before

All numbers are little-endian. `decode(encode(x))` is x, bit for bit. The crc covers all that
follows it. A window is self-contained: topic and series are in it, whatever the message's key is.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np

from forecastd.errors import WindowError
from forecastd.records import EARLIEST_MS, Floats, Ints, TopicPartition

SCHEMA = 1
"""Version of the form above."""

Fault = Literal["frame", "schema", "checksum", "content"]
"""Why a record of the windows topic can be unusable; what they are counted by."""

_MAGIC = b"fcw"
_HEAD = struct.Struct("<3sBIIHiHH")  # the last two: bytes of topic and series
_CRC_FROM = 8
_FIRST = struct.Struct("<qqqq")
_LATEST_MS = 2**62  # beyond it sums of times would not fit
_VALUE_MAX = float(np.finfo(np.float32).max)


@dataclass(frozen=True, slots=True, eq=False)
class Windows:
    """Finished windows of several series, at most one a series.

    Attributes:
        partitions: of each series.
        series: names.
        numbers: (B,) how many windows of the same phase the series had before it in this life.
        first_offsets, last_offsets: (B,) records that hold the first and the last step.
        at_ms: (B, T) event times, strictly increasing.
        values: (B, T, F) in the series' own unit, oldest step first.
        before: (B, F) the step before the window; NaN where the series begins with it.
        median, spread: (B, F) of the tail at the window's end: what it was fed with.
    """

    partitions: Sequence[TopicPartition]
    series: Sequence[str]
    numbers: Ints
    first_offsets: Ints
    last_offsets: Ints
    at_ms: Ints
    values: Floats
    before: Floats
    median: Floats
    spread: Floats


@dataclass(frozen=True, slots=True, eq=False)
class WindowRecord:
    """One of `Windows`, as it was read: its arrays lack the first axis, and are not written to."""

    partition: TopicPartition
    series: str
    number: int
    first_offset: int
    last_offset: int
    at_ms: Ints
    values: Floats
    before: Floats
    median: Floats
    spread: Floats

    @property
    def source(self) -> str:
        """The series, unmistakable among those of all topics.

        A topic's name has no bracket, so that no two series share this one.
        """
        return f"{self.partition}:{self.series}"


def encode_windows(windows: Windows) -> list[bytes]:
    """One value of the windows topic a window."""
    count, timesteps, features = windows.values.shape
    cells = np.empty(count, _cells(timesteps, features))
    cells["number"] = windows.numbers
    cells["first_offset"] = windows.first_offsets
    cells["last_offset"] = windows.last_offsets
    cells["start_ms"] = windows.at_ms[:, 0]
    cells["gap_ms"] = np.diff(windows.at_ms)
    cells["values"] = windows.values
    cells["median"] = windows.median
    cells["spread"] = windows.spread
    cells["before"] = windows.before
    size, packed = cells.dtype.itemsize, cells.tobytes()
    encoded = []
    for at, (read, series) in enumerate(zip(windows.partitions, windows.series, strict=True)):
        names = (read.topic.encode(), series.encode())
        head = (_MAGIC, SCHEMA, 0, timesteps, features, read.partition, *map(len, names))
        body = b"".join((_HEAD.pack(*head), *names, packed[at * size : (at + 1) * size]))
        crc = zlib.crc32(memoryview(body)[_CRC_FROM:])
        encoded.append(body[:4] + crc.to_bytes(4, "little") + body[_CRC_FROM:])
    return encoded


def encode(record: WindowRecord) -> bytes:
    """The value of the windows topic that holds one window."""
    return encode_windows(
        Windows(
            [record.partition],
            [record.series],
            np.array([record.number]),
            np.array([record.first_offset]),
            np.array([record.last_offset]),
            record.at_ms[None],
            record.values[None],
            record.before[None],
            record.median[None],
            record.spread[None],
        )
    )[0]


def decode(value: bytes) -> WindowRecord:
    """Read a value of the windows topic, of which nothing is taken on trust.

    Raises:
        WindowError: it is not a whole and possible window of a form that we know.
    """
    timesteps, features, partition, topic_bytes, series_bytes = _checked_head(value)
    topic_end = _HEAD.size + topic_bytes
    start = topic_end + series_bytes
    gaps_at = start + _FIRST.size
    values_at = gaps_at + 4 * (timesteps - 1)
    rows = timesteps + 3
    if timesteps < 1 or features < 1 or len(value) != values_at + 8 * features * rows:
        found = f"{len(value)} bytes for {timesteps} steps of {features} values"
        raise WindowError("frame", found, "as many as that takes")
    number, first_offset, last_offset, start_ms = _FIRST.unpack_from(value, start)
    numbers = np.frombuffer(value, "<f8", rows * features, values_at).reshape(rows, features)
    at_ms = np.full(timesteps, start_ms, np.int64)
    at_ms[1:] += np.frombuffer(value, "<u4", timesteps - 1, gaps_at).cumsum(dtype=np.int64)
    record = WindowRecord(
        TopicPartition(_text(value[_HEAD.size : topic_end]), partition),
        _text(value[topic_end:start]),
        number,
        first_offset,
        last_offset,
        at_ms,
        values=numbers[:timesteps],
        median=numbers[-3],
        spread=numbers[-2],
        before=numbers[-1],
    )
    _check_content(record, numbers)
    return record


def _checked_head(value: bytes) -> tuple[int, int, int, int, int]:
    """Timesteps, features, partition, and the bytes of topic and series."""
    if len(value) < _HEAD.size or value[:3] != _MAGIC:
        found = f"{len(value)} bytes that begin with {value[:4]!r}"
        raise WindowError("frame", found, repr(_MAGIC))
    _, schema, crc, *rest = _HEAD.unpack_from(value)
    if schema != SCHEMA:
        raise WindowError("schema", f"schema {schema}", str(SCHEMA))
    if zlib.crc32(memoryview(value)[_CRC_FROM:]) != crc:
        found = f"another checksum over {len(value)} bytes"
        raise WindowError("checksum", found, f"{crc:08x}")
    timesteps, features, partition, topic_bytes, series_bytes = rest
    return timesteps, features, partition, topic_bytes, series_bytes


def _check_content(record: WindowRecord, numbers: Floats) -> None:
    """What a crc does not say: whoever wrote this may have been wrong."""
    at_ms, begins = record.at_ms, record.number == 0
    known = numbers[:-1] if begins else numbers  # all but the step before
    if not (0 <= record.first_offset <= record.last_offset and record.number >= 0):
        found = f"number {record.number} from offset {record.first_offset} on"
        wanted = "none below 0, and an offset that is not after the last"
    elif not EARLIEST_MS <= at_ms[0] <= _LATEST_MS or (at_ms[1:] <= at_ms[:-1]).any():
        found, wanted = f"times from {at_ms[0]} ms on", "strictly increasing ones from 1990 on"
    elif begins and not np.isnan(record.before).all():
        found, wanted = "a step before the first window of a series", "none"
    elif not np.abs(known).max() <= _VALUE_MAX:  # nor is NaN
        found, wanted = "a value that is not finite, or too large", "finite values of float32"
    elif not record.spread.min() > 0:
        found, wanted = "a spread that is not positive", "one above 0"
    else:
        return
    raise WindowError("content", f"{record.source}@{record.last_offset}: {found}", wanted)


def _text(name: bytes) -> str:
    try:
        return name.decode()
    except UnicodeDecodeError:
        raise WindowError("content", f"name {name[:80]!r}", "UTF-8") from None


@lru_cache(maxsize=64)
def _cells(timesteps: int, features: int) -> np.dtype[Any]:
    """The numbers of a window. The series table knows no larger gap than 32 bits hold, either."""
    return np.dtype(
        [
            ("number", "<i8"),
            ("first_offset", "<i8"),
            ("last_offset", "<i8"),
            ("start_ms", "<i8"),
            ("gap_ms", "<u4", (timesteps - 1,)),
            ("values", "<f8", (timesteps, features)),
            ("median", "<f8", (features,)),
            ("spread", "<f8", (features,)),
            ("before", "<f8", (features,)),
        ]
    )
