from dataclasses import replace

import numpy as np
import pytest

from forecastd.architecture import Architecture
from forecastd.records import Floats
from forecastd.scaling import Anchor, Scaling, feed, tail_spread, window_scale
from forecastd.settings import Settings
from forecastd.train.recorded_series import RecordedSeries
from forecastd.train.stretches import Layout, naive_at, stretches_of, window_ends

LAYOUT = Layout(
    timesteps=4,
    stride=4,
    horizon=3,
    tail_steps=10,
    season=None,
    targets=1,
    scaling="series",
    anchor="last",
)


def recorded(steps: int, features: int = 1, seed: int = 0) -> RecordedSeries:
    values = np.random.default_rng(seed).normal(size=(steps, features)).cumsum(axis=0)
    rows = np.arange(steps, dtype=np.int64)
    return RecordedSeries("s", 1_000 * rows, values, rows)


def fed_step_by_step(values: Floats, end: int, layout: Layout) -> tuple[Floats, Floats]:
    """What the daemon feeds at step `end`, from a tail of its own; and what followed, scaled."""
    start = end + 1 - layout.timesteps
    tail = values[max(0, end + 1 - layout.tail_steps) : end + 1][None]
    median, spread = tail_spread(tail, np.array([tail.shape[1]]))
    before = values[start - 1] if start else np.full(values.shape[1], np.nan)
    window = values[None, start : end + 1]
    scale = window_scale(window, before[None], median, spread, layout.scaling, layout.anchor)
    after = values[end + 1 : end + 1 + layout.horizon]
    scaled = (after - scale.anchor) / scale.spread
    return feed(window, scale, layout.scaling)[0], scaled


class TestStretches:
    @pytest.mark.parametrize("scaling", ["series", "none"])
    @pytest.mark.parametrize("anchor", ["last", "ewma", "none"])
    def test_are_fed_as_the_daemon_feeds_step_by_step(
        self, scaling: Scaling, anchor: Anchor
    ) -> None:
        layout = replace(LAYOUT, scaling=scaling, anchor=anchor, stride=2, targets=2)
        series = recorded(31, features=2)
        for start, stretch in zip((0, 2), stretches_of(series, layout), strict=True):
            ends = window_ends(31, 4, start)
            np.testing.assert_array_equal(stretch.end_ms, series.at_ms[ends])
            for at, end in enumerate(ends.tolist()):
                fed, actuals = fed_step_by_step(series.values, end, layout)
                np.testing.assert_array_equal(stretch.windows[at], fed)
                known = stretch.actuals[at][: len(actuals)]
                np.testing.assert_allclose(known, actuals, rtol=1e-6, atol=1e-6)
                assert np.isnan(stretch.actuals[at][len(actuals) :]).all()

    def test_hold_every_step_of_their_phase_once(self) -> None:
        """A recurrent state must not read a step twice, nor miss one."""
        layout = replace(LAYOUT, stride=1, scaling="none", anchor="none")
        series = recorded(23)
        for start, stretch in enumerate(stretches_of(series, layout)):
            read = stretch.windows.ravel()
            np.testing.assert_array_equal(
                read, series.values[start : start + len(read), 0].astype(np.float32)
            )

    def test_leave_out_phases_without_a_window(self) -> None:
        layout = replace(LAYOUT, stride=1)
        assert len(stretches_of(recorded(5), layout)) == 2
        assert stretches_of(recorded(3), layout) == []

    def test_forecast_the_first_value_alone_where_a_model_does(self) -> None:
        layout = replace(LAYOUT, scaling="none", anchor="none")
        series = recorded(20, features=3)
        (stretch,) = stretches_of(series, layout)
        assert stretch.windows.shape == (5, 4, 3)
        np.testing.assert_allclose(stretch.actuals[0, :, 0], series.values[4:7, 0], rtol=1e-6)
        assert stretch.actuals.shape == stretch.naive.shape == (5, 3, 1)

    def test_naive_is_in_the_unit_of_the_actuals(self) -> None:
        """From the last value as anchor it is zero, and its error that of no change."""
        (stretch,) = stretches_of(recorded(20), LAYOUT)
        assert not stretch.naive.any()

    def test_bound_what_one_jump_of_a_quiet_series_can_weigh(self) -> None:
        values = 100 + 0.001 * recorded(20).values
        values[10:] = 200
        quiet = replace(recorded(20), values=values)
        (stretch,) = stretches_of(quiet, LAYOUT)
        assert np.nanmax(np.abs(stretch.actuals)) == np.max(np.abs(stretch.actuals[1])) == 30
        (raw,) = stretches_of(quiet, replace(LAYOUT, scaling="none"))
        assert np.nanmax(raw.actuals) > 99

    def test_of_a_long_series_are_computed_in_portions(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (whole,) = stretches_of(recorded(100), LAYOUT)
        monkeypatch.setattr("forecastd.train.stretches._TAIL_NUMBERS_MAX", 30)
        (portioned,) = stretches_of(recorded(100), LAYOUT)
        np.testing.assert_array_equal(portioned.windows, whole.windows)

    def test_unscored_are_the_same_windows_without_actuals(self) -> None:
        (stretch,) = stretches_of(recorded(20), LAYOUT)
        np.testing.assert_array_equal(stretch.unscored().windows, stretch.windows)
        assert np.isnan(stretch.unscored().actuals).all()


class TestNaive:
    def test_repeats_the_season_over_a_longer_horizon(self) -> None:
        values = np.arange(10.0)[:, None]
        found = naive_at(values, np.array([9]), horizon=5, season=2)
        assert found.ravel().tolist() == [8, 9, 8, 9, 8]

    def test_is_the_last_value_before_a_season_is_full(self) -> None:
        values = np.arange(10.0)[:, None]
        found = naive_at(values, np.array([4, 5]), horizon=2, season=6)
        assert found[:, :, 0].tolist() == [[4, 4], [0, 1]]


def test_layout_is_what_settings_and_model_say() -> None:
    settings = Settings.model_validate(
        {"windows": {"timesteps": 8, "stride": 2, "season": 200}, "forecast": {"horizon": 3}}
    )
    architecture = Architecture.from_settings(settings)
    found = Layout.of(architecture, settings)
    assert found == Layout(8, 2, 3, 200, 200, 1, "series", "last")
