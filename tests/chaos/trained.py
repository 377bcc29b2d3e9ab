"""A small model, trained by our own command: its state matters, its skill does not."""

from __future__ import annotations

import math
import random
import subprocess
import sys
from pathlib import Path

SHAPE = {"WINDOWS__TIMESTEPS": "8", "WINDOWS__STRIDE": "4", "FORECAST__HORIZON": "4"}
"""Two interleaved states a series, and a forecast at every fourth step."""


def small_model(folder: Path) -> dict[str, str]:
    """The settings that serve it; trained unless it is in the folder already."""
    model = folder / "model"
    if not model.exists():
        _train(folder / "history.csv", model)
    return SHAPE | {"MODELS__SERVE": str(model)}


def _train(history: Path, model: Path) -> None:
    draw = random.Random(7)
    lines = ["timestamp,a,b,c"]
    for at in range(1_200):
        season = [math.sin(at / (3 + kind)) + draw.gauss(0, 0.1) for kind in range(3)]
        lines.append(f"{1_700_000_000 + at}," + ",".join(f"{value:.4f}" for value in season))
    history.write_text("\n".join(lines))
    command = [
        *(sys.executable, "-m", "forecastd", "train", str(history), "--out", str(model)),
        *("--windows.timesteps=8", "--forecast.horizon=4", "--forecast.units=16"),
        "--training.epochs=2",
    ]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=300)
