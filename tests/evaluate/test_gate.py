from __future__ import annotations

import numpy as np
import pytest

from forecastd.evaluate.gate import ERROR_CAP, WINDOWS_MIN, Verdict, judge, mean_capped
from forecastd.records import Floats

SERIES = 10


def each(error: float) -> Floats:
    return np.full(SERIES, error)


def verdict(
    challenger: Floats,
    champion: Floats | None = None,
    min_gain: float = 0.02,
    **naive: Floats,
) -> Verdict:
    windows = np.full(len(challenger), 20)
    return judge(challenger, champion, naive or {"last": each(1.0)}, windows, min_gain)


class TestPromotion:
    def test_needs_the_gain_over_the_champion(self) -> None:
        assert verdict(each(0.48), each(0.5)).is_promoted
        assert not verdict(each(0.495), each(0.5)).is_promoted

    def test_needs_the_gain_over_the_best_naive_forecast(self) -> None:
        """A champion that has become worse than naive is no excuse for another such."""
        assert not verdict(each(0.8), each(0.9), last=each(1.0), seasonal=each(0.7)).is_promoted
        assert verdict(each(0.6), each(0.9), last=each(1.0), seasonal=each(0.7)).is_promoted

    def test_of_a_first_model_is_judged_by_the_naive_forecasts_alone(self) -> None:
        assert verdict(each(0.9)).is_promoted
        assert not verdict(each(0.99)).is_promoted

    def test_is_not_given_for_a_tie(self) -> None:
        """Where all are perfect, or the same, the one that serves stays."""
        assert not verdict(each(0.0), each(0.0), min_gain=0.0).is_promoted
        assert not verdict(each(0.5), each(0.5), min_gain=0.0).is_promoted

    def test_replaces_a_champion_that_forecasts_no_numbers(self) -> None:
        assert verdict(each(0.9), each(np.nan)).is_promoted


class TestOddSeries:
    def test_does_not_win_alone(self) -> None:
        """Nine series get worse, and one goes from a thousand to nothing."""
        champion, challenger = each(0.5), each(0.9)
        champion[0], challenger[0] = 1_000.0, 0.0
        assert not verdict(challenger, champion).is_promoted

    def test_does_not_pay_for_what_the_others_lose(self) -> None:
        """The cap alone would let it: .577 in the mean for .840."""
        champion, challenger = each(0.60), each(0.63)
        champion[0], challenger[0] = 1_000.0, 0.1
        found = verdict(challenger, champion)
        assert not found.is_promoted
        assert found.reason.endswith("; without the series of the largest gain 0.630 for 0.600")

    def test_may_gain_where_the_others_stay(self) -> None:
        """One series has changed, and the challenger alone knows it."""
        champion, challenger = each(0.60), each(0.60)
        champion[0], challenger[0] = 2.0, 0.5
        assert verdict(challenger, champion).is_promoted

    def test_that_has_only_just_begun_counts_for_less_among_the_others_too(self) -> None:
        """Ten series with a window each, on which nothing can be told yet, decide over nothing."""
        windows = np.array([40] * SERIES + [1] * SERIES)
        champion = np.concatenate([each(0.60), each(0.50)])
        challenger = np.concatenate([each(0.55), each(0.70)])
        last = np.ones(2 * SERIES)
        assert judge(challenger, champion, {"last": last}, windows, 0.02).is_promoted

    def test_may_be_the_only_series(self) -> None:
        found = judge(
            np.array([0.4]), np.array([0.6]), {"last": np.array([1.0])}, np.array([40]), 0.02
        )
        assert found.is_promoted

    def test_does_not_lose_alone(self) -> None:
        """Its fallback is the naive forecast; the others must not wait for it."""
        champion, challenger = each(0.9), each(0.5)
        challenger[0] = 1_000.0
        assert verdict(challenger, champion, last=each(1.0)).is_promoted

    def test_counts_no_more_for_having_many_windows(self) -> None:
        windows = np.full(SERIES, 30)
        windows[0] = 1_000_000
        champion, challenger = each(0.9), each(0.5)
        champion[0], challenger[0] = 0.5, 0.9
        assert judge(challenger, champion, {"last": each(1.0)}, windows, 0.02).is_promoted

    def test_adds_at_most_the_cap(self) -> None:
        assert mean_capped(np.array([0.0, np.inf]), np.array([20, 20])) == ERROR_CAP / 2

    def test_says_less_where_it_has_only_just_begun(self) -> None:
        """Series that a start from nothing is judged by are no reason to do without a model."""
        windows = np.array([40] * 5 + [3] * 5)
        challenger = np.array([0.5] * 5 + [ERROR_CAP] * 5)
        assert judge(challenger, None, {"last": each(1.0)}, windows, 0.02).is_promoted
        assert not judge(challenger, None, {"last": each(1.0)}, windows * 10, 0.02).is_promoted


class TestRejection:
    def test_of_forecasts_that_are_no_numbers_says_so(self) -> None:
        errors = each(0.1)
        errors[3] = np.nan
        found = verdict(errors)
        assert not found.is_promoted
        assert found.reason == (
            "forecasts that are no numbers for 1 of 10 series, wanted finite ones"
        )

    @pytest.mark.parametrize("series", [0, 1])
    def test_of_what_cannot_be_judged_says_so(self, series: int) -> None:
        windows = np.full(series, WINDOWS_MIN - 1)
        errors = np.zeros(series)
        found = judge(errors, None, {"last": errors}, windows, 0.02)
        assert not found.is_promoted
        assert found.scores is None
        assert found.reason.endswith("held out, wanted at least 30 windows to judge by")

    def test_tells_all_figures(self) -> None:
        found = verdict(each(0.7), each(0.6), last=each(1.0), seasonal=each(0.65))
        assert found.reason == (
            "error 0.700, wanted below 0.588; champion 0.600, seasonal 0.650 on 200 windows of "
            "10 series"
        )
        assert found.scores is not None
        assert found.scores.naive == pytest.approx({"last": 1.0, "seasonal": 0.65})
        assert (found.scores.best_naive, found.scores.series, found.scores.windows) == (
            "seasonal", 10, 200,
        )  # fmt: skip
        assert found.scores.gain == pytest.approx(1 - 0.7 / 0.6)
