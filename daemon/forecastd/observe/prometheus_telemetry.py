"""Turns events into metrics. What each metric means is declared in `prometheus_metrics.py`."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

from prometheus_client import CollectorRegistry, GCCollector, ProcessCollector

from forecastd.clock import Clock
from forecastd.observe.events import (
    BrokerLost,
    Event,
    ForecastsMade,
    ForecastsScored,
    LoopTurned,
    ModelCalled,
    ModelServed,
    OffsetsReset,
    PartitionMoved,
    PartitionReady,
    PartitionRestored,
    Rebalanced,
    RecordsRejected,
    RestoreMoved,
    RestoreStarted,
    RowsSaved,
    RowsUnreadable,
    SeriesCollected,
    SeriesCounted,
    SeriesEvicted,
    SeriesLosesObservations,
    StableOffsetsSeen,
    StageTimed,
    StateReset,
    TurnCompleted,
)
from forecastd.observe.health import Health, readiness
from forecastd.observe.prometheus_learning import LearningTelemetry
from forecastd.observe.prometheus_metrics import STAGE, Metrics
from forecastd.observe.sliding import ScoreWindow
from forecastd.records import TopicPartition


class PrometheusTelemetry:
    """Counts events in a registry.

    Runs on the loop's thread; the registry may be collected by any other.
    """

    def __init__(self, registry: CollectorRegistry, version: str, clock: Clock) -> None:
        ProcessCollector(registry=registry)
        GCCollector(registry=registry)
        self._metrics = Metrics(registry)
        self._metrics.process.build.info({"version": version})
        self._learning = LearningTelemetry(self._metrics.learning, clock)
        self._model_served(ModelServed(version=None, architecture=""))
        self._clock = clock
        self._health = Health(started_s=clock.monotonic_s())
        self._moved: dict[TopicPartition, PartitionMoved] = {}
        self._restore_began_s: float | None = None
        self._metrics.state.restore_elapsed.set_function(self._restore_elapsed_s)
        self._scores = {"model": ScoreWindow(), "baseline": ScoreWindow()}
        for source in self._scores:
            self._metrics.forecast.skill.labels(source).set(math.nan)
            self._metrics.forecast.coverage.labels(source).set(math.nan)
        process = self._metrics.process
        self._stages = {
            stage: (process.stages.labels(stage), process.stages_cpu.labels(stage))
            for stage in STAGE["stage"]
        }
        self._handlers = (
            self._handlers_of_data_path() | self._learning.handlers() | self._handlers_of_process()
        )

    def emit(self, event: Event) -> None:
        """Count one event; those that no metric depends on are ignored."""
        handler = self._handlers.get(type(event))
        if handler is not None:
            handler(event)

    def _handlers_of_data_path(self) -> dict[type[Event], Callable[[Any], None]]:
        return {
            StageTimed: self._stage_timed,
            TurnCompleted: self._turn_completed,
            PartitionMoved: self._partition_moved,
            RecordsRejected: self._records_rejected,
            ForecastsMade: self._forecasts_made,
            ModelCalled: self._model_called,
            ModelServed: self._model_served,
            ForecastsScored: self._forecasts_scored,
            SeriesCounted: self._series_counted,
            SeriesEvicted: lambda event: self._metrics.windows.evicted.inc(event.count),
            SeriesCollected: lambda event: self._metrics.windows.collected.inc(event.count),
            SeriesLosesObservations: lambda _: self._metrics.windows.losing.inc(),
            StateReset: lambda event: self._metrics.forecast.state_resets.inc(event.count),
            RowsSaved: self._rows_saved,
            RowsUnreadable: lambda event: self._metrics.state.unreadable.inc(event.count),
        }

    def _handlers_of_process(self) -> dict[type[Event], Callable[[Any], None]]:
        return {
            LoopTurned: self._loop_turned,
            Rebalanced: self._rebalanced,
            RestoreStarted: self._restore_started,
            RestoreMoved: self._restore_moved,
            PartitionRestored: self._partition_restored,
            PartitionReady: self._follow_health,
            OffsetsReset: lambda _: self._metrics.state.offsets_resets.inc(),
            BrokerLost: self._broker_lost,
            StableOffsetsSeen: self._stable_offsets_seen,
        }

    def _stage_timed(self, event: StageTimed) -> None:
        duration, cpu = self._stages[event.stage]
        duration.observe(event.seconds)
        cpu.inc(event.cpu_seconds)

    def _turn_completed(self, event: TurnCompleted) -> None:
        ingest, windows = self._metrics.ingest, self._metrics.windows
        ingest.records.inc(event.records)
        ingest.replayed.inc(event.replayed)
        ingest.tombstones.inc(event.tombstones)
        windows.observations.inc(event.observations)
        windows.dropped.labels("late").inc(event.late)
        windows.reset.inc(event.resets)
        self._metrics.publish.delay.observe_many(event.delay_seconds)
        self._metrics.state.last_commit.set(event.at_ms / 1_000)

    def _partition_moved(self, event: PartitionMoved) -> None:
        ingest, labels = self._metrics.ingest, event.partition
        is_new = labels not in self._moved
        self._moved[labels] = event
        ingest.lag_records.labels(*labels).set(max(event.end_offset - event.position, 0))
        ingest.last_record.labels(*labels).set(event.record_ms / 1_000)
        if is_new:
            ingest.lag_seconds.labels(*labels).set_function(partial(self._lag_seconds, labels))

    def _lag_seconds(self, partition: TopicPartition) -> float:
        """Asked at every scrape, so that lag grows while the loop is stuck."""
        moved = self._moved.get(partition)
        if moved is None or moved.position >= moved.end_offset:
            return 0.0
        return max(self._clock.now_ms() - moved.record_ms, 0) / 1_000

    def _records_rejected(self, event: RecordsRejected) -> None:
        self._metrics.ingest.rejected.labels(event.reason).inc(event.count)
        self._metrics.ingest.dead_letters.inc(event.count)

    def _forecasts_made(self, event: ForecastsMade) -> None:
        publish = self._metrics.publish
        publish.forecasts.labels(event.source, "true" if event.cold else "false").inc(event.count)
        publish.last_forecast.set(event.at_ms / 1_000)
        if not event.cold:
            self._metrics.windows.windows.inc(event.count)

    def _model_called(self, event: ModelCalled) -> None:
        self._metrics.forecast.batch.observe(event.windows)
        self._metrics.forecast.call.observe(event.seconds)

    def _model_served(self, event: ModelServed) -> None:
        labels = {"version": event.version or "none", "architecture": event.architecture}
        self._metrics.forecast.model.info(labels)
        self._learning.model_served(event)

    def _forecasts_scored(self, event: ForecastsScored) -> None:
        metrics, source, now_ms = self._metrics.forecast, event.source, self._clock.now_ms()
        metrics.leads.labels(source).inc(event.leads)
        metrics.error.labels(source).inc(event.error)
        metrics.naive_error.labels(source).inc(event.naive_error)
        metrics.intervals.labels(source).inc(event.intervals)
        metrics.covered.labels(source).inc(event.covered)
        self._scores[source].add(now_ms, event)
        skill, coverage = self._scores[source].ratios(now_ms)
        metrics.skill.labels(source).set(math.nan if skill is None else skill)
        metrics.coverage.labels(source).set(math.nan if coverage is None else coverage)

    def _series_counted(self, event: SeriesCounted) -> None:
        self._metrics.windows.active.set(event.active)
        self._metrics.windows.table_bytes.set(event.table_bytes)

    def _rows_saved(self, event: RowsSaved) -> None:
        self._metrics.state.rows.inc(event.rows)
        self._metrics.state.row_tombstones.inc(event.tombstones)
        self._metrics.state.row_bytes.inc(event.bytes)

    def _restore_started(self, event: RestoreStarted) -> None:
        self._restore_began_s = self._clock.monotonic_s()
        self._restore_moved(RestoreMoved(event.partition, 0, event.rows))
        self._follow_health(event)

    def _restore_moved(self, event: RestoreMoved) -> None:
        self._metrics.state.restore_read.set(event.rows_read)
        self._metrics.state.restore_wanted.set(event.rows)

    def _restore_elapsed_s(self) -> float:
        """Asked at every scrape, so that it grows while a restore is stuck."""
        began_s = self._restore_began_s
        return 0.0 if began_s is None else self._clock.monotonic_s() - began_s

    def _restore_ended(self) -> None:
        self._restore_began_s = None
        self._metrics.state.restore_read.set(0)
        self._metrics.state.restore_wanted.set(0)

    def _partition_restored(self, event: PartitionRestored) -> None:
        self._metrics.state.restores.inc()
        self._metrics.state.restored_series.inc(event.series)
        self._metrics.state.restore_seconds.observe(event.seconds)
        self._restore_ended()

    def _loop_turned(self, event: LoopTurned) -> None:
        self._metrics.process.last_turn.set(self._clock.now_ms() / 1_000)
        self._follow_health(event)

    def _broker_lost(self, event: BrokerLost) -> None:
        self._metrics.process.broker_errors.inc()
        for partition in list(self._moved):  # the client is given up, and its partitions with it
            self._forget(partition)
        self._follow_health(event)

    def _rebalanced(self, event: Rebalanced) -> None:
        self._metrics.process.rebalances.labels(event.kind).inc()
        if event.kind != "assigned":
            for partition in event.partitions:
                self._forget(partition)
        self._follow_health(event)

    def _stable_offsets_seen(self, event: StableOffsetsSeen) -> None:
        for partition, seconds in event.standstill.items():
            self._metrics.process.standstill.labels(*partition).set(seconds)

    def _forget(self, partition: TopicPartition) -> None:
        """Another instance reports this partition from now on."""
        if self._moved.pop(partition, None) is not None:
            ingest = self._metrics.ingest
            for gauge in (ingest.lag_records, ingest.lag_seconds, ingest.last_record):
                gauge.remove(*partition)

    def _follow_health(self, event: Event) -> None:
        self._health = self._health.after(event)
        process = self._metrics.process
        process.ready.set(readiness(self._health).ok)
        process.partitions.set(len(self._health.assigned))
        process.restoring.set(len(self._health.restoring))
        if not self._health.restoring:  # also where the partition was taken away
            self._restore_ended()
