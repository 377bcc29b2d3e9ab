"""Plain Keras models with `stateful=True`: what the keyed network is compared with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from forecastd.architecture import Architecture, Recurrent
from forecastd.keras_losses import adam
from forecastd.keras_runtime import keras

LSTM = (Recurrent(cell="lstm", units=8),)
GRU = (Recurrent(cell="gru", units=8),)
TWO = (Recurrent(cell="lstm", units=8), Recurrent(cell="gru", units=6))
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
