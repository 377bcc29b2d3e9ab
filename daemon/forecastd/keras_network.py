"""The keyed stateful network: recurrent layers whose state lives in a bank of rows.

Keras's `stateful=True` ties a state to the row number of a fixed batch. Here a call names the bank
row that each of its batch rows belongs to, so that any series can be due at any time:

    rows ──read──▶ h, c ──▶ recurrent layers ──▶ h, c ──write──▶ rows
    windows ──segments──────────▲    │
                                     └─ state at every window's end ─▶ dense ─▶ forecasts

At the same batch size the numbers are those of plain `LSTM(stateful=True)`, bit for bit. The same
class trains and serves; only weights pass from one to the other, never a bank.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from forecastd.architecture import Architecture, Recurrent
from forecastd.keras_bank import StateBank
from forecastd.keras_losses import Loss, Tensor, adam, loss_function, median_error
from forecastd.keras_runtime import keras, tf
from forecastd.records import Float32s, Slots

_LAYERS = {"lstm": keras.layers.LSTM, "gru": keras.layers.GRU}


class BatchScore(NamedTuple):
    """Scores of one batch, each a mean over its actuals that exist, in spreads of the series."""

    loss: float
    error: float  # absolute error of the median


class _Graph(keras.Model):  # type: ignore[misc]  # Keras has no types
    """What Keras sees: the layers, and a forward pass that goes through the bank."""

    def __init__(self, architecture: Architecture, bank: StateBank, seed: int) -> None:
        super().__init__(name="keyed")
        self._architecture, self._bank = architecture, bank
        self._cells = [
            _recurrent_layer(layer, seed + number)
            for number, layer in enumerate(architecture.cells)
        ]
        # An output of zero is the anchor where there is one: an untrained network then forecasts
        # it, and training starts from there. Without an anchor zero is no forecast worth keeping,
        # and Keras's own start trains faster.
        start = keras.initializers.GlorotUniform(seed)
        self._head = keras.layers.Dense(
            architecture.outputs,
            activation=architecture.output_activation,
            use_bias=architecture.output_bias,
            kernel_initializer=start if architecture.anchor == "none" else "zeros",
            dtype="float32",
            name="head",
        )
        width = architecture.step_features
        for cell, layer in zip(self._cells, architecture.cells, strict=True):
            cell.build((None, None, width))
            width = layer.units
        self._head.build((None, None, width))
        self.built = True

    def call(self, inputs: tuple[Tensor, Tensor]) -> Tensor:
        """(B, W * T, F) windows and (B,) rows to (B, W, H, Q, targets)."""
        windows, rows = inputs
        architecture = self._architecture
        steps = _recurrent_steps(windows, architecture)
        for number, cell in enumerate(self._cells):
            steps, *state = cell(steps, initial_state=self._bank.read(number, rows))
            self._bank.write(number, rows, state)
        ends = steps[:, None, -1]
        if architecture.timesteps is not None:
            per_window = architecture.timesteps // architecture.segment
            shape = (tf.shape(windows)[0], -1, per_window, architecture.cells[-1].units)
            ends = tf.reshape(steps, shape)[:, :, -1]
        batch, count = tf.unstack(tf.shape(ends)[:2])
        return tf.reshape(self._head(ends), (batch, count, *architecture.head_shape))


class KeyedNetwork:
    """A network of one architecture, and the bank with the state of its rows.

    Not for two threads at once. Every object costs about 10 MB that nothing frees: keep it, and
    change its weights.

    Args:
        architecture: with T and H filled in (`Architecture.fit`) where the model is an import.
        rows: capacity of the bank.
        learning_rate: of Adam; given with `loss` for a network that is to be trained.
        loss: by its name in `training.loss`.
        seed: of the initial weights.
    """

    def __init__(
        self,
        architecture: Architecture,
        rows: int,
        learning_rate: float | None = None,
        loss: Loss | None = None,
        *,
        seed: int = 0,
    ) -> None:
        self.architecture = architecture
        self._bank = StateBank(architecture.cells, rows)
        self._rows = rows
        self._graph = _Graph(architecture, self._bank, seed)
        self._trains = loss is not None
        if loss is not None:
            assert learning_rate is not None, "a loss without a learning rate"
            assert (loss == "pinball") == bool(architecture.quantiles), "loss and quantiles differ"
            self._graph.compile(
                optimizer=adam(learning_rate),
                loss=loss_function(loss, architecture.quantiles),
                metrics=[median_error(architecture.quantiles)],
                jit_compile=False,
            )

    @property
    def rows(self) -> int:
        """Rows of the bank."""
        return self._rows

    @property
    def learning_rate(self) -> float:
        """Of the optimizer's next step."""
        return float(self._graph.optimizer.learning_rate)

    @learning_rate.setter
    def learning_rate(self, rate: float) -> None:
        self._graph.optimizer.learning_rate = rate

    def predict(self, windows: Float32s, rows: Slots) -> Float32s:
        """Read windows into the state of their rows; forecasts at every window's end.

        Args:
            windows: (B, W * T, F), finite, as `scaling.feed` makes them: W consecutive windows of
                one series a row, each measured from its own offset.
            rows: (B,) bank rows, distinct.

        Returns:
            (B, W, H, Q, targets), ascending along Q. Where the architecture has no T, W is 1.
        """
        self._check(windows, rows)
        outputs: Float32s = self._graph.predict_on_batch((windows, rows))
        return np.sort(outputs, axis=3) if outputs.shape[3] > 1 else outputs

    def train_on_batch(self, windows: Float32s, rows: Slots, actuals: Float32s) -> BatchScore:
        """One step of Adam on W windows a row, gradients reaching back to the first of them.

        Args:
            windows, rows: as in `predict`.
            actuals: (B, W, H, targets) in spreads from the anchor; NaN where there is none, but
                not everywhere.
        """
        self._check(windows, rows)
        self._check_actuals(actuals)
        scores = self._graph.train_on_batch((windows, rows), actuals[..., None, :])
        return BatchScore(*map(float, scores))

    def test_on_batch(self, windows: Float32s, rows: Slots, actuals: Float32s) -> BatchScore:
        """The scores of the same, without a step; the state moves on as in `predict`."""
        self._check(windows, rows)
        self._check_actuals(actuals)
        scores = self._graph.test_on_batch((windows, rows), actuals[..., None, :])
        return BatchScore(*map(float, scores))

    def weights(self) -> list[NDArray[np.float32]]:
        """Copies in Keras's order.

        Of each layer kernel, recurrent kernel and bias, then kernel and bias of the head.
        """
        return [np.array(weight) for weight in self._graph.get_weights()]

    def set_weights(self, weights: Sequence[NDArray[np.float32]]) -> None:
        """Take over `weights` (shapes as in `weights()`); no state changes."""
        self._graph.set_weights(list(weights))

    def grow(self, rows: int) -> None:
        """Make room for bank rows below `rows`; state that is there stays, bit for bit."""
        if rows > self._rows:
            self._bank.grow(rows - self._rows)
            self._rows = rows

    def read_state(self, layer: int, part: str, rows: Slots) -> Float32s:
        """One part ("h", "c") of a layer's state, (B, units)."""
        values: Float32s = self._variable(layer, part).sparse_read(rows).numpy()
        return values

    def write_state(self, layer: int, part: str, rows: Slots, values: Float32s) -> None:
        """Set one part of a layer's state for `rows`, which are distinct."""
        assert values.shape == (len(rows), self.architecture.cells[layer].units), values.shape
        self._variable(layer, part).scatter_update(tf.IndexedSlices(values, rows))

    def zero_rows(self, rows: Slots) -> None:
        """Let `rows` begin anew in every layer, as for a series never seen."""
        for number, layer in enumerate(self.architecture.cells):
            zeros = np.zeros((len(rows), layer.units), np.float32)
            for part in layer.state_parts:
                self.write_state(number, part, rows, zeros)

    def warm_up(self) -> None:
        """Trace every graph now, in its last form, so that no later call has to.

        Keras first traces a shape as it is and lets batch and time vary when it meets another;
        two calls that differ in both bring it there. State and weights are as before.
        """
        assert self._rows > 1, "two rows are needed to warm up"
        rows = np.arange(2, dtype=np.int32)
        state = [self._bank.read(layer, rows) for layer in range(len(self.architecture.cells))]
        timesteps, features = self.architecture.timesteps or 1, self.architecture.features
        for batch in (1, 2):
            windows = np.zeros((batch, batch * timesteps, features), np.float32)
            self.predict(windows, rows[:batch])
        for layer, parts in enumerate(state):
            self._bank.write(layer, rows, parts)

    @property
    def trace_count(self) -> int:
        """Graphs that `predict` has made so far."""
        predict = self._graph.predict_function
        return int(predict.experimental_get_tracing_count()) if predict is not None else 0

    def _variable(self, layer: int, part: str) -> Any:
        names = self.architecture.cells[layer].state_parts
        return self._bank.layers[layer][names.index(part)]

    def _check(self, windows: Float32s, rows: Slots) -> None:
        """The border: TensorFlow would broadcast, poison a row or write one twice in silence."""
        timesteps, features = self.architecture.timesteps or 1, self.architecture.features
        assert windows.dtype == np.float32, windows.dtype
        assert rows.dtype == np.int32, rows.dtype
        assert rows.shape == windows.shape[:1], (rows.shape, windows.shape)
        assert windows.ndim == 3, windows.shape
        assert windows.shape[2] == features, (windows.shape, features)
        assert windows.shape[1] > 0, windows.shape
        assert windows.shape[1] % timesteps == 0, (windows.shape, timesteps)
        assert windows.flags.c_contiguous, windows.strides
        assert np.isfinite(windows).all(), "a number that is not finite"
        ordered = np.sort(rows)
        assert (ordered[1:] > ordered[:-1]).all(), "a bank row twice in one call"
        assert len(rows) > 0, "no row"
        assert ordered[0] >= 0, ordered[0]
        assert ordered[-1] < self._rows, (ordered[-1], self._rows)

    def _check_actuals(self, actuals: Float32s) -> None:
        horizon, _, targets = self.architecture.head_shape
        assert self._trains, "a network that was made to serve"
        assert actuals.dtype == np.float32, actuals.dtype
        assert actuals.ndim == 4, actuals.shape
        assert actuals.shape[2:] == (horizon, targets), actuals.shape
        assert not np.isnan(actuals).all(), "nothing to learn from"


def _recurrent_layer(layer: Recurrent, seed: int) -> Any:
    """Keras's layer, which returns the output of every step and the state after the last."""
    options: dict[str, Any] = {"reset_after": layer.reset_after} if layer.cell == "gru" else {}
    return _LAYERS[layer.cell](
        layer.units,
        activation=layer.activation,
        recurrent_activation=layer.recurrent_activation,
        use_bias=layer.use_bias,
        kernel_initializer=keras.initializers.GlorotUniform(seed),
        recurrent_initializer=keras.initializers.Orthogonal(seed=seed),
        return_sequences=True,
        return_state=True,
        dtype="float32",
        **options,
    )


def _recurrent_steps(windows: Tensor, architecture: Architecture) -> Tensor:
    """What the lowest layer reads: (B, W * T, F) to (B, W * T / S, step_features).

    With an anchor a step is the segment measured from its own last value, and the move of that
    last value since the segment before (segments as in SegRNN, arXiv 2308.11200); a window is
    measured from the step before it, so that its first move is that of its first segment's last
    value. Without one it is the segment.
    """
    segment, features = architecture.segment, architecture.features
    batch = tf.shape(windows)[0]
    if architecture.anchor == "none":
        if segment == 1:
            return windows
        return tf.reshape(windows, (batch, -1, segment * features))
    per_window = (architecture.timesteps or segment) // segment
    segments = tf.reshape(windows, (batch, -1, per_window, segment, features))
    last = segments[:, :, :, -1]
    before = tf.concat([tf.zeros_like(last[:, :, :1]), last[:, :, :-1]], axis=2)
    shape = tf.reshape(segments - last[:, :, :, None], (batch, -1, segment * features))
    moves = tf.reshape(last - before, (batch, -1, features))
    return tf.concat([shape, moves], axis=-1)
