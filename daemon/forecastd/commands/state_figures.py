"""`forecastd state stats`: figures of the state topics, for people and for programs."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import msgspec

from forecastd.commands.state_words import iso, plain
from forecastd.records import Committed, TopicPartition
from forecastd.state.saved_rows import RowCounts, SavedRows
from forecastd.state.starting_point import offsets_fault

_HEADER = (
    "PARTITION",
    "SERIES",
    "ROWS",
    "TOMBSTONES",
    "BYTES",
    "OLDEST EVENT",
    "NEWEST EVENT",
    "RESUME FROM",
    "POSITION",
    "LOG END",
    "REPLAY",
)

_COLUMNS = 100

Restart = Literal["first start", "replay", "gap", "no input"]
"""What a restart would do: begin at `ingest.start`; read the rows and replay what they lack;
act by `state.on_gap`, because offsets and rows do not fit; nothing, for there is no input."""


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """What lies on a state topic.

    Attributes:
        series: whose rows a restart would read.
        unreadable: rows that count and cannot be read, and keys that are none of ours.
        first_fault: why the first of them cannot be read.
        rows, tombstones, bytes: all that the log holds now, replaced rows included.
        bytes_by_column: of the same, all of `bytes`: `key`, `frame` (what a row says of itself, and
            whatever cannot be read), then the columns.
        schemas: rows by schema version; `unknown` is no row of ours.
        oldest_ms, newest_ms: event time of the last step of the series that is the longest
            behind, and of the one that is furthest ahead.
        replay: records that a restart reads again in silence, at most.
        lag: records that it publishes for.
    """

    series: int
    rows: int
    tombstones: int
    unreadable: int
    first_fault: str | None
    bytes: int
    bytes_by_column: dict[str, int]
    schemas: dict[str, int]
    oldest_ms: int | None
    newest_ms: int | None
    replay: int
    lag: int

    def as_json(self) -> dict[str, Any]:
        """For `json.dumps`."""
        told: dict[str, Any] = msgspec.to_builtins(self)
        return told


class PartitionFigures(Figures, frozen=True, kw_only=True):
    """The same of one partition, and where its group stands.

    Attributes:
        topic, partition: of the input.
        state_topic: where its rows are.
        restart: what a restart would do.
        gap: why offsets and rows do not fit.
    """

    topic: str
    partition: int
    state_topic: str
    position: int | None
    resume_from: int | None
    log_start: int | None
    log_end: int | None
    restart: Restart
    gap: str | None


def figures_of(
    place: TopicPartition,
    state_topic: str,
    rows: SavedRows[int | None],
    committed: Committed | None,
    bounds: tuple[int, int] | None,
) -> PartitionFigures:
    """The figures of one partition.

    Args:
        place: partition of the input topic.
        state_topic: where its rows are.
        rows: all of them; of each that counts the event time.
        committed: the group's commit.
        bounds: first and end of the input's log; None where the topic is gone.
    """
    restart, gap = _restart(bool(rows.keys), committed, bounds)
    replay = lag = 0
    if committed is not None and restart == "replay" and bounds is not None:
        replay = committed.position - (committed.resume_from or 0)
        lag = bounds[1] - committed.position
    first, end = bounds or (None, None)
    times = [saved.kept for saved in rows.live.values() if saved.kept is not None]
    faults = rows.faults
    return PartitionFigures(
        topic=place.topic,
        partition=place.partition,
        state_topic=state_topic,
        series=len(rows.live),
        unreadable=len(faults),
        first_fault=faults[0] if faults else None,
        oldest_ms=min(times, default=None),
        newest_ms=max(times, default=None),
        position=committed.position if committed else None,
        resume_from=committed.resume_from if committed else None,
        log_start=first,
        log_end=end,
        restart=restart,
        gap=gap,
        replay=replay,
        lag=lag,
        **_sizes(rows.counts),
    )


def total_of(parts: Sequence[PartitionFigures]) -> Figures:
    """The same of all partitions together."""
    return Figures(
        series=sum(part.series for part in parts),
        rows=sum(part.rows for part in parts),
        tombstones=sum(part.tombstones for part in parts),
        unreadable=sum(part.unreadable for part in parts),
        first_fault=next((part.first_fault for part in parts if part.first_fault), None),
        bytes=sum(part.bytes for part in parts),
        bytes_by_column=_summed([part.bytes_by_column for part in parts]),
        schemas=_summed([part.schemas for part in parts]),
        oldest_ms=min((p.oldest_ms for p in parts if p.oldest_ms is not None), default=None),
        newest_ms=max((p.newest_ms for p in parts if p.newest_ms is not None), default=None),
        replay=sum(part.replay for part in parts),
        lag=sum(part.lag for part in parts),
    )


def figures_in_words(parts: Sequence[PartitionFigures], total: Figures) -> Iterator[str]:
    """A table with a line a partition, and below it what is the same for all."""
    table = [_HEADER, *map(_cells_of_partition, parts), _cells(total, "total", ("", "", ""))]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for name, *figures in table:
        right = "  ".join(
            f"{text:>{width}}" for text, width in zip(figures, widths[1:], strict=True)
        )
        yield f"{name:<{widths[0]}}  {right}".rstrip()
    yield ""
    yield f"a restart replays at most {total.replay:,} records, then reads {total.lag:,} more"
    for part in parts:
        where = f"{plain(part.topic)}[{part.partition}]"
        if part.gap is not None:
            yield f"{where}: {part.gap}; state.on_gap says what a start does about it"
        elif part.restart == "no input":
            yield f"{where}: the input topic has no such partition"
    if total.rows:
        sizes = sorted(total.bytes_by_column.items(), key=lambda item: -item[1])
        shares = ", ".join(f"{plain(name)} {size:,}" for name, size in sizes)
        yield from textwrap.wrap(f"bytes by column: {shares}", _COLUMNS, subsequent_indent="  ")
        yield f"schema versions: {_counts_in_words(total.schemas)}"
    if total.unreadable:
        yield f"unreadable rows: {total.unreadable:,}; the first: {plain(total.first_fault or '')}"


def _restart(
    has_rows: bool,  # noqa: FBT001  # a fact, not a way of working
    committed: Committed | None,
    bounds: tuple[int, int] | None,
) -> tuple[Restart, str | None]:
    if bounds is None:
        return "no input", None
    if committed is None and not has_rows:
        return "first start", None
    gap = offsets_fault(committed, *bounds, has_rows=has_rows)
    return ("replay", None) if gap is None else ("gap", gap)


def _sizes(counts: RowCounts) -> dict[str, Any]:
    cells = sum(counts.by_column.values())
    outside = {"key": counts.key_bytes, "frame": counts.row_bytes - cells}
    schemas = {
        "unknown" if schema is None else str(schema): rows
        for schema, rows in counts.by_schema.items()
    }
    return {
        "rows": counts.rows,
        "tombstones": counts.tombstones,
        "bytes": counts.key_bytes + counts.row_bytes,
        "bytes_by_column": outside | dict(counts.by_column),
        "schemas": schemas,
    }


def _summed(parts: Sequence[dict[str, int]]) -> dict[str, int]:
    names = dict.fromkeys(name for part in parts for name in part)
    return {name: sum(part.get(name, 0) for part in parts) for name in names}


def _cells_of_partition(part: PartitionFigures) -> tuple[str, ...]:
    offsets = (part.resume_from, part.position, part.log_end)
    shown = tuple("-" if offset is None else str(offset) for offset in offsets)
    return _cells(part, f"{plain(part.topic)}[{part.partition}]", shown)


def _cells(figures: Figures, name: str, offsets: tuple[str, ...]) -> tuple[str, ...]:
    counts = (figures.series, figures.rows, figures.tombstones, figures.bytes)
    times = (iso(figures.oldest_ms), iso(figures.newest_ms))
    return (name, *(f"{count:,}" for count in counts), *times, *offsets, f"{figures.replay:,}")


def _counts_in_words(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} ({count:,} rows)" for name, count in sorted(counts.items()))
