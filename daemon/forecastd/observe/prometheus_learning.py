"""Metrics of learning while serving, and the events that move them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, get_args

from forecastd.clock import Clock
from forecastd.observe.events import (
    Event,
    ModelScored,
    ModelServed,
    SeriesNotLearnt,
    WindowsBuffered,
)
from forecastd.observe.learning_events import (
    By,
    FallbackCounted,
    ModelPromoted,
    ModelRefused,
    ModelsRead,
    Outcome,
    Rival,
    RunBegan,
    RunEnded,
    RunGivenUp,
)
from forecastd.observe.prometheus_declarer import Declarer
from forecastd.observe.sliding import SCORES_MS, SlidingSums


class LearningMetrics:
    """Learning while serving."""

    def __init__(self, declare: Declarer) -> None:
        self.windows = declare.counter(
            "forecastd_windows_buffered_total", "Finished windows sent to the windows topic"
        )
        self.window_bytes = declare.counter(
            "forecastd_windows_buffered_bytes_total", "Bytes sent to the windows topic"
        )
        self.not_learnt = declare.counter(
            "forecastd_series_not_learnt_total",
            "Series left out of the windows topic, because of training.sample_rate",
        )
        self.running = declare.gauge(
            "forecastd_training_running", "1 while a training run is under way here, else 0"
        )
        self.runs = declare.counter(
            "forecastd_training_runs_total",
            "Training runs that ended here, by what came of them",
            {"outcome": get_args(Outcome)},
        )
        self.run_seconds = declare.counter(
            "forecastd_training_seconds_total", "Time that these runs took"
        )
        self.run_cpu = declare.counter(
            "forecastd_training_cpu_seconds_total",
            "Processor time that their processes used; unknown of those that failed",
        )
        self.run_windows = declare.gauge(
            "forecastd_training_run_windows", "Windows that the last of them read"
        )
        self.run_error = declare.gauge(
            "forecastd_training_run_error_ratio",
            "Error on its held-out windows, against that of the last value, of what the gate"
            " compared; NaN where it did not come to that",
            {"rival": get_args(Rival)},
        )
        self.failures = declare.gauge(
            "forecastd_training_failures_in_a_row",
            "Runs of the group that failed since one did not, on whichever instance",
        )
        self.last_success = declare.gauge(
            "forecastd_training_last_success_timestamp_seconds",
            "When a run of the group last ended without failing; 0 while none is known of",
        )
        self.promotions = declare.counter(
            "forecastd_promotions_total",
            "Times that another version, or the baseline, came to serve here, by who said so",
            {"by": get_args(By)},
        )
        self.last_promotion = declare.gauge(
            "forecastd_last_promotion_timestamp_seconds",
            "When the group's serving version was last chosen; 0 while it never was",
        )
        self.held = declare.gauge(
            "forecastd_model_held",
            "1 while an operator holds the serving version, so that nothing is trained, else 0",
        )
        self.refused = declare.counter(
            "forecastd_models_refused_total", "Champions that do not fit the settings here"
        )
        self.scored = declare.counter(
            "forecastd_model_forecasts_scored_total",
            "Forecasts of the model whose actuals have arrived, published or not",
        )
        self.error = declare.counter(
            "forecastd_model_scaled_error_total",
            "Their absolute errors, summed as in forecastd_scaled_error_total",
        )
        self.naive_error = declare.counter(
            "forecastd_model_naive_scaled_error_total",
            "The same sum for the naive forecast of the same leads",
        )
        self.skill = declare.gauge(
            "forecastd_model_skill_ratio",
            "1 - error / naive error of the serving version, published or not, over the 10 min"
            " before the last score; NaN before its first",
        )
        self.fallback = declare.gauge(
            "forecastd_series_in_fallback",
            "Series that get the naive forecast because the model loses to it",
        )


class LearningTelemetry:
    """Turns events of learning into these metrics."""

    def __init__(self, metrics: LearningMetrics, clock: Clock) -> None:
        self._metrics, self._clock = metrics, clock
        self._served: str | None = None
        self._begin_skill()
        self._compared({})

    def handlers(self) -> dict[type[Event], Callable[[Any], None]]:
        """What to do at which event."""
        return {
            WindowsBuffered: self._windows_buffered,
            SeriesNotLearnt: lambda event: self._metrics.not_learnt.inc(event.left_out),
            RunBegan: lambda _: self._metrics.running.set(1),
            RunGivenUp: lambda _: self._metrics.running.set(0),
            RunEnded: self._run_ended,
            ModelPromoted: lambda event: self._metrics.promotions.labels(event.by).inc(),
            ModelsRead: self._models_read,
            ModelRefused: lambda _: self._metrics.refused.inc(),
            ModelScored: self._model_scored,
            FallbackCounted: lambda event: self._metrics.fallback.set(event.series),
        }

    def model_served(self, event: ModelServed) -> None:
        """Another version begins without a skill: the errors before it are not its own."""
        if event.version != self._served:
            self._served = event.version
            self._begin_skill()

    def _begin_skill(self) -> None:
        self._scores = SlidingSums(width_ms=SCORES_MS // 60, buckets=60, quantities=2)
        self._metrics.skill.set(math.nan)

    def _windows_buffered(self, event: WindowsBuffered) -> None:
        self._metrics.windows.inc(event.windows)
        self._metrics.window_bytes.inc(event.bytes)

    def _run_ended(self, event: RunEnded) -> None:
        self._metrics.running.set(0)
        self._metrics.runs.labels(event.status).inc()
        self._metrics.run_seconds.inc(event.seconds)
        self._metrics.run_cpu.inc(event.cpu_seconds)
        self._metrics.run_windows.set(event.windows)
        self._compared(event.errors)

    def _compared(self, errors: Mapping[Rival, float]) -> None:
        for rival in get_args(Rival):
            self._metrics.run_error.labels(rival).set(errors.get(rival, math.nan))

    def _models_read(self, event: ModelsRead) -> None:
        self._metrics.held.set(event.is_held)
        if event.by not in (None, "release"):
            self._metrics.last_promotion.set(event.at_ms / 1_000)
        if event.run is not None:
            self._metrics.failures.set(event.run.failures)
            if event.run.status != "failed":
                self._metrics.last_success.set(event.run.ended_ms / 1_000)

    def _model_scored(self, event: ModelScored) -> None:
        self._metrics.scored.inc(event.forecasts)
        self._metrics.error.inc(event.error)
        self._metrics.naive_error.inc(event.naive_error)
        now_ms = self._clock.now_ms()
        self._scores.add(now_ms, (event.error, event.naive_error))
        error, naive_error = self._scores.sums(now_ms).tolist()
        self._metrics.skill.set(1 - error / naive_error if naive_error > 0 else math.nan)
