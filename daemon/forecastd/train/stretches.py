"""Windows of recorded series as the daemon would have fed them, with the actuals that followed.

One definition for training from a file and from a topic: whoever has the steps of a series gets
the same windows, scales and targets, which are those that serving computes step by step.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from forecastd.architecture import Architecture
from forecastd.records import Float32s, Floats, Ints
from forecastd.scaling import Anchor, Scale, Scaling, feed, tail_spread, window_scale
from forecastd.settings import Settings
from forecastd.train.recorded_series import RecordedSeries

_TAIL_NUMBERS_MAX = 4_000_000
"""Numbers of all tails that are sorted at a time: bounds memory."""

_ACTUAL_LIMIT = 30.0
"""Scaled actuals are clipped to this many spreads from the anchor: the one jump of a series that
was flat but for its noise must not outweigh a thousand windows."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How the steps of a series become windows; what the settings and the architecture say.

    Attributes:
        timesteps, stride, horizon: in steps; `stride` divides `timesteps`.
        tail_steps: steps that the scale is taken from.
        season: steps in a season, or None.
        targets: how many of the values are forecast (the first ones).
    """

    timesteps: int
    stride: int
    horizon: int
    tail_steps: int
    season: int | None
    targets: int
    scaling: Scaling
    anchor: Anchor

    @classmethod
    def of(cls, architecture: Architecture, settings: Settings) -> Layout:
        """What `architecture` reads and forecasts under these settings, which it must fit."""
        horizon = settings.forecast.horizon
        return cls(
            timesteps=settings.windows.timesteps,
            stride=settings.windows.stride_steps,
            horizon=horizon,
            tail_steps=settings.tail_steps,
            season=settings.windows.season,
            targets=architecture.targets(horizon),
            scaling=architecture.scaling,
            anchor=architecture.anchor,
        )


@dataclass(frozen=True, slots=True, eq=False)
class Stretch:
    """Consecutive windows of one series, oldest first: no step in between, none in two.

    Attributes:
        windows: float32 (N, T, F), as fed.
        actuals: float32 (N, H, targets), what followed, in spreads from the anchor and within
            `_ACTUAL_LIMIT` of it; NaN where nothing did, or where it may not be seen.
        naive: float32 (N, H, targets), the naive forecast in the same unit.
        end_ms: (N,) event time of each window's last step.
    """

    windows: Float32s
    actuals: Float32s
    naive: Float32s
    end_ms: Ints

    def __len__(self) -> int:
        return len(self.windows)

    def part(self, start: int, stop: int) -> Stretch:
        """Windows `start` to `stop`, the latter not included."""
        at = slice(start, stop)
        return Stretch(self.windows[at], self.actuals[at], self.naive[at], self.end_ms[at])

    def unscored(self) -> Stretch:
        """The same windows, to be read for the state that they leave behind."""
        nothing = np.full_like(self.actuals, np.nan)
        return Stretch(self.windows, nothing, self.naive, self.end_ms)

    def then(self, later: Stretch) -> Stretch:
        """This stretch and the one that follows it, as one."""
        return Stretch(
            np.concatenate([self.windows, later.windows]),
            np.concatenate([self.actuals, later.actuals]),
            np.concatenate([self.naive, later.naive]),
            np.concatenate([self.end_ms, later.end_ms]),
        )


def stretches_of(series: RecordedSeries, layout: Layout) -> list[Stretch]:
    """All windows of a series, one stretch a phase; phases without a window are left out."""
    starts = range(0, layout.timesteps, layout.stride)
    phases = [window_ends(len(series), layout.timesteps, start) for start in starts]
    return [_stretch(series, ends, layout) for ends in phases if len(ends)]


def window_ends(steps: int, timesteps: int, start: int = 0) -> Ints:
    """Places of the last steps of the windows that tumble from step `start` on.

    >>> window_ends(steps=11, timesteps=4), window_ends(steps=11, timesteps=4, start=2)
    (array([3, 7]), array([5, 9]))
    """
    return np.arange(start + timesteps - 1, steps, timesteps)


def windows_at(values: Floats, ends: Ints, timesteps: int) -> Floats:
    """The windows that end at `ends`: (N, F) values to (B, T, F)."""
    windows: Floats = values[ends[:, None] + np.arange(1 - timesteps, 1)]
    return windows


def scale_at(series: RecordedSeries, ends: Ints, layout: Layout) -> Scale:
    """The scale that the windows ending at `ends` are fed with, as each was when it ended."""
    median, spread = spread_at(series, ends, layout)
    before = np.full((1, series.values.shape[1]), np.nan)
    if series.past is not None:
        before = series.past.before[None]
    return window_scale(
        windows_at(series.values, ends, layout.timesteps),
        np.concatenate([before, series.values])[ends + 1 - layout.timesteps],
        median,
        spread,
        layout.scaling,
        layout.anchor,
    )


def spread_at(series: RecordedSeries, ends: Ints, layout: Layout) -> tuple[Floats, Floats]:
    """Median and spread of the tails at `ends`, (B, F) each, as they were then.

    The numbers are those of `scaling.tail_spread` on the daemon's tails: at step n the last
    `tail_steps` steps up to n, fewer at the beginning of a series. Where a tail reaches back beyond
    a piece, those of the newest window that knew it: at a window's end its own, elsewhere those of
    less than a window ago.
    """
    tail_steps, values = layout.tail_steps, series.values
    padded = np.concatenate([np.full((tail_steps - 1, values.shape[1]), np.nan), values])
    tails = sliding_window_view(padded, tail_steps, axis=0)  # tails[n] ends at step n
    spreads = [
        tail_spread(np.moveaxis(tails[some], 2, 1), np.minimum(some + 1, tail_steps))
        for some in _in_portions(ends, tail_steps * values.shape[1])
    ]
    median = np.concatenate([median for median, _ in spreads])
    spread = np.concatenate([spread for _, spread in spreads])
    if series.past is not None:
        short = ends + 1 < tail_steps
        told = (ends[short] + 1) // layout.timesteps - 1
        median[short], spread[short] = series.past.median[told], series.past.spread[told]
    return median, spread


def actuals_at(values: Floats, ends: Ints, horizon: int) -> Floats:
    """The `horizon` steps after each of `ends`, (B, H, F); NaN beyond the last step."""
    padded = np.concatenate([values, np.full((horizon, values.shape[1]), np.nan)])
    actuals: Floats = padded[ends[:, None] + np.arange(1, horizon + 1)]
    return actuals


def naive_at(values: Floats, ends: Ints, horizon: int, season: int | None) -> Floats:
    """The naive forecasts made at `ends`, (B, H, F).

    The value one season before each lead; the last value without a season, or before one is full.

    >>> naive_at(np.arange(6.0)[:, None], np.array([1, 5]), horizon=4, season=3)[:, :, 0]
    array([[1., 1., 1., 1.],
           [3., 4., 5., 3.]])
    """
    back = np.zeros((len(ends), horizon), np.int64)
    if season is not None:
        leads = np.arange(1, horizon + 1)
        back[ends + 1 >= season] = season * -(-leads // season) - leads
    naive: Floats = values[ends[:, None] - back]
    return naive


def _stretch(series: RecordedSeries, ends: Ints, layout: Layout) -> Stretch:
    scale = scale_at(series, ends, layout)

    def relative(values: Floats) -> Float32s:
        moved = (values - scale.anchor[:, None]) / scale.spread[:, None]
        if layout.scaling == "series":
            moved = np.clip(moved, -_ACTUAL_LIMIT, _ACTUAL_LIMIT)
        return moved[..., : layout.targets].astype(np.float32)

    return Stretch(
        feed(windows_at(series.values, ends, layout.timesteps), scale, layout.scaling),
        relative(actuals_at(series.values, ends, layout.horizon)),
        relative(naive_at(series.values, ends, layout.horizon, layout.season)),
        series.at_ms[ends],
    )


def _in_portions(ends: Ints, numbers_each: int) -> Iterator[Ints]:
    count = max(1, _TAIL_NUMBERS_MAX // numbers_each)
    for start in range(0, len(ends), count):
        yield ends[start : start + count]
