from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from forecastd.clock import ManualClock
from forecastd.memory.log import MemoryBroker, MemoryRecord, Request
from forecastd.observe.events import OffsetsReset, PartitionRestored, SeriesCollected
from forecastd.records import Column, Committed, Message, Polled, TopicPartition
from forecastd.settings import Settings
from forecastd.state.collector import Collector
from forecastd.state.row_codec import RowCodec
from forecastd.state.row_key import decode_key, encode_key
from forecastd.state.row_saver import RowSaver
from forecastd.state.table import SeriesTable
from tests.in_memory import (
    P0,
    P1,
    START_MS,
    STATE_TOPIC,
    Obs,
    Telemetry,
    by_id,
    copy_input,
    drain,
    encode,
    make_model,
    make_settings,
    numbers,
    start,
)

TTL_MS = 60_000


class Bench:
    """A collector, and a table on which the stages' marks are made by hand."""

    def __init__(self, slots_a_turn: int = 4096) -> None:
        self.heard = Telemetry()
        columns = [Column("steps", "<i8"), Column("recorded_ms", "<i8", fill=-1)]
        self.table = SeriesTable(columns, capacity=8)
        codec = RowCodec(self.table, "m")
        self.saver = RowSaver(
            self.table, codec, ManualClock(), lambda _: STATE_TOPIC, 1, 1, 1_000, 1e9, 10**9
        )
        for partition in (P0, P1):
            self.saver.open(partition, "me")
        self.collector = Collector(self.table, self.saver, TTL_MS, self.heard, slots_a_turn)

    def series(
        self, name: str, recorded_ms: int, offset: int = 0, partition: TopicPartition = P0
    ) -> int:
        """A series whose row is saved."""
        slot = self.table.admit(partition, [name])
        self.table["recorded_ms"][slot], self.table["offset"][slot] = recorded_ms, offset
        return int(slot[0])

    def poll(self, *timestamps: int, partition: TopicPartition = P0) -> None:
        """Records of these timestamps are polled."""
        records = [MemoryRecord(at, ms, None, b"") for at, ms in enumerate(timestamps)]
        self.collector.note_time(Polled({partition: records}, {}))

    def pass_time(self, ms: int, partition: TopicPartition = P0) -> None:
        """Two polls, as it takes to believe a time."""
        for _ in range(2):
            self.poll(ms, partition=partition)

    def collect(self, resume_from: int = 100, partition: TopicPartition = P0) -> list[str]:
        """Names of series that are given up now."""
        before = set(self.names(partition))
        self.collector.collect({partition: Committed(100, resume_from)})
        return sorted(before - set(self.names(partition)))

    def names(self, partition: TopicPartition = P0) -> list[str]:
        return self.table.names(self.table.slots(partition))

    def tombstones(self) -> Sequence[bytes | None]:
        return [message.key for message in self.saver.batch({P0: 100, P1: 100}).tombstones]


class TestCollect:
    def test_gives_up_what_the_records_have_left_behind(self) -> None:
        bench = Bench()
        bench.series("gone", 1_000)
        bench.series("there", 1_001)
        bench.pass_time(1_001 + TTL_MS)
        assert bench.collect() == ["gone"]
        assert bench.tombstones() == [encode_key("gone", "me")]
        assert bench.heard.heard(SeriesCollected) == [SeriesCollected(P0, 1)]

    def test_removes_what_other_writers_have_saved_as_well(self) -> None:
        bench = Bench()
        keys = [encode_key("gone", writer) for writer in ("w1", "w2")]
        bench.saver.adopt(bench.series("gone", 0), keys)
        bench.pass_time(1 + TTL_MS)
        assert bench.collect() == ["gone"]
        assert bench.tombstones() == [encode_key("gone", "me"), *keys]

    def test_waits_until_a_restart_would_not_read_its_records_again(self) -> None:
        """A row that is gone while its last record is replayed would be half a series."""
        bench = Bench()
        bench.series("gone", 0, offset=40)
        bench.pass_time(1 + TTL_MS)
        assert bench.collect(resume_from=40) == []
        assert bench.collect(resume_from=41) == ["gone"]

    def test_has_saved_first_what_is_not_saved_yet(self) -> None:
        """A series that ends between two rows would keep every restart reading from there on."""
        bench = Bench()
        slot = bench.series("behind", 0)
        bench.table["unsaved_from"][slot] = 0
        bench.pass_time(1 + TTL_MS)
        assert bench.collect() == []
        batch = bench.saver.batch({P0: 100})
        assert batch.slots.tolist() == [slot]
        bench.saver.saved(batch)
        assert bench.collect() == ["behind"]

    def test_goes_by_the_time_of_each_partition(self) -> None:
        bench = Bench()
        bench.series("a", 0, partition=P0)
        bench.series("b", 0, partition=P1)
        bench.pass_time(1 + TTL_MS, P1)
        bench.collector.collect({P0: Committed(100, 100), P1: Committed(100, 100)})
        assert (bench.names(P0), bench.names(P1)) == (["a"], [])

    def test_leaves_partitions_alone_that_are_not_served(self) -> None:
        bench = Bench()
        bench.series("a", 0)
        bench.pass_time(1 + TTL_MS)
        bench.pass_time(1 + TTL_MS, P1)
        bench.collector.collect({P1: Committed(100, 100)})
        assert bench.names(P0) == ["a"]

    def test_lets_a_row_that_names_no_time_live_on_for_the_whole_of_it(self) -> None:
        """The row of an earlier release, or of `forecastd state reset`."""
        bench = Bench()
        bench.series("old", -1)
        bench.pass_time(10 * TTL_MS)
        assert bench.collect() == []
        bench.pass_time(11 * TTL_MS)
        assert bench.collect() == []
        bench.pass_time(11 * TTL_MS + 1)
        assert bench.collect() == ["old"]

    def test_looks_at_a_piece_of_the_table_a_turn(self) -> None:
        """Its cost is bounded, however many series there are."""
        bench = Bench(slots_a_turn=3)
        for at in range(8):
            bench.series(f"s{at}", 0)
        bench.pass_time(1 + TTL_MS)
        given_up = [len(bench.collect()) for _ in range(4)]
        assert given_up == [3, 3, 2, 0]

    def test_passes_over_slots_that_are_free(self) -> None:
        bench = Bench()
        bench.series("gone", 0)
        for _ in range(2):
            bench.pass_time(1 + TTL_MS)
            bench.collect()
        assert bench.heard.heard(SeriesCollected) == [SeriesCollected(P0, 1)]


class TestTime:
    @pytest.mark.parametrize("wrong", [(10**15,), (5, 10**15), (10**15, 5)])
    def test_is_not_that_of_one_record_with_a_wrong_clock(self, wrong: tuple[int, ...]) -> None:
        """Dated a year ahead it would otherwise give up every series that is not in its poll."""
        bench = Bench()
        bench.series("a", 0)
        bench.poll(5)
        bench.poll(*wrong)
        assert bench.collect() == []
        bench.poll(6)
        assert bench.collect() == []

    def test_is_unknown_before_the_second_poll(self) -> None:
        bench = Bench()
        bench.series("a", 0)
        bench.poll(1 + TTL_MS)
        assert bench.collect() == []


def stream(*visits: tuple[str, int, int], every_s: int = 5, until_s: int = 1_000) -> MemoryBroker:
    """A series `busy` that never rests, and visits of others: name, from second, to second.

    A record each; its timestamp is its event time.
    """
    broker = MemoryBroker()
    for second in range(0, until_s, every_s):
        at_ms = START_MS + 1_000 * second
        names = ["busy", *(name for name, begin, end in visits if begin <= second < end)]
        for name in names:
            value = (float((second * 7) % 31),)
            broker.append(P0, encode([Obs(name, at_ms, value)]), at_ms)
    return broker


def settings_with(**state: Any) -> Settings:
    return make_settings(state={"series_ttl": "60s", "row_every": 1, **state})


def serve(broker: MemoryBroker, settings: Settings, heard: Telemetry | None = None) -> Any:
    loop = start(broker, settings, make_model(settings), poll_records=10, telemetry=heard)
    drain(loop)
    return loop


def rows_left(broker: MemoryBroker) -> set[str]:
    """Series that have a row."""
    rows: dict[bytes | None, bytes | None] = {}
    for message in broker.messages(STATE_TOPIC):
        rows[message.key] = message.value
    return {decode_key(key or b"")[0] for key, row in rows.items() if row is not None}


class TestChurn:
    def test_frees_the_place_and_the_row_of_a_series_that_does_not_come_back(self) -> None:
        broker, settings, heard = stream(("gone", 0, 60)), settings_with(), Telemetry()
        loop = serve(broker, settings, heard)
        assert loop.table.names(loop.table.slots(P0)) == ["busy"]
        assert rows_left(broker) == {"busy"}
        assert sum(event.count for event in heard.heard(SeriesCollected)) == 1

    def test_changes_no_forecast_of_a_series_that_comes_back(self) -> None:
        """Whether its row was still there or not, it begins anew with the same record."""
        visits = ("back", 0, 60), ("back", 500, 1_000)
        collected, kept = stream(*visits), stream(*visits)
        settings = settings_with()
        serve(collected, settings)
        # Rows that are never saved are never collected either.
        serve(kept, settings_with(row_every=10_000))
        found, wanted = by_id(collected), by_id(kept)
        assert found.keys() == wanted.keys()
        for key, message in found.items():
            assert numbers(message) == pytest.approx(numbers(wanted[key]), rel=1e-6)
        told = [m["origin_ms"] for m in wanted.values() if "reset" in m["flags"]]
        assert told == [START_MS + 515_000]

    def test_forgets_what_late_records_would_go_on_from_all_the_same(self) -> None:
        """A device that was offline sends what it has kept: its times have no gap.

        Had its row been thrown away, it would begin anew; so it does in any case.
        """
        broker = stream(("back", 0, 60))
        for second in range(60, 120, 5):
            value = encode([Obs("back", START_MS + 1_000 * second, (1.0,))])
            broker.append(P0, value, START_MS + 1_001_000)
        kept = copy_input(broker)
        serve(broker, settings_with())
        serve(kept, settings_with(row_every=10_000))
        found, wanted = by_id(broker), by_id(kept)
        assert found.keys() == wanted.keys()
        first = f"records-0-back-{START_MS + 60_000}-cold"
        assert first in found

    def test_of_the_last_series_with_a_row_is_not_a_state_topic_that_was_emptied(self) -> None:
        """Between the removal of the row and the next commit a crash must find both in order."""
        settings = settings_with(row_every=2)
        # `late` has no window yet when `gone` is given up: then no row is left at all.
        whole = MemoryBroker()
        for second in range(0, 20, 5):
            at_ms = START_MS + 1_000 * second
            whole.append(P0, encode([Obs("gone", at_ms, (1.0,))]), at_ms)
            whole.append(P0, encode([Obs("gone", at_ms + 1, (2.0,))]), at_ms + 1)
        for second in range(200, 230, 10):
            at_ms = START_MS + 1_000 * second
            whole.append(P0, encode([Obs("late", at_ms, (1.0,))]), at_ms)
        sent = 0
        for kill in range(40):
            broker, left = copy_input(whole), kill

            def end(request: Request, _: Message | None) -> None:
                nonlocal left
                left -= request in ("send", "commit")
                if left < 0:
                    raise KeyboardInterrupt

            broker.before = end
            try:
                loop = start(broker, settings, make_model(settings), poll_records=1)
                drain(loop)
            except KeyboardInterrupt:
                pass
            broker.before = MemoryBroker().before
            heard = Telemetry()
            serve(broker, settings, heard)
            assert not heard.heard(OffsetsReset), kill
            sent = max(sent, kill - left)
        assert sent > 20, "not every moment was killed in"
        assert rows_left(broker) == set()


class TestEmptied:
    """A state topic that was deleted, or emptied, beside commits that count on it."""

    def emptied(self) -> MemoryBroker:
        broker = stream(("other", 0, 1_000))
        serve(broker, settings_with())
        assert rows_left(broker) == {"busy", "other"}
        broker.sent = [message for message in broker.sent if message.topic != STATE_TOPIC]
        return broker

    def test_is_named_and_starts_every_series_cold(self) -> None:
        broker, heard = self.emptied(), Telemetry()
        position = broker.committed[P0].position
        serve(broker, settings_with(), heard)
        (told,) = heard.heard(OffsetsReset)
        assert told.found == (
            f"offset {position} was committed beside saved rows, and none is left"
        )
        (restored,) = heard.heard(PartitionRestored)
        assert restored.resume_from == restored.position == position
        again = Telemetry()
        serve(broker, settings_with(), again)
        assert not again.heard(OffsetsReset)

    def test_may_stop_the_daemon(self) -> None:
        broker = self.emptied()
        with pytest.raises(Exception, match="and none is left, wanted offsets that fit"):
            serve(broker, settings_with(on_gap="stop"))

    def test_is_not_suspected_where_no_row_was_saved(self) -> None:
        settings, heard = settings_with(row_every=10_000), Telemetry()
        broker = stream(until_s=200)
        serve(broker, settings)
        serve(broker, settings, heard)
        assert not heard.heard(OffsetsReset)
