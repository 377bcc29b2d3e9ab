from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from forecastd.architecture import Architecture, Recurrent
from forecastd.keras_network import KeyedNetwork
from forecastd.records import Float32s, Slots
from tests.plain_keras import (
    KINDS,
    LSTM,
    STEPS,
    first,
    forget,
    learn,
    part,
    plain_architecture,
    plain_model,
    rows,
    windows,
)

ROWS = 12


class Pair:
    """A keyed network, and plain Keras models of the same weights for any batch size.

    Every model object leaks some 10 MB, so a pair is made once and cleared between tests.
    """

    def __init__(self, kind: str) -> None:
        self.cells = KINDS[kind]
        self.keyed = KeyedNetwork(plain_architecture(self.cells), ROWS)
        self._plain: dict[int, Any] = {}

    def plain(self, batch: int) -> Any:
        if batch not in self._plain:
            self._plain[batch] = plain_model(self.cells, batch)
            self._plain[batch].set_weights(self.keyed.weights())
        forget(self._plain[batch])
        return self._plain[batch]

    def predict(self, read: Float32s, at: Slots) -> Float32s:
        """(B, W, outputs)."""
        return self.keyed.predict(read, at).reshape(len(at), -1, 2)


@pytest.fixture(scope="module", params=KINDS)
def made(request: pytest.FixtureRequest) -> Pair:
    return Pair(request.param)


@pytest.fixture
def pair(made: Pair) -> Pair:
    made.keyed.zero_rows(first(made.keyed.rows))
    return made


class TestPredict:
    def test_is_bit_identical_to_a_stateful_keras_model(self, pair: Pair) -> None:
        plain = pair.plain(5)
        for seed in range(6):
            read = windows(5, seed=seed)
            found = pair.predict(read, rows(7, 1, 10, 0, 4))
            np.testing.assert_array_equal(found, plain.predict_on_batch(read))

    def test_of_interleaved_series_is_that_of_each_alone(self, pair: Pair) -> None:
        """Whatever is due together, in whatever order, each row remembers its own series."""
        random = np.random.default_rng(1)
        series = windows(ROWS, count=8, seed=1)
        found: list[list[Float32s]] = [[] for _ in range(ROWS)]
        while pending := [row for row in range(ROWS) if len(found[row]) < 8]:
            due = random.permutation(pending)[: random.integers(1, len(pending) + 1)]
            starts = [len(found[row]) * STEPS for row in due]
            read = np.stack(
                [series[row, at : at + STEPS] for row, at in zip(due, starts, strict=True)]
            )
            for row, output in zip(due, pair.predict(read, due.astype(np.int32)), strict=True):
                found[row].append(output[0])
        alone = pair.plain(1)
        for row in range(ROWS):
            forget(alone)
            expected = alone.predict_on_batch(series[row : row + 1])[0]
            np.testing.assert_allclose(np.stack(found[row]), expected, rtol=1e-6, atol=1e-6)

    def test_in_chunks_ends_where_one_pass_over_the_uncut_sequence_does(self, pair: Pair) -> None:
        series = windows(3, count=7, seed=2)
        whole = pair.plain(3).predict_on_batch(series)
        chunks = [pair.predict(part(series, number), first(3)) for number in range(7)]
        np.testing.assert_allclose(np.concatenate(chunks, axis=1), whole, rtol=1e-6, atol=1e-6)

    @pytest.mark.parametrize("count", [2, 7])
    def test_of_several_windows_at_once_is_that_of_one_after_the_other(
        self, pair: Pair, count: int
    ) -> None:
        series = windows(3, count=count, seed=3)
        at_once = pair.predict(series, first(3))
        pair.keyed.zero_rows(first(3))
        for number in range(count):
            one = pair.predict(part(series, number), first(3))
            np.testing.assert_allclose(at_once[:, number], one[:, 0], rtol=1e-6, atol=1e-6)

    def test_of_a_row_given_to_another_series_is_that_of_a_new_one(self, pair: Pair) -> None:
        new = pair.predict(windows(2, seed=5), rows(0, 1))
        pair.predict(windows(4, seed=4), first(4))
        pair.keyed.zero_rows(rows(2))
        again = pair.predict(windows(2, seed=5), rows(2, 3))
        np.testing.assert_array_equal(again[0], new[0])
        assert not np.array_equal(again[1], new[1])  # its row was not zeroed


@pytest.fixture(scope="module")
def made_lstm() -> KeyedNetwork:
    return KeyedNetwork(plain_architecture(LSTM), ROWS)


@pytest.fixture
def lstm(made_lstm: KeyedNetwork) -> KeyedNetwork:
    made_lstm.zero_rows(first(made_lstm.rows))
    return made_lstm


class TestBorder:
    """What TensorFlow would do in silence: broadcast, poison a row for good, write one twice."""

    @pytest.mark.parametrize(
        ("read", "at"),
        [
            (windows(2).astype(np.float64), first(2)),
            (windows(2), first(2).astype(np.int64)),
            (windows(2), first(3)),
            (windows(2)[:, :3], first(2)),
            (windows(2, features=2), first(2)),
            (np.asfortranarray(windows(4, count=2)), first(4)),
            (np.full((2, STEPS, 1), np.nan, np.float32), first(2)),
            (windows(2), rows(3, 3)),
            (windows(2), rows(-1, 3)),
            (windows(2), rows(3, ROWS)),
            (windows(0), rows()),
        ],
        ids=[
            "float64", "int64 rows", "another count", "a part of a window", "another F",
            "another order", "NaN", "a row twice", "a row below", "a row above", "nothing",
        ],
    )  # fmt: skip
    def test_is_kept(self, lstm: KeyedNetwork, read: Float32s, at: Slots) -> None:
        with pytest.raises(AssertionError):
            lstm.predict(read, at)

    def test_lets_no_network_learn_that_was_made_to_serve(self, lstm: KeyedNetwork) -> None:
        with pytest.raises(AssertionError, match="made to serve"):
            lstm.train_on_batch(windows(1), first(1), np.zeros((1, 1, 2, 1), np.float32))


class TestWarmUp:
    def test_leaves_nothing_to_trace(self) -> None:
        network = KeyedNetwork(plain_architecture(LSTM), 64)
        network.warm_up()
        traces = network.trace_count
        for batch, count in [(1, 1), (7, 1), (64, 1), (3, 8), (1, 9), (2, 1)]:
            network.predict(windows(batch, count), first(batch))
        assert network.trace_count == traces <= 2

    def test_leaves_state_as_it_was(self, lstm: KeyedNetwork) -> None:
        lstm.predict(windows(3), first(3))
        before = lstm.read_state(0, "h", first(3))
        lstm.warm_up()
        np.testing.assert_array_equal(lstm.read_state(0, "h", first(3)), before)


class TestSegments:
    def test_are_what_the_lowest_layer_reads_without_an_anchor(self) -> None:
        keyed = KeyedNetwork(plain_architecture(LSTM, segment=2, features=3), 2)
        plain = plain_model(LSTM, 2, segment=2, features=3)
        plain.set_weights(keyed.weights())
        for seed in range(3):
            read = windows(2, seed=seed, features=3)
            found = keyed.predict(read, first(2)).reshape(2, 1, 2)
            np.testing.assert_array_equal(found, plain.predict_on_batch(read.reshape(2, 2, 6)))

    def test_are_shape_and_move_with_an_anchor(self) -> None:
        """Of each segment its values from its own last one, and that one's move since the last.

        Every window is measured from the step before it, so that each begins with the move from 0.
        """
        fields = {"segment": 2, "features": 2, "outputs": 6, "anchor": "last"}
        keyed = KeyedNetwork(plain_architecture(LSTM, **fields), 1)
        random = np.random.default_rng(0)
        keyed.set_weights(
            [random.normal(size=one.shape).astype(np.float32) for one in keyed.weights()]
        )
        plain = plain_model(LSTM, 1, segment=3, features=2, timesteps=6, outputs=6)
        plain.set_weights(keyed.weights())
        read = windows(1, count=2, features=2)
        steps = []
        for window in read.reshape(2, 2, 2, 2):  # windows, segments, steps, values
            last = np.zeros(2, np.float32)
            for segment in window:
                steps.append([*(segment - segment[-1]).ravel(), *(segment[-1] - last)])
                last = segment[-1]
        expected = plain.predict_on_batch(np.array([steps], np.float32))
        found = keyed.predict(read, first(1)).reshape(1, 2, 6)
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


class TestHead:
    def test_untrained_forecasts_the_anchor(self) -> None:
        network = KeyedNetwork(plain_architecture(LSTM, anchor="last", outputs=8), 2)
        assert not network.predict(windows(2), first(2)).any()

    def test_without_an_anchor_starts_as_keras_does(self, lstm: KeyedNetwork) -> None:
        assert lstm.weights()[-2].any()

    def test_puts_quantiles_in_order(self) -> None:
        quantiles = (0.1, 0.5, 0.9)
        network = KeyedNetwork(plain_architecture(LSTM, outputs=12, quantiles=quantiles), 2)
        found = network.predict(windows(2, count=3), first(2))
        assert found.shape == (2, 3, 4, 3, 1)
        assert (np.diff(found, axis=3) >= 0).all()

    def test_numbers_outputs_by_lead_then_quantile_then_value(self) -> None:
        fields = {"outputs": 12, "quantiles": (0.1, 0.5, 0.9), "features": 2}
        network = KeyedNetwork(plain_architecture(LSTM, **fields), 1)
        bias = np.arange(12, dtype=np.float32)
        network.set_weights([*(0 * weight for weight in network.weights()[:-1]), bias])
        found = network.predict(windows(1, features=2), first(1))
        np.testing.assert_array_equal(found, bias.reshape(1, 1, 2, 3, 2))

    def test_of_a_network_that_takes_any_length_ends_one_window(self) -> None:
        network = KeyedNetwork(plain_architecture(LSTM, timesteps=None), 2)
        assert network.predict(windows(2, count=3), first(2)).shape == (2, 1, 2, 1, 1)


class TestTraining:
    @pytest.mark.parametrize(("kind", "count"), [("lstm", 1), ("gru", 1), ("two-layers", 3)])
    def test_loses_what_a_stateful_keras_model_loses(self, kind: str, count: int) -> None:
        """Batch after batch, with the state carried and the weights moving."""
        cells = KINDS[kind]
        keyed = KeyedNetwork(plain_architecture(cells), 8, 1e-2, "mse")
        plain = learn(plain_model(cells, 5), 1e-2)
        plain.set_weights(keyed.weights())
        read = windows(5, count=40 * count, seed=7)
        actuals = np.random.default_rng(8).normal(size=(5, 40 * count, 2)).astype(np.float32)
        at = rows(3, 0, 7, 1, 6)
        for batch in range(40):
            given = part(read, batch * count, count)
            target = actuals[:, batch * count : (batch + 1) * count]
            found = keyed.train_on_batch(given, at, target[..., None])
            np.testing.assert_allclose(found.loss, plain.train_on_batch(given, target), rtol=1e-5)
        for ours, theirs in zip(keyed.weights(), plain.get_weights(), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)

    def test_of_a_batch_without_all_rows_leaves_the_others(self, learner: KeyedNetwork) -> None:
        """The short last batch is fed as it is."""
        learner.zero_rows(first(4))
        actuals = np.zeros((4, 1, 2, 1), np.float32)
        learner.train_on_batch(windows(4), first(4), actuals)
        before = learner.read_state(0, "h", first(4))
        learner.train_on_batch(windows(2, seed=1), rows(1, 3), actuals[:2])
        after = learner.read_state(0, "h", first(4))
        assert (before != after).any(axis=1).tolist() == [False, True, False, True]

    def test_of_a_test_batch_moves_state_and_no_weight(self, learner: KeyedNetwork) -> None:
        learner.zero_rows(first(4))
        weights, actuals = learner.weights(), np.ones((4, 2, 2, 1), np.float32)
        read = windows(4, count=2)
        score = learner.test_on_batch(read, first(4), actuals)
        after = learner.read_state(0, "h", first(4))
        for old, new in zip(weights, learner.weights(), strict=True):
            np.testing.assert_array_equal(old, new)
        learner.zero_rows(first(4))
        outputs = learner.predict(read, first(4))[:, :, :, 0]
        np.testing.assert_array_equal(learner.read_state(0, "h", first(4)), after)
        np.testing.assert_allclose(score.loss, np.square(outputs - actuals).mean(), rtol=1e-5)
        np.testing.assert_allclose(score.error, np.abs(outputs - actuals).mean(), rtol=1e-5)


@pytest.fixture(scope="module")
def learner() -> KeyedNetwork:
    return KeyedNetwork(plain_architecture(LSTM), 4, 1e-2, "mse")


def test_an_architecture_alone_is_enough_to_build_any_network() -> None:
    cells = (
        Recurrent(cell="gru", units=3, reset_after=False, use_bias=False),
        Recurrent(cell="lstm", units=5, activation="relu", recurrent_activation="hard_sigmoid"),
    )
    architecture = Architecture(
        cells=cells, timesteps=4, features=2, outputs=12, segment=2, output_activation="tanh"
    )
    network = KeyedNetwork(architecture, 2)
    assert [weight.shape for weight in network.weights()] == architecture.weight_shapes
    assert network.predict(windows(2, features=2), first(2)).shape == (2, 1, 6, 1, 2)
