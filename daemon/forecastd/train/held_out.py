"""The newest, held-out windows of each series, and how wrong forecasts of them are.

Errors are taken in the series' own unit, so that networks that are fed and read back in different
ways, and naive forecasts, are compared by one measure: see `evaluate/gate.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from forecastd.records import Floats, Ints
from forecastd.scaling import Scale, feed, read_back
from forecastd.train.recorded_series import RecordedSeries
from forecastd.train.sequences import first_scored
from forecastd.train.stretches import (
    Layout,
    Stretch,
    actuals_at,
    naive_at,
    scale_at,
    spread_at,
    window_ends,
    windows_at,
)

SCALE_FLOOR = 0.01
"""Least scale of a series, in spreads of its steps: a series that stood still is forecast without
an error by its last value, and a model that is off by a thousandth is none the worse for it."""


@dataclass(frozen=True, slots=True, eq=False)
class HeldOut:
    """Consecutive windows of one phase of a series; the first ones only warm the state.

    Attributes:
        series: number of the series, from 0.
        recorded: all its steps, or those of one piece of it.
        ends: (n + warm,) places of the windows' last steps, the unscored ones first.
        warm: how many are unscored.
    """

    series: int
    recorded: RecordedSeries
    ends: Ints
    warm: int

    @property
    def scored(self) -> Ints:
        """Places of the last steps of the windows that count."""
        return self.ends[self.warm :]


@dataclass(frozen=True, slots=True, eq=False)
class Measure:
    """What forecasts are measured by: the same for every candidate.

    Attributes:
        stretches: what is forecast.
        actuals: of each stretch (n, H, V), NaN where there is none.
        scale: (S, V) of each series and value.
        windows: (S,) scored windows of each series, those with an actual.
    """

    stretches: list[HeldOut]
    actuals: list[Floats]
    scale: Floats
    windows: Ints

    def errors(self, medians: Sequence[Floats]) -> Floats:
        """Scaled errors (S, V) of medians (n, H, V or more) of every stretch."""
        mean, _ = _mean_errors(self.stretches, self.actuals, medians, len(self.windows))
        errors: Floats = mean / self.scale
        return errors


def held_out(
    recorded: Sequence[RecordedSeries], layout: Layout, cut_ms: int, warm_windows: int
) -> list[HeldOut]:
    """Windows that end after `cut_ms` of every series, at the phases that are served.

    Series of one name are pieces of one series. Series without an actual to be judged by are left
    out. Which windows count is what `sequences.first_scored` says.
    """
    numbers: dict[str, int] = {}
    found = []
    for series in recorded:
        for start in range(0, layout.timesteps, layout.stride):
            ends = window_ends(len(series), layout.timesteps, start)
            first = first_scored(series, series.at_ms[ends], cut_ms, warm_windows)
            if first < len(ends) and ends[first] + 1 < len(series):
                warm = min(first, warm_windows)
                number = numbers.setdefault(series.name, len(numbers))
                found.append(HeldOut(number, series, ends[first - warm :], warm))
    return found


def measure(stretches: Sequence[HeldOut], layout: Layout) -> Measure:
    """Actuals, and the scale of each series: the mean absolute error of its last-value forecast."""
    count = 1 + max((one.series for one in stretches), default=-1)
    values, horizon = layout.targets, layout.horizon
    actuals = [
        actuals_at(one.recorded.values, one.scored, horizon)[..., :values] for one in stretches
    ]
    last, windows = _mean_errors(stretches, actuals, last_values(stretches, layout), count)
    floor = np.zeros((count, values))
    for one in stretches:
        spread = spread_at(one.recorded, one.scored, layout)[1][:, :values]
        floor[one.series] = np.maximum(floor[one.series], SCALE_FLOOR * np.median(spread, axis=0))
    return Measure(list(stretches), actuals, np.maximum(last, floor), windows)


def naive_candidates(stretches: Sequence[HeldOut], layout: Layout) -> dict[str, list[Floats]]:
    """The naive forecasts by their names, each a list of medians (n, H, F), one a stretch.

    The running median is there for what the mean cannot stand: where single steps are far off, it
    is what a model must beat.
    """
    found = {"last value": last_values(stretches, layout)}
    means = [
        running_mean_at(one.recorded.values, one.scored, layout.tail_steps) for one in stretches
    ]
    medians = [spread_at(one.recorded, one.scored, layout)[0] for one in stretches]
    for name, levels in (("running mean", means), ("running median", medians)):
        found[name] = [np.repeat(level[:, None], layout.horizon, axis=1) for level in levels]
    if layout.season is not None:
        found["seasonal"] = [
            naive_at(one.recorded.values, one.scored, layout.horizon, layout.season)
            for one in stretches
        ]
    return found


def last_values(stretches: Sequence[HeldOut], layout: Layout) -> list[Floats]:
    """The last value at every lead, (n, H, F) a stretch."""
    return [naive_at(one.recorded.values, one.scored, layout.horizon, None) for one in stretches]


def running_mean_at(values: Floats, ends: Ints, steps: int) -> Floats:
    """Mean of the last `steps` steps up to each of `ends`, fewer at the beginning: (B, F).

    >>> running_mean_at(np.array([[1.0], [3.0], [8.0]]), np.array([0, 2]), steps=2)
    array([[1. ],
           [5.5]])
    """
    origin = values[:1]  # sums of differences: a large level must not drown them
    sums = np.concatenate([np.zeros_like(origin), np.cumsum(values - origin, axis=0)])
    starts = np.maximum(ends + 1 - steps, 0)
    means: Floats = origin + (sums[ends + 1] - sums[starts]) / (ends + 1 - starts)[:, None]
    return means


def fed(one: HeldOut, layout: Layout) -> tuple[Stretch, Scale]:
    """A stretch as a network of this layout is fed with it, and the scale that reads it back.

    Nothing in it is scored here: actuals are those of the measure.
    """
    values, ends = one.recorded.values, one.ends
    scale = scale_at(one.recorded, ends, layout)
    windows = feed(windows_at(values, ends, layout.timesteps), scale, layout.scaling)
    nothing = np.full((len(ends), layout.horizon, layout.targets), np.nan, np.float32)
    return Stretch(windows, nothing, nothing, one.recorded.at_ms[ends]), scale


def read_medians(one: HeldOut, outputs: Floats, scale: Scale) -> Floats:
    """Medians (n, H, V) in the series' unit of a network's median outputs (n + warm, H, V)."""
    medians = read_back(outputs[:, :, None].astype(np.float32), scale.first(outputs.shape[-1]))
    return medians[one.warm :, :, 0]


def _mean_errors(
    stretches: Sequence[HeldOut], actuals: Sequence[Floats], medians: Sequence[Floats], count: int
) -> tuple[Floats, Ints]:
    """Mean absolute errors (S, V) and scored windows (S,) of each series; NaN begets NaN."""
    values = actuals[0].shape[-1] if actuals else 1
    sums, counts = np.zeros((count, values)), np.zeros((count, values))
    windows = np.zeros(count, np.int64)
    for one, actual, median in zip(stretches, actuals, medians, strict=True):
        exists = np.isfinite(actual)
        error = np.where(exists, np.abs(actual - median[..., :values]), 0.0)
        sums[one.series] += error.sum(axis=(0, 1))
        counts[one.series] += exists.sum(axis=(0, 1))
        windows[one.series] += int(np.count_nonzero(exists.any(axis=(1, 2))))
    return sums / np.maximum(counts, 1), windows
