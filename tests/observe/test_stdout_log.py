from __future__ import annotations

import inspect
import io
import json
from typing import Any

import pytest

from forecastd.clock import ManualClock
from forecastd.observe import events, learning_events
from forecastd.observe.events import (
    BrokerLost,
    Event,
    FatalError,
    ForecastsMade,
    ForecastsScored,
    LoopTurned,
    ModelCalled,
    ModelScored,
    ModelServed,
    OffsetsReset,
    PartitionMoved,
    PartitionReady,
    PartitionRestored,
    ReadersHeldUp,
    Rebalanced,
    RecordsRejected,
    RestoreBlocked,
    RestoreMoved,
    RestoreStarted,
    RowsSaved,
    RowsUnreadable,
    SeriesCollected,
    SeriesCounted,
    SeriesEvicted,
    SeriesLosesObservations,
    SeriesNotLearnt,
    SettingWarned,
    SkillFell,
    StableOffsetsSeen,
    StageTimed,
    Started,
    StateReset,
    Stopped,
    Stopping,
    TopicCreated,
    TopicGrown,
    TurnCompleted,
    WindowsBuffered,
)
from forecastd.observe.learning_events import (
    FallbackCounted,
    ModelCacheFailed,
    ModelPromoted,
    ModelRefused,
    ModelsRead,
    RunBegan,
    RunEnded,
    RunGivenUp,
)
from forecastd.observe.stdout_log import SERIES_NAMED_MAX, StdoutLog
from forecastd.records import TopicPartition

P0 = TopicPartition("records", 0)

LEVELS: list[tuple[Event, str]] = [
    (Started("0.1.0", "forecastd", ("records",), "http://localhost:9464/"), "info"),
    (SettingWarned("forecast.horizon", "4 of every 16 steps are forecast by nobody"), "warning"),
    (TopicCreated("forecasts", 4), "info"),
    (TopicGrown("forecastd-records-state", "records", 4, 6), "warning"),
    (RestoreBlocked(P0, "state: 4 partitions, wanted 6"), "error"),
    (ModelServed("7-3fa9c1", "LSTM 64"), "info"),
    (ModelServed(None, ""), "info"),
    (Rebalanced("assigned", (P0,)), "info"),
    (Rebalanced("revoked", (P0,)), "info"),
    (Rebalanced("lost", (P0,)), "warning"),
    (PartitionRestored(P0, series=3, resume_from=5, position=9, seconds=0.25), "info"),
    (PartitionReady(P0, 9), "info"),
    (OffsetsReset(P0, "offset 5 without our metadata", 3), "error"),
    (RecordsRejected("json", 3, "records[0]@7: 'n/a', wanted JSON"), "warning"),
    (SeriesEvicted(P0, 3), "error"),
    (SeriesLosesObservations(P0, "cpu", 3, 100), "warning"),
    (SeriesNotLearnt(P0, left_out=12, kept=28), "info"),
    (StateReset(1), "warning"),
    (RowsUnreadable(P0, 3, "row of 'cpu': version 9, wanted 1"), "error"),
    (SkillFell(-0.2, 2_000), "warning"),
    (RunEnded("promoted", "better", "7-3fa9c1", 1_200, 40.0, 38.0), "info"),
    (RunEnded("rejected", "no better", None, 1_200, 40.0, 38.0), "info"),
    (RunEnded("failed", "out of memory", None, 0, 4.0, 0.0), "warning"),
    (RunGivenUp(), "info"),
    (ModelRefused("7-3fa9c1", "timesteps: 8, wanted 16"), "error"),
    (ModelCacheFailed("models: no space left on device"), "warning"),
    (BrokerLost("localhost:9092: no answer in 10s, wanted one", 1.0), "warning"),
    (ReadersHeldUp(P0, "records[0]: a transaction hangs"), "error"),
    (Stopping("SIGTERM"), "info"),
    (Stopped(0.5, is_complete=True), "info"),
    (Stopped(0.5, is_complete=False), "warning"),
    (FatalError("kafka.bootstrap_servers: no broker in 60s, wanted one"), "error"),
]

ONLY_COUNTED: list[Event] = [
    StageTimed("poll", 0.1),
    LoopTurned(1.0, broker_reachable=True),
    TurnCompleted(90, 90, 1, 0, 0, 0, 0, (0.1,)),
    PartitionMoved(P0, 90, 100, 0),
    ForecastsMade("model", cold=False, count=5, at_ms=0),
    ModelCalled(64, 0.003),
    ForecastsScored("model", 16, 1.0, 2.0, 12, 16),
    SeriesCounted(12, 3_000),
    SeriesCollected(P0, 3),
    RestoreMoved(P0, 5, 9),
    StableOffsetsSeen({P0: 0.0}),
    RowsSaved(3, 0, 900),
    WindowsBuffered(3, 900),
    ModelScored(3, 48, 1.0, 2.0),
    ModelsRead(None),
    FallbackCounted(2),
]


class Logged:
    """A log and the lines that it wrote."""

    def __init__(self, level: str = "info") -> None:
        self.clock = ManualClock(now_ms=1_700_000_000_000)
        self.stream = io.StringIO()
        self.log = StdoutLog("json", level, self.clock, self.stream)

    def emit(self, *emitted: Event) -> Logged:
        for event in emitted:
            self.log.emit(event)
        return self

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.stream.getvalue().splitlines()]

    @property
    def last(self) -> dict[str, Any]:
        return self.lines[-1]


@pytest.fixture
def logged() -> Logged:
    return Logged()


class TestLevels:
    @pytest.mark.parametrize(("event", "level"), LEVELS)
    def test_one_line_whose_level_follows_the_consequence(self, event: Event, level: str) -> None:
        (line,) = Logged().emit(event).lines
        assert line["level"] == level

    @pytest.mark.parametrize("event", ONLY_COUNTED)
    def test_what_happens_every_turn_is_only_counted(self, event: Event) -> None:
        assert Logged("debug").emit(event).lines == []

    def test_every_event_is_known_here_or_only_counted(self) -> None:
        """A new event must be a decision, not a silence."""
        known = {type(event) for event, _ in LEVELS} | {type(event) for event in ONLY_COUNTED}
        declared = {
            kind
            for module in (events, learning_events)
            for _, kind in inspect.getmembers(module, inspect.isclass)
            if issubclass(kind, Event) and kind is not Event
        }
        unsaid = {RestoreStarted, RunBegan}  # at level debug alone
        assert declared - known == unsaid | {ModelPromoted}, "said with the model that serves"

    def test_less_consequence_than_asked_for_is_not_written(self) -> None:
        logged = Logged("error").emit(*(event for event, _ in LEVELS))
        assert {line["level"] for line in logged.lines} == {"error"}

    def test_debug_says_more(self) -> None:
        said = (RestoreStarted(P0, 10), RunBegan(0))
        assert len(Logged("debug").emit(*said).lines) == 2
        assert Logged("info").emit(*said).lines == []


class TestRepeatedFacts:
    def test_a_reason_is_said_once_a_minute_with_example_and_count(self, logged: Logged) -> None:
        logged.emit(*[RecordsRejected("json", 2, "records[0]@7: not JSON")] * 50)
        assert [line["count"] for line in logged.lines] == [2]
        assert logged.last["example"] == "records[0]@7: not JSON"
        logged.clock.advance(60)
        logged.emit(RecordsRejected("json", 2, "records[0]@99: not JSON"))
        assert [line["count"] for line in logged.lines] == [2, 100]

    def test_another_reason_is_said_at_once(self, logged: Logged) -> None:
        logged.emit(RecordsRejected("json", 1, "a"), RecordsRejected("time", 1, "b"))
        assert [line["reason"] for line in logged.lines] == ["json", "time"]

    def test_the_rest_of_a_burst_is_said_when_its_minute_is_over(self, logged: Logged) -> None:
        logged.emit(*[RecordsRejected("json", 1, "a")] * 500)
        logged.clock.advance(60)
        logged.emit(LoopTurned(0.0, broker_reachable=True))
        assert [line["count"] for line in logged.lines] == [1, 499]

    @pytest.mark.parametrize("end", [Stopped(0.1, is_complete=True), FatalError("x")])
    def test_the_rest_of_a_burst_is_said_before_the_end(self, logged: Logged, end: Event) -> None:
        logged.emit(*[RecordsRejected("json", 1, "a")] * 500, end)
        assert [line.get("count") for line in logged.lines] == [1, 499, None]

    def test_a_broker_that_stays_away_is_a_line_a_minute(self, logged: Logged) -> None:
        for second in range(150):
            logged.emit(BrokerLost(f"no answer for {second} s", 1.0))
            logged.emit(LoopTurned(float(second), broker_reachable=False))
            logged.clock.advance(1)
        assert len(logged.lines) == 3
        assert sum(line["count"] for line in logged.lines) == 121

    def test_a_broker_that_is_back_is_said_once_with_how_long_it_was_gone(
        self, logged: Logged
    ) -> None:
        logged.emit(BrokerLost("gone", 1.0))
        logged.clock.advance(42)
        logged.emit(*[LoopTurned(0.0, broker_reachable=True)] * 3)
        assert [line["event"] for line in logged.lines[1:]] == ["the broker answers again"]
        assert logged.last["seconds"] == 42

    def test_a_broker_that_leaves_an_idle_daemon_is_said_once(self, logged: Logged) -> None:
        """Nothing fails while nothing is asked of it; the heartbeats tell."""
        up, down = LoopTurned(0.0, broker_reachable=True), LoopTurned(0.0, broker_reachable=False)
        logged.emit(down, up, up, down, down)
        assert [line["level"] for line in logged.lines] == ["warning"]
        logged.clock.advance(30)
        logged.emit(up, up)
        assert (logged.last["event"], logged.last["seconds"]) == ("the broker answers again", 30)

    def test_a_broker_that_is_not_there_yet_has_not_left(self, logged: Logged) -> None:
        logged.emit(*[LoopTurned(0.0, broker_reachable=False)] * 5)
        assert logged.lines == []


class TestSeriesThatLoseObservations:
    def test_names_the_series_and_what_to_do(self, logged: Logged) -> None:
        logged.emit(SeriesLosesObservations(P0, "host.cpu0", late=3, seen=120))
        assert logged.last["series"] == "host.cpu0"
        assert (logged.last["lost"], logged.last["seen"]) == (3, 120)
        assert "ingest.time" in logged.last["event"]
        assert "ingest.series" in logged.last["event"]

    def test_twenty_are_named_then_one_line_says_that_the_rest_is_counted(
        self, logged: Logged
    ) -> None:
        """A topic whose times are wrong has as many of them as it has series."""
        logged.emit(*(SeriesLosesObservations(P0, f"s{n}", 3, 100) for n in range(1_000)))
        assert [line.get("series") for line in logged.lines] == [
            *(f"s{n}" for n in range(SERIES_NAMED_MAX)),
            None,
        ]
        assert "forecastd_series_losing_observations_total" in logged.last["event"]


class TestWords:
    def test_time_is_the_clocks_in_utc(self, logged: Logged) -> None:
        assert logged.emit(StateReset(1)).last["timestamp"] == "2023-11-14T22:13:20.000Z"

    def test_an_empty_restore_is_no_consequence(self, logged: Logged) -> None:
        logged.emit(PartitionRestored(P0, series=0, resume_from=0, position=0, seconds=0.01))
        assert logged.lines == []

    def test_a_restore_says_what_is_left_to_replay(self, logged: Logged) -> None:
        logged.emit(PartitionRestored(P0, series=3, resume_from=5, position=9, seconds=0.25))
        assert (logged.last["partition"], logged.last["replay"]) == ("records[0]", 4)


class TestLearning:
    @pytest.mark.parametrize("by", ["trainer", "operator"])
    def test_a_promotion_is_one_line_with_who_and_why(self, logged: Logged, by: Any) -> None:
        promoted = ModelPromoted("7-3fa9c1", by, "error 0.8, wanted below 0.98", 5)
        logged.emit(promoted, ModelServed("7-3fa9c1", "LSTM 64"))
        (line,) = logged.lines
        assert (line["level"], line["version"], line["by"]) == ("info", "7-3fa9c1", by)
        assert line["reason"] == "error 0.8, wanted below 0.98"

    @pytest.mark.parametrize("version", ["6-11aa22", None])
    def test_a_rollback_is_a_warning(self, logged: Logged, version: str | None) -> None:
        rolled_back = ModelPromoted(version, "rollback", "live skill -0.300", 5)
        logged.emit(rolled_back, ModelServed(version, "LSTM 64" if version else ""))
        (line,) = logged.lines
        assert (line["level"], line.get("version")) == ("warning", version)
        assert line["reason"] == "live skill -0.300"

    def test_what_serves_after_it_is_told_without_it(self, logged: Logged) -> None:
        logged.emit(ModelPromoted("7-3fa9c1", "trainer", "better", 5))
        logged.emit(*[ModelServed("7-3fa9c1", "LSTM 64")] * 2)
        assert "reason" not in logged.last

    def test_a_run_says_its_figures(self, logged: Logged) -> None:
        logged.emit(RunEnded("rejected", "error 1.02, wanted 0.98", None, 1_200, 40.04, 38.01))
        told = {name: logged.last[name] for name in ("reason", "windows", "seconds", "cpu_seconds")}
        assert told == {
            "reason": "error 1.02, wanted 0.98",
            "windows": 1_200,
            "seconds": 40.0,
            "cpu_seconds": 38.0,
        }
