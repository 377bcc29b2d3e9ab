"""The numbers on the page, folded from the same events that Prometheus counts.

Pure and of bounded size; it belongs to the loop's thread, which takes a `Snapshot` from it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from forecastd.observe.events import (
    BrokerLost,
    Event,
    ForecastsMade,
    ForecastsScored,
    ModelServed,
    PartitionMoved,
    Rebalanced,
    RecordsRejected,
    RowsUnreadable,
    SeriesCounted,
    SeriesEvicted,
    StateReset,
    TurnCompleted,
)
from forecastd.observe.learning_view import LearningFold
from forecastd.observe.sliding import DelayWindow, ScoreWindow, SlidingSums
from forecastd.observe.snapshot import Errors, SeriesView, Snapshot
from forecastd.records import TopicPartition


class LiveRates:
    """Listens to events; `snapshot` says what they add up to.

    Time is that of the events (`at_ms`), so nothing here reads a clock.
    """

    def __init__(self, started_ms: int) -> None:
        self._started_ms = started_ms
        self._now_ms = started_ms
        self._records_total = 0
        self._forecasts_total = 0
        self._flow = SlidingSums(width_ms=1_000, buckets=11, quantities=2)
        self._delays = DelayWindow()
        self._scores = {"model": ScoreWindow(), "baseline": ScoreWindow()}
        self._errors = dict.fromkeys(Errors.__struct_fields__, 0)
        self._lags: dict[TopicPartition, int] = {}
        self._assigned: set[TopicPartition] = set()
        self._counted = SeriesCounted(active=0, table_bytes=0)
        self._served = ModelServed(version=None, architecture="")
        self._learning = LearningFold()
        self._handlers: dict[type[Event], Callable[[Any], None]] = {
            TurnCompleted: self._turn_completed,
            ForecastsMade: self._forecasts_made,
            ForecastsScored: self._forecasts_scored,
            PartitionMoved: self._partition_moved,
            Rebalanced: self._rebalanced,
            ModelServed: self._model_served,
            SeriesCounted: self._series_counted,
            RecordsRejected: lambda event: self._count("rejected", event.count),
            BrokerLost: self._broker_lost,
            RowsUnreadable: lambda event: self._count("rows_unreadable", event.count),
            SeriesEvicted: lambda event: self._count("series_evicted", event.count),
            StateReset: lambda event: self._count("state_resets", event.count),
        }

    def emit(self, event: Event) -> None:
        """Take note of one event; those that no number depends on are ignored."""
        handler = self._handlers.get(type(event))
        if handler is not None:
            handler(event)
        else:
            self._learning.emit(event)

    def snapshot(self, at_ms: int, series: Sequence[SeriesView] = ()) -> Snapshot:
        """What there is to see at `at_ms`, with the views that the loop supplies."""
        records, forecasts = self._flow.sums(at_ms).tolist()
        seconds = self._flow.seconds(at_ms)
        p50_ms, p99_ms = self._delays.quantiles_ms(at_ms, (0.5, 0.99))
        version = self._served.version
        source = "baseline" if version is None else "model"
        skill, coverage = self._scores[source].ratios(at_ms)
        return Snapshot(
            at_ms=at_ms,
            uptime_s=max(at_ms - self._started_ms, 0) / 1_000,
            records_total=self._records_total,
            forecasts_total=self._forecasts_total,
            records_per_s=records / seconds,
            forecasts_per_s=forecasts / seconds,
            lag_records=sum(self._lags.values()),
            delay_p50_ms=p50_ms,
            delay_p99_ms=p99_ms,
            skill=skill,
            coverage=coverage,
            errors=Errors(**self._errors),
            series_active=self._counted.active,
            table_bytes=self._counted.table_bytes,
            partitions=len(self._assigned),
            model_version=version,
            architecture=self._served.architecture or None,
            source=source,
            learning=self._learning.view,
            series=tuple(series),
        )

    def _count(self, kind: str, count: int) -> None:
        self._errors[kind] += count

    def _turn_completed(self, event: TurnCompleted) -> None:
        self._now_ms = event.at_ms
        self._records_total += event.records
        self._errors["late"] += event.late
        self._flow.add(event.at_ms, (event.records, 0))
        if event.delay_seconds:
            self._delays.add(event.at_ms, event.delay_seconds)

    def _forecasts_made(self, event: ForecastsMade) -> None:
        self._now_ms = event.at_ms
        self._forecasts_total += event.count
        self._flow.add(event.at_ms, (0, event.count))

    def _forecasts_scored(self, event: ForecastsScored) -> None:
        self._scores[event.source].add(self._now_ms, event)

    def _partition_moved(self, event: PartitionMoved) -> None:
        self._lags[event.partition] = max(event.end_offset - event.position, 0)

    def _rebalanced(self, event: Rebalanced) -> None:
        if event.kind == "assigned":
            self._assigned.update(event.partitions)
            return
        for partition in event.partitions:
            self._assigned.discard(partition)
            self._lags.pop(partition, None)

    def _broker_lost(self, _event: BrokerLost) -> None:
        self._count("broker", 1)
        self._assigned.clear()  # the client is given up, and its partitions with it
        self._lags.clear()

    def _series_counted(self, event: SeriesCounted) -> None:
        self._counted = event

    def _model_served(self, event: ModelServed) -> None:
        self._served = event
        self._scores["model"] = ScoreWindow()  # another model's errors say nothing about this one
