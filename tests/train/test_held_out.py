from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from forecastd.records import Floats
from forecastd.train.held_out import (
    HeldOut,
    fed,
    held_out,
    last_values,
    measure,
    naive_candidates,
    read_medians,
    running_mean_at,
)
from forecastd.train.recorded_series import Past, RecordedSeries
from forecastd.train.sequences import training_data
from forecastd.train.stretches import Layout

STEPS, CUT = 40, 27
LAYOUT = Layout(
    timesteps=4,
    stride=2,
    horizon=3,
    tail_steps=9,
    season=5,
    targets=1,
    scaling="series",
    anchor="last",
)


def series(name: str, values: Floats, start: int = 0) -> RecordedSeries:
    places = np.arange(start, start + len(values))
    return RecordedSeries(name, places, values.reshape(len(values), -1), places)


def walk(seed: int, steps: int = STEPS, values: int = 1) -> Floats:
    return np.random.default_rng(seed).normal(size=(steps, values)).cumsum(axis=0)


def cut(*recorded: RecordedSeries, warm: int = 2) -> list[HeldOut]:
    return held_out(recorded, LAYOUT, CUT, warm)


def in_its_midst(values: Floats, start: int) -> list[RecordedSeries]:
    """A piece that begins at a step before which there were others."""
    windows = (len(values) - start) // LAYOUT.timesteps
    past = Past(values[start - 1], np.zeros((windows, 1)), np.ones((windows, 1)))
    return [replace(series("piece", values[start:], start), past=past)]


class TestWindows:
    def test_are_those_that_training_is_validated_on(self) -> None:
        """One held-out stretch decides when to stop, and what is promoted."""
        recorded = [series("a", walk(0)), series("b", walk(1)), *in_its_midst(walk(2), 20)]
        expected = training_data(recorded, LAYOUT, CUT, 2).held_out
        found = cut(*recorded)
        assert len(found) == len(expected) == 6
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_array_equal(fed(one, LAYOUT)[0].windows, other.windows)
            np.testing.assert_array_equal(one.recorded.at_ms[one.ends], other.end_ms)

    def test_end_after_the_cut_and_begin_with_unscored_ones(self) -> None:
        (first, second) = cut(series("a", walk(0)))
        assert first.ends.tolist() == [19, 23, 27, 31, 35, 39][1:]
        assert (first.warm, first.scored.tolist()) == (2, [31, 35, 39])
        assert second.scored.tolist() == [29, 33, 37]

    def test_of_a_series_that_has_only_begun_are_not_warmed(self) -> None:
        (first, *_) = cut(series("a", walk(0, 8), start=30))
        assert (first.warm, first.scored.tolist()) == (0, [3, 7])

    def test_of_a_piece_warm_its_state_first(self) -> None:
        """It is served with a state that has read what came before."""
        begins, again = (
            cut(one)[0] for one in (series("a", walk(0)[28:], 28), *in_its_midst(walk(0), 28))
        )
        assert (begins.warm, len(begins.scored)) == (0, 3)
        assert (again.warm, len(again.scored)) == (1, 2)

    def test_that_nothing_follows_are_left_out(self) -> None:
        """A series that they are all of could not be judged."""
        assert cut(series("a", walk(0, 4), start=30)) == []

    def test_of_the_pieces_of_a_series_count_for_one(self) -> None:
        pieces = [series("a", walk(0, 8), 30), series("b", walk(1)), series("a", walk(2, 8), 50)]
        assert {one.series for one in cut(*pieces)} == {0, 1}
        assert measure(cut(*pieces), LAYOUT).windows.tolist() == [4, 5]


class TestErrors:
    def test_of_the_last_value_are_one(self) -> None:
        stretches = cut(series("a", walk(0)), series("b", 1e6 + 1e-3 * walk(1)))
        errors = measure(stretches, LAYOUT).errors(last_values(stretches, LAYOUT))
        assert errors == pytest.approx(np.ones((2, 1)))

    def test_are_taken_value_by_value(self) -> None:
        """Two values of a series may differ in size by any factor."""
        layout = replace(LAYOUT, targets=2)
        values = walk(0, values=2) * [1.0, 1e6]
        stretches = held_out([series("a", values)], layout, CUT, 2)
        measured = measure(stretches, layout)
        assert measured.errors(last_values(stretches, layout)) == pytest.approx(np.ones((1, 2)))
        perfect = [np.nan_to_num(actual) for actual in measured.actuals]
        assert measured.errors(perfect).tolist() == [[0.0, 0.0]]

    def test_are_those_of_the_definition(self) -> None:
        values = walk(3)
        stretches = cut(series("a", values))
        measured = measure(stretches, LAYOUT)
        ends = [end for one in stretches for end in one.scored]
        leads = [(end, end + k) for end in ends for k in (1, 2, 3) if end + k < STEPS]
        last = np.mean([abs(values[at] - values[end]) for end, at in leads])
        zero = np.mean([abs(values[at]) for _, at in leads])
        forecasts = [np.zeros((len(one.scored), 3, 1)) for one in stretches]
        assert measured.errors(forecasts) == pytest.approx(np.array([[zero / last]]))

    def test_of_a_series_that_stands_still_are_measured_by_its_size(self) -> None:
        """Off by a thousandth is not infinitely worse than the last value."""
        stretches = cut(series("a", np.full(STEPS, 50.0)))
        forecasts = [np.full((len(one.scored), 3, 1), 50.05) for one in stretches]
        assert measure(stretches, LAYOUT).errors(forecasts) == pytest.approx(np.array([[0.1]]))

    def test_of_no_numbers_are_no_numbers(self) -> None:
        stretches = cut(series("a", walk(0)), series("b", walk(1)))
        forecasts = last_values(stretches, LAYOUT)
        forecasts[0][0, 0] = np.nan
        errors = measure(stretches, LAYOUT).errors(forecasts)
        assert np.isnan(errors).tolist() == [[True], [False]]


class TestNaiveCandidates:
    def test_of_noise_is_its_running_mean(self) -> None:
        noise = np.random.default_rng(0).uniform(size=STEPS)
        assert self.best(noise) == "running mean"

    def test_of_a_season_is_the_value_one_season_ago(self) -> None:
        assert self.best(np.tile(np.arange(5.0) ** 2, 8)) == "seasonal"

    def test_of_a_walk_is_the_last_value(self) -> None:
        assert self.best(np.arange(float(STEPS))) == "last value"

    def test_of_a_level_with_spikes_is_its_running_median(self) -> None:
        """No model is better for having learnt that spikes pass."""
        random = np.random.default_rng(0)
        spikes = np.where(random.random(STEPS) < 0.3, 1_000.0, 0.0)
        assert self.best(random.normal(size=STEPS) + spikes) == "running median"

    def test_without_a_season_are_three(self) -> None:
        layout = replace(LAYOUT, season=None)
        assert naive_candidates(cut(series("a", walk(0))), layout).keys() == {
            "last value", "running mean", "running median",
        }  # fmt: skip

    def best(self, values: Floats) -> str:
        stretches = cut(series("a", values))
        measured = measure(stretches, LAYOUT)
        errors = {
            name: float(measured.errors(medians)[0, 0])
            for name, medians in naive_candidates(stretches, LAYOUT).items()
        }
        return min(errors, key=lambda name: errors[name])


def test_the_running_mean_of_a_large_level_keeps_its_digits() -> None:
    values = 1e12 + np.arange(2_000.0)[:, None]
    found = running_mean_at(values, np.array([1_999]), steps=4)
    assert found.tolist() == [[1e12 + 1_997.5]]


def test_a_median_is_read_back_in_the_unit_of_the_series() -> None:
    """An output of zero is the anchor, which is the last value."""
    (one, *_) = cut(series("a", walk(0)))
    _, scale = fed(one, LAYOUT)
    zeros = np.zeros((len(one.ends), 3, 1))
    np.testing.assert_array_equal(read_medians(one, zeros, scale), last_values([one], LAYOUT)[0])
