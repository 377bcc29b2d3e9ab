"""A group that learns while it is hit: it serves, writes windows, and trains again and again.

No run promotes anything, because none gains as much as is asked for: between two promotions the
forecasts must be those of a daemon that was never hit, and so must the windows.
"""

from __future__ import annotations

from pathlib import Path

from tests.chaos.trained import SHAPE, small_model
from tests.end_to_end.daemons import World
from tests.end_to_end.learning import add_model, operate

SETTINGS = SHAPE | {
    "TRAINING__ENABLED": "true",
    "FORECAST__UNITS": "16",
    "TRAINING__MIN_WINDOWS": "100",
    "TRAINING__EVERY": "1s",
    "TRAINING__EPOCHS": "1",
    "TRAINING__MIN_GAIN": "0.99",
}


def serve_group_model(folder: Path, world: World) -> None:
    """Give a group a champion that training may succeed, before its first daemon starts."""
    version = add_model(world, SETTINGS, Path(small_model(folder)["MODELS__SERVE"]))
    operate(world, SETTINGS, "promote", version)
    operate(world, SETTINGS, "release")
