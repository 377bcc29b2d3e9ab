"""What is published is a function of the records, not of how they fell into polls."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest

from forecastd.forecast.model import Model
from forecastd.memory.log import MemoryBroker
from forecastd.observe.events import ForecastsScored, RecordsRejected, TurnCompleted
from forecastd.settings import Settings
from tests.in_memory import (
    Telemetry,
    assert_same,
    by_id,
    copy_input,
    feed,
    fields,
    make_model,
    make_settings,
    published,
    run,
)
from tests.slow_daemon import SlowDaemon


class Case(NamedTuple):
    """One way to set the daemon up; `model` None is the baseline."""

    sections: dict[str, Any]
    model: dict[str, Any] | None
    features: int = 1

    @property
    def settings(self) -> Settings:
        return make_settings(**self.sections, ingest={"values": fields(self.features)})

    def new_model(self) -> Model | None:
        return None if self.model is None else make_model(self.settings, **self.model)

    def feed(self) -> MemoryBroker:
        return feed(60, features=self.features)


class Outcome(NamedTuple):
    """What a daemon sent, and what it told."""

    broker: MemoryBroker
    telemetry: Telemetry


CASES = {
    "baseline": Case({}, None),
    "baseline, a season, two values": Case({"windows": {"season": 5}}, None, features=2),
    "model": Case({}, {}),
    "model, phases": Case({"windows": {"stride": 2}}, {}),
    "model, every step, a season": Case(
        {"windows": {"stride": 1, "season": 30}, "forecast": {"horizon": 7}}, {}
    ),
    "model of the first of two values": Case({}, {"values": 1}, features=2),
    "model of two values": Case({"windows": {"stride": 2}}, {}, features=2),
    "point model": Case({"windows": {"stride": 2}}, {"is_point": True}),
    "ewma": Case({"forecast": {"anchor": "ewma"}}, {}),
    "no anchor": Case({"forecast": {"anchor": "none"}}, {}),
    "raw values": Case({"forecast": {"anchor": "none", "scaling": "none"}}, {"is_point": True}),
    "windows of one step": Case({"windows": {"timesteps": 1}, "forecast": {"segment": 1}}, {}),
    "a horizon below the stride": Case({"forecast": {"horizon": 2}}, {}),
    "series that were away for long": Case(
        {"windows": {"stride": 2}, "state": {"series_ttl": "25s"}}, {}
    ),
    "a single quantile": Case({"forecast": {"quantiles": [0.5]}}, None),
}


@pytest.fixture(scope="module", params=list(CASES.values()), ids=list(CASES))
def case(request: pytest.FixtureRequest) -> Case:
    found: Case = request.param
    return found


@pytest.fixture(scope="module")
def slow(case: Case) -> SlowDaemon:
    """What a daemon makes of the case's records that reads one observation at a time."""
    return SlowDaemon(case.settings, case.new_model()).read(case.feed())


@pytest.fixture(scope="module")
def outcomes(case: Case) -> dict[int, Outcome]:
    """What came out of the case's records, by the most that a poll returned."""
    records, found = case.feed(), {}
    for poll_records in (5_000, 7, 1):
        broker = copy_input(records)
        telemetry = run(broker, case.settings, case.new_model(), poll_records)
        found[poll_records] = Outcome(broker, telemetry)
    return found


class TestMessages:
    def test_are_those_of_one_observation_at_a_time(
        self, outcomes: dict[int, Outcome], slow: SlowDaemon
    ) -> None:
        """The vectorised stages against a plain daemon, with everything a series can do to them."""
        broker = outcomes[5_000].broker
        found = by_id(broker)
        assert len(published(broker)) == len(found) > 30
        assert found.keys() == slow.messages.keys()
        for key, message in found.items():
            assert_same(message, slow.messages[key], rtol=2e-5)

    def test_are_the_same_however_the_records_fall_into_polls(
        self, outcomes: dict[int, Outcome]
    ) -> None:
        wanted = by_id(outcomes[5_000].broker)
        for poll_records in (7, 1):
            found = by_id(outcomes[poll_records].broker)
            assert found.keys() == wanted.keys()
            for key, message in found.items():
                assert_same(message, wanted[key])

    def test_of_a_series_come_in_the_order_of_its_windows(self) -> None:
        """A reader that keeps the last message of a key must end with the newest."""
        broker = feed(200)
        run(broker, make_settings(windows={"stride": 1}))
        newest: dict[tuple[int, str], int] = {}
        for message in published(broker):
            at = message["input"]["partition"], message["series"]
            assert message["origin_ms"] > newest.get(at, 0)
            newest[at] = message["origin_ms"]
        assert len(newest) == 8


class TestScores:
    def test_add_up_to_those_of_one_observation_at_a_time(
        self, case: Case, outcomes: dict[int, Outcome], slow: SlowDaemon
    ) -> None:
        heard = outcomes[7].telemetry.heard(ForecastsScored)
        assert slow.scores
        for source, wanted in slow.scores.items():
            of_source = [event for event in heard if event.source == source]
            assert sum(event.leads for event in of_source) == wanted.leads
            error = sum(event.error for event in of_source)
            assert error == pytest.approx(wanted.error, rel=1e-5)
            naive_error = sum(event.naive_error for event in of_source)
            assert naive_error == pytest.approx(wanted.naive_error, rel=1e-5)
            has_intervals = len(case.settings.forecast.quantiles) > 1
            intervals = sum(event.intervals for event in of_source)
            assert intervals == (wanted.leads if has_intervals else 0)
            # An actual on the edge of its interval may fall to either side of float32's rounding.
            covered = sum(event.covered for event in of_source)
            assert abs(covered - (wanted.covered if has_intervals else 0)) <= 0.05 * wanted.leads

    def test_of_no_other_source_are_told(self) -> None:
        settings = make_settings()
        told = run(feed(100), settings, make_model(settings)).heard(ForecastsScored)
        assert {event.source for event in told} == {"model"}


class TestCounts:
    @pytest.mark.parametrize("poll_records", [5_000, 7, 1])
    def test_are_of_records_whatever_the_polls(self, poll_records: int) -> None:
        broker, settings = feed(300), make_settings(state={"series_ttl": "60s"})
        slow = SlowDaemon(settings, None).read(broker)
        heard = run(broker, settings, poll_records=poll_records)
        turns = heard.heard(TurnCompleted)
        assert sum(turn.records for turn in turns) == sum(map(len, broker.records.values())) == 300
        late = sum(one.late for one in slow.series.values())
        assert sum(turn.late for turn in turns) == late > 10
        assert sum(turn.observations for turn in turns) == slow.accepted + late
        assert sum(turn.resets for turn in turns) == slow.expired > 3
        values = [record.value for log in broker.records.values() for record in log]
        assert sum(turn.tombstones for turn in turns) == values.count(None) > 0
        rejected = sum(event.count for event in heard.heard(RecordsRejected))
        assert rejected == len(slow.rejected) == len(broker.messages("dead-letters"))
        assert sum(turn.replayed for turn in turns) == 0
