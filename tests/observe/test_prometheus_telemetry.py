from __future__ import annotations

import math

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from forecastd.clock import ManualClock
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
    TopicCreated,
    TurnCompleted,
)
from forecastd.observe.prometheus_telemetry import PrometheusTelemetry
from forecastd.records import REJECT_REASONS, TopicPartition

P0, P1 = TopicPartition("records", 0), TopicPartition("records", 1)
AT_P0 = {"topic": "records", "partition": "0"}


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

    def __call__(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(f"forecastd_{name}", labels)


@pytest.fixture
def exported() -> Exported:
    return Exported()


class TestFromTheStart:
    """`rate()` of a counter that appears with its first event misses that event."""

    @pytest.mark.parametrize("reason", REJECT_REASONS)
    def test_every_reject_reason_is_there(self, exported: Exported, reason: str) -> None:
        assert exported("records_rejected_total", reason=reason) == 0

    @pytest.mark.parametrize("source", ["model", "baseline"])
    @pytest.mark.parametrize("cold", ["true", "false"])
    def test_every_source_is_there(self, exported: Exported, source: str, cold: str) -> None:
        assert exported("forecasts_published_total", source=source, cold=cold) == 0

    @pytest.mark.parametrize(
        "stage", ["poll", "decode", "window", "forecast", "publish", "save", "commit"]
    )
    def test_every_stage_is_there(self, exported: Exported, stage: str) -> None:
        assert exported("stage_duration_seconds_count", stage=stage) == 0
        assert exported("stage_cpu_seconds_total", stage=stage) == 0

    def test_version_process_and_garbage_collection_are_there(self, exported: Exported) -> None:
        assert exported("build_info", version="0.1.0") == 1
        text = generate_latest(exported.registry).decode()
        assert "process_resident_memory_bytes " in text
        assert "python_gc_collections_total{" in text

    def test_no_created_series_beside_each_of_ours(self, exported: Exported) -> None:
        assert "_created" not in generate_latest(exported.registry).decode()

    def test_skill_is_not_a_number_before_the_first_score(self, exported: Exported) -> None:
        """0 would claim that the model is as good as the naive forecast."""
        assert math.isnan(exported("skill_ratio", source="model") or 0)


class TestDataPath:
    def test_a_turn_counts_what_it_carried(self, exported: Exported) -> None:
        exported.emit(TurnCompleted(90, 300, 7, 2, 10, 1, 1_700_000_000_500, (0.004, 0.3)))
        assert exported("records_consumed_total") == 90
        assert exported("records_replayed_total") == 10
        assert exported("observations_decoded_total") == 300
        assert exported("observations_dropped_total", reason="late") == 7
        assert exported("tombstones_skipped_total") == 2
        assert exported("series_reset_total") == 1
        assert exported("last_commit_timestamp_seconds") == 1_700_000_000.5
        assert exported("delay_seconds_bucket", le="0.005") == 1
        assert exported("delay_seconds_count") == 2

    def test_rejects_are_dead_letters_by_reason(self, exported: Exported) -> None:
        exported.emit(RecordsRejected("json", 3, "x"), RecordsRejected("time", 1, "x"))
        assert exported("records_rejected_total", reason="json") == 3
        assert exported("dead_letters_total") == 4

    def test_forecasts_are_told_apart_by_source_and_cold(self, exported: Exported) -> None:
        exported.emit(
            ForecastsMade("model", cold=False, count=5, at_ms=1_000),
            ForecastsMade("baseline", cold=True, count=2, at_ms=2_000),
        )
        assert exported("forecasts_published_total", source="model", cold="false") == 5
        assert exported("forecasts_published_total", source="baseline", cold="true") == 2
        assert exported("windows_forecast_total") == 5, "no window made the cold ones"
        assert exported("last_forecast_timestamp_seconds") == 2

    def test_the_model_is_timed_and_its_batches_are_measured(self, exported: Exported) -> None:
        exported.emit(ModelCalled(windows=64, seconds=0.003), ModelServed("7-3fa9c1", "LSTM 64"))
        assert exported("model_batch_windows_bucket", le="64.0") == 1
        assert exported("model_batch_windows_bucket", le="32.0") == 0
        assert exported("model_call_seconds_sum") == 0.003
        assert exported("model_info", version="7-3fa9c1", architecture="LSTM 64") == 1
        assert exported("model_info", version="none", architecture="") is None

    def test_a_stage_is_timed_on_the_wall_and_on_the_processor(self, exported: Exported) -> None:
        exported.emit(StageTimed("forecast", 0.02, 0.03))
        assert exported("stage_duration_seconds_sum", stage="forecast") == 0.02
        assert exported("stage_cpu_seconds_total", stage="forecast") == 0.03

    def test_errors_are_summed_and_skill_is_their_ratio(self, exported: Exported) -> None:
        exported.emit(
            ForecastsScored(
                "model", leads=16, error=3.0, naive_error=4.0, covered=12, intervals=16
            ),
            ForecastsScored(
                "model", leads=16, error=1.0, naive_error=4.0, covered=14, intervals=16
            ),
        )
        assert exported("leads_scored_total", source="model") == 32
        assert exported("scaled_error_total", source="model") == 4
        assert exported("naive_scaled_error_total", source="model") == 8
        assert exported("skill_ratio", source="model") == pytest.approx(0.5)
        assert exported("interval_coverage_ratio", source="model") == pytest.approx(26 / 32)
        assert exported("leads_scored_total", source="baseline") == 0

    def test_series_and_rows(self, exported: Exported) -> None:
        exported.emit(
            SeriesCounted(12, 3_000),
            SeriesEvicted(P0, 2),
            SeriesCollected(P0, 6),
            SeriesLosesObservations(P0, "cpu", 3, 100),
            StateReset(4),
            RowsSaved(rows=10, tombstones=1, bytes=900),
            RowsUnreadable(P0, 5, "x"),
        )
        assert exported("series_active") == 12
        assert exported("table_bytes") == 3_000
        assert exported("series_evicted_total") == 2
        assert exported("series_collected_total") == 6
        assert exported("series_losing_observations_total") == 1
        assert exported("state_resets_total") == 4
        assert exported("rows_saved_total") == 10
        assert exported("row_tombstones_saved_total") == 1
        assert exported("rows_saved_bytes_total") == 900
        assert exported("rows_unreadable_total") == 5


class TestLag:
    def test_counts_the_records_that_wait(self, exported: Exported) -> None:
        exported.emit(PartitionMoved(P0, position=90, end_offset=100, record_ms=0))
        assert exported("consumer_lag_records", **AT_P0) == 10

    def test_grows_in_seconds_while_nothing_is_read(self, exported: Exported) -> None:
        """Frozen at its last value it would hide a loop that hangs."""
        exported.emit(PartitionMoved(P0, 90, 100, record_ms=exported.clock.now_ms() - 2_000))
        assert exported("consumer_lag_seconds", **AT_P0) == 2
        exported.clock.advance(60)
        assert exported("consumer_lag_seconds", **AT_P0) == 62

    def test_is_zero_seconds_when_nothing_waits(self, exported: Exported) -> None:
        """A silent input is not a late daemon."""
        exported.emit(PartitionMoved(P0, 100, 100, record_ms=0))
        exported.clock.advance(3_600)
        assert exported("consumer_lag_seconds", **AT_P0) == 0
        assert exported("last_record_timestamp_seconds", **AT_P0) == 0

    @pytest.mark.parametrize(
        "gone", [Rebalanced("revoked", (P0,)), Rebalanced("lost", (P0,)), BrokerLost("gone", 1.0)]
    )
    def test_of_a_partition_that_left_is_for_its_new_owner_to_tell(
        self, exported: Exported, gone: Event
    ) -> None:
        exported.emit(PartitionMoved(P0, 90, 100, record_ms=0), gone)
        assert exported("consumer_lag_records", **AT_P0) is None
        assert exported("consumer_lag_seconds", **AT_P0) is None
        exported.emit(PartitionMoved(P0, 95, 100, record_ms=0))
        assert exported("consumer_lag_records", **AT_P0) == 5


class TestGroup:
    def test_is_ready_as_readyz_is(self, exported: Exported) -> None:
        exported.emit(LoopTurned(1.0, broker_reachable=True), Rebalanced("assigned", (P0, P1)))
        assert (exported("ready"), exported("partitions_restoring")) == (0, 2)
        exported.emit(
            PartitionRestored(P0, series=3, resume_from=5, position=9, seconds=0.2),
            PartitionReady(P0, 9),
            PartitionReady(P1, 0),
        )
        assert (exported("ready"), exported("partitions_restoring")) == (1, 0)
        assert exported("partitions_assigned") == 2
        assert exported("restores_total") == 1
        assert exported("series_restored_total") == 3
        assert exported("restore_duration_seconds_bucket", le="0.5") == 1
        exported.emit(BrokerLost("gone", 1.0))
        assert (exported("ready"), exported("broker_errors_total")) == (0, 1)

    def test_tells_how_far_a_restore_is(self, exported: Exported) -> None:
        exported.emit(Rebalanced("assigned", (P0,)), RestoreStarted(P0, 900))
        assert (exported("restore_read_rows"), exported("restore_wanted_rows")) == (0, 900)
        exported.emit(RestoreMoved(P0, 300, 900))
        exported.clock.advance(60)
        assert exported("restore_read_rows") == 300
        assert exported("restore_elapsed_seconds") == 60

    @pytest.mark.parametrize(
        "end",
        [
            PartitionRestored(P0, series=3, resume_from=5, position=9, seconds=0.2),
            Rebalanced("revoked", (P0,)),
            BrokerLost("gone", 1.0),
        ],
    )
    def test_tells_of_no_restore_once_it_has_ended(self, exported: Exported, end: Event) -> None:
        exported.emit(Rebalanced("assigned", (P0,)), RestoreStarted(P0, 9), RestoreMoved(P0, 9, 9))
        exported.emit(end)
        exported.clock.advance(60)
        names = ("restore_read_rows", "restore_wanted_rows", "restore_elapsed_seconds")
        assert [exported(name) for name in names] == [0, 0, 0]

    def test_turns_are_stamped_with_the_wall_clock(self, exported: Exported) -> None:
        exported.emit(LoopTurned(5.0, broker_reachable=True))
        assert exported("last_turn_timestamp_seconds") == 1_700_000_000

    def test_counts_changes_of_assignment_and_resets(self, exported: Exported) -> None:
        exported.emit(
            Rebalanced("assigned", (P0,)), Rebalanced("lost", (P0,)), OffsetsReset(P0, "x", 3)
        )
        assert exported("rebalances_total", kind="assigned") == 1
        assert exported("rebalances_total", kind="lost") == 1
        assert exported("offsets_resets_total") == 1

    def test_tells_how_long_readers_of_committed_messages_wait(self, exported: Exported) -> None:
        exported.emit(StableOffsetsSeen({P0: 40.0, P1: 0.0}))
        assert exported("stable_offset_standstill_seconds", **AT_P0) == 40
        exported.emit(StableOffsetsSeen({P0: 0.0, P1: 0.0}))
        assert exported("stable_offset_standstill_seconds", **AT_P0) == 0

    def test_events_that_are_no_metric_are_ignored(self, exported: Exported) -> None:
        before = exported("broker_errors_total")
        exported.emit(TopicCreated("records", 4))
        assert exported("broker_errors_total") == before
