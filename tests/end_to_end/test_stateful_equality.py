"""The daemon against plain Keras: state persists across messages, polls, batches and restarts."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np

from forecastd.keras_runtime import keras
from tests.end_to_end.conftest import forecastd
from tests.end_to_end.daemons import Daemon, World

TIMESTEPS, SERIES, WINDOWS = 10, 100, 6
START_MS = 1_700_000_000_000


def test_forecasts_are_those_of_a_stateful_keras_model(kafka: str, tmp_path: Path) -> None:
    """Against `LSTM(stateful=True)`, which reads each series' windows in order.

    100 series are interleaved at random over four partitions, and the daemon is restarted in the
    middle.
    """
    keras.utils.set_random_seed(3)
    values = np.random.default_rng(3).normal(size=(SERIES, WINDOWS * TIMESTEPS)).astype(np.float32)
    model = keras.Sequential(
        [
            keras.Input(batch_shape=(SERIES, TIMESTEPS, 1)),
            keras.layers.LSTM(32, stateful=True),
            keras.layers.Dense(1),
        ]
    )
    model.save(tmp_path / "tutorial.keras")
    expected = [
        model.predict_on_batch(values[:, at : at + TIMESTEPS, None])
        for at in range(0, WINDOWS * TIMESTEPS, TIMESTEPS)
    ]
    forecastd("models", "import", tmp_path / "tutorial.keras", "--out", tmp_path / "model")
    world = World(kafka).create()
    order = [number for number in range(SERIES) for _ in range(WINDOWS * TIMESTEPS)]
    random.Random(3).shuffle(order)
    read = [0] * SERIES
    records = []
    for number in order:
        at = read[number]
        read[number] += 1
        text = {"series": f"s{number}", "timestamp": START_MS + 1000 * at}
        record = json.dumps(text | {"value": float(values[number, at])}).encode()
        records.append((number % 4, b"", record))
    shape = {"WINDOWS__TIMESTEPS": "10", "FORECAST__HORIZON": "1"}
    for half in (records[: len(records) // 2], records[len(records) // 2 :]):
        world.produce(half)
        with Daemon(
            world, tmp_path / "log", MODELS__SERVE=str(tmp_path / "model"), **shape
        ) as daemon:
            daemon.until_ready().until_caught_up()
            assert daemon.stop() == 0
    compared = 0
    for message in world.messages():
        if message["source"] == "model":
            window = (message["origin_ms"] - START_MS) // 1000 // TIMESTEPS
            middle = message["forecasts"]["value"][0][message["quantiles"].index(0.5)]
            wanted = expected[window][int(message["series"][1:]), 0]
            np.testing.assert_allclose(middle, wanted, rtol=1e-5, atol=1e-5)
            compared += 1
    assert compared == SERIES * WINDOWS
