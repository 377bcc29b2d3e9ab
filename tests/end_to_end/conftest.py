"""Models that the daemon serves in these tests, made by its own commands."""

from __future__ import annotations

import math
import random
import subprocess
import sys
from pathlib import Path

import pytest


def forecastd(*arguments: object) -> str:
    """Run a command of ours to its end; returns what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "forecastd", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


@pytest.fixture(scope="session")
def trained_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of the default shape, trained for a moment: its state matters, its skill does not."""
    folder = tmp_path_factory.mktemp("trained")
    draw = random.Random(7)
    lines = ["timestamp,a,b,c"]
    for at in range(1_200):
        season = [math.sin(at / (3 + kind)) + draw.gauss(0, 0.1) for kind in range(3)]
        lines.append(f"{1_700_000_000 + at}," + ",".join(f"{value:.4f}" for value in season))
    (folder / "history.csv").write_text("\n".join(lines))
    forecastd("train", folder / "history.csv", "--out", folder / "model", "--training.epochs=2")
    return folder / "model"
