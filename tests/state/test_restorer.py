from __future__ import annotations

import json
import struct
import zlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forecastd.clock import ManualClock
from forecastd.errors import BrokerError, RowError, TopicError
from forecastd.memory.log import MemoryBroker, MemoryRowReader
from forecastd.observe.events import (
    RestoreBlocked,
    RestoreMoved,
    RestoreStarted,
    RowsUnreadable,
)
from forecastd.records import Column, Message, ReadSoFar, TopicPartition
from forecastd.state.restorer import RETRY_S, Restored, Restorer
from forecastd.state.row_codec import RowCodec
from forecastd.state.row_key import encode_key
from forecastd.state.row_saver import RowSaver
from forecastd.state.table import SeriesTable
from tests.in_memory import P0, P1, STATE_TOPIC, Telemetry

_AT, _BYTE = st.integers(0, 100), st.integers(0, 255)
COLUMNS = [Column("steps", "<i8"), Column("x", "<i8")]


def row(offset: int, x: int = 0, *, meaning: str = "m", columns: Any = COLUMNS) -> bytes:
    """The row of a series whose last record is `offset`."""
    table = SeriesTable(columns)
    slot = table.admit(P0, ["any"])
    table["offset"][slot], table["x"][slot], table["steps"][slot] = offset, x, offset
    return RowCodec(table, meaning).encode(slot)[0]


def framed(layout: bytes, cells: bytes) -> bytes:
    """What has the frame of a row, its checksum included."""
    rest = struct.pack("<H", len(layout)) + layout + cells
    return b"fcr\x01" + zlib.crc32(rest).to_bytes(4, "little") + rest


class Bench:
    """A restorer over a state topic that is written by hand."""

    def __init__(self, *, read_rows: int = 5_000, stop_on_mismatch: bool = False) -> None:
        self.broker, self.heard, self.clock = MemoryBroker(), Telemetry(), ManualClock()
        self.table = SeriesTable(COLUMNS, capacity=2)
        codec = RowCodec(self.table, "m")
        self.saver = RowSaver(
            self.table, codec, self.clock, lambda _: STATE_TOPIC, 4, 1, 1_000, 1e9, 10**9
        )
        for partition in (P0, P1):
            self.saver.open(partition, "me")
        self.reader = MemoryRowReader(self.broker, STATE_TOPIC, read_rows)
        self.restorer = Restorer(
            self.table,
            codec,
            self.saver,
            self.reader,
            self.clock,
            self.heard,
            60.0,
            stop_on_mismatch,
        )

    def write(self, key: bytes | str, value: bytes | None, writer: str = "w1") -> None:
        encoded = encode_key(key, writer) if isinstance(key, str) else key
        self.broker.sent.append(Message(STATE_TOPIC, encoded, value, 0))

    def restore(self) -> Restored:
        """Read partition 0 to its end."""
        self.restorer.add(P0)
        while True:
            restored = self.restorer.step(0.0)
            if restored is not None:
                return restored

    def x(self) -> dict[str, int]:
        """What is in the table: series and their x."""
        slots = self.table.slots(P0)
        return dict(zip(self.table.names(slots), self.table["x"][slots].tolist(), strict=True))

    def tombstones(self) -> list[bytes | None]:
        """Keys whose rows are to be removed now."""
        return [message.key for message in self.saver.batch({P0: 0}).tombstones]


@pytest.fixture(params=[1, 2, 5_000], ids=["one at a time", "two at a time", "at once"])
def bench(request: pytest.FixtureRequest) -> Bench:
    """Whatever comes in one piece may come in two."""
    return Bench(read_rows=request.param)


class TestRestore:
    def test_takes_each_series_row_of_highest_offset(self, bench: Bench) -> None:
        """A frozen instance may wake up and write its older row last."""
        bench.write("a", row(50, 5), "w1")
        bench.write("b", row(10, 1), "w1")
        bench.write("a", row(80, 8), "w2")
        bench.write("a", row(60, 6), "w1")
        bench.write("b", row(10, 2), "w1")
        restored = bench.restore()
        assert bench.x() == {"a": 8, "b": 2}
        assert restored.series == 2
        assert sorted(restored.keys) == sorted(
            [encode_key("a", "w1"), encode_key("a", "w2"), encode_key("b", "w1")]
        )

    def test_marks_what_is_in_a_row_as_saved_and_restored(self, bench: Bench) -> None:
        bench.write("a", row(50))
        bench.restore()
        slot = bench.table.find(P0, ["a"])
        assert bench.table["restored"][slot]
        assert not bench.table["reset"][slot]
        assert bench.table["row_steps"][slot] == bench.table["steps"][slot] == 50
        assert bench.saver.resume_from(P0, 99) == 99

    def test_leaves_out_what_was_removed(self, bench: Bench) -> None:
        bench.write("a", row(50))
        bench.write("b", row(10))
        bench.write("a", None)
        bench.write("never", None)
        restored = bench.restore()
        assert bench.x() == {"b": 0}
        assert restored.keys == [encode_key("b", "w1")]

    def test_believes_the_lower_offset_once_the_higher_one_was_removed(self, bench: Bench) -> None:
        """After a reset from outside a series begins at lower offsets, and its old rows stay on.

        They do so until compaction runs: with them it would skip all that it had seen before.
        """
        bench.write("a", row(100, 1), "w1")
        bench.write("b", row(90, 1), "w1")
        bench.write("a", None, "w1")
        bench.write("b", None, "w1")
        bench.write("a", row(5, 2), "w2")
        bench.restore()
        assert bench.x() == {"a": 2}
        assert bench.table["offset"][bench.table.find(P0, ["a"])] == 5

    def test_keeps_the_newest_row_when_an_older_writers_is_removed(self, bench: Bench) -> None:
        bench.write("a", row(50, 1), "w1")
        bench.write("a", row(60, 2), "w2")
        bench.write("a", None, "w1")
        restored = bench.restore()
        assert bench.x() == {"a": 2}
        assert restored.keys == [encode_key("a", "w2")]

    @pytest.mark.parametrize("order", [("old", "new"), ("new", "old")])
    def test_goes_back_to_the_owners_row_when_a_frozen_writers_newer_one_is_removed(
        self, bench: Bench, order: tuple[str, str]
    ) -> None:
        """The owner's poll may end before the one that the other was frozen in.

        The owner then tombstones the other's key, and its own row is all that is left: without it
        the series would start cold in mid-stream, though nothing was lost.
        """
        rows = {"old": row(100, 1), "new": row(90, 2)}
        for writer in order:
            bench.write("a", rows[writer], writer)
        bench.write("a", None, "old")
        restored = bench.restore()
        assert bench.x() == {"a": 2}
        assert bench.table["offset"][bench.table.find(P0, ["a"])] == 90
        assert restored.keys == [encode_key("a", "new")]

    def test_has_the_keys_of_other_writers_removed_after_its_own_first_row(
        self, bench: Bench
    ) -> None:
        bench.write("a", row(50), "w1")
        bench.write("a", row(60), "w2")
        bench.restore()
        slot = bench.table.find(P0, ["a"])
        bench.table["unsaved_from"][slot], bench.table["row_due"][slot] = 61, True
        bench.saver.touched(slot)
        bench.saver.windowed(slot)
        batch = bench.saver.batch({P0: 62})
        assert batch.tombstones == []
        bench.saver.saved(batch)
        assert bench.tombstones() == [encode_key("a", "w1"), encode_key("a", "w2")]

    def test_of_many_series_outgrows_the_table(self, bench: Bench) -> None:
        for at in range(40):
            bench.write(f"s{at}", row(at, at))
        bench.restore()
        assert bench.x() == {f"s{at}": at for at in range(40)}

    def test_of_nothing_is_nothing(self, bench: Bench) -> None:
        restored = bench.restore()
        assert (restored.series, restored.keys, bench.x()) == (0, [], {})


class TestUnreadableRows:
    def test_let_their_series_start_cold_and_flagged(self, bench: Bench) -> None:
        bench.write("a", row(50)[:-1])
        bench.write("b", row(10, 1))
        bench.restore()
        slot = bench.table.find(P0, ["a"])
        assert bench.table["reset"][slot]
        assert bench.table["offset"][slot] == -1
        assert bench.x() == {"a": 0, "b": 1}
        (told,) = bench.heard.heard(RowsUnreadable)
        assert (told.partition, told.count) == (P0, 1)
        assert told.example.startswith("series 'a': row: ")

    def test_make_an_older_row_worthless(self, bench: Bench) -> None:
        """Its records up to the newer row's offset may lie below where the input is resumed."""
        bench.write("a", row(50, 5), "w1")
        bench.write("a", row(80, 8)[:-1], "w1")
        bench.write("b", row(50, 5), "w1")
        bench.write("b", row(80, 8, meaning="other"), "w2")
        bench.restore()
        assert bench.x() == {"a": 0, "b": 0}
        assert bench.table["offset"][bench.table.slots(P0)].tolist() == [-1, -1]
        assert bench.heard.heard(RowsUnreadable)[0].count == 2

    def test_do_not_matter_once_a_readable_one_follows(self, bench: Bench) -> None:
        bench.write("a", row(50)[:-1], "w1")
        bench.write("a", row(5, 7), "w2")
        bench.restore()
        assert bench.x() == {"a": 7}
        assert not bench.heard.heard(RowsUnreadable)

    def test_do_not_matter_once_they_are_removed(self, bench: Bench) -> None:
        bench.write("a", row(50)[:-1])
        bench.write("a", None)
        bench.restore()
        assert bench.x() == {}
        assert not bench.heard.heard(RowsUnreadable)

    def test_of_other_timesteps_are_all_unreadable(self, bench: Bench) -> None:
        """More of them than the table has room for."""
        for at in range(40):
            bench.write(f"s{at}", row(at, meaning="timesteps=8"))
        bench.restore()
        assert bench.table["reset"][bench.table.slots(P0)].all()
        assert len(bench.x()) == 40
        (told,) = bench.heard.heard(RowsUnreadable)
        assert told.count == 40
        assert told.example.endswith("saved with timesteps=8, wanted m")

    def test_are_removed_after_the_first_row_of_the_cold_series(self, bench: Bench) -> None:
        bench.write("a", b"junk")
        bench.restore()
        assert bench.tombstones() == []
        slot = bench.table.find(P0, ["a"])
        bench.table["row_due"][slot] = True
        bench.saver.windowed(slot)
        bench.saver.saved(bench.saver.batch({P0: 1}))
        assert bench.tombstones() == [encode_key("a", "w1")]

    def test_may_stop_the_daemon(self) -> None:
        bench = Bench(stop_on_mismatch=True)
        bench.write("a", row(50)[:-1])
        with pytest.raises(RowError, match=r"^records\[0\] series 'a': row: .+, wanted .+"):
            bench.restore()

    def test_that_were_replaced_do_not_stop_the_daemon(self) -> None:
        """Until compaction runs the topic holds every row that ever was."""
        bench = Bench(stop_on_mismatch=True)
        bench.write("a", row(50)[:-1])
        bench.write("a", row(60, 1))
        bench.write("b", b"junk")
        bench.write("b", None)
        bench.write(b"no key of ours", b"junk")
        bench.write(b"no key of ours", None)
        bench.restore()
        assert bench.x() == {"a": 1}


class TestForeignKeys:
    def test_are_told_and_removed_and_make_no_series(self, bench: Bench) -> None:
        bench.write(b"\xffjunk", row(5))
        bench.write("a", row(6, 1))
        restored = bench.restore()
        assert bench.x() == {"a": 1}
        assert b"\xffjunk" in restored.keys
        assert bench.tombstones() == [b"\xffjunk"]
        (told,) = bench.heard.heard(RowsUnreadable)
        assert told.count == 1
        assert told.example == r"row key: b'\xffjunk', wanted [series, writer]"

    def test_that_were_removed_are_not_told_again(self, bench: Bench) -> None:
        bench.write(b"junk", b"x")
        bench.write(b"junk", None)
        assert bench.restore().keys == []
        assert not bench.heard.heard(RowsUnreadable)


class TestQueue:
    def test_is_worked_off_one_partition_after_the_other(self) -> None:
        bench = Bench()
        bench.write("a", row(5))
        for partition in (P0, P1):
            bench.restorer.add(partition)
        assert bench.restorer.waiting == [P0, P1]
        first, second = bench.restorer.step(0.0), bench.restorer.step(0.0)
        assert first is not None
        assert second is not None
        assert [first.partition, second.partition] == [P0, P1]
        assert not bench.restorer.is_busy
        assert bench.heard.heard(RestoreStarted) == [RestoreStarted(P0, 1), RestoreStarted(P1, 0)]

    def test_forgets_a_partition_that_is_taken_away(self) -> None:
        bench = Bench(read_rows=1)
        for at in range(3):
            bench.write(f"s{at}", row(at))
        for partition in (P0, P1):
            bench.restorer.add(partition)
        assert bench.restorer.step(0.0) is None
        assert bench.restorer.waiting == [P0, P1]
        bench.restorer.remove(P1)
        bench.restorer.remove(P0)
        assert not bench.restorer.is_busy
        bench.table.drop_partition(P0)  # as the loop does
        assert bench.restore().series == 3


class Slow(MemoryRowReader):
    """Reads no row, and stands at `position` of 9."""

    position = 0

    def read(self, timeout_s: float) -> tuple[list[tuple[bytes, bytes | None]], bool]:
        return [], False

    @property
    def so_far(self) -> ReadSoFar:
        return ReadSoFar("state[0]", self.position, 9)


class TestProgress:
    def test_is_told_in_rows(self) -> None:
        bench = Bench(read_rows=2)
        for at in range(5):
            bench.write(f"s{at}", row(at))
        bench.restore()
        told = [(event.rows_read, event.rows) for event in bench.heard.heard(RestoreMoved)]
        assert told == [(2, 5), (4, 5), (5, 5)]

    def test_that_ends_is_given_up_and_says_what_it_waits_for(self) -> None:
        bench = Bench()
        bench.restorer.reader = Slow(bench.broker, STATE_TOPIC)
        bench.restorer.add(P0)
        assert bench.restorer.step(0.0) is None
        bench.clock.advance(60)
        assert bench.restorer.step(0.0) is None
        bench.clock.advance(1)
        with pytest.raises(BrokerError) as given_up:
            bench.restorer.step(0.0)
        assert str(given_up.value) == (
            "restore of records[0]: state[0] stands at 0 for 60 s, wanted its end at 9; a"
            " transaction may be open there"
        )

    def test_without_a_row_is_progress_all_the_same(self) -> None:
        """Offsets are used up by markers and by what compaction removed: none of it is a row."""
        bench = Bench()
        reader = Slow(bench.broker, STATE_TOPIC)
        bench.restorer.reader = reader
        bench.restorer.add(P0)
        for position in range(9):
            reader.position = position
            assert bench.restorer.step(0.0) is None
            bench.clock.advance(61)


class Narrow(MemoryRowReader):
    """A state topic that lacks partition 0 until an operator adds it."""

    is_grown = False

    def start(self, partition: TopicPartition) -> int:
        if partition == P0 and not self.is_grown:
            raise TopicError("state: 1 partition, wanted 2")
        return MemoryRowReader.start(self, partition)


class TestBlocked:
    def test_partition_keeps_no_other_waiting_and_is_tried_again(self) -> None:
        bench = Bench()
        reader = Narrow(bench.broker, STATE_TOPIC)
        bench.restorer.reader = reader
        for partition in (P0, P1):
            bench.restorer.add(partition)
        assert bench.restorer.step(0.0) is None
        assert bench.heard.heard(RestoreBlocked) == [
            RestoreBlocked(P0, "state: 1 partition, wanted 2")
        ]
        served = bench.restorer.step(0.0)
        assert served is not None
        assert served.partition == P1
        assert (bench.restorer.is_busy, bench.restorer.waiting) == (False, [P0])
        reader.is_grown = True
        bench.clock.advance(RETRY_S)
        assert bench.restorer.is_busy
        restored = bench.restorer.step(0.0)
        assert restored is not None
        assert (restored.partition, bench.restorer.waiting) == (P0, [])

    def test_partition_is_forgotten_when_it_is_taken_away(self) -> None:
        bench = Bench()
        bench.restorer.reader = Narrow(bench.broker, STATE_TOPIC)
        bench.restorer.add(P0)
        bench.restorer.step(0.0)
        bench.restorer.remove(P0)
        bench.clock.advance(RETRY_S)
        assert (bench.restorer.is_busy, bench.restorer.waiting) == (False, [])


PIECES = st.one_of(
    st.binary(max_size=80),
    st.builds(lambda at, byte: bytes([*row(5)[:at], byte, *row(5)[at + 1 :]]), _AT, _BYTE),
    st.builds(lambda at: row(5)[:at], _AT),
    st.builds(framed, st.binary(max_size=60), st.binary()),
    st.builds(
        lambda layout, cells: framed(json.dumps(layout).encode(), cells),
        st.recursive(
            st.none() | st.integers() | st.text(max_size=9) | st.sampled_from(["<i8", "O", "m"]),
            lambda inner: st.lists(inner, max_size=4),
            max_leaves=12,
        ),
        st.binary(max_size=40),
    ),
    st.builds(
        lambda name, dtype, shape, version: framed(
            json.dumps(
                [
                    "m",
                    [
                        ["offset", "<i8", [], 1],
                        ["steps", "<i8", [], 1],
                        [name, dtype, shape, version],
                    ],
                ]
            ).encode(),
            bytes(64),
        ),
        st.text(max_size=9) | st.sampled_from(["x", "offset"]),
        st.text(max_size=6) | st.sampled_from(["<f8", "O", "V", "<U9", "(2,", "<M8[s]", "f8,f8"]),
        st.lists(st.integers(-1, 2**70), max_size=3),
        st.integers(),
    ),
)
"""What may stand where a row should: noise, a row that is cut or has a wrong byte, and what only
looks like one, its checksum included."""


class TestNoise:
    @settings(deadline=None)
    @given(noise=st.lists(PIECES, max_size=4), keys=st.lists(st.binary(max_size=30), max_size=3))
    def test_lets_series_start_cold_and_never_stops_a_restore(
        self, noise: list[bytes], keys: list[bytes]
    ) -> None:
        """Whatever it is, the next start would find it again."""
        bench = Bench()
        bench.write("good", row(7, 3))
        for at, junk in enumerate(noise):
            bench.write(f"bad{at}", junk)
        for key in keys:
            bench.write(key, b"junk")
        restored = bench.restore()
        assert bench.x()["good"] == 3
        slots = bench.table.slots(P0)
        cold = set(bench.table.names(slots[bench.table["reset"][slots]]))
        assert "good" not in cold
        told = bench.heard.heard(RowsUnreadable)
        unreadable = set(map(bytes, keys)) | cold
        assert sum(event.count for event in told) == len(unreadable)
        assert restored.series + len(cold) == len(slots)
