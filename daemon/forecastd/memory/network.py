"""A keyed recurrent network in plain numpy: the twin of `keras_network.py`, for tests.

One LSTM layer and a dense head, weights drawn from a seed. It forecasts nothing well, but what it
forecasts depends on every step that a row has read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forecastd.records import Float32s, Slots

_KERNEL_AXES = 2


@dataclass(slots=True)
class MemoryNetwork:
    """An LSTM with a bank of states.

    Attributes:
        timesteps: T, steps of a window.
        features: F, values of a step.
        head: (H, Q, V) of an output.
        units: of the layer.
        seed: of the weights.
    """

    timesteps: int
    features: int
    head: tuple[int, int, int]
    units: int = 3
    seed: int = 0
    _state: dict[str, Float32s] = field(default_factory=dict)
    _weights: list[Float32s] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Draw the weights, with an empty bank."""
        rng = np.random.default_rng(self.seed)
        shapes = [
            (self.features, 4 * self.units),
            (self.units, 4 * self.units),
            (self.units, int(np.prod(self.head))),
        ]
        self._weights = [rng.normal(0, 0.7, shape).astype(np.float32) for shape in shapes]
        self._state = {part: np.zeros((0, self.units), np.float32) for part in ("h", "c")}

    @property
    def states(self) -> list[tuple[int, str, int]]:
        """(layer, part, units) of every state part."""
        return [(0, part, self.units) for part in self._state]

    def predict(self, windows: Float32s, rows: Slots) -> Float32s:
        """Read windows into the state of bank rows: (B, W * T, F) to (B, W, H, Q, V) outputs."""
        assert len(np.unique(rows)) == len(rows), "a bank row twice in one call"
        assert windows.dtype == np.float32, windows.dtype
        assert np.isfinite(windows).all(), "a number that is not finite"
        kernel, recurrent, dense = self._weights
        h, c = (self._state[part][rows] for part in ("h", "c"))
        outputs = []
        for step in range(windows.shape[1]):
            gates = windows[:, step] @ kernel + h @ recurrent
            taken, kept, shown = np.split(_sigmoid(gates[:, : 3 * self.units]), 3, axis=1)
            c = kept * c + taken * np.tanh(gates[:, 3 * self.units :])
            h = shown * np.tanh(c)
            if (step + 1) % self.timesteps == 0:
                outputs.append(np.sort((h @ dense).reshape(len(rows), *self.head), axis=2))
        self._state["h"][rows], self._state["c"][rows] = h, c
        return np.stack(outputs, axis=1)

    def set_weights(self, weights: Sequence[NDArray[Any]]) -> None:
        """Take over the kernels, in order; biases, and rows that ours lack, are left out."""
        kernels = [array for array in weights if array.ndim == _KERNEL_AXES]
        taken = zip(kernels, self._weights, strict=True)
        self._weights = [given[: len(own)].astype(np.float32) for given, own in taken]

    def zero_rows(self, rows: Slots) -> None:
        """Forget the state of bank rows."""
        for state in self._state.values():
            state[rows] = 0

    def read_state(self, _layer: int, part: str, rows: Slots) -> Float32s:
        """(B, units) of bank rows."""
        return self._state[part][rows]

    def write_state(self, _layer: int, part: str, rows: Slots, values: Float32s) -> None:
        """Set (B, units) of bank rows."""
        self._state[part][rows] = values

    def grow(self, rows: int) -> None:
        """Make room for bank rows below `rows`; never shrinks."""
        for part, state in self._state.items():
            more = max(rows - len(state), 0)
            self._state[part] = np.concatenate([state, np.zeros((more, self.units), np.float32)])


def _sigmoid(x: Float32s) -> Float32s:
    half = (np.tanh(x / 2) + 1) / 2  # the usual formula overflows
    return half.astype(np.float32)
