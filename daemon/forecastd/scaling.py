"""How a window is put before the network, and how its output is read back.

One definition for training, serving and files.
Everything here is causal and a pure function of the tail of a series at the end of a window, so
that it is the same however the records fell into polls, offline and after a restart.

The anchor is what makes a small network accurate online: it forecasts the change from it. The
input is measured from the step before the window, so that consecutive windows join without a seam
and a carried state misses nothing. (Zeng et al., AAAI 2023, arXiv 2205.13504, subtract the last
value; the spread takes the place of a z-score, which goes stale.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from forecastd.records import Float32s, Floats, Ints

Scaling = Literal["series", "none"]
Anchor = Literal["last", "ewma", "none"]

EWMA_KEEP = 0.8
"""Weight that the exponentially weighted mean keeps of its past at each step."""

INPUT_LIMIT = 10.0
"""Scaled inputs are clipped to this many spreads: one outlier must not saturate the state."""

_IQR_TO_STD = 1.349
_FLOAT32_MAX = float(np.finfo(np.float32).max)


@dataclass(frozen=True, slots=True, eq=False)
class Scale:
    """What one window is fed with.

    Attributes:
        offset: (B, F) subtracted from the window.
        anchor: (B, F) added to the output.
        spread: (B, F) positive; divides the window, multiplies the output.
    """

    offset: Floats
    anchor: Floats
    spread: Floats

    def first(self, values: int) -> Scale:
        """The scale of the first values of an observation, for a model that forecasts no others."""
        return Scale(self.offset[:, :values], self.anchor[:, :values], self.spread[:, :values])


def tail_spread(tail: Floats, counts: Ints) -> tuple[Floats, Floats]:
    """Median and spread of the last steps of B series.

    The spread is the interquartile range divided by 1.349, which is the standard deviation where
    values are normal and which an outlier cannot move. Where more than half of the values are
    equal it is the standard deviation; where all are, the magnitude of the median, or 1.

    Args:
        tail: (B, L, F), NaN where there is no step.
        counts: (B,) steps that are there, at least 1.

    Returns:
        Median and spread, both (B, F).

    >>> tail_spread(np.array([[[1.0], [2.0], [3.0], [1000.0]]]), np.array([4]))[0]
    array([[2.5]])
    """
    ordered = np.sort(tail, axis=1)  # NaN sorts last

    def quantile(q: float) -> Floats:
        at = q * (counts - 1)
        low = np.floor(at).astype(np.int64)
        rows = np.arange(len(counts))
        below, above = ordered[rows, low], ordered[rows, np.minimum(low + 1, counts - 1)]
        between: Floats = below + (at - low)[:, None] * (above - below)
        return between

    median = quantile(0.5)
    spread = (quantile(0.75) - quantile(0.25)) / _IQR_TO_STD
    # Below the resolution of float64 around the median a difference is rounding, not movement.
    floor = np.abs(median) * 1e-9
    flat = spread <= floor
    if flat.any():
        rows = flat.any(axis=1)
        spread[rows] = np.where(flat[rows], np.nanstd(tail[rows], axis=1), spread[rows])
        flat = spread <= floor
        magnitude = np.where(median == 0, 1.0, np.abs(median))
        spread = np.where(flat, magnitude, spread)
    return median, spread


def window_scale(  # noqa: PLR0913  # a window, what its tail tells, and what the model wants
    windows: Floats,
    before: Floats,
    median: Floats,
    spread: Floats,
    scaling: Scaling,
    anchor: Anchor,
) -> Scale:
    """The scale that B windows are fed with.

    Args:
        windows: (B, T, F).
        before: (B, F) the step before each window; NaN where the series begins with it.
        median, spread: (B, F) of the tail at the end of each window (`tail_spread`).
        scaling: `none` leaves values in their own unit.
        anchor: what the forecast starts from.
    """
    if scaling == "none":
        median, spread = np.zeros_like(median), np.ones_like(spread)
    if anchor == "none":
        return Scale(median, median, spread)
    offset = np.where(np.isnan(before), windows[:, 0], before)
    return Scale(offset, window_anchor(windows, anchor), spread)


def window_anchor(windows: Floats, anchor: Anchor) -> Floats:
    """The last value, or the exponentially weighted mean, of each window: (B, T, F) to (B, F).

    >>> window_anchor(np.array([[[1.0], [3.0]]]), "last")
    array([[3.]])
    """
    if anchor != "ewma":
        return windows[:, -1]
    weights = EWMA_KEEP ** np.arange(windows.shape[1] - 1, -1, -1.0)
    mean: Floats = np.einsum("btf,t->bf", windows, weights / weights.sum())
    return mean


def feed(windows: Floats, scale: Scale, scaling: Scaling) -> Float32s:
    """What the network reads for B windows, float32 (B, T, F), finite."""
    fed = (windows - scale.offset[:, None]) / scale.spread[:, None]
    limit = INPUT_LIMIT if scaling == "series" else _FLOAT32_MAX
    return np.clip(fed, -limit, limit).astype(np.float32)


def read_back(outputs: Float32s, scale: Scale) -> Floats:
    """Forecasts in the series' unit: (B, H, Q, F) outputs to the same shape in float64."""
    forecasts: Floats = scale.anchor[:, None, None] + scale.spread[:, None, None] * outputs
    return forecasts
