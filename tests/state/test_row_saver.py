from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest

from forecastd.clock import ManualClock
from forecastd.records import Column, TopicPartition
from forecastd.state.row_codec import RowCodec
from forecastd.state.row_key import decode_key, encode_key
from forecastd.state.row_saver import RowBatch, RowSaver
from forecastd.state.table import SeriesTable
from tests.in_memory import P0, P1

PLENTY = 10**9


@dataclass
class Bench:
    """A saver, and a table on which the stages' marks are made by hand."""

    table: SeriesTable
    saver: RowSaver
    clock: ManualClock

    def read(self, partition: TopicPartition, name: str, offset: int, steps: int = 1) -> None:
        """Apply a record with `steps` steps of a series, as the windower does."""
        slot = self.table.find(partition, [name])
        if slot[0] < 0:
            slot = self.table.admit(partition, [name])
        is_new = self.table["unsaved_from"][slot] > offset
        self.table["unsaved_from"][slot] = np.minimum(self.table["unsaved_from"][slot], offset)
        self.table["offset"][slot] = offset
        self.table["steps"][slot] += steps
        self.saver.touched(slot[is_new])

    def window(self, *names: str, partition: TopicPartition = P0) -> None:
        self.saver.windowed(self.table.find(partition, names))

    def save(self, position: int, partition: TopicPartition = P0) -> list[str]:
        """Save what is due, and have it acknowledged; names in their order."""
        batch = self.saver.batch({partition: position})
        self.saver.saved(batch)
        return names_of(batch)


def names_of(batch: RowBatch) -> list[str]:
    return [decode_key(row.key or b"")[0] for row in batch.rows]


def new_bench(
    row_every: int = 2,
    max_replay: int = 1_000,
    row_age_s: float = 1e9,
    bytes_per_second: int = PLENTY,
    partitions: Sequence[TopicPartition] = (P0, P1),
) -> Bench:
    table = SeriesTable([Column("steps", "<i8"), Column("x", "<f8", (10,))])
    clock = ManualClock()
    saver = RowSaver(
        table,
        RowCodec(table, "m"),
        clock,
        lambda topic: f"group-{topic}-state",
        4,
        row_every,
        max_replay,
        row_age_s,
        bytes_per_second,
    )
    for number, partition in enumerate(partitions):
        saver.open(partition, f"writer{number}")
    return Bench(table, saver, clock)


class TestRowsDue:
    def test_are_those_of_every_second_window(self) -> None:
        bench = new_bench(row_every=2)
        saved = []
        for window in range(1, 7):
            bench.read(P0, "a", window, steps=4)
            bench.window("a")
            saved.append(bench.save(window + 1))
        assert saved == [[], ["a"], [], ["a"], [], ["a"]]

    def test_are_those_that_would_be_replayed_from_too_far_back(self) -> None:
        """A series without windows must not hold up a restart for ever."""
        bench = new_bench(max_replay=10)
        bench.read(P0, "a", 3)
        bench.read(P0, "b", 5)
        assert bench.save(12) == []
        assert bench.save(13) == ["a"]
        bench.read(P0, "a", 14)
        assert bench.save(15) == ["b"]
        assert bench.save(23) == []
        assert bench.save(24) == ["a"]

    def test_are_those_of_which_a_restart_would_miss_old_records(self) -> None:
        """A topic with a record a day must not delete what no row holds yet."""
        bench = new_bench(row_age_s=600.0)
        bench.read(P0, "a", 3)
        assert bench.save(5) == []
        bench.clock.advance(599.0)
        bench.read(P0, "b", 5)
        assert bench.save(6) == []
        bench.clock.advance(1.0)
        assert bench.save(6) == ["a"]
        bench.clock.advance(599.0)
        assert bench.save(6) == ["b"]
        bench.clock.advance(10_000.0)
        assert bench.save(6) == []

    def test_hold_the_whole_series_as_it_is_now(self) -> None:
        bench = new_bench(row_every=1)
        bench.read(P0, "a", 7, steps=5)
        bench.window("a")
        (row,) = bench.saver.batch({P0: 8}).rows
        assert row.topic == "group-records-state"
        assert row.partition == 0
        assert row.key == encode_key("a", "writer0")
        assert bench.saver.codec.offset(row.value or b"") == 7

    def test_stay_due_until_they_are_acknowledged(self) -> None:
        bench = new_bench(row_every=1)
        bench.read(P0, "a", 7, steps=4)
        bench.window("a")
        first = bench.saver.batch({P0: 8})
        again = bench.saver.batch({P0: 8})
        assert names_of(first) == names_of(again) == ["a"]
        bench.saver.saved(again)
        assert bench.save(8) == []

    def test_of_a_partition_that_is_replayed_wait_until_it_is_ready(self) -> None:
        bench = new_bench(row_every=1)
        for partition in (P0, P1):
            bench.read(partition, "a", 7, steps=4)
            bench.window("a", partition=partition)
        batch = bench.saver.batch({P1: 8})
        assert [row.partition for row in batch.rows] == [1]
        bench.saver.saved(batch)
        assert bench.save(8) == ["a"]

    def test_of_a_closed_partition_are_forgotten(self) -> None:
        bench = new_bench(row_every=1)
        bench.read(P0, "a", 7, steps=4)
        bench.window("a")
        bench.saver.close(P0)
        bench.table.drop_partition(P0)
        bench.saver.open(P0, "writer9")
        assert bench.saver.resume_from(P0, 50) == 50
        assert bench.save(50_000) == []


class TestByteRate:
    def test_bounds_the_rows_of_a_second(self) -> None:
        bench = new_bench(row_every=1, bytes_per_second=3 * new_bench().saver.codec.row_bytes)
        names = [f"s{at}" for at in range(8)]
        for at, name in enumerate(names):
            bench.read(P0, name, at, steps=4)
        bench.window(*names)
        assert bench.save(10) == names[:3]
        assert len(bench.save(10)) == 1  # never nothing: a commit must move on
        bench.clock.advance(1)
        assert len(bench.save(10)) == 2  # the debt of the one is paid first
        bench.clock.advance(60)
        assert bench.save(10) == names[6:]  # what was not used is not saved up

    def test_smaller_than_a_row_still_saves_one_at_a_time(self) -> None:
        bench = new_bench(row_every=1, bytes_per_second=1)
        for at, name in enumerate("abc"):
            bench.read(P0, name, at, steps=4)
        bench.window(*"abc")
        assert [bench.save(3) for _ in range(4)] == [["a"], ["b"], ["c"], []]

    def test_does_not_hold_back_what_a_stage_asked_for(self) -> None:
        """A primed state cannot be computed again: its row belongs into this commit."""
        bench = new_bench(row_every=50, bytes_per_second=1)
        for at, name in enumerate("abcd"):
            bench.read(P0, name, at, steps=4)
        bench.table["row_due"][bench.table.find(P0, ["b", "c", "d"])] = True
        bench.window(*"abcd")
        assert bench.save(4) == ["b", "c", "d"]
        assert not bench.table["row_due"].any()
        assert bench.save(4) == []


class TestResumeFrom:
    def test_is_the_position_when_no_series_is_behind(self) -> None:
        bench = new_bench()
        assert bench.saver.resume_from(P0, 17) == 17
        bench.read(P0, "a", 3, steps=8)
        bench.window("a")
        assert bench.saver.resume_from(P0, 17) == 3
        assert bench.save(17) == ["a"]
        assert bench.saver.resume_from(P0, 17) == 17

    def test_is_never_above_a_record_that_no_row_holds(self) -> None:
        """The one number that a restart depends on, against a plain model of it."""
        for seed in range(15):
            rng = np.random.default_rng(seed)
            bench = new_bench(int(rng.integers(1, 4)), int(rng.integers(1, 30)), 400)
            behind: dict[str, int] = {}
            for offset in range(150):
                name = f"s{rng.integers(6)}"
                bench.read(P0, name, offset, steps=int(rng.integers(1, 5)))
                behind.setdefault(name, offset)
                if rng.random() < 0.5:
                    bench.window(name)
                if rng.random() < 0.3:
                    for saved in bench.save(offset + 1):
                        del behind[saved]
                bench.clock.advance(0.2)
                wanted = min(behind.values(), default=offset + 1)
                assert bench.saver.resume_from(P0, offset + 1) == wanted, seed

    def test_is_right_where_a_slot_changed_hands_within_a_turn(self) -> None:
        """Told at once, the turn's series are ordered by what they are now."""
        bench = new_bench()
        a = bench.table.admit(P0, ["a"])
        other = bench.table.admit(P0, ["other"])
        bench.table["unsaved_from"][a] = 10
        bench.table.drop(a)
        bench.saver.evict(P0, "a", int(a[0]))
        b = bench.table.admit(P0, ["b"])
        assert b == a
        bench.table["unsaved_from"][b] = 20
        bench.table["unsaved_from"][other] = 15
        bench.saver.touched(np.concatenate([a, other, b]))
        assert bench.saver.resume_from(P0, 30) == 15

    def test_passes_over_a_series_that_lost_its_place(self) -> None:
        bench = new_bench()
        a = bench.table.admit(P0, ["a"])
        bench.table["unsaved_from"][a] = 10
        bench.table["steps"][a] = 100
        bench.table.drop(a)
        bench.saver.evict(P0, "a", int(a[0]))
        bench.saver.touched(a)
        bench.saver.windowed(a)
        assert bench.saver.resume_from(P0, 30) == 30
        assert bench.save(30_000) == []


class TestTombstones:
    def test_follow_the_first_row_that_replaces_other_writers_rows(self) -> None:
        """Not with it: were the row lost and the tombstone not, the series would be gone."""
        bench = new_bench(row_every=1)
        bench.read(P0, "a", 7, steps=4)
        bench.saver.adopt(int(bench.table.find(P0, ["a"])[0]), [b"old1", b"old2"])
        bench.window("a")
        batch = bench.saver.batch({P0: 8})
        assert (len(batch.rows), batch.tombstones) == (1, [])
        bench.saver.saved(batch)
        after = bench.saver.batch({P0: 8})
        assert [(m.key, m.value, m.partition) for m in after.tombstones] == [
            (b"old1", None, 0),
            (b"old2", None, 0),
        ]
        bench.saver.saved(after)
        bench.read(P0, "a", 9, steps=4)
        bench.window("a")
        bench.saver.saved(bench.saver.batch({P0: 10}))
        assert bench.saver.batch({P0: 10}).tombstones == []

    def test_of_an_evicted_series_cover_every_writer(self) -> None:
        bench = new_bench(row_every=1)
        bench.read(P0, "a", 7)
        slot = int(bench.table.find(P0, ["a"])[0])
        bench.saver.adopt(slot, [b"old"])
        bench.table.drop(np.array([slot], np.int32))
        bench.saver.evict(P0, "a", slot)
        batch = bench.saver.batch({P0: 8})
        assert [m.key for m in batch.tombstones] == [encode_key("a", "writer0"), b"old"]
        assert bench.saver.resume_from(P0, 8) == 8

    def test_of_a_partition_that_is_replayed_wait_until_it_is_ready(self) -> None:
        bench = new_bench()
        bench.saver.discard(P0, [b"k"])
        assert bench.saver.batch({P1: 8}).tombstones == []
        assert [m.key for m in bench.saver.batch({P0: 8, P1: 8}).tombstones] == [b"k"]
        assert bench.saver.batch({P0: 8}).tombstones == []

    def test_of_a_closed_partition_are_left_to_its_next_owner(self) -> None:
        bench = new_bench()
        bench.saver.discard(P0, [b"k"])
        bench.saver.close(P0)
        bench.saver.open(P0, "writer9")
        assert bench.saver.batch({P0: 8}).tombstones == []

    @pytest.mark.parametrize("partition", [P0, P1])
    def test_of_a_partition_that_starts_over_cover_all_its_rows(
        self, partition: TopicPartition
    ) -> None:
        bench = new_bench()
        bench.read(partition, "a", 7)
        bench.saver.adopt(int(bench.table.find(partition, ["a"])[0]), [b"k"])
        bench.saver.start_over(partition, [b"k", b"junk"])
        bench.table.drop_partition(partition)
        batch = bench.saver.batch({partition: 8})
        assert [(m.key, m.partition) for m in batch.tombstones] == [
            (b"k", partition.partition),
            (b"junk", partition.partition),
        ]
        assert bench.saver.resume_from(partition, 8) == 8
        # The slot's next series owes nothing to the one that had it.
        bench.read(partition, "b", 9, steps=8)
        bench.window("b", partition=partition)
        assert bench.save(10, partition) == ["b"]
        assert bench.saver.batch({partition: 10}).tombstones == []
