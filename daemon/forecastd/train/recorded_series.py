"""Series as they were recorded: what a file, or a topic of windows, holds of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from forecastd.records import Floats, Ints, Observations


@dataclass(frozen=True, slots=True, eq=False)
class Past:
    """What is known of the steps before a series that does not begin where it was first seen.

    Attributes:
        before: (F,) the step before the first one.
        median, spread: (K, F) of the tails at the ends of the windows that tumble from the first
            step on, all steps before it included.
    """

    before: Floats
    median: Floats
    spread: Floats


@dataclass(frozen=True, slots=True, eq=False)
class RecordedSeries:
    """The steps of one series, oldest first; a gap is a step that is not there.

    Attributes:
        name: of the series within its source; pieces of one series have the same.
        at_ms: (N,) event times, ms since the Unix epoch, UTC, strictly increasing.
        values: (N, F) finite, in the series' own unit.
        rows: (N,) row of the source, counted from 0, that each step was read from; of a topic of
            windows, the offset of the record that ended the step's window.
        past: of a piece that begins in the midst of its series; None where nothing came before.
    """

    name: str
    at_ms: Ints
    values: Floats
    rows: Ints
    past: Past | None = None

    def __len__(self) -> int:
        return len(self.at_ms)

    def until(self, at_ms: int) -> RecordedSeries:
        """The series as it was known at `at_ms`: its steps up to that time."""
        count = int(np.searchsorted(self.at_ms, at_ms, side="right"))
        known = self.at_ms[:count], self.values[:count], self.rows[:count]
        return RecordedSeries(self.name, *known, self.past)


def recorded_series(observations: Observations) -> tuple[list[RecordedSeries], int]:
    """The series of a recording, in the order of their first rows, and what was dropped in all."""
    rows_of: dict[str, list[int]] = {}
    for row, name in enumerate(observations.series):
        rows_of.setdefault(name, []).append(row)
    found, dropped = [], 0
    for name, rows in rows_of.items():
        at_ms, values = observations.at_ms[rows], observations.values[rows]
        series, late = in_time_order(name, at_ms, values, observations.offsets[rows])
        found.append(series)
        dropped += late
    return found, dropped


def in_time_order(name: str, at_ms: Ints, values: Floats, rows: Ints) -> tuple[RecordedSeries, int]:
    """A series of its observations as they came, and how many of them were dropped.

    An observation that is not later than all before it does not exist: as in the daemon, which
    cannot go back either.

    >>> at_ms, rows = np.array([10, 30, 20, 30, 40]), np.arange(5)
    >>> series, dropped = in_time_order("cpu", at_ms, rows[:, None] * 1.0, rows)
    >>> series.at_ms, dropped
    (array([10, 30, 40]), 2)
    """
    if not len(at_ms):
        return RecordedSeries(name, at_ms, values, rows), 0
    latest = np.maximum.accumulate(at_ms)
    kept = np.concatenate([[True], at_ms[1:] > latest[:-1]])
    series = RecordedSeries(name, at_ms[kept], values[kept], rows[kept])
    return series, len(at_ms) - len(series)


def holdout_start_ms(recorded: Sequence[RecordedSeries], holdout: float) -> int | None:
    """Event time of the last step that may be trained on; None where nothing is held out.

    One time for all series: what is later than it in one may not help in another.
    """
    steps = [series.at_ms for series in recorded if len(series)]
    if holdout == 0 or not steps:
        return None
    times = np.sort(np.concatenate(steps))
    return int(times[max(0, round(len(times) * (1 - holdout)) - 1)])
