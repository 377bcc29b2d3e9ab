"""A group that learns, on a real broker: its settings, its input, and what its topics say."""

from __future__ import annotations

import json
import math
import os
import random
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Self

import numpy as np
import psutil

from forecastd.models.kafka_models import KafkaModels
from forecastd.models.model_log import ModelLog
from forecastd.settings import Settings
from forecastd.settings_sources import load_settings
from tests.end_to_end.daemons import World

START_MS = 1_700_000_000_000

SHAPE = {"WINDOWS__TIMESTEPS": "8", "FORECAST__HORIZON": "4", "FORECAST__UNITS": "16"}

LEARNS = SHAPE | {
    "TRAINING__ENABLED": "true",
    "TRAINING__MIN_WINDOWS": "500",
    "TRAINING__EPOCHS": "8",
}
"""Learns within seconds what `waves` are like."""

SERIES = 8

WORKER = "forecastd.train.subprocess_worker"


def waves(first: int, last: int, series: int = SERIES) -> list[tuple[int, bytes | None, bytes]]:
    """Steps `first` to `last` of noisy seasons of 12 steps, interleaved: partition, key, value."""
    draw = random.Random(first)
    return [
        (
            number % 4,
            None,
            json.dumps(
                {
                    "series": f"s{number}",
                    "timestamp": START_MS + 1_000 * at,
                    "value": round(math.sin(math.pi * at / 6 + number) + draw.gauss(0, 0.05), 5),
                }
            ).encode(),
        )
        for at in range(first, last)
        for number in range(series)
    ]


def settings_of(world: World, more: Mapping[str, str]) -> Settings:
    """What a daemon of the group reads from its environment."""
    named = {f"FORECASTD_{name}": value for name, value in more.items()}
    return load_settings(None, None, world.settings(named), []).settings


class GroupModels:
    """The group's models topic, read along from outside."""

    def __init__(self, settings: Settings) -> None:
        self._models = KafkaModels(settings)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._models.close()

    @property
    def log(self) -> ModelLog:
        """As it is now."""
        self._models.read_to_end()
        return self._models.log

    @property
    def champion(self) -> str | None:
        """The version that should serve now."""
        champion = self.log.champion
        return champion.version if champion is not None else None


def operate(world: World, more: Mapping[str, str], *words: object) -> str:
    """`forecastd models ...` for the group, in a process of its own; returns what it printed."""
    named = {f"FORECASTD_{name}": value for name, value in more.items()}
    environ = {name: value for name, value in os.environ.items() if "FORECASTD_" not in name}
    done = subprocess.run(
        [sys.executable, "-m", "forecastd", "models", *map(str, words)],
        env=environ | world.settings(named),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


def untrained(folder: Path, settings: Settings, seed: int) -> Path:
    """A model that fits the settings, as a folder: random weights, others for another seed."""
    from forecastd.architecture import Architecture
    from forecastd.disk_models import save_model

    architecture, random_of = Architecture.from_settings(settings), np.random.default_rng(seed)
    weights = [
        random_of.normal(0, 0.1, shape).astype(np.float32) for shape in architecture.weight_shapes
    ]
    path = folder / f"model-{seed}"
    save_model(path, architecture, weights, "a test", {})
    return path


def add_model(world: World, more: Mapping[str, str], model: Path) -> str:
    """Add a model to the group's; returns its version."""
    operate(world, more, "import", model)
    with GroupModels(settings_of(world, more)) as models:
        return models.log.versions[0].version


def trainers_of(process: int) -> list[psutil.Process]:
    """Training processes that a daemon has now."""
    try:
        children = psutil.Process(process).children()
        return [child for child in children if WORKER in child.cmdline()]
    except psutil.NoSuchProcess:
        return []


def has_ended(process: psutil.Process) -> bool:
    """Whether there is no such process any more, not counting what nobody has asked about."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
