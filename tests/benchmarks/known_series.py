"""Series whose generators are known, and so is the best forecast that anyone could make of them.

The floor of an error is that of the generator's own conditional mean: what is left is the noise
that no forecast can know.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from forecastd.records import Floats
from forecastd.train.recorded_series import RecordedSeries
from tests.in_memory import START_MS


@dataclass(frozen=True, slots=True, eq=False)
class KnownSeries:
    """Steps of S series, and what was to be expected of them.

    Attributes:
        values: (S, N).
        expected: (S, N, H) conditional means of the H steps after each step; what is told of a
            change is told before it comes.
        noise: (S,) standard deviation of one step's noise: the unit of errors.
    """

    values: Floats
    expected: Floats
    noise: Floats

    def actuals(self, ends: slice) -> Floats:
        """(S, n, H) what came after the steps of `ends`."""
        horizon = self.expected.shape[2]
        after = np.lib.stride_tricks.sliding_window_view(self.values[:, 1:], horizon, axis=1)
        found: Floats = after[:, ends]
        return found


def seasonal(  # how many, how long, and what happens to them
    count: int,
    steps: int,
    horizon: int,
    seed: int,
    *,
    season: int,
    shift_at: int | None = None,
    season_then: tuple[int, int] | None = None,
) -> KnownSeries:
    """Two harmonics of one season, of another phase, size and level each, and white noise.

    Args:
        shift_at: step from which on the level is another one.
        season_then: step from which on the season is another one, and its length.
    """
    rng = np.random.default_rng(seed)
    swing = np.exp(rng.uniform(0, 4, (count, 1)))
    level, phase = 20 * swing * rng.normal(size=(count, 1)), rng.uniform(size=(count, 1))
    second, angle = rng.uniform(0.2, 0.6, (count, 1)), rng.uniform(size=(count, 1))
    lengths = np.full(steps + horizon, float(season))
    if season_then is not None:
        lengths[season_then[0] :] = season_then[1]
    turns = phase + np.cumsum(1 / lengths)
    shape = np.sin(2 * np.pi * turns) + second * np.sin(2 * np.pi * (2 * turns + angle))
    mean = level + swing * shape + _shift(swing, shift_at, steps + horizon)
    noise = 0.3 * swing
    values = mean[:, :steps] + noise * rng.normal(size=(count, steps))
    expected = np.lib.stride_tricks.sliding_window_view(mean[:, 1:], horizon, axis=1)
    return KnownSeries(values, expected, noise[:, 0])


def autoregressive(  # as above
    count: int,
    steps: int,
    horizon: int,
    seed: int,
    *,
    season: int,
    shift_at: int | None = None,
    season_then: tuple[int, int] | None = None,
) -> KnownSeries:
    """AR(2) around a level, x[t] = a x[t-1] + b x[t-2] + noise, with a pseudo-season.

    The roots are r exp(+-2 pi i / season): a = 2 r cos(2 pi / season), b = -r^2, with r = 0.95.
    """
    rng, keep = np.random.default_rng(seed), 0.95
    noise = np.exp(rng.uniform(0, 4, (count, 1)))
    level = 100 * noise * rng.normal(size=(count, 1))
    lengths = np.full(steps + horizon, float(season))
    if season_then is not None:
        lengths[season_then[0] :] = season_then[1]
    a, b = 2 * keep * np.cos(2 * np.pi / lengths), -(keep**2)
    around = np.zeros((count, steps))
    for step in range(2, steps):
        around[:, step] = a[step] * around[:, step - 1] + b * around[:, step - 2]
        around[:, step] += noise[:, 0] * rng.normal(size=count)
    ahead = np.zeros((count, steps, horizon + 2))
    ahead[:, 1:, 0], ahead[:, :, 1] = around[:, :-1], around
    for lead in range(1, horizon + 1):
        now = a[lead : lead + steps]
        ahead[:, :, lead + 1] = now * ahead[:, :, lead] + b * ahead[:, :, lead - 1]
    mean = level + _shift(10 * noise, shift_at, steps + horizon)
    means = np.lib.stride_tricks.sliding_window_view(mean[:, 1:], horizon, axis=1)
    return KnownSeries(mean[:, :steps] + around, means + ahead[:, :, 2:], noise[:, 0])


def duty_cycles(count: int, steps: int, seed: int, *, half: int, noise: float) -> KnownSeries:
    """1 for `half` steps, then -1 for as many, and white noise: a machine that works and rests.

    Whoever sees less than `half` steps cannot know when the next change comes; who remembers the
    last change knows it to the step. Horizon 8.
    """
    rng, horizon = np.random.default_rng(seed), 8
    at = rng.integers(2 * half, size=(count, 1)) + np.arange(steps + horizon)
    mean = np.where(at % (2 * half) < half, 1.0, -1.0)
    values = mean[:, :steps] + noise * rng.normal(size=(count, steps))
    expected = np.lib.stride_tricks.sliding_window_view(mean[:, 1:], horizon, axis=1)
    return KnownSeries(values, expected, np.full(count, noise))


def recordings(known: KnownSeries, steps: int | None = None) -> list[RecordedSeries]:
    """The first `steps` of the series, as training reads them; steps are a minute apart."""
    values = known.values[:, :steps]
    rows = np.arange(values.shape[1])
    at_ms = START_MS + 60_000 * rows
    return [
        RecordedSeries(f"s{name}", at_ms, one[:, None], rows) for name, one in enumerate(values)
    ]


def _shift(size: Floats, shift_at: int | None, steps: int) -> Floats:
    shifted = np.zeros((len(size), steps))
    if shift_at is not None:
        shifted[:, shift_at:] = 5 * size
    return shifted
