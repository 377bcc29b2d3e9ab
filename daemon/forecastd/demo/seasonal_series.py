"""Series with seasons that fit on a screen: what the demo has to forecast beside this machine.

A value is a pure function of its series and its event time, noise included: the past of a series
can be made at any time, continues without a seam into its present, and is the same on every run.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from forecastd.demo.timed_noise import normal, seed_of
from forecastd.records import Floats, Ints

Shape = Callable[[Floats], Floats]
"""A season: from its phase in [0, 1) to about -1 to 1."""

_DRIFT_MS = 10 * 60 * 1000
"""A drift turns after this time: a series that may run for days must stay plausible."""


@dataclass(frozen=True, slots=True)
class SeasonalSeries:
    """One series; what it measures and its unit are in its name.

    Attributes:
        name: of the series.
        shape: of a season.
        season_ms: length of a season.
        level: middle of the season, in the series' own unit, as all that follow.
        swing: from the middle to the top.
        noise: standard deviation of what no forecast can know.
        drift_per_minute: slope of the level, up and down again in turn.
        lowest: a count cannot be less than none.
        decimals: that the instrument shows.
    """

    name: str
    shape: Shape
    season_ms: int
    level: float
    swing: float
    noise: float
    drift_per_minute: float = 0.0
    lowest: float = -np.inf
    decimals: int = 2

    def values(self, at_ms: Ints) -> Floats:
        """What is measured at each of these event times.

        >>> queue = SeasonalSeries("queue", wave, 8_000, level=10.0, swing=4.0, noise=0.0)
        >>> queue.values(np.array([0, 2_000, 4_000, 6_000, 8_000])).tolist()
        [10.0, 14.0, 10.0, 6.0, 10.0]
        """
        phase = (at_ms % self.season_ms) / self.season_ms
        turned = np.abs((at_ms + _DRIFT_MS) % (2 * _DRIFT_MS) - _DRIFT_MS) / 60_000
        seed = seed_of(self.name)
        values = self.level + self.swing * self.shape(phase)
        values += self.drift_per_minute * turned + self.noise * normal(at_ms, seed)
        return np.asarray(np.round(np.maximum(values, self.lowest), self.decimals))


def wave(phase: Floats) -> Floats:
    """A sine: temperatures, tides, loads of large crowds."""
    return np.asarray(np.sin(2 * np.pi * phase))


def two_peaks(phase: Floats) -> Floats:
    """A morning and a higher evening, with a quiet night."""
    return -1 + 1.4 * _bump(phase, 0.3, 0.08) + 2.0 * _bump(phase, 0.7, 0.1)


def spike(phase: Floats) -> Floats:
    """Quiet, and once a season something heavy: a job that starts by the clock."""
    return -1 + 2 * _bump(phase, 0.5, 0.1)


def ramp(phase: Floats) -> Floats:
    """Fills steadily, and is emptied at once."""
    return 2 * phase - 1


def shifts(phase: Floats) -> Floats:
    """On and off, with a short way between: machines that people switch."""
    return np.asarray(np.tanh(3 * wave(phase)))


def ripples(phase: Floats) -> Floats:
    """A slow wave that carries one of a third of its length."""
    return 0.6 * wave(phase) + 0.4 * wave(3 * phase)


def heartbeat(phase: Floats) -> Floats:
    """A sharp peak and the dip that follows it."""
    return 1.2 * _bump(phase, 0.35, 0.09) - 0.8 * _bump(phase, 0.65, 0.11)


SEASONAL_SERIES = (
    SeasonalSeries("api.latency_ms", spike, 6_400, 95, 65, 3, lowest=1, decimals=1),
    SeasonalSeries("bakery.orders", two_peaks, 9_600, 140, 110, 5, lowest=0, decimals=0),
    SeasonalSeries("boiler.pressure_bar", heartbeat, 5_200, 4.1, 0.9, 0.03),
    SeasonalSeries("dock.tide_m", ripples, 11_200, 2.4, 1.3, 0.04),
    SeasonalSeries("factory.power_kw", shifts, 7_200, 310, 120, 6, decimals=1),
    SeasonalSeries("greenhouse.temperature", wave, 8_000, 21.5, 2.8, 0.1),
    SeasonalSeries("mail.queue_length", ramp, 5_600, 46, 42, 2, lowest=0, decimals=0),
    SeasonalSeries(
        "web.requests_per_s", wave, 4_800, 800, 210, 12, drift_per_minute=90, lowest=0, decimals=0
    ),
)
"""Shapes, levels, units and amounts of noise as different as those of a real input topic."""


def _bump(phase: Floats, middle: float, width: float) -> Floats:
    return np.asarray(np.exp(-0.5 * ((phase - middle) / width) ** 2))
