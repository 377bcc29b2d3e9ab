"""Series whose memory is longer than a window: what two benchmarks train on and serve.

Series work for 20 steps and rest for 20 (`known_series.duty_cycles`), windows have 8: the next
change can be known from the last one, and not from a window. Errors are mean squared ones, the
floor is the variance of the noise, 0.250.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from forecastd.architecture import Architecture
from forecastd.keras_network import KeyedNetwork
from forecastd.records import Float32s, Floats
from forecastd.scaling import Scale, read_back
from forecastd.settings import Settings
from forecastd.train.held_out import HeldOut, fed
from forecastd.train.keras_trainer import Trainer, Weights
from forecastd.train.sequences import TrainingData, training_data
from forecastd.train.stretches import Layout, Stretch, window_ends
from tests.benchmarks.known_series import KnownSeries, duty_cycles, recordings

HALF, NOISE, FLOOR = 20, 0.5, 0.25
SERIES, STEPS = 32, 800
TEST_SERIES, TEST_STEPS = 256, 400
WARM_WINDOWS = 10
"""Windows before the first that counts: two changes have been seen by then."""

ROW_WINDOWS, BATCH = 8, 32
SETTINGS = Settings.model_validate({
    "windows": {"timesteps": 8},
    "forecast": {"horizon": 8, "units": 32},
    "training": {
        "loss": "mse", "epochs": 20, "bptt_windows": ROW_WINDOWS, "batch_size": BATCH, "holdout": 0,
    },
})  # fmt: skip
ARCHITECTURE = Architecture.from_settings(SETTINGS)
LAYOUT = Layout.of(ARCHITECTURE, SETTINGS)

Stretches = list[Stretch]


def stretches_of(seed: int) -> Stretches:
    """What is trained on: all windows of all series, in time order."""
    known = duty_cycles(SERIES, STEPS, seed, half=HALF, noise=NOISE)
    return training_data(recordings(known), LAYOUT, None, 0).training


def trained(
    stretches: Stretches,
    seed: int,
    trainer: type[Trainer] = Trainer,
    row_windows: int = ROW_WINDOWS,
) -> Weights:
    """Weights after as many steps of Adam on as many windows each, whatever a row holds."""
    batch = BATCH * ROW_WINDOWS // row_windows
    settings = SETTINGS.training.model_copy(
        update={"seed": seed, "bptt_windows": row_windows, "batch_size": batch}
    )
    data = TrainingData(stretches, [])
    return list(trainer(ARCHITECTURE, data, settings).train(lambda _: None).weights)


def pieces(stretches: Stretches, windows: int, seed: int) -> Stretches:
    """Pieces of so many windows, in no order: each is to be read from a zero state."""
    cut = [
        one.part(start, start + windows)
        for one in stretches
        for start in range(0, len(one) - windows + 1, windows)
    ]
    return [cut[at] for at in np.random.default_rng(seed).permutation(len(cut))]


@dataclass(frozen=True, slots=True, eq=False)
class Tested:
    """What trained networks are tested on: other series of the same generator.

    Attributes:
        windows: float32 (S, n, T, 1), as fed.
        scales: of each series, its n windows.
        actuals: (S, n, H).
    """

    windows: Float32s
    scales: list[Scale]
    actuals: Floats

    @property
    def count(self) -> int:
        """Windows a series that count."""
        return int(self.windows.shape[1]) - WARM_WINDOWS


def tested(seed: int) -> Tested:
    """Series that nobody was trained on."""
    known: KnownSeries = duty_cycles(TEST_SERIES, TEST_STEPS, 1_000 + seed, half=HALF, noise=NOISE)
    ends = window_ends(TEST_STEPS - LAYOUT.horizon, LAYOUT.timesteps)
    found = [
        fed(HeldOut(number, one, ends, 0), LAYOUT) for number, one in enumerate(recordings(known))
    ]
    windows = np.stack([stretch.windows for stretch, _ in found])
    actuals = known.actuals(slice(ends[0], None, LAYOUT.timesteps))[:, : len(ends)]
    return Tested(windows, [scale for _, scale in found], actuals)


Server = Callable[[KeyedNetwork, Tested], Iterator[Float32s]]
"""Yields the (S, H) outputs of window after window, from the first one that counts on."""


def carried(network: KeyedNetwork, test: Tested) -> Iterator[Float32s]:
    """As the daemon serves: each window is read once, into the state that the last one left."""
    rows = _rows(network, test)
    for at in range(test.windows.shape[1]):
        outputs = network.predict(np.ascontiguousarray(test.windows[:, at]), rows)
        if at >= WARM_WINDOWS:
            yield outputs[:, 0, :, 0, 0]


def reread(windows: int) -> Server:
    """At each window the last `windows` ones from a zero state."""

    def serve(network: KeyedNetwork, test: Tested) -> Iterator[Float32s]:
        rows = _rows(network, test)
        for at in range(WARM_WINDOWS, test.windows.shape[1]):
            last = test.windows[:, at + 1 - windows : at + 1]
            network.zero_rows(rows)
            again = np.ascontiguousarray(last).reshape(len(rows), -1, 1)
            outputs = network.predict(again, rows)
            yield outputs[:, -1, :, 0, 0]

    return serve


@dataclass(frozen=True, slots=True)
class Served:
    """Mean squared error, and CPU microseconds a forecast of which the network took part."""

    error: float
    cpu_us: float


def served(weights: Weights, test: Tested, server: Server) -> Served:
    """What a network of these weights forecasts of the tested series."""
    network = KeyedNetwork(ARCHITECTURE, rows=len(test.windows))
    network.set_weights(weights)
    list(server(network, test))  # graphs are made in the first pass
    started = time.process_time()
    outputs = np.stack(list(server(network, test)), axis=1)
    cpu_us = 1e6 * (time.process_time() - started) / (len(test.windows) * test.count)
    return Served(float(errors_of(outputs, test, WARM_WINDOWS).mean()), cpu_us)


def errors_of(outputs: Float32s, test: Tested, first: int) -> Floats:
    """Squared errors (S, n, H) of outputs (S, n, H) for the windows from number `first` on."""
    some = slice(first, first + outputs.shape[1])
    medians = np.stack(
        [
            read_back(
                made[:, :, None, None],
                Scale(scale.offset[some], scale.anchor[some], scale.spread[some]),
            )[:, :, 0, 0]
            for made, scale in zip(outputs, test.scales, strict=True)
        ]
    )
    errors: Floats = (medians - test.actuals[:, some]) ** 2
    return errors


def _rows(network: KeyedNetwork, test: Tested) -> np.ndarray:
    rows = np.arange(len(test.windows), dtype=np.int32)
    network.zero_rows(rows)
    return rows
