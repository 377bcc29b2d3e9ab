from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest

from forecastd.forecast.scoring import SEED_WINDOWS, Scoring
from forecastd.observe.events import ForecastsScored
from forecastd.records import Floats
from forecastd.series_tail import append_steps, tail_columns
from forecastd.state.table import SeriesTable
from tests.in_memory import P0, Telemetry

TIMESTEPS = 4


@dataclass
class Bench:
    """One series; the forecast of window w is w + 1/100 of the lead, its naive one 10 more."""

    horizon: int
    stride: int
    has_intervals: bool = True
    heard: Telemetry = field(default_factory=Telemetry)

    def __post_init__(self) -> None:
        columns = [*tail_columns(32, 1), *Scoring.columns(self.horizon, self.stride, 1)]
        self.table = SeriesTable(columns)
        self.slot = self.table.admit(P0, ["a"])
        self.scoring = Scoring(
            self.table, self.horizon, self.stride, 1, self.has_intervals, self.heard
        )
        self.scored: dict[tuple[int, int], float] = {}

    def step(self, value: float) -> None:
        number = self.table["steps"][self.slot] + 1
        append_steps(self.table, self.slot, number, number, number, np.array([[value]]))

    def forecast_of(self, window: int) -> Floats:
        made: Floats = window + np.arange(1, self.horizon + 1).reshape(1, -1, 1) / 100
        return made

    def end_window(
        self,
        window: int,
        *,
        is_model: bool = False,
        is_silent: bool = False,
        half_width: float = 1.0,
    ) -> list[ForecastsScored]:
        """Score what is pending, and make the forecast of this window."""
        before, number = len(self.heard.events), np.array([window])
        spread = np.array([[2.0]])
        self.scoring.score(self.slot, number, spread, np.array([is_silent]))
        median = self.forecast_of(window)
        kept = np.stack([median, median - half_width, median + half_width], axis=1)
        self.scoring.remember(
            self.slot, number, kept, median + 10, np.array([is_model]), np.array([False])
        )
        return [e for e in self.heard.events[before:] if isinstance(e, ForecastsScored)]

    def error(self, name: str = "naive_error") -> list[float]:
        found: list[float] = self.table[name][self.slot[0], :, 0].tolist()
        return found


class TestScore:
    @pytest.mark.parametrize(
        ("horizon", "stride"), [(3, 4), (4, 4), (9, 4), (7, 1), (1, 1), (2, 4)]
    )
    def test_judges_every_lead_once_by_its_own_step(self, horizon: int, stride: int) -> None:
        """Lead k's actual is the k-th next step, at whichever later window it arrives."""
        bench, rng = Bench(horizon, stride), np.random.default_rng(0)
        values = rng.normal(size=TIMESTEPS + 12 * stride) * 5
        total, steps = 0.0, 0
        for value in values[:TIMESTEPS]:
            bench.step(value)
        for window in range(13):
            total += sum(event.error for event in bench.end_window(window))
            steps = TIMESTEPS + window * stride
            for value in values[steps : steps + stride]:
                bench.step(value)
        wanted, leads = 0.0, 0
        for window in range(13):
            made = bench.forecast_of(window)[0, :, 0]
            for lead in range(1, horizon + 1):
                at = TIMESTEPS + window * stride + lead - 1
                if at < steps:  # it had arrived when the last window ended
                    wanted += abs(values[at] - made[lead - 1]) / 2
                    leads += 1
        assert total == pytest.approx(wanted, rel=1e-5)
        assert sum(e.leads for e in bench.heard.heard(ForecastsScored)) == leads > 0

    def test_finds_nothing_pending_at_the_first_window(self) -> None:
        """No forecast was made before it; an error of nothing would spoil the live error."""
        bench = Bench(4, 4)
        for _ in range(TIMESTEPS):
            bench.step(1e6)
        assert bench.end_window(0) == []
        assert np.isnan(bench.error()).all()

    def test_reports_both_errors_in_spreads_and_what_the_interval_covered(self) -> None:
        bench = Bench(2, 2)
        for _ in range(TIMESTEPS):
            bench.step(0.0)
        bench.end_window(0, is_model=True, half_width=0.5)
        bench.step(0.21)  # 0.2 from the median of 0.01
        bench.step(1.02)  # 1.0 from the median of 0.02
        (event,) = bench.end_window(1)
        assert event.source == "model"
        assert event.error == pytest.approx((0.2 + 1.0) / 2, rel=1e-5)
        assert event.naive_error == pytest.approx((9.8 + 9.0) / 2, rel=1e-5)
        assert (event.leads, event.covered, event.intervals) == (2, 1, 2)

    def test_counts_no_interval_where_there_is_a_single_quantile(self) -> None:
        bench = Bench(1, 1, has_intervals=False)
        for window in range(3):
            bench.step(0.0)
            bench.end_window(window)
        assert {(e.covered, e.intervals) for e in bench.heard.heard(ForecastsScored)} == {(0, 0)}

    def test_learns_in_silence_during_a_replay(self) -> None:
        loud, silent = Bench(3, 1), Bench(3, 1)
        for window, value in enumerate(np.random.default_rng(1).normal(size=30)):
            for bench in (loud, silent):
                bench.step(value)
                bench.end_window(window, is_model=window % 3 == 0, is_silent=bench is silent)
        assert loud.error() == silent.error()
        assert loud.error("model_error") == silent.error("model_error")
        assert loud.heard.events
        assert not silent.heard.events

    def test_learns_the_models_error_from_the_models_forecasts_alone(self) -> None:
        bench = Bench(1, 1)
        bench.step(0.0)
        for window in range(6):
            bench.end_window(window, is_model=window in (1, 4))
            bench.step(window + 0.01 + (3.0 if window in (1, 4) else 100.0))
        bench.end_window(6)
        assert bench.error("model_error") == pytest.approx([3.0], rel=1e-5)
        assert bench.table["model_scored"][bench.slot].tolist() == [2]
        assert {e.source: e.leads for e in bench.heard.heard(ForecastsScored)} == {
            "baseline": 1,
            "model": 1,
        }

    def test_lets_the_first_windows_moves_count_as_one_forecast(self) -> None:
        bench = Bench(1, 1)
        bench.step(0.0)
        bench.table["naive_error"][bench.slot] = 5.0  # from the steps of the first window
        bench.end_window(0)
        bench.step(0.01 + 10 + 11.0)
        bench.end_window(1)
        assert SEED_WINDOWS == 1
        assert bench.error() == pytest.approx([(5.0 + 11.0) / 2], rel=1e-5)

    def test_passes_over_forecasts_that_a_row_of_another_horizon_lost(self) -> None:
        bench = Bench(2, 2)
        for _ in range(TIMESTEPS):
            bench.step(1e6)
        bench.end_window(0)
        bench.table["pending"][bench.slot] = np.nan  # as the row codec leaves them
        bench.step(1e6)
        bench.step(1e6)
        assert bench.end_window(1) == []


class TestRemember:
    def test_keeps_a_small_move_of_a_large_counter(self) -> None:
        """Kept as float32 from the anchor: at 1e12 the number itself has steps of 65536."""
        bench = Bench(1, 1)
        anchor = 1e12
        for value in (anchor, anchor + 0.25):
            bench.step(value)
            number = np.array([0])
            median = np.full((1, 1, 1), value + 0.5)
            kept = np.stack([median, median, median], axis=1)
            bench.scoring.remember(
                bench.slot, number, kept, median, np.array([False]), np.array([False])
            )
        bench.step(anchor + 1.0)
        bench.scoring.score(bench.slot, np.array([1]), np.ones((1, 1)), np.array([False]))
        (event,) = bench.heard.heard(ForecastsScored)
        assert event.error == pytest.approx(0.25, abs=1e-4)
