from __future__ import annotations

import math
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from forecastd.clock import ManualClock
from forecastd.observe.events import (
    Event,
    ModelScored,
    ModelServed,
    SeriesNotLearnt,
    WindowsBuffered,
)
from forecastd.observe.learning_events import (
    FallbackCounted,
    ModelPromoted,
    ModelRefused,
    ModelsRead,
    PastRun,
    Rival,
    RunBegan,
    RunEnded,
    RunGivenUp,
)
from forecastd.observe.prometheus_telemetry import PrometheusTelemetry
from forecastd.records import TopicPartition

P0 = TopicPartition("records", 0)


class Exported:
    """A telemetry and what it exports."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.clock = ManualClock(now_ms=1_700_000_000_000)
        self.telemetry = PrometheusTelemetry(self.registry, "0.1.0", self.clock)

    def emit(self, *events: Event) -> Exported:
        for event in events:
            self.telemetry.emit(event)
        return self

    def __call__(self, name: str, **labels: str) -> float:
        value = self.registry.get_sample_value(f"forecastd_{name}", labels)
        assert value is not None, "not exported"
        return value


@pytest.fixture
def exported() -> Exported:
    return Exported()


class TestWindows:
    def test_that_are_learnt_from_are_counted(self, exported: Exported) -> None:
        exported.emit(WindowsBuffered(windows=6, bytes=1_800), SeriesNotLearnt(P0, 12, kept=28))
        assert exported("windows_buffered_total") == 6
        assert exported("windows_buffered_bytes_total") == 1_800
        assert exported("series_not_learnt_total") == 12


class TestRuns:
    @pytest.mark.parametrize("outcome", ["promoted", "rejected", "failed"])
    def test_are_counted_by_outcome_with_what_they_cost(
        self, exported: Exported, outcome: Any
    ) -> None:
        assert exported("training_runs_total", outcome=outcome) == 0, "there from the start"
        exported.emit(*[RunEnded(outcome, "so", None, 1_200, 40.0, 38.0)] * 2)
        assert exported("training_runs_total", outcome=outcome) == 2
        assert exported("training_seconds_total") == 80
        assert exported("training_cpu_seconds_total") == 76
        assert exported("training_run_windows") == 1_200

    def test_tell_what_the_last_of_them_was_judged_by(self, exported: Exported) -> None:
        """A rejected model leaves nothing else behind."""
        assert math.isnan(exported("training_run_error_ratio", rival="challenger"))
        errors: dict[Rival, float] = {"challenger": 0.31, "naive": 0.5}
        exported.emit(RunEnded("rejected", "so", None, 1_200, 40.0, 38.0, errors))
        assert exported("training_run_error_ratio", rival="challenger") == 0.31
        assert exported("training_run_error_ratio", rival="naive") == 0.5
        assert math.isnan(exported("training_run_error_ratio", rival="champion")), "none served"
        exported.emit(RunEnded("failed", "so", None, 0, 1.0, 0.0))
        assert math.isnan(exported("training_run_error_ratio", rival="naive"))

    @pytest.mark.parametrize("end", [RunEnded("failed", "so", None, 0, 1.0, 0.0), RunGivenUp()])
    def test_are_under_way_until_they_end(self, exported: Exported, end: Event) -> None:
        assert exported("training_running") == 0
        assert exported.emit(RunBegan(5))("training_running") == 1
        assert exported.emit(end)("training_running") == 0

    def test_of_the_group_are_known_on_every_instance(self, exported: Exported) -> None:
        """Also after a restart, so that an alert does not begin anew."""
        exported.emit(ModelsRead(None, run=PastRun("rejected", "so", 7_000, 0)))
        assert exported("training_last_success_timestamp_seconds") == 7
        exported.emit(ModelsRead(None, run=PastRun("failed", "so", 9_000, 2)))
        assert exported("training_last_success_timestamp_seconds") == 7
        assert exported("training_failures_in_a_row") == 2

    def test_are_unknown_before_the_first(self, exported: Exported) -> None:
        exported.emit(ModelsRead(None))
        assert exported("training_last_success_timestamp_seconds") == 0


class TestPromotions:
    @pytest.mark.parametrize("by", ["trainer", "rollback", "operator", "release"])
    def test_are_counted_by_who_said_so(self, exported: Exported, by: Any) -> None:
        assert exported("promotions_total", by=by) == 0, "there from the start"
        exported.emit(ModelPromoted("7-3fa9c1", by, "so", 5))
        assert exported("promotions_total", by=by) == 1

    def test_the_last_is_dated_and_may_be_held(self, exported: Exported) -> None:
        exported.emit(ModelsRead("7-3fa9c1", "operator", "so", 8_000, is_held=True))
        assert exported("last_promotion_timestamp_seconds") == 8
        assert exported("model_held") == 1
        exported.emit(ModelsRead("7-3fa9c1", "release", "so", 9_000))
        assert exported("last_promotion_timestamp_seconds") == 8, "a release promotes nothing"
        assert exported("model_held") == 0

    def test_what_does_not_fit_here_is_counted(self, exported: Exported) -> None:
        assert exported.emit(ModelRefused("7-3fa9c1", "so"))("models_refused_total") == 1


class TestSkill:
    def test_is_that_of_all_the_model_forecast(self, exported: Exported) -> None:
        exported.emit(ModelScored(2, 32, error=3.0, naive_error=4.0))
        assert exported("model_forecasts_scored_total") == 2
        assert exported("model_scaled_error_total") == 3
        assert exported("model_naive_scaled_error_total") == 4
        assert exported("model_skill_ratio") == pytest.approx(0.25)

    def test_follows_the_last_ten_minutes(self, exported: Exported) -> None:
        exported.emit(ModelScored(1, 16, error=4.0, naive_error=4.0))
        exported.clock.advance(660)
        exported.emit(ModelScored(1, 16, error=1.0, naive_error=4.0))
        assert exported("model_skill_ratio") == pytest.approx(0.75)

    def test_of_another_version_begins_anew(self, exported: Exported) -> None:
        assert math.isnan(exported("model_skill_ratio"))
        scored = ModelScored(1, 16, error=1.0, naive_error=4.0)
        exported.emit(ModelServed("7-3fa9c1", "LSTM 64"), scored)
        exported.emit(ModelServed("7-3fa9c1", "LSTM 64"))
        assert exported("model_skill_ratio") == pytest.approx(0.75)
        exported.emit(ModelServed("8-11aa22", "LSTM 64"))
        assert math.isnan(exported("model_skill_ratio"))

    def test_series_on_which_it_loses_are_counted(self, exported: Exported) -> None:
        assert exported.emit(FallbackCounted(3))("series_in_fallback") == 3
