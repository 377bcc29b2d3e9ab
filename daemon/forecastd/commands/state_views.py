"""`forecastd state show | list | stats`: what lies on the state topics."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from forecastd.clock import SystemClock
from forecastd.commands.state_facts import SeriesFacts, event_time, facts_of
from forecastd.commands.state_figures import (
    PartitionFigures,
    figures_in_words,
    figures_of,
    total_of,
)
from forecastd.commands.state_words import facts_in_words, iso, plain
from forecastd.errors import ModelError, StateError, TopicError
from forecastd.forecast.forecaster import version_key
from forecastd.records import TopicPartition
from forecastd.settings import Settings
from forecastd.state.kafka_group import GroupAdmin
from forecastd.state.kafka_rows import KafkaRowReader
from forecastd.state.row_codec import Row, row_meaning
from forecastd.state.saved_rows import SavedRows, SavedSeries, read_to_end


class Glance(NamedTuple):
    """What a list tells of a series."""

    steps: int
    at_ms: int | None


def whole(row: bytes, content: Row) -> tuple[bytes, Row]:
    """Keep a row, raw and read."""
    return row, content


def glance(_row: bytes, content: Row) -> Glance:
    """Keep what a list tells."""
    return Glance(int(content.columns["steps"]), event_time(content))


def show(args: Namespace, settings: Settings) -> int:
    """`state show SERIES`."""
    with GroupAdmin(settings) as group:
        places = places_of(group, args, settings)
    found: list[SeriesFacts] = []
    versions = known_versions(settings)
    with row_reader(settings) as reader:
        for place in places:
            rows = SavedRows(meaning_of(settings), whole, only=args.series)
            read(reader, place, rows, settings)
            saved = rows.series.get(args.series)
            if saved is not None and saved.key:
                found.append(facts_of(place, args.series, saved, versions))
    if not found:
        raise StateError(not_saved(args.series, places, settings))
    for number, facts in enumerate(found):
        if args.json:
            say(json.dumps(facts.as_json()))
        else:
            say("\n".join([*[""][: number > 0], *facts_in_words(facts)]))
    return 0


def list_series(args: Namespace, settings: Settings) -> int:
    """`state list`: a partition at a time, so that memory is bounded by the largest one."""
    with GroupAdmin(settings) as group:
        places = places_of(group, args, settings)
    width = max(len(str(place)) for place in places)
    if not args.json:
        say(f"{'LAST EVENT':<24}  {'STEPS':>9}  {'OFFSET':>11}  {'PARTITION':<{width}}  SERIES")
    left = args.limit
    with row_reader(settings) as reader:
        for place in places:
            rows = SavedRows(meaning_of(settings), glance)
            read(reader, place, rows, settings)
            names = sorted(name for name, saved in rows.series.items() if saved.key)[:left]
            for name in names:
                one_line = _as_json if args.json else _as_line
                say(one_line(place, name, rows.series[name], width))
            if left is not None:
                left -= len(names)
                if not left:
                    break
    return 0


def stats(args: Namespace, settings: Settings) -> int:
    """`state stats`."""
    with GroupAdmin(settings) as group:
        places = places_of(group, args, settings)
        topics = sorted({place.topic for place in places})
        committed = group.committed(topics)
        counts = group.partitions(topics)
        bounds = group.bounds([at for at in places if at.partition < counts.get(at.topic, 0)])
    figures: list[PartitionFigures] = []
    with row_reader(settings) as reader:
        for place in places:
            rows = SavedRows(meaning_of(settings), lambda _, content: event_time(content))
            read(reader, place, rows, settings)
            topic = settings.state_topic(place.topic)
            offsets = (committed.get(place), bounds.get(place))
            figures.append(figures_of(place, topic, rows, *offsets))
    total = total_of(figures)
    if args.json:
        parts = [part.as_json() for part in figures]
        say(json.dumps({"partitions": parts, "total": total.as_json()}))
    else:
        say("\n".join(figures_in_words(figures, total)))
    return 0


def places_of(group: GroupAdmin, args: Namespace, settings: Settings) -> list[TopicPartition]:
    """The partitions whose saved rows are asked for, by the name of their input topic.

    Raises:
        TopicError: there is no state topic for them.
    """
    topics = (args.topic,) if args.topic is not None else settings.ingest.topics
    counts = group.partitions([settings.state_topic(topic) for topic in topics])
    places = [
        TopicPartition(topic, number)
        for topic in topics
        for number in range(counts.get(settings.state_topic(topic), 0))
        if args.partition in (None, number)
    ]
    if not counts:
        names = ", ".join(plain(settings.state_topic(topic)) for topic in topics)
        found = f"{names}: no such topic, wanted the saved rows of {', '.join(map(plain, topics))}"
        group_id = settings.kafka.group_id
        raise TopicError(f"{found}; group {group_id} has saved none yet, or it has another name")
    if not places:
        have = ", ".join(f"{name} {count}" for name, count in counts.items())
        wanted = f"one of the state topic's (partitions: {have})"
        raise TopicError(f"partition {args.partition}: no such partition, wanted {wanted}")
    return places


@contextmanager
def row_reader(settings: Settings) -> Iterator[KafkaRowReader]:
    """A reader of state topics that is a member of nothing."""
    reader = KafkaRowReader(settings)
    try:
        yield reader
    finally:
        reader.close()


def read(
    reader: KafkaRowReader, place: TopicPartition, rows: SavedRows[Any], settings: Settings
) -> None:
    """Read the saved rows of a partition, to the end of its state topic as of now."""
    patience_s = settings.kafka.delivery_timeout / 1000
    for chunk in read_to_end(reader, place, SystemClock(), patience_s):
        rows.take(chunk)


def meaning_of(settings: Settings) -> str:
    """What rows must mean to be read by a daemon with these settings."""
    return row_meaning(settings.windows.timesteps, settings.ingest.values)


def not_saved(series: str, places: Sequence[TopicPartition], settings: Settings) -> str:
    """The sentence about a series that is not there."""
    where = ", ".join(dict.fromkeys(plain(place.topic) for place in places))
    if len(places) == 1:
        where = plain(str(places[0]))
    every = settings.state.row_every
    why = f"a row is saved after state.row_every ({every}) windows, at the first commit after them"
    return f"series {plain(series)}: no saved row in {where}, wanted one; {why}"


def say(text: str) -> None:
    """Print what any terminal can show: whatever its encoding lacks is written as an escape."""
    encoding = sys.stdout.encoding or "utf-8"
    sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding) + "\n")


def known_versions(settings: Settings) -> dict[int, str]:
    """The models that may have served, by what a row holds of them."""
    try:
        versions = _group_versions(settings) if settings.follows_group_models else _served(settings)
    except (ModelError, TopicError):
        return {}  # it lies where the daemon runs, which may be elsewhere
    return {version_key(version): version for version in versions}


def _served(settings: Settings) -> list[str]:
    from forecastd.disk_models import load_model

    return [load_model(Path(settings.models.serve or "")).version]


def _group_versions(settings: Settings) -> list[str]:
    from forecastd.models.kafka_models import KafkaModels

    models = KafkaModels(settings)
    try:
        models.read_to_end()
        return [entry.version for entry in models.log.versions]
    finally:
        models.close()


def _as_line(place: TopicPartition, name: str, saved: SavedSeries[Glance], width: int) -> str:
    series, where = plain(name), f"{place!s:<{width}}"
    if saved.kept is None:
        return f"{'cannot be read':<24}  {'-':>9}  {'-':>11}  {where}  {series}"
    last, steps = iso(saved.kept.at_ms), saved.kept.steps
    return f"{last:<24}  {steps:>9}  {saved.offset:>11}  {where}  {series}"


def _as_json(place: TopicPartition, name: str, saved: SavedSeries[Glance], _width: int) -> str:
    told: dict[str, Any] = {"series": name, "topic": place.topic, "partition": place.partition}
    if saved.kept is None:
        return json.dumps(told | {"fault": saved.fault})
    kept = saved.kept
    return json.dumps(told | {"at_ms": kept.at_ms, "steps": kept.steps, "offset": saved.offset})
