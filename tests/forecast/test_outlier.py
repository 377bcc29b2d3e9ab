"""One step that is a million standard deviations off, and how long forecasts remember it."""

from __future__ import annotations

import numpy as np
import pytest

from forecastd.memory.log import MemoryBroker
from forecastd.records import Floats
from tests.in_memory import (
    P0,
    START_MS,
    Obs,
    encode,
    make_model,
    make_settings,
    numbers,
    published,
    run,
)

T, WINDOWS, AT = 8, 90, 30
OUTLIER = 1e6


def forecasts(values: Floats, *, is_model: bool) -> Floats:
    """What is published of the windows, (n, H, Q)."""
    settings = make_settings(
        windows={"timesteps": T}, training={"enabled": False, "prime_windows": 8}
    )
    broker = MemoryBroker()
    for step, value in enumerate(values.tolist()):
        at_ms = START_MS + 1_000 * step
        broker.append(P0, encode([Obs("s", at_ms, (value,))]), at_ms)
    run(broker, settings, make_model(settings) if is_model else None)
    made = [message for message in published(broker) if "cold" not in message["flags"]]
    return np.stack([numbers(message)[0] for message in made])


def moved(place: int, *, is_model: bool, window: int = AT) -> Floats:
    """By how many standard deviations the outlier moves forecasts, from its window on: (n, Q)."""
    values = np.random.default_rng(0).normal(size=T * WINDOWS)
    usual = forecasts(values, is_model=is_model)
    values[T * window + place] += OUTLIER
    apart: Floats = np.abs(forecasts(values, is_model=is_model) - usual).max(axis=1)
    return apart[window:]


@pytest.mark.parametrize("place", [0, 1, T - 1])
def test_the_median_of_a_model_forgets_it_within_a_few_windows(place: int) -> None:
    """Inputs are clipped, and the spread is that of the quartiles."""
    assert moved(place, is_model=True)[:, 1][3:].max() < 0.2


@pytest.mark.parametrize("is_model", [True, False])
def test_the_band_forgets_it_within_a_few_windows(is_model: bool) -> None:  # noqa: FBT001
    """Running errors count up to what inputs are clipped to."""
    assert moved(1, is_model=is_model)[3:].max() < 1


def test_the_band_forgets_one_that_a_series_begins_with() -> None:
    """What the errors begin with is taken from its steps."""
    assert moved(1, is_model=False, window=0)[20:].max() < 1
