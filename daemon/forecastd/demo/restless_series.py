"""Series without a season, made up like the seasonal ones: what cannot be foreseen must be learnt.

A model that has only ever seen seasons believes in them, and forecasts one for every jump of this
machine's processors. These show it when the middle, or the last value, is all there is; one of them
never moves.

A value is a pure function of its series and its event time, as in `seasonal_series.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from forecastd.demo.timed_noise import normal, seed_of, uniform
from forecastd.records import Floats, Ints

_TICK_MS = 200
"""Grain of what happens at moments."""

Kind = Callable[[Ints, int], Floats]
"""From event times and a seed to values."""


@dataclass(frozen=True, slots=True)
class RestlessSeries:
    """One series; what it measures and its unit are in its name.

    Attributes:
        name: of the series.
        kind: of restlessness.
        level, scale: from the kind to the series' unit: level + scale * kind.
        decimals: that the instrument shows.
    """

    name: str
    kind: Kind
    scale: float
    decimals: int
    level: float = 0.0

    def values(self, at_ms: Ints) -> Floats:
        """What is measured at each of these event times."""
        values = self.level + self.scale * self.kind(at_ms, seed_of(self.name))
        return np.asarray(np.round(values, self.decimals))


def idle(at_ms: Ints, seed: int) -> Floats:
    """Little to do, in a coarse grain: most often nothing."""
    return np.asarray(np.round(-np.log(uniform(at_ms, seed))))


def busy(at_ms: Ints, seed: int) -> Floats:
    """Works through jobs: now much to do, now little, never for long."""
    works = uniform(at_ms // (17 * _TICK_MS), seed) < 0.5  # half of the time
    level = np.where(works, 0.8, 0.2) + 0.08 * normal(at_ms, seed)
    return np.asarray(np.clip(level, 0, 1))


def held(at_ms: Ints, seed: int) -> Floats:
    """A slow average that is computed now and then: it moves on, and stays."""
    memory = np.arange(40)
    blocks = (at_ms // (25 * _TICK_MS))[:, None] - memory
    weights = 0.92**memory
    return np.asarray(uniform(blocks // 4, seed) @ weights / weights.sum())


def walk(at_ms: Ints, seed: int) -> Floats:
    """Goes where it is taken, mostly in small steps, and stays within bounds in the long run.

    Noise of ever longer waves, each as high as a random walk gets in that time.
    """
    values = np.zeros(len(at_ms))
    for octave in range(11):
        wave_ms = _TICK_MS << octave
        before, share = at_ms // wave_ms, (at_ms % wave_ms) / wave_ms
        ends = normal(before, seed + octave), normal(before + 1, seed + octave)
        values += 2 ** (octave / 2 - 5.5) * ((1 - share) * ends[0] + share * ends[1])
    return values


def still(at_ms: Ints, _seed: int) -> Floats:
    """What has never happened yet. A model must have seen that nothing follows from nothing."""
    return np.zeros(len(at_ms))


def switched(at_ms: Ints, seed: int) -> Floats:
    """One of two values, until somebody changes it."""
    return np.asarray(np.where(uniform(at_ms // (31 * _TICK_MS), seed) < 0.5, 1.0, 0.0))  # half


def murmur(at_ms: Ints, seed: int) -> Floats:
    """Carries a little all the time, and now and then a transfer."""
    transfers = uniform(at_ms // (23 * _TICK_MS), seed + 1) < 0.25  # share of time
    heights = np.where(transfers, 20, 1)
    return _over_a_second(at_ms, lambda ticks: -np.log(uniform(ticks, seed))) * heights


def bursts(at_ms: Ints, seed: int) -> Floats:
    """Nothing until something is written out."""

    def written(ticks: Ints) -> Floats:
        starts = uniform(ticks, seed) < 0.03  # share of ticks
        return np.asarray(np.where(starts, -np.log(uniform(ticks, seed + 1)), 0.0))

    return _over_a_second(at_ms, written)


RESTLESS_SERIES = (
    RestlessSeries("boiler.alarms", still, 1, 0),
    RestlessSeries("checkout.waiting", idle, 3, 0),
    RestlessSeries("crusher.load_percent", busy, 100, 1),
    RestlessSeries("parcels.backlog", held, 900, 0),
    RestlessSeries("printer.pages_per_s", bursts, 40, 1),
    RestlessSeries("radio.mb_per_s", murmur, 0.3, 1),
    RestlessSeries("sluice.open_percent", switched, 80, 0, level=10),
    RestlessSeries("vat.ph", walk, 0.4, 2, level=7.2),
)
"""What a machine's own metrics are like, in other units."""


def _over_a_second(at_ms: Ints, moved: Callable[[Ints], Floats]) -> Floats:
    """A rate as it is measured: what has moved in the last five ticks."""
    ticks = at_ms // _TICK_MS
    return np.asarray(np.mean([moved(ticks - back) for back in range(5)], axis=0))
