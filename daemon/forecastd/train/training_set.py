"""What a network is trained on and judged by, from series and settings.

The same code for files given to `forecastd train` and for the windows that a daemon has read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from forecastd.architecture import Architecture
from forecastd.errors import ModelError
from forecastd.settings import Settings
from forecastd.train.recorded_series import RecordedSeries, holdout_start_ms
from forecastd.train.sequences import TrainingData, training_data
from forecastd.train.stretches import Layout


def training_set(
    recorded: Sequence[RecordedSeries], architecture: Architecture, settings: Settings
) -> TrainingData:
    """Stretches to learn from and stretches to be judged by, as `training.*` divides them.

    Raises:
        ModelError: there are too few windows of either.
    """
    training = settings.training
    data = training_data(
        recorded,
        Layout.of(architecture, settings),
        holdout_start_ms(recorded, training.holdout),
        training.prime_windows,
    )
    wanted, wanted_held = training.bptt_windows, int(training.holdout > 0)
    found, found_held = data.learnable, data.judged
    if found < wanted or found_held < wanted_held:
        timesteps, horizon = settings.windows.timesteps, settings.forecast.horizon
        raise ModelError(
            f"training: {found} windows to learn from and {found_held} held out, wanted at least "
            f"{wanted} and {wanted_held}; a window is {timesteps} steps of one series "
            f"(windows.timesteps) and at least one of the {horizon} after it (forecast.horizon)"
        )
    return data


def training_facts(recorded: Sequence[RecordedSeries], settings: Settings) -> dict[str, Any]:
    """What a model's metadata says of what it was made from: `settings` and `data`."""
    known = [series for series in recorded if len(series)]
    sections = ("windows", "forecast", "training")
    return {
        "settings": {name: getattr(settings, name).model_dump(mode="json") for name in sections},
        "data": {
            "series": len({series.name for series in known}),
            "steps": sum(map(len, known)),
            "from_ms": min(int(series.at_ms[0]) for series in known),
            "to_ms": max(int(series.at_ms[-1]) for series in known),
        },
    }
