from __future__ import annotations

import pytest

from forecastd.observe.events import (
    BrokerLost,
    ForecastsMade,
    ForecastsScored,
    ModelServed,
    PartitionMoved,
    Rebalanced,
    RecordsRejected,
    RowsUnreadable,
    SeriesCounted,
    SeriesEvicted,
    StageTimed,
    StateReset,
    TurnCompleted,
)
from forecastd.observe.learning_events import ModelPromoted
from forecastd.observe.rates import LiveRates
from forecastd.observe.snapshot import Errors, SeriesView
from forecastd.records import TopicPartition

P0, P1 = TopicPartition("records", 0), TopicPartition("records", 1)


def turn(
    at_ms: int, records: int = 0, late: int = 0, delays: tuple[float, ...] = ()
) -> TurnCompleted:
    return TurnCompleted(records, records, late, 0, 0, 0, at_ms, delays)


class TestLiveRates:
    def test_rates_are_per_second_over_the_last_ten(self) -> None:
        rates = LiveRates(started_ms=0)
        for second in range(60):
            rates.emit(turn(second * 1_000, records=400))
            rates.emit(ForecastsMade("model", cold=False, count=25, at_ms=second * 1_000))
        shown = rates.snapshot(59_999)
        assert shown.records_per_s == pytest.approx(400, rel=0.1)
        assert shown.forecasts_per_s == pytest.approx(25, rel=0.1)
        assert (shown.records_total, shown.forecasts_total) == (24_000, 1_500)
        assert shown.uptime_s == pytest.approx(59.999)

    def test_rates_fall_to_zero_when_nothing_happens_any_more(self) -> None:
        rates = LiveRates(started_ms=0)
        rates.emit(turn(0, records=400, delays=(0.02,)))
        shown = rates.snapshot(100_000)
        assert (shown.records_per_s, shown.delay_p50_ms) == (0, None)
        assert shown.records_total == 400

    def test_delay_quantiles_are_in_milliseconds(self) -> None:
        rates = LiveRates(started_ms=0)
        rates.emit(turn(0, records=100, delays=(0.020,) * 98 + (0.500,) * 2))
        shown = rates.snapshot(0)
        assert shown.delay_p50_ms == pytest.approx(20, rel=0.06)
        assert shown.delay_p99_ms == pytest.approx(500, rel=0.06)

    def test_lag_is_summed_over_the_partitions_that_are_ours(self) -> None:
        rates = LiveRates(started_ms=0)
        rates.emit(Rebalanced("assigned", (P0, P1)))
        rates.emit(PartitionMoved(P0, position=90, end_offset=100, record_ms=0))
        rates.emit(PartitionMoved(P1, position=95, end_offset=100, record_ms=0))
        assert rates.snapshot(0).lag_records == 15
        rates.emit(Rebalanced("revoked", (P0,)))
        shown = rates.snapshot(0)
        assert (shown.lag_records, shown.partitions) == (5, 1)

    def test_a_lost_broker_takes_the_partitions_with_it(self) -> None:
        rates = LiveRates(started_ms=0)
        rates.emit(Rebalanced("assigned", (P0,)))
        rates.emit(PartitionMoved(P0, position=90, end_offset=100, record_ms=0))
        rates.emit(BrokerLost("gone", 1.0))
        shown = rates.snapshot(0)
        assert (shown.lag_records, shown.partitions, shown.errors.broker) == (0, 0, 1)

    def test_skill_is_that_of_what_is_served(self) -> None:
        rates = LiveRates(started_ms=0)
        rates.emit(ForecastsScored("baseline", 16, 4.0, 4.0, 12, 16))
        assert rates.snapshot(0).skill == pytest.approx(0)
        rates.emit(ModelServed("7-3fa9c1", "LSTM 64"))
        assert rates.snapshot(0).skill is None
        rates.emit(ForecastsScored("model", 16, 3.0, 4.0, 13, 16))
        shown = rates.snapshot(0)
        assert shown.skill == pytest.approx(0.25)
        assert shown.coverage == pytest.approx(13 / 16)
        assert (shown.source, shown.model_version) == ("model", "7-3fa9c1")

    def test_another_model_begins_with_no_skill(self) -> None:
        """The errors of the model before it would speak for or against it."""
        rates = LiveRates(started_ms=0)
        rates.emit(ModelServed("7-3fa9c1", "LSTM 64"))
        rates.emit(ForecastsScored("model", 16, 3.0, 4.0, 13, 16))
        rates.emit(ModelServed("8-11aa22", "LSTM 64"))
        assert rates.snapshot(0).skill is None

    def test_errors_are_counted_by_kind(self) -> None:
        rates = LiveRates(started_ms=0)
        rates.emit(turn(0, records=5, late=2))
        rates.emit(RecordsRejected("json", 3, "x"))
        rates.emit(RowsUnreadable(P0, 4, "x"))
        rates.emit(SeriesEvicted(P0, 5))
        rates.emit(StateReset(6))
        rates.emit(BrokerLost("gone", 1.0))
        assert rates.snapshot(0).errors == Errors(
            late=2, rejected=3, rows_unreadable=4, series_evicted=5, state_resets=6, broker=1
        )

    def test_shows_the_views_that_it_is_given(self) -> None:
        view = SeriesView(
            name="cpu", topic="records", partition=0, target="value", at_ms=[1], actuals=[2.0]
        )
        rates = LiveRates(started_ms=0)
        rates.emit(SeriesCounted(active=12, table_bytes=3_000))
        shown = rates.snapshot(0, [view])
        assert shown.series == (view,)
        assert (shown.series_active, shown.table_bytes) == (12, 3_000)

    def test_shows_what_is_learnt(self) -> None:
        rates = LiveRates(started_ms=0)
        rates.emit(ModelPromoted("1-aa", "trainer", "better", 5))
        assert rates.snapshot(0).learning.promotions[-1].version == "1-aa"

    def test_events_without_a_number_on_the_page_are_ignored(self) -> None:
        rates = LiveRates(started_ms=0)
        before = rates.snapshot(0)
        rates.emit(StageTimed("poll", 1.0))
        assert rates.snapshot(0) == before
