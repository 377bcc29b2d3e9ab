"""Times that are not learnt from (`training.exclude`): their windows, whole, do not exist."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from forecastd.records import Bools, Ints
from forecastd.train.recorded_series import Past, RecordedSeries
from forecastd.train.stretches import Layout, spread_at, window_ends

TimeRange = tuple[int, int]
"""Two times in ms, the second not included."""


def is_excluded(at_ms: Ints, ranges: Sequence[TimeRange]) -> Bools:
    """Whether each event time lies in one of the ranges.

    >>> is_excluded(np.array([1, 2, 3, 4]), [(2, 4)])
    array([False,  True,  True, False])
    """
    inside = np.zeros(at_ms.shape, np.bool_)
    for start, end in ranges:
        inside |= (at_ms >= start) & (at_ms < end)
    return inside


def without_times(
    series: RecordedSeries, ranges: Sequence[TimeRange], layout: Layout
) -> list[RecordedSeries]:
    """The pieces of a series that are left without the windows that reach into `ranges`.

    Windows are those that tumble from its first step on. Each piece is fed as it was in the whole
    series, and no forecast before a gap sees an actual behind it.
    """
    excluded = is_excluded(series.at_ms, ranges)
    if not excluded.any():
        return [series]
    timesteps = layout.timesteps
    window = np.arange(len(series)) // timesteps
    kept = ~np.isin(window, window[excluded])
    edges = np.flatnonzero(np.diff(kept, prepend=False, append=False)).tolist()
    return [_piece(series, start, stop, layout) for start, stop in pairwise(edges) if kept[start]]


def _piece(series: RecordedSeries, start: int, stop: int, layout: Layout) -> RecordedSeries:
    """Steps `start` to `stop`, the latter not included, with what is known of those before."""
    part = slice(start, stop)
    at_ms, values, rows = series.at_ms[part], series.values[part], series.rows[part]
    past = series.past
    if start:
        ends = start + window_ends(stop - start, layout.timesteps)
        median, spread = spread_at(series, ends, layout)
        past = Past(series.values[start - 1], median, spread)
    return RecordedSeries(series.name, at_ms, values, rows, past)
