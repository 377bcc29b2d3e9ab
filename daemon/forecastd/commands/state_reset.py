"""`forecastd state reset`: series start cold at the next start of a stopped group.

What is written, in which order and why stands in `state/reset.py`.
"""

from __future__ import annotations

import secrets
import sys
from argparse import Namespace
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice

from forecastd.commands.state_views import (
    Glance,
    glance,
    meaning_of,
    not_saved,
    places_of,
    read,
    row_reader,
    say,
)
from forecastd.commands.state_words import iso, plain
from forecastd.errors import StateError
from forecastd.publish.kafka_sink import KafkaSink
from forecastd.records import Committed, Message, TopicPartition
from forecastd.settings import Settings, format_duration
from forecastd.state.kafka_group import GroupAdmin
from forecastd.state.reset import cold_offset, cold_row, cold_start, removals, replacement
from forecastd.state.saved_rows import SavedRows, SavedSeries
from forecastd.topic_plan import counted

_CHUNK = 5_000
"""Tombstones that are sent at a time: each waits in memory for its acknowledgement."""


def reset(args: Namespace, settings: Settings) -> int:
    """`state reset SERIES | --all`."""
    if not args.yes and not sys.stdin.isatty():
        raise StateError("state reset: no terminal to ask at, wanted one, or --yes")
    with GroupAdmin(settings) as group:
        reset = _Reset(settings, group, places_of(group, args, settings), asks=not args.yes)
        reset.demand_stopped()
        return reset.every_series() if args.all else reset.one_series(args.series)


@dataclass(frozen=True, slots=True)
class _Reset:
    """Resets series in `places`; with `asks` only after a yes."""

    settings: Settings
    group: GroupAdmin
    places: list[TopicPartition]
    asks: bool

    def demand_stopped(self) -> None:
        """Refuse to go on while somebody works with the rows."""
        members = self.group.members()
        if members:
            names = ", ".join(plain(str(member)) for member in members)
            group_id = self.settings.kafka.group_id
            found = f"group {group_id}: {counted(len(members), 'member')} ({names})"
            session = format_duration(self.settings.kafka.session_timeout)
            wait = f"one that was killed counts for its kafka.session_timeout ({session})"
            raise StateError(f"{found}, wanted none; stop the daemon, {wait}")

    def one_series(self, series: str) -> int:
        """Put a cold row in the place of every row of a series."""
        found = self._find(series)
        if not found:
            raise StateError(not_saved(series, self.places, self.settings))
        for place, saved in found.items():
            say(f"series {plain(series)} in {plain(str(place))}: {_in_words(saved)}")
        if self.asks and not _says_yes(f"reset it in {counted(len(found), 'partition')}?"):
            return 1
        self.demand_stopped()  # a person may take a while to answer
        committed = self.group.committed([place.topic for place in found])
        with _sink(self.settings) as sink:
            for place, saved in found.items():
                at = cold_offset(committed.get(place), saved.offset)
                _send(sink, self._replace(series, place, saved, at))
                where = "with its partition" if at is None else f"behind offset {at}"
                removed = f"{counted(len(saved.keys), 'row')} removed, it starts cold {where}"
                say(f"series {plain(series)} in {plain(str(place))}: {removed}")
        if self.group.members():
            joined = f"group {self.settings.kafka.group_id}: a member joined meanwhile"
            raise StateError(f"{joined}, wanted a stopped group; stop the daemon and reset again")
        return 0

    def every_series(self) -> int:
        """Remove every row, and let the group go on where it is."""
        names = (self.settings.state_topic(place.topic) for place in self.places)
        topics = ", ".join(dict.fromkeys(map(plain, names)))
        where = f"{counted(len(self.places), 'partition')} of {topics}"
        group_id = self.settings.kafka.group_id
        if self.asks and not _says_yes(f"reset every series of group {group_id} in {where}?"):
            return 1
        begins, others = self._cold_starts()
        self.group.disown(begins)
        self.group.forget(others)
        with row_reader(self.settings) as reader, _sink(self.settings) as sink:
            for place in self.places:
                rows = SavedRows(meaning_of(self.settings), lambda *_: None)
                read(reader, place, rows, self.settings)
                topic = self.settings.state_topic(place.topic)
                _send(sink, removals(topic, place.partition, rows.keys))
                begin = begins.get(place)
                goes_on = f"offset {begin.position}" if begin else "ingest.start, as a new group"
                removed = f"{len(rows.series):,} series, {len(rows.keys):,} rows removed"
                say(f"{plain(str(place))}: {removed}; goes on at {goes_on}")
        self.group.commit(begins)
        return 0

    def _find(self, series: str) -> dict[TopicPartition, SavedSeries[Glance]]:
        """Where a series has rows, those that do not count included."""
        found = {}
        with row_reader(self.settings) as reader:
            for place in self.places:
                rows = SavedRows(meaning_of(self.settings), glance, only=series)
                read(reader, place, rows, self.settings)
                if series in rows.series:
                    found[place] = rows.series[series]
        return found

    def _replace(
        self, series: str, place: TopicPartition, saved: SavedSeries[Glance], at: int | None
    ) -> list[Message]:
        """The cold row, where one is needed, and then the tombstones."""
        topic, partition = self.settings.state_topic(place.topic), place.partition
        tombstones = removals(topic, partition, saved.keys)
        if at is None:
            return list(tombstones)
        row = cold_row(meaning_of(self.settings), at)
        writer = f"reset-{secrets.token_hex(4)}"
        return [replacement(topic, partition, series, writer, row), *tombstones]

    def _cold_starts(self) -> tuple[dict[TopicPartition, Committed], list[TopicPartition]]:
        """Where partitions go on whose rows are all removed, and those that begin anew."""
        topics = sorted({place.topic for place in self.places})
        counts = self.group.partitions(topics)
        committed = {
            at: commit
            for at, commit in self.group.committed(topics).items()
            if at in self.places and at.partition < counts.get(at.topic, 0)
        }
        bounds = self.group.bounds(list(committed))
        begins = {at: cold_start(commit, *bounds[at]) for at, commit in committed.items()}
        others = [at for at, begin in begins.items() if begin is None]
        return {at: begin for at, begin in begins.items() if begin is not None}, others


@contextmanager
def _sink(settings: Settings) -> Iterator[KafkaSink]:
    """A producer, opened when there is something to send."""
    sink = KafkaSink(settings)
    try:
        yield sink
    finally:
        sink.close(settings.kafka.delivery_timeout / 1000)


def _send(sink: KafkaSink, messages: Iterable[Message]) -> None:
    left = iter(messages)
    while chunk := list(islice(left, _CHUNK)):
        sink.send(chunk)


def _in_words(saved: SavedSeries[Glance]) -> str:
    rows = counted(len(saved.keys), "row")
    if saved.fault is not None:
        return f"{rows}, and the last cannot be read ({plain(saved.fault)})"
    if saved.kept is None:
        return f"{rows} that no start would read"
    return f"{rows}, {saved.kept.steps:,} steps, the last at {iso(saved.kept.at_ms)}"


def _says_yes(question: str) -> bool:
    """Ask at the terminal; whatever is not a yes changes nothing."""
    try:
        answer = input(f"{question} [y/N] ")
    except EOFError:
        answer = ""
    if answer.strip().lower() in ("y", "yes"):
        return True
    say("nothing was changed")
    return False
