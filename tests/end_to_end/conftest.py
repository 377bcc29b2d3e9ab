"""Models that the daemon serves in these tests, made by its own commands."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.chaos.trained import small_model


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
def served_model(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Settings that serve a small trained model, of two interleaved states a series."""
    return small_model(tmp_path_factory.mktemp("served"))
