from __future__ import annotations

from typing import get_args

import numpy as np
import pytest

from forecastd.records import Floats
from forecastd.scaling import (
    INPUT_LIMIT,
    Anchor,
    Scaling,
    feed,
    read_back,
    tail_spread,
    window_anchor,
    window_scale,
)

SCALINGS: tuple[Scaling, ...] = get_args(Scaling)
ANCHORS: tuple[Anchor, ...] = get_args(Anchor)


def tail_of(*columns: list[float], length: int = 8) -> tuple[Floats, np.ndarray]:
    """Tails of one value each, at the end of which places are empty; and their counts."""
    tail = np.full((len(columns), length, 1), np.nan)
    for at, values in enumerate(columns):
        tail[at, : len(values), 0] = values
    return tail, np.array([len(values) for values in columns])


class TestTailSpread:
    def test_is_the_interquartile_range_in_standard_deviations(self) -> None:
        rng = np.random.default_rng(0)
        for count in (1, 2, 3, 4, 5, 33, 145):
            values = rng.normal(7, 3, (4, count, 2))
            tail = np.concatenate([values, np.full((4, 9, 2), np.nan)], axis=1)
            median, spread = tail_spread(tail, np.full(4, count))
            np.testing.assert_allclose(median, np.median(values, axis=1))
            if count > 1:
                low, high = np.quantile(values, (0.25, 0.75), axis=1)
                np.testing.assert_allclose(spread, (high - low) / 1.349)

    def test_does_not_depend_on_where_in_the_ring_a_step_lies(self) -> None:
        rng = np.random.default_rng(1)
        tail, count = rng.normal(size=(1, 20, 1)), np.array([20])
        wanted = tail_spread(tail, count)
        for shift in range(20):
            found = tail_spread(np.roll(tail, shift, axis=1), count)
            assert [part.tolist() for part in found] == [part.tolist() for part in wanted]

    def test_of_normal_values_is_about_their_standard_deviation(self) -> None:
        tail = np.random.default_rng(2).normal(0, 5, (1, 100_000, 1))
        assert tail_spread(tail, np.array([100_000]))[1].item() == pytest.approx(5, rel=0.02)

    def test_is_not_moved_by_an_outlier(self) -> None:
        calm, mad = [1.0, 2.0, 3.0, 4.0, 5.0], [1.0, 2.0, 3.0, 4.0, 5e30]
        assert len(set(tail_spread(*tail_of(calm, mad))[1].ravel())) == 1

    @pytest.mark.parametrize(
        ("values", "wanted"),
        [
            ([5.0, 5.0, 5.0, 5.0, 5.0, 9.0], np.std([5, 5, 5, 5, 5, 9])),  # mostly equal
            ([-250.0] * 4, 250.0),  # equal: the size of the value
            ([0.0] * 4, 1.0),
            ([7.0], 7.0),
            ([0.0], 1.0),
            ([1e9, 1e9 + 1e-4, 1e9, 1e9 + 1e-4], 1e9),  # rounding, not movement
        ],
    )
    def test_is_positive_for_a_flat_series(self, values: list[float], wanted: float) -> None:
        assert tail_spread(*tail_of(values))[1].item() == pytest.approx(wanted)

    def test_is_positive_and_finite_whatever_the_values(self) -> None:
        """All of float32's range, and much below it: whatever is divided by this stays a number."""
        for seed in range(200):
            rng = np.random.default_rng(seed)
            count = int(rng.integers(1, 9))
            values = rng.choice([-1, 0, 1], count) * 10.0 ** rng.uniform(-300, 38, count)
            _, spread = tail_spread(*tail_of(values.tolist()))
            assert np.isfinite(spread).all(), seed
            assert (spread > 0).all(), seed


class TestWindowAnchor:
    def test_last_is_the_last_value(self) -> None:
        windows = np.arange(12.0).reshape(2, 3, 2)
        assert window_anchor(windows, "last").tolist() == [[4.0, 5.0], [10.0, 11.0]]

    def test_ewma_keeps_four_fifths_of_its_past_at_each_step(self) -> None:
        window = [3.0, -1.0, 2.0, 8.0]
        mean, weight = 0.0, 0.0
        for value in window:
            mean, weight = 0.8 * mean + value, 0.8 * weight + 1
        found = window_anchor(np.reshape(window, (1, 4, 1)), "ewma")
        assert found.item() == pytest.approx(mean / weight)


class TestFeed:
    @pytest.mark.parametrize("anchor", ["last", "ewma"])
    def test_joins_consecutive_windows_without_a_seam(self, anchor: Anchor) -> None:
        """A carried state sees each move once: measured from the step before, window by window."""
        steps = np.random.default_rng(0).normal(size=(1, 9, 1))
        one = np.ones((1, 1))
        scale = window_scale(steps[:, 1:5], steps[:, 0], one, one, "series", anchor)
        first = feed(steps[:, 1:5], scale, "series")
        scale = window_scale(steps[:, 5:], steps[:, 4], one, one, "series", anchor)
        second = feed(steps[:, 5:], scale, "series")
        np.testing.assert_allclose(first, steps[:, 1:5] - steps[:, :1], rtol=1e-6)
        np.testing.assert_allclose(second, steps[:, 5:] - steps[:, 4:5], rtol=1e-6)

    def test_measures_the_first_window_of_a_series_from_its_first_step(self) -> None:
        window, nothing = np.array([[[5.0], [7.0]]]), np.full((1, 1), np.nan)
        scale = window_scale(window, nothing, np.ones((1, 1)), np.ones((1, 1)), "series", "last")
        assert feed(window, scale, "series").tolist() == [[[0.0], [2.0]]]

    def test_in_raw_values_is_the_window_itself(self) -> None:
        window = np.array([[[1e9], [-3.5]]])
        median, spread = np.full((1, 1), 9.0), np.full((1, 1), 4.0)
        scale = window_scale(window, window[:, 0], median, spread, "none", "none")
        assert feed(window, scale, "none").tolist() == [[[1e9], [-3.5]]]
        assert read_back(np.ones((1, 2, 1, 1), np.float32), scale).ravel().tolist() == [1.0, 1.0]

    def test_of_an_outlier_stops_at_the_limit(self) -> None:
        window = np.array([[[0.0], [1e30], [-1e30]]])
        zero, one = np.zeros((1, 1)), np.ones((1, 1))
        scale = window_scale(window, zero, zero, one, "series", "last")
        assert feed(window, scale, "series").ravel().tolist() == [0.0, INPUT_LIMIT, -INPUT_LIMIT]

    @pytest.mark.parametrize("scaling", SCALINGS)
    @pytest.mark.parametrize("anchor", ANCHORS)
    def test_is_finite_at_the_ends_of_the_range(self, scaling: Scaling, anchor: Anchor) -> None:
        """A number that is not finite would poison a row of the bank for good."""
        end = float(np.finfo(np.float32).max)
        window = np.array([[[end], [-end], [end]], [[-end], [1e-300], [0.0]]])
        before, tail = np.array([[-end], [end]]), window
        median, spread = tail_spread(tail, np.array([3, 3]))
        scale = window_scale(window, before, median, spread, scaling, anchor)
        fed = feed(window, scale, scaling)
        assert fed.dtype == np.float32
        assert np.isfinite(fed).all()


class TestReadBack:
    def test_adds_the_outputs_in_spreads_to_the_anchor(self) -> None:
        window = np.array([[[10.0, 100.0], [12.0, 104.0]]])
        spread = np.array([[2.0, 8.0]])
        scale = window_scale(window, window[:, 0], window[:, 0], spread, "series", "last")
        outputs = np.array([[[[1.0, 1.0]], [[-0.5, 0.25]]]], np.float32)  # (1, 2, 1, 2)
        assert read_back(outputs, scale).tolist() == [[[[14.0, 112.0]], [[11.0, 106.0]]]]

    def test_of_the_first_values_alone_leaves_the_others_out(self) -> None:
        window = np.array([[[10.0, 100.0], [12.0, 104.0]]])
        spread = np.array([[2.0, 8.0]])
        scale = window_scale(window, window[:, 0], window[:, 0], spread, "series", "last").first(1)
        assert read_back(np.ones((1, 1, 1, 1), np.float32), scale).tolist() == [[[[14.0]]]]
