"""Windows of the windows topic, put together again into the steps of their series.

Windows come in any order, some twice, some not at all. Those that follow each other without a gap
are a piece, and a piece is what the rest of training knows as a recorded series: a file's series is
one that lacks nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from forecastd.train.excluded_times import TimeRange, is_excluded
from forecastd.train.recorded_series import Past, RecordedSeries
from forecastd.train.window_record import WindowRecord


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which windows are learnt from.

    Attributes:
        timesteps, features: of the windows that the network reads.
        excluded: times of which nothing may be learnt.
        windows_max: the newest ones, by event time.
    """

    timesteps: int
    features: int
    excluded: Sequence[TimeRange]
    windows_max: int


class DataRange(msgspec.Struct, frozen=True):
    """What of one input partition was learnt from.

    Attributes:
        first_offset, last_offset: of the records that hold the first and the last step.
        from_ms, to_ms: event times of those steps.
    """

    topic: str
    partition: int
    first_offset: int
    last_offset: int
    from_ms: int
    to_ms: int
    series: int
    windows: int


@dataclass(frozen=True, slots=True, eq=False)
class Buffered:
    """What the windows topic has to learn from.

    Attributes:
        pieces: by topic, partition, first record and series, the pieces of a series in time order.
            Their `name` tells the series of all topics apart.
        ranges: what they span, by topic and partition.
        windows: in all pieces.
        repeats: windows with steps that others hold already, not used.
        misfits: windows of another shape, not used.
        excluded: windows in times that are not learnt from.
        older: windows beyond the newest `windows_max`, not used.
    """

    pieces: list[RecordedSeries]
    ranges: list[DataRange]
    windows: int
    repeats: int
    misfits: int
    excluded: int
    older: int


def buffered_series(records: Iterable[WindowRecord], wanted: Wanted) -> Buffered:
    """Pieces of consecutive windows."""
    found = list(records)
    shape = (wanted.timesteps, wanted.features)
    fitting = [record for record in found if record.values.shape == shape]
    once = [one for series in _by_series(fitting) for one in _each_step_once(series)]
    allowed = _outside(once, wanted.excluded)
    newest = _newest(allowed, wanted.windows_max)
    runs = [run for series in _by_series(newest) for run in _consecutive(series)]
    runs.sort(key=lambda run: (run[0].partition, run[0].first_offset, run[0].series))
    return Buffered(
        pieces=[_piece(run) for run in runs],
        ranges=_ranges(newest),
        windows=len(newest),
        repeats=len(fitting) - len(once),
        misfits=len(found) - len(fitting),
        excluded=len(once) - len(allowed),
        older=len(allowed) - len(newest),
    )


def _by_series(records: Iterable[WindowRecord]) -> Iterable[list[WindowRecord]]:
    """The windows of each series, the oldest first."""
    by_source: dict[tuple[object, str], list[WindowRecord]] = {}
    for record in records:
        by_source.setdefault((record.partition, record.series), []).append(record)
    for series in by_source.values():
        yield sorted(series, key=_age)


def _age(record: WindowRecord) -> tuple[int, int]:
    return int(record.at_ms[-1]), record.last_offset


def _each_step_once(series: Iterable[WindowRecord]) -> Iterable[WindowRecord]:
    """Windows that begin after the one before has ended.

    What was written twice is dropped, and so is what a series' second life holds of times that
    the first one held.
    """
    end_ms = -1
    for record in series:
        if record.at_ms[0] > end_ms:
            end_ms = int(record.at_ms[-1])
            yield record


def _outside(records: list[WindowRecord], ranges: Sequence[TimeRange]) -> list[WindowRecord]:
    if not ranges or not records:
        return records
    inside = is_excluded(np.stack([record.at_ms for record in records]), ranges)
    allowed = np.flatnonzero(~inside.any(axis=1))
    return [records[at] for at in allowed.tolist()]


def _newest(records: list[WindowRecord], count: int) -> list[WindowRecord]:
    if len(records) <= count:
        return records
    return sorted(records, key=lambda one: (*_age(one), one.partition, one.series))[-count:]


def _consecutive(series: Sequence[WindowRecord]) -> Iterable[list[WindowRecord]]:
    """Runs of windows of which each begins where the one before has ended."""
    run = [series[0]]
    for record in series[1:]:
        last = run[-1]
        follows = record.number == last.number + 1
        if follows and np.array_equal(record.before, last.values[-1]):
            run.append(record)
        else:
            yield run
            run = [record]
    yield run


def _piece(run: Sequence[WindowRecord]) -> RecordedSeries:
    """The steps of a run, with what its windows were fed with where its own steps do not say."""
    first = run[0]
    past = None
    if first.number:
        median = np.stack([record.median for record in run])
        past = Past(first.before, median, np.stack([record.spread for record in run]))
    last_offsets = [record.last_offset for record in run]
    return RecordedSeries(
        first.source,
        np.concatenate([record.at_ms for record in run]),
        np.concatenate([record.values for record in run]),
        np.repeat(np.array(last_offsets, np.int64), len(first.at_ms)),
        past,
    )


def _ranges(records: Iterable[WindowRecord]) -> list[DataRange]:
    by_partition: dict[tuple[str, int], list[WindowRecord]] = {}
    for record in records:
        by_partition.setdefault(record.partition, []).append(record)
    return [
        DataRange(
            topic,
            partition,
            min(record.first_offset for record in some),
            max(record.last_offset for record in some),
            min(int(record.at_ms[0]) for record in some),
            max(int(record.at_ms[-1]) for record in some),
            len({record.series for record in some}),
            len(some),
        )
        for (topic, partition), some in sorted(by_partition.items())
    ]
