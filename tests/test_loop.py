from __future__ import annotations

from typing import Any, get_args

import numpy as np
import pytest

from forecastd.errors import BrokerError, TopicError
from forecastd.loop import Loop
from forecastd.memory.log import MemoryBroker, MemoryChanges, MemorySource, Request
from forecastd.observe.events import (
    ForecastsMade,
    PartitionMoved,
    PartitionReady,
    RecordsRejected,
    RowsSaved,
    SeriesCounted,
    StageTimed,
    TurnCompleted,
)
from forecastd.ports import Timer
from forecastd.records import Committed, ReadSoFar, Stage, TopicPartition, Turn
from tests.in_memory import (
    P0,
    P1,
    START_MS,
    STATE_TOPIC,
    Obs,
    Telemetry,
    assert_same,
    by_id,
    copy_input,
    drain,
    encode,
    feed,
    make_model,
    make_settings,
    published,
    run,
    start,
)


def records(*names: str, partition: Any = P0, broker: MemoryBroker | None = None) -> MemoryBroker:
    """A record a second, one observation each, of these series."""
    broker = broker or MemoryBroker()
    for name in names:
        at_ms = START_MS + 1_000 * broker.end(partition)
        broker.append(partition, encode([Obs(name, at_ms, (float(broker.end(partition)),))]), at_ms)
    return broker


def ready(broker: MemoryBroker, **sections: Any) -> tuple[Loop, Telemetry]:
    """A loop that has restored every partition and has read nothing yet."""
    heard = Telemetry()
    later = MemoryBroker(records={partition: [] for partition in broker.records})
    loop = start(later, make_settings(**sections), telemetry=heard)
    while len(loop.served) < len(broker.records):
        loop.run_once()
    later.records, later.ends = broker.records, broker.ends
    heard.events.clear()
    return loop, heard


def broker_of(loop: Loop) -> MemoryBroker:
    assert isinstance(loop.source, MemorySource)
    return loop.source.broker


class TestTurn:
    def test_goes_through_the_stages_in_the_order_of_the_data_path(self) -> None:
        loop, heard = ready(records(*"aaaaa"))
        assert loop.run_once()
        stages = [event.stage for event in heard.heard(StageTimed)]
        assert stages == list(get_args(Stage))

    def test_tells_what_it_did(self) -> None:
        broker = records(*"aaaaab")
        broker.append(P0, b"broken", START_MS)
        broker.append(P0, None, START_MS)
        loop, heard = ready(broker)
        loop.run_once()
        now_ms = loop.clock.now_ms()
        assert heard.heard(ForecastsMade)[0] == ForecastsMade("baseline", True, 2, now_ms)  # noqa: FBT003
        assert sum(event.count for event in heard.heard(ForecastsMade)) == 5
        assert [(e.reason, e.count) for e in heard.heard(RecordsRejected)] == [("json", 1)]
        (turn,) = heard.heard(TurnCompleted)
        assert (turn.records, turn.observations, turn.tombstones, turn.replayed) == (8, 6, 1, 0)
        delays = sorted((now_ms - START_MS) / 1_000 - at for at in (0, 1, 2, 3, 5))
        assert sorted(turn.delay_seconds) == delays
        assert heard.heard(PartitionMoved) == [PartitionMoved(P0, 8, 8, START_MS)]
        assert heard.heard(SeriesCounted)[0].active == 2

    def test_counts_late_observations_among_those_decoded(self) -> None:
        broker = records(*"aaa")
        broker.append(P0, encode([Obs("a", START_MS, (1.0,))]), START_MS)
        loop, heard = ready(broker)
        loop.run_once()
        (turn,) = heard.heard(TurnCompleted)
        assert (turn.observations, turn.late) == (4, 1)

    def test_counts_series_as_soon_as_they_are_restored(self) -> None:
        broker = records(*"aaaab")
        run(broker, make_settings(state={"row_every": 1}))
        heard = Telemetry()
        loop = start(broker, make_settings(), telemetry=heard)
        while not loop.served:
            loop.run_once()
        assert heard.heard(SeriesCounted)[0].active == len(loop.table) > 0

    def test_without_records_does_nothing_and_commits_nothing(self) -> None:
        loop, heard = ready(records("a"))
        drain(loop)
        broker = broker_of(loop)
        asked: list[Request] = []
        broker.before = lambda request, _message: asked.append(request)
        heard.events.clear()
        assert not loop.run_once()
        assert asked == ["poll"]
        assert {type(event) for event in heard.events} == {StageTimed}

    def test_commits_behind_the_marker_of_a_transaction(self) -> None:
        """It takes an offset and is never polled: a topic that is read to its end has no lag."""
        broker = records("a")
        broker.mark(P0)
        loop, heard = ready(broker)
        drain(loop)
        assert broker_of(loop).committed[P0].position == broker.end(P0) == 2
        assert heard.heard(PartitionMoved)[-1] == PartitionMoved(P0, 2, 2, START_MS)

    def test_with_bad_records_alone_moves_the_commit(self) -> None:
        broker = MemoryBroker()
        for value in (b"{", None, b"[]"):
            broker.append(P0, value, START_MS)
        run(broker, make_settings())
        assert broker.committed == {P0: Committed(3, 3)}
        assert len(broker.messages("dead-letters")) == 2

    def test_saves_rows_and_resumes_behind_them(self) -> None:
        loop, heard = ready(records(*"aaab"), state={"row_every": 1})
        loop.run_once()
        assert broker_of(loop).committed == {P0: Committed(4, 0)}
        records("a", broker=broker_of(loop))
        loop.run_once()
        assert broker_of(loop).committed == {P0: Committed(5, 3, has_rows=True)}
        (saved,) = heard.heard(RowsSaved)
        row = broker_of(loop).messages(STATE_TOPIC)[0]
        assert (saved.rows, saved.tombstones, saved.bytes) == (1, 0, len(row.value or b""))


class TestTopics:
    def test_keep_series_of_the_same_name_apart(self) -> None:
        """Each input topic has a state topic of its own, and a restart finds its way back."""
        other = TopicPartition("more", 0)
        settings = make_settings(ingest={"topics": ["records", "more"]}, state={"row_every": 1})
        broker = records(*"aaaaaaa")
        records(*"aaaaa", partition=other, broker=broker)
        run(broker, settings)
        assert {m.topic for m in broker.sent if m.value is not None and m.partition == 0} == {
            STATE_TOPIC,
            "forecastd-more-state",
        }
        for _ in range(3):
            records("a", partition=other, broker=broker)
        loop = start(broker, settings)
        drain(loop)
        steps = {at: loop.table["steps"][loop.table.find(at, ["a"])].item() for at in loop.served}
        assert steps == {P0: 7, other: 8}
        found = published(broker)
        assert found[-1]["id"] == f"more-0-a-{START_MS + 7_000}"
        assert found[-1]["flags"] == ["restored"]


class TestPartitions:
    def test_are_served_once_the_group_has_shared_them_out(self) -> None:
        """While a member joins anew, as a static one does at once, its first commit is refused."""
        broker = records(*"aaaa")
        loop = start(broker, make_settings())
        assert isinstance(loop.source, MemorySource)
        loop.source.is_joining = True
        for _ in range(5):
            loop.run_once()
        assert not loop.served
        assert broker.committed == {}
        loop.source.is_joining = False
        drain(loop)
        assert broker.committed[P0].position == 4

    def test_are_served_while_another_is_restored(self) -> None:
        broker, settings = feed(120, seed=5), make_settings(state={"row_every": 1})
        run(broker, settings)
        for partition in (P0, P1):
            records("new", partition=partition, broker=broker)
        loop = start(broker, settings, read_rows=1)
        while P0 not in loop.served:
            assert not loop.run_once()
        sent = len(broker.messages("forecasts"))
        assert loop.run_once()
        assert P1 not in loop.served
        assert not loop.is_ready
        assert len(broker.messages("forecasts")) == sent + 1
        drain(loop)
        assert len(broker.messages("forecasts")) == sent + 2

    def test_are_ready_when_their_replay_is_over(self) -> None:
        broker, settings = feed(80, seed=5), make_settings(state={"row_every": 1_000})
        run(broker, settings)
        heard = Telemetry()
        loop = start(broker, settings, poll_records=30, telemetry=heard)
        for _ in range(3):
            loop.run_once()
        assert len(loop.served) == 2
        was_ready = loop.is_ready
        drain(loop)
        assert (was_ready, loop.is_ready) == (False, True)
        ends = {partition: at.position for partition, at in broker.committed.items()}
        told = {event.partition: event.position for event in heard.heard(PartitionReady)}
        assert told == ends

    @pytest.mark.parametrize("is_back", [False, True])
    def test_taken_away_during_a_poll_leave_their_records_to_the_next_owner(
        self,
        is_back: bool,  # noqa: FBT001
    ) -> None:
        """The client may return records of a partition that a rebalance has just revoked."""
        whole = feed(120, seed=5)
        broker, settings = copy_input(whole), make_settings()
        run(whole, settings)
        loop = start(broker, settings, poll_records=40)
        loop.run_once()
        loop.run_once()
        assert isinstance(loop.source, MemorySource)
        assert loop.served[P0].position < broker.end(P0)
        committed = broker.committed[P0]
        loop.source.moves.append(MemoryChanges([P0] if is_back else [], [P0]))
        loop.run_once()
        assert broker.committed[P0] == committed
        drain(loop)
        assert (P0 in loop.served) == is_back
        if not is_back:
            assert loop.table.count(P0) == 0
            assert broker.committed[P0] == committed
            loop.source.moves.append(MemoryChanges([P0], []))
            drain(loop)
        found, wanted = by_id(broker), by_id(whole)
        assert found.keys() == wanted.keys()
        for key, message in found.items():
            assert_same(message, wanted[key], flags={"restored"})
        dead = [dict(message.headers) for message in broker.messages("dead-letters")]
        offsets = [(head["forecastd.partition"], head["forecastd.offset"]) for head in dead]
        assert len(offsets) == len(set(offsets)) == len(whole.messages("dead-letters"))

    def test_taken_away_during_their_restore_are_forgotten(self) -> None:
        broker, settings = feed(120, seed=5), make_settings(state={"row_every": 1})
        run(broker, settings)
        loop = start(broker, settings, read_rows=1)
        for _ in range(3):
            loop.run_once()
        assert isinstance(loop.source, MemorySource)
        loop.source.moves.append(MemoryChanges([], [P0]))
        drain(loop)
        assert list(loop.served) == [P1]
        assert loop.table.count(P0) == 0


class TestEvictedSeries:
    def test_that_come_back_within_a_turn_keep_their_row(self) -> None:
        """The tombstone of the place they lost must not remove the row of the one they got."""
        settings = make_settings(windows={"max_series": 1}, state={"row_every": 1})
        broker = records(*"aaaabaaaa")
        loop = start(broker, settings)
        drain(loop)
        again = start(broker, settings)
        drain(again)
        slot = again.table.find(P0, ["a"])
        assert again.table["steps"][slot] == loop.table["steps"][loop.table.find(P0, ["a"])] == 4

    def test_leave_no_rows_behind(self) -> None:
        settings = make_settings(windows={"max_series": 2}, state={"row_every": 1})
        broker = records(*"aaaabbbbccccdddd")
        run(broker, settings, poll_records=3)
        alive: dict[bytes | None, bool] = {}
        for message in broker.messages(STATE_TOPIC):
            alive[message.key] = message.value is not None
        assert sum(alive.values()) == 2

    def test_of_a_single_record_do_not_end_the_daemon(self) -> None:
        """More series in one record than there are places, and the next record needs one."""
        settings = make_settings(windows={"max_series": 2}, state={"row_every": 1})
        broker = MemoryBroker()
        for at in range(7):
            names = "abcde" if at % 2 else "a"
            at_ms = START_MS + 1_000 * at
            broker.append(P0, encode([Obs(name, at_ms, (1.0,)) for name in names]), at_ms)
        for poll_records in (1, 2, 7):
            copied = copy_input(broker)
            loop = start(copied, settings, poll_records=poll_records)
            drain(loop)
            assert copied.committed[P0].position == 7
            records("a", broker=copied)
            drain(loop)
            assert loop.table.count(P0) <= 2

    def test_at_random_never_lose_an_offset(self) -> None:
        """Whatever the valve does to forecasts, a restart must go on without a hole or a crash."""
        for seed in range(6):
            rng = np.random.default_rng(seed)
            broker = records(*[f"s{rng.integers(12)}" for _ in range(150)])
            settings = make_settings(windows={"max_series": 4}, state={"row_every": 1})
            while broker.committed.get(P0, Committed(0, 0)).position < 150:
                loop = start(broker, settings, poll_records=int(rng.choice([1, 7, 40])))
                for _ in range(int(rng.integers(3, 9))):
                    loop.run_once()
                    assert loop.table.count(P0) <= 4
            origins = {message["origin_ms"] for message in published(broker)}
            # Four places: the first record of each series' stay makes a cold forecast at least.
            assert len(origins) > 75


class TestLargeMessages:
    VALUE = b"x" * 200_000

    def one_broken(self, bytes_max: int) -> MemoryBroker:
        broker = records("a")
        broker.append(P0, self.VALUE, START_MS, key=b"k", headers=[("trace", b"t")])
        broker.append(P0, b"small", START_MS)
        broker.bytes_max["dead-letters"] = bytes_max
        return broker

    @pytest.mark.parametrize(
        ("bytes_max", "kept"), [(300_000, 200_000), (70_000, 70_000 - 65_536), (900, 0)]
    )
    def test_that_are_dead_letters_are_cut_to_what_their_topic_takes(
        self, bytes_max: int, kept: int
    ) -> None:
        broker = self.one_broken(bytes_max)
        run(broker, make_settings())
        letters = {dict(m.headers)["forecastd.offset"]: m for m in broker.messages("dead-letters")}
        assert letters[b"2"].value == b"small"
        letter = letters[b"1"]
        assert letter.value == self.VALUE[:kept]
        assert letter.key == b"k"
        cut = dict(letter.headers).get("forecastd.truncated")
        assert cut == (None if kept == 200_000 else b"200000")
        assert broker.committed[P0].position == 3

    @pytest.mark.parametrize("topic", ["forecasts", STATE_TOPIC, "dead-letters"])
    def test_of_ours_say_which_topic_is_too_small(self, topic: str) -> None:
        """They can never be sent: going on would lose them, trying again would not end."""
        broker = records(*"aaaa")
        broker.append(P0, b"{", START_MS)
        broker.bytes_max[topic] = 50
        said = rf"^topic {topic}: a message of \d+ bytes is too large, wanted a larger max\.message"
        with pytest.raises(TopicError, match=said):
            run(broker, make_settings(state={"row_every": 1}))
        assert broker.committed[P0].position == 0


class TestClose:
    def test_closes_all_even_where_one_fails(self) -> None:
        closed: list[str] = []

        class Failing(MemorySource):
            def close(self, timeout_s: float) -> None:
                closed.append("source")
                raise BrokerError("no answer")

        loop = start(records("a"), make_settings())

        class Delivery:
            def deliver(self, turn: Turn, timer: Timer) -> None:
                raise AssertionError(turn, timer)

            def close(self, timeout_s: float) -> None:
                closed.append("delivery")
                raise BrokerError("no answer either")

        class Reader:
            def start(self, partition: TopicPartition) -> int:
                return 0

            def read(self, timeout_s: float) -> tuple[list[tuple[bytes, bytes | None]], bool]:
                return [], True

            @property
            def so_far(self) -> ReadSoFar:
                return ReadSoFar("", 0, 0)

            def close(self) -> None:
                closed.append("reader")

        loop.source = Failing(broker_of(loop), 1)
        loop.delivery = Delivery()
        loop.restorer.reader = Reader()
        with pytest.raises(BrokerError):
            loop.close(1.0)
        assert closed == ["source", "delivery", "reader"]


def test_a_model_and_its_bank_serve_one_loop_after_the_other() -> None:
    """After a broker's failure a new loop begins with the old network, whose bank is not empty."""
    settings = make_settings(state={"row_every": 1_000})
    whole = feed(150, seed=5)
    broker = copy_input(whole)
    run(whole, settings, make_model(settings))
    model = make_model(settings)
    for turns in (4, 6, 30):
        loop = start(broker, settings, model, poll_records=15)
        for _ in range(turns):
            loop.run_once()
    found, wanted = by_id(broker), by_id(whole)
    assert found.keys() == wanted.keys()
    for key, message in found.items():
        assert_same(message, wanted[key])
