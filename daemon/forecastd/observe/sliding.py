"""Sums over the recent past: rates, delays and skill that follow what happens now.

Pure: time comes in with every call, so that a recorded run gives the same numbers again.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from forecastd.observe.events import ForecastsScored
from forecastd.records import Floats

SCORES_MS = 600_000
"""Skill and coverage are those of the last ten minutes."""

_DELAY_BOUNDS: Floats = np.geomspace(0.0005, 1_000.0, num=140)
"""Upper bounds of the delay's buckets, 11 % apart: a quantile is off by at most half of that."""


class SlidingSums:
    """Sums of several quantities over the last `buckets` times `width_ms`.

    Time moves in buckets: what is older leaves a bucket at a time. A clock that is set back does
    no harm, what it would add to the past is added to the present.
    """

    def __init__(self, width_ms: int, buckets: int, quantities: int) -> None:
        self._width_ms = width_ms
        self._ring: Floats = np.zeros((buckets, quantities))
        self._newest: int | None = None
        self._first_ms = 0

    def add(self, at_ms: int, amounts: Sequence[float] | Floats) -> None:
        """Add one amount to each quantity."""
        if self._newest is None:
            self._newest, self._first_ms = at_ms // self._width_ms, at_ms
        self._move_to(at_ms)
        self._ring[self._newest % len(self._ring)] += amounts

    def sums(self, at_ms: int) -> Floats:
        """Sum of each quantity over the time that `seconds` tells."""
        self._move_to(at_ms)
        total: Floats = self._ring.sum(axis=0)
        return total

    def seconds(self, at_ms: int) -> float:
        """The time that the sums cover, at least one bucket: shorter just after the start."""
        if self._newest is None:
            return self._width_ms / 1_000
        oldest_ms = (self._newest - len(self._ring) + 1) * self._width_ms
        covered_ms = at_ms - max(oldest_ms, self._first_ms)
        return max(covered_ms, self._width_ms) / 1_000

    def _move_to(self, at_ms: int) -> None:
        bucket = at_ms // self._width_ms
        if self._newest is None or bucket <= self._newest:
            return
        passed = min(bucket - self._newest, len(self._ring))
        for number in range(bucket - passed + 1, bucket + 1):
            self._ring[number % len(self._ring)] = 0
        self._newest = bucket


class ScoreWindow:
    """Skill and interval coverage of the recently scored forecasts of one source."""

    def __init__(self, span_ms: int = SCORES_MS) -> None:
        self._sums = SlidingSums(width_ms=span_ms // 60, buckets=60, quantities=4)

    def add(self, at_ms: int, scored: ForecastsScored) -> None:
        """Take note of scored leads."""
        amounts = (scored.error, scored.naive_error, scored.covered, scored.intervals)
        self._sums.add(at_ms, amounts)

    def ratios(self, at_ms: int) -> tuple[float | None, float | None]:
        """Skill and coverage.

        Skill is 1 - error / naive error, None while the naive forecast has made no error; coverage
        is the share of actuals inside the outermost interval, None while there are none.

        >>> window = ScoreWindow()
        >>> window.add(0, ForecastsScored("model", 4, 1.5, 2.0, 3, 4))
        >>> window.ratios(0)
        (0.25, 0.75)
        """
        error, naive_error, covered, intervals = self._sums.sums(at_ms).tolist()
        skill = 1.0 - error / naive_error if naive_error > 0 else None
        return skill, covered / intervals if intervals > 0 else None


class DelayWindow:
    """Quantiles of the delays of the last minute, from a histogram of fixed size."""

    def __init__(self) -> None:
        size = len(_DELAY_BOUNDS) + 1
        self._sums = SlidingSums(width_ms=2_000, buckets=30, quantities=size)

    def add(self, at_ms: int, seconds: Sequence[float]) -> None:
        """Take note of delays, in seconds."""
        buckets = np.searchsorted(_DELAY_BOUNDS, np.asarray(seconds, dtype=np.float64))
        counts = np.bincount(buckets, minlength=len(_DELAY_BOUNDS) + 1)
        self._sums.add(at_ms, counts.astype(np.float64))

    def quantiles_ms(self, at_ms: int, wanted: Sequence[float]) -> list[float | None]:
        """The wanted quantiles in ms, each the geometric middle of its bucket; None without delays.

        >>> window = DelayWindow()
        >>> window.add(0, [0.020] * 99 + [2.0])
        >>> [round(ms) for ms in window.quantiles_ms(0, [0.5, 1.0])]
        [20, 2008]
        """
        counts = self._sums.sums(at_ms)
        total = counts.sum()
        if total == 0:
            return [None] * len(wanted)
        cumulative = np.cumsum(counts)
        found = np.searchsorted(cumulative, np.asarray(wanted) * total - 1e-9)
        upper = _DELAY_BOUNDS[np.minimum(found, len(_DELAY_BOUNDS) - 1)]
        middle = upper / np.sqrt(_DELAY_BOUNDS[1] / _DELAY_BOUNDS[0])
        return [float(ms) for ms in middle * 1_000]
