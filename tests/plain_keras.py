"""Plain Keras models with `stateful=True`: what the keyed network is compared with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from forecastd.architecture import Architecture, Recurrent
from forecastd.keras_losses import adam
from forecastd.keras_runtime import keras
from forecastd.records import Float32s, Slots

LSTM = (Recurrent(cell="lstm", units=8),)
GRU = (Recurrent(cell="gru", units=8),)
TWO = (Recurrent(cell="lstm", units=8), Recurrent(cell="gru", units=6))
STEPS = 4
KINDS = {"lstm": LSTM, "gru": GRU, "two-layers": TWO}


def plain_architecture(cells: Sequence[Recurrent], **fields: Any) -> Architecture:
    """What an import of a plain model with windows of 4 steps and 2 outputs looks like."""
    known = {"timesteps": 4, "features": 1, "outputs": 2, "scaling": "none", "anchor": "none"}
    return Architecture(cells=tuple(cells), **{**known, **fields})


def plain_model(cells: Sequence[Recurrent], batch: int, **fields: Any) -> Any:
    """The same layers as a user writes them, for a fixed batch.

    Forecasts at the end of each window of what it is fed: (batch, windows, outputs).
    """
    known = plain_architecture(cells, **fields)
    every = (known.timesteps or 1) // known.segment
    steps = keras.Input(batch_shape=(batch, None, known.features * known.segment))
    outputs = steps
    for layer in cells:
        make = keras.layers.LSTM if layer.cell == "lstm" else keras.layers.GRU
        outputs = make(layer.units, stateful=True, return_sequences=True)(outputs)
    outputs = keras.layers.Dense(known.outputs)(outputs[:, every - 1 :: every])
    return keras.Model(steps, outputs)


def forget(model: Any) -> None:
    """Reset the state of every recurrent layer."""
    for layer in model.layers:
        if hasattr(layer, "reset_state"):
            layer.reset_state()


def learn(model: Any, learning_rate: float) -> Any:
    """Let the model learn as ours does."""
    model.compile(adam(learning_rate), "mse", jit_compile=False)
    return model


def windows(batch: int, count: int = 1, seed: int = 0, features: int = 1) -> Float32s:
    shape = (batch, count * STEPS, features)
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def part(series: Float32s, start: int, count: int = 1) -> Float32s:
    """Windows `start` to `start + count` of each row."""
    return np.ascontiguousarray(series[:, start * STEPS : (start + count) * STEPS])


def rows(*numbers: int) -> Slots:
    return np.array(numbers, np.int32)


def first(count: int) -> Slots:
    return np.arange(count, dtype=np.int32)
