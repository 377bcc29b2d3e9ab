"""Where the keyed network keeps the state of every series: one row of a bank each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from forecastd.architecture import Recurrent
from forecastd.keras_losses import Tensor
from forecastd.keras_runtime import tf


class StateBank:
    """State of all rows: for each layer its parts, each a variable of shape (rows, units).

    The variables are made outside of Keras and held by a plain object, so that Keras does not see
    them: they are not weights, are not saved, and `set_weights` leaves them alone.
    """

    def __init__(self, cells: Sequence[Recurrent], rows: int) -> None:
        with tf.init_scope():
            self.layers: list[list[Any]] = [
                [
                    tf.Variable(
                        tf.zeros((rows, layer.units)),
                        shape=(None, layer.units),
                        trainable=False,
                        name=f"bank_{number}_{part}",
                    )
                    for part in layer.state_parts
                ]
                for number, layer in enumerate(cells)
            ]

    def read(self, layer: int, rows: Tensor) -> list[Tensor]:
        """State of `rows`, one tensor (B, units) a part.

        `sparse_read` copies these rows alone; a gather on the variable's value copies all.
        """
        return [variable.sparse_read(rows) for variable in self.layers[layer]]

    def write(self, layer: int, rows: Tensor, state: Sequence[Tensor]) -> None:
        """Set the state of `rows`, which are distinct."""
        for variable, values in zip(self.layers[layer], state, strict=True):
            variable.scatter_update(tf.IndexedSlices(values, rows))

    def grow(self, more: int) -> None:
        """Add `more` zeroed rows; graphs that use the bank are not traced anew."""
        for variable in (variable for layer in self.layers for variable in layer):
            zeros = tf.zeros((more, variable.shape[1]))
            variable.assign(tf.concat([variable, zeros], axis=0))
