"""The bank as the network uses it: where state is, and what leaves it alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from forecastd.keras_network import KeyedNetwork
from tests.plain_keras import LSTM, TWO, first, plain_architecture, rows, windows

ROWS = 12


@pytest.fixture(scope="module")
def made() -> KeyedNetwork:
    return KeyedNetwork(plain_architecture(LSTM), ROWS)


@pytest.fixture
def lstm(made: KeyedNetwork) -> KeyedNetwork:
    made.zero_rows(first(ROWS))
    return made


def test_is_no_weight_and_is_not_saved(lstm: KeyedNetwork, tmp_path: Path) -> None:
    lstm.predict(windows(3), first(3))
    shapes = [weight.shape for weight in lstm.weights()]
    assert shapes == [(1, 32), (8, 32), (32,), (8, 2), (2,)]
    graph = lstm._graph
    assert ROWS not in {axis for variable in graph.variables for axis in variable.shape}
    graph.save_weights(tmp_path / "all.weights.h5")
    assert not _axes_of_saved_arrays(tmp_path / "all.weights.h5") & {ROWS}


def test_is_left_alone_by_new_weights(lstm: KeyedNetwork) -> None:
    lstm.predict(windows(ROWS), first(ROWS))
    before = [lstm.read_state(0, part, first(ROWS)) for part in ("h", "c")]
    old = lstm.weights()
    lstm.set_weights([weight + 1 for weight in old])
    after = [lstm.read_state(0, part, first(ROWS)) for part in ("h", "c")]
    lstm.set_weights(old)
    np.testing.assert_array_equal(after, before)
    assert np.abs(before[0]).max() > 0


def test_moves_for_the_rows_of_a_call_alone(lstm: KeyedNetwork) -> None:
    lstm.predict(windows(ROWS), first(ROWS))
    before = lstm.read_state(0, "c", first(ROWS))
    lstm.predict(windows(2, seed=1), rows(9, 2))
    moved = (lstm.read_state(0, "c", first(ROWS)) != before).any(axis=1)
    assert np.flatnonzero(moved).tolist() == [2, 9]


def test_takes_back_what_was_read_bit_for_bit(lstm: KeyedNetwork) -> None:
    """A saved row forecasts on as if nothing had happened, in whatever bank row."""
    lstm.predict(windows(2), rows(0, 1))
    kept = [lstm.read_state(0, part, rows(0, 1)) for part in ("h", "c")]
    expected = lstm.predict(windows(2, seed=1), rows(0, 1))
    for part, values in zip(("h", "c"), kept, strict=True):
        lstm.write_state(0, part, rows(5, 3), values)
    np.testing.assert_array_equal(lstm.predict(windows(2, seed=1), rows(5, 3)), expected)


def test_grows_without_a_new_trace_and_keeps_its_rows() -> None:
    network = KeyedNetwork(plain_architecture(TWO), 2)
    network.warm_up()
    traces = network.trace_count
    network.predict(windows(2), first(2))
    before = network.read_state(1, "h", first(2))
    network.grow(100_000)
    assert network.rows == 100_000
    np.testing.assert_array_equal(network.read_state(1, "h", first(2)), before)
    grown = network.predict(windows(3, seed=1), rows(0, 1, 99_999))
    assert network.trace_count == traces
    network.zero_rows(first(2))
    network.predict(windows(2), first(2))
    again = network.predict(windows(3, seed=1), rows(0, 1, 77_777))
    np.testing.assert_array_equal(again, grown)


def test_never_shrinks(lstm: KeyedNetwork) -> None:
    lstm.grow(1)
    assert lstm.rows == ROWS


def _axes_of_saved_arrays(file: Path) -> set[int]:
    import h5py  # type: ignore[import-untyped]  # comes with Keras

    axes: set[int] = set()
    with h5py.File(file) as saved:
        saved.visititems(lambda _, item: axes.update(getattr(item, "shape", ())))
    return axes
