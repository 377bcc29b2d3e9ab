from __future__ import annotations

import numpy as np
import pytest

from forecastd.observe.events import ForecastsScored
from forecastd.observe.sliding import DelayWindow, ScoreWindow, SlidingSums


class TestSlidingSums:
    def test_forgets_what_is_older_than_the_window(self) -> None:
        sums = SlidingSums(width_ms=1_000, buckets=3, quantities=1)
        for second in range(5):
            sums.add(second * 1_000, (2.0**second,))
        assert sums.sums(4_000).tolist() == [4 + 8 + 16]
        assert sums.sums(6_999).tolist() == [16]
        assert sums.sums(7_000).tolist() == [0]

    def test_a_long_silence_empties_it(self) -> None:
        sums = SlidingSums(width_ms=1_000, buckets=3, quantities=1)
        sums.add(0, (5.0,))
        assert sums.sums(10**12).tolist() == [0]

    def test_a_clock_that_is_set_back_loses_nothing(self) -> None:
        sums = SlidingSums(width_ms=1_000, buckets=3, quantities=1)
        sums.add(50_000, (1.0,))
        sums.add(10_000, (1.0,))
        assert sums.sums(10_000).tolist() == [2]

    def test_its_time_is_short_at_the_start_and_never_zero(self) -> None:
        """A rate over the first second must not be a tenth of what it is."""
        sums = SlidingSums(width_ms=1_000, buckets=11, quantities=1)
        assert sums.seconds(0) == 1
        sums.add(500, (1.0,))
        assert sums.seconds(500) == 1
        assert sums.seconds(4_500) == 4
        sums.sums(60_000)
        assert sums.seconds(60_000) == 10


class TestScoreWindow:
    def test_skill_is_one_minus_the_ratio_of_errors(self) -> None:
        scores = ScoreWindow()
        scores.add(0, ForecastsScored("model", 16, 3.0, 4.0, 10, 16))
        scores.add(1, ForecastsScored("model", 16, 1.0, 4.0, 6, 16))
        assert scores.ratios(1) == (0.5, 0.5)

    def test_nothing_scored_is_none_and_not_zero(self) -> None:
        assert ScoreWindow().ratios(0) == (None, None)

    def test_a_constant_series_has_no_skill(self) -> None:
        """The naive forecast is perfect on it; a ratio to zero would say nothing."""
        scores = ScoreWindow()
        scores.add(0, ForecastsScored("model", 16, 0.0, 0.0, 0, 0))
        assert scores.ratios(0) == (None, None)

    def test_old_errors_are_forgotten(self) -> None:
        scores = ScoreWindow(span_ms=600_000)
        scores.add(0, ForecastsScored("model", 16, 8.0, 4.0, 0, 0))
        scores.add(600_000, ForecastsScored("model", 16, 1.0, 4.0, 0, 0))
        assert scores.ratios(600_000) == (0.75, None)


class TestDelayWindow:
    def test_quantiles_are_those_of_numpy_within_a_bucket(self) -> None:
        seconds = np.random.default_rng(7).lognormal(-4, 0.5, 5_000)
        window = DelayWindow()
        window.add(0, seconds.tolist())
        found = window.quantiles_ms(0, (0.5, 0.99))
        wanted = np.quantile(seconds, (0.5, 0.99)) * 1_000
        np.testing.assert_allclose(np.array(found, dtype=float), wanted, rtol=0.06)

    def test_without_delays_there_is_no_quantile(self) -> None:
        window = DelayWindow()
        window.add(0, [0.01])
        assert window.quantiles_ms(61_000, (0.5,)) == [None]

    def test_a_delay_beyond_all_buckets_is_the_largest_one(self) -> None:
        window = DelayWindow()
        window.add(0, [1e9])
        (found,) = window.quantiles_ms(0, (0.5,))
        assert found == pytest.approx(1_000_000, rel=0.06)

    def test_a_clock_ahead_of_the_record_counts_as_no_delay(self) -> None:
        """Producers' clocks differ from ours: a negative delay is not an error."""
        window = DelayWindow()
        window.add(0, [-0.3])
        (found,) = window.quantiles_ms(0, (0.5,))
        assert found is not None
        assert 0 <= found < 1
