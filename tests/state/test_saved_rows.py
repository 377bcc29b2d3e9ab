from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest

from forecastd.clock import ManualClock
from forecastd.errors import BrokerError
from forecastd.memory.log import MemoryBroker, MemoryRowReader
from forecastd.records import Column, Message, ReadSoFar, TopicPartition
from forecastd.state.restorer import Restorer
from forecastd.state.row_codec import Row, RowCodec
from forecastd.state.row_key import encode_key
from forecastd.state.row_saver import RowSaver
from forecastd.state.saved_rows import KeyedRow, RowCounts, SavedRows, read_to_end
from forecastd.state.table import SeriesTable
from tests.in_memory import P0, STATE_TOPIC, Telemetry

COLUMNS = [Column("steps", "<i8"), Column("x", "<f4", (2,))]
MEANING = "timesteps=4 values=value"


def row(offset: int, meaning: str = MEANING) -> bytes:
    """The row of a series whose last record is `offset`, after as many steps."""
    table = SeriesTable(COLUMNS, capacity=1)
    slots = table.admit(P0, ["any"])
    table["offset"][slots] = table["steps"][slots] = offset
    return RowCodec(table, meaning).encode(slots)[0]


def steps(_row: bytes, content: Row) -> int:
    return int(content.columns["steps"])


def taken(*rows: KeyedRow, only: str | None = None) -> SavedRows[int]:
    saved = SavedRows(MEANING, steps, only=only)
    saved.take(rows)
    return saved


A1, A2, B1 = (encode_key(*key) for key in [("a", "w1"), ("a", "w2"), ("b", "w1")])


class TestSavedRows:
    @pytest.mark.parametrize("rows", [[(A1, row(5)), (A2, row(9))], [(A2, row(9)), (A1, row(5))]])
    def test_the_highest_offset_counts_wherever_it_lies(self, rows: list[KeyedRow]) -> None:
        """A frozen writer's row may come last; it is older all the same."""
        (saved,) = taken(*rows).live.values()
        assert (saved.key, saved.offset, saved.kept) == (A2, 9, 9)
        assert saved.older_keys == [A1]

    def test_a_tombstone_takes_its_own_row_and_no_other(self) -> None:
        saved = taken((A1, row(5)), (A2, row(9)), (A1, None), (B1, row(3)), (B1, None))
        assert list(saved.series) == ["a"]
        assert saved.live["a"].keys == (A2,)

    def test_without_the_row_that_counted_the_newest_that_is_left_does(self) -> None:
        """It may be the owner's own: the other was that of an instance which had come back."""
        saved = taken((A1, row(5)), (A2, row(9)), (A2, None))
        assert (saved.live["a"].key, saved.live["a"].offset) == (A1, 5)
        assert saved.keys == [A1]

    def test_a_row_that_cannot_be_read_ends_what_came_before_it(self) -> None:
        saved = taken((A1, row(5)), (A1, b"fcr\x09 and more of it"))
        assert saved.live == {}
        assert saved.series["a"].kept is None
        assert saved.faults == ["series 'a': row: schema 9, wanted 1"]

    def test_a_row_of_other_settings_cannot_be_read(self) -> None:
        saved = taken((A1, row(5, "timesteps=8 values=value")))
        assert saved.faults == [
            "series 'a': row: saved with timesteps=8 values=value, wanted timesteps=4 values=value"
        ]

    def test_a_readable_row_after_it_counts_again(self) -> None:
        saved = taken((A1, row(5)), (A1, b"noise"), (A2, row(2)))
        assert (saved.live["a"].offset, saved.faults) == (2, [])

    def test_keys_of_others_are_told_of_until_they_are_gone(self) -> None:
        assert taken((b"theirs", b"x")).faults == ["row key: b'theirs', wanted [series, writer]"]
        assert taken((b"theirs", b"x")).keys == [b"theirs"]
        assert taken((b"theirs", b"x"), (b"theirs", None)).keys == []

    def test_only_the_series_that_is_looked_for_is_kept(self) -> None:
        saved = taken((A1, row(5)), (B1, row(7)), (b"theirs", b"x"), only="b")
        assert list(saved.series) == ["b"]
        assert saved.faults == []


class TestCounts:
    rows = (
        (A1, row(5)),
        (A1, row(9)),
        (B1, None),
        (A2, b"noise"),
        (b"theirs", b"fcr\x02more, too"),
    )

    def test_are_of_all_that_lies_there(self) -> None:
        counts = taken(*self.rows).counts
        assert (counts.rows, counts.tombstones) == (4, 1)
        assert counts.key_bytes == 4 * len(A1) + len(b"theirs")
        assert counts.row_bytes == sum(len(value) for _, value in self.rows if value)
        assert counts.by_schema == {1: 2, None: 1, 2: 1}

    def test_tell_the_cells_of_each_column(self) -> None:
        assert taken(*self.rows).counts.by_column == {
            "offset": 16,
            "reset": 2,
            "steps": 16,
            "x": 16,
        }

    def test_add_up(self) -> None:
        total = RowCounts()
        for one in self.rows:
            total.add(taken(one).counts)
        assert total == taken(*self.rows).counts


def restored(rows: Sequence[KeyedRow]) -> dict[str, int]:
    """Series and offsets as a restart takes them from these rows."""
    broker, clock = MemoryBroker(), ManualClock()
    broker.sent = [Message(STATE_TOPIC, key, value, 0) for key, value in rows]
    table = SeriesTable(COLUMNS)
    codec = RowCodec(table, MEANING)
    saver = RowSaver(table, codec, clock, lambda _: STATE_TOPIC, 4, 1, 1_000, 1e9, 10**9)
    saver.open(P0, "me")
    reader = MemoryRowReader(broker, STATE_TOPIC, 3)
    restorer = Restorer(table, codec, saver, reader, clock, Telemetry(), 60.0, False)  # noqa: FBT003
    restorer.add(P0)
    while (done := restorer.step(0.0)) is None:
        pass
    slots = table.slots(P0)
    found = dict(zip(table.names(slots), table["offset"][slots].tolist(), strict=True))
    assert sorted(done.keys) == sorted(taken(*rows).keys)
    return {name: offset for name, offset in found.items() if offset >= 0}


@pytest.mark.parametrize("seed", range(60))
def test_what_a_tool_shows_is_what_a_restart_takes(seed: int) -> None:
    """Two readers of the same rows, one into a table and one for a person, must never differ."""
    draw = random.Random(seed)
    rows: list[KeyedRow] = []
    for _ in range(40):
        key = encode_key(draw.choice("abc"), draw.choice(["w1", "w2", "w3"]))
        value: Any = row(draw.randrange(20))
        if draw.random() < 0.35:
            value = draw.choice([None, None, value[:-1], row(3, "timesteps=5 values=value")])
        rows.append((draw.choice([key] * 9 + [b"theirs"]), value))
    saved = taken(*rows)
    assert {name: one.offset for name, one in saved.live.items()} == restored(rows)


class Stuck:
    """A reader whose broker never shows the end; each wait takes ten seconds."""

    def __init__(self, clock: ManualClock, rows: int) -> None:
        self.clock, self.rows = clock, rows

    def start(self, partition: TopicPartition) -> int:
        return 99

    def read(self, timeout_s: float) -> tuple[Sequence[KeyedRow], bool]:
        self.clock.advance(10.0)
        self.rows -= 1
        return [(A1, None)] * (self.rows >= 0), False

    @property
    def so_far(self) -> ReadSoFar:
        return ReadSoFar("state[0]", min(100 - self.rows, 100), 120)

    def close(self) -> None: ...


class TestReadToEnd:
    def test_gives_all_there_is_in_order(self) -> None:
        broker = MemoryBroker()
        broker.sent = [Message(STATE_TOPIC, bytes([at]), b"x", 0) for at in range(5)]
        reader = MemoryRowReader(broker, STATE_TOPIC, 2)
        chunks = list(read_to_end(reader, P0, ManualClock(), 30.0))
        assert [key for chunk in chunks for key, _ in chunk] == [bytes([at]) for at in range(5)]

    def test_gives_up_on_a_broker_that_shows_nothing(self) -> None:
        """A transaction that hangs would otherwise keep a person waiting for ever."""
        clock = ManualClock()
        with pytest.raises(BrokerError, match=r"^state of records\[0\]: state\[0\] stands at"):
            list(read_to_end(Stuck(clock, 5), P0, clock, 30.0))
        assert clock.monotonic_s() - ManualClock().monotonic_s() == 90.0
