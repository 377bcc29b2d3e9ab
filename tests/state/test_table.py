from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from forecastd.forecast.bank_columns import bank_columns
from forecastd.memory.network import MemoryNetwork
from forecastd.records import Column, Slots
from forecastd.state.table import NOT_IN_ROW, SeriesTable
from tests.in_memory import P0, P1

COLUMNS = [
    Column("count", "<i8", fill=-3),
    Column("ring", "<f8", (4, 2), fill=np.nan),
    Column("flag", "|b1", saved=False),
]


@dataclass
class Store:
    """A column whose cells live elsewhere."""

    column: Column = field(default_factory=lambda: Column("far", "<f4", (2,), fill=7))
    cells: NDArray[Any] = field(default_factory=lambda: np.zeros((0, 2), np.float32))

    def read(self, slots: Slots) -> NDArray[Any]:
        return self.cells[slots]

    def write(self, slots: Slots, cells: NDArray[Any]) -> None:
        self.cells[slots] = cells

    def grow(self, capacity: int) -> None:
        grown = np.zeros((capacity, 2), np.float32)
        grown[: len(self.cells)] = self.cells
        self.cells = grown


class TestSeries:
    def test_get_cells_as_declared(self) -> None:
        store = Store()
        table = SeriesTable(COLUMNS, [store], capacity=2)
        slots = table.admit(P0, ["a", "b"])
        assert table["count"][slots].tolist() == [-3, -3]
        assert np.isnan(table["ring"][slots]).all()
        assert table["flag"].dtype == np.bool_
        assert table["offset"][slots].tolist() == [-1, -1]
        assert table["unsaved_from"][slots].tolist() == [NOT_IN_ROW] * 2
        assert store.cells[slots].tolist() == [[7, 7], [7, 7]]

    def test_that_get_the_slot_of_another_inherit_nothing(self) -> None:
        store = Store()
        table = SeriesTable(COLUMNS, [store], capacity=2)
        slots = table.admit(P0, ["a", "b"])
        for column in table.columns:
            table.write(column.name, slots, np.ones((2, *column.shape), column.dtype))
        table.drop(slots)
        again = table.admit(P1, ["c", "d"])
        assert sorted(again.tolist()) == sorted(slots.tolist())
        fresh = SeriesTable(COLUMNS, [Store()], capacity=2)
        wanted = fresh.admit(P0, ["x", "y"])
        for column in table.columns:
            np.testing.assert_array_equal(
                table.read(column.name, again), fresh.read(column.name, wanted)
            )

    def test_need_not_be_cleared_where_the_caller_writes_them(self) -> None:
        """A restore writes every saved column; whatever it does not write is as declared."""
        store = Store()
        table = SeriesTable(COLUMNS, [store], capacity=1)
        slot = table.admit(P0, ["a"])
        for column in table.columns:
            table.write(column.name, slot, np.ones((1, *column.shape), column.dtype))
        table.drop(slot)
        table.admit(P0, ["b"], keep=["count", "far"])
        assert table["count"][slot].tolist() == [1]
        assert store.cells[slot].tolist() == [[1, 1]]
        assert np.isnan(table["ring"][slot]).all()
        assert table["unsaved_from"][slot].tolist() == [NOT_IN_ROW]

    def test_may_come_in_any_number_at_once(self) -> None:
        store = Store()
        table = SeriesTable(COLUMNS, [store], capacity=2)
        first = table.admit(P0, ["first"])
        slots = table.admit(P0, [f"s{number}" for number in range(50)])
        assert len({*first.tolist(), *slots.tolist()}) == 51
        assert len(store.cells) == 64
        assert table["count"][slots].tolist() == [-3] * 50

    def test_keep_their_cells_and_slots_while_the_table_grows(self) -> None:
        store = Store()
        table = SeriesTable(COLUMNS, [store], capacity=2)
        for number in range(50):
            slot = table.admit(P0, [f"s{number}"])
            table["count"][slot] = number
            store.write(slot, np.full((1, 2), number))
        slots = table.find(P0, [f"s{number}" for number in range(50)])
        assert len(set(slots.tolist())) == 50
        assert table["count"][slots].tolist() == list(range(50))
        assert store.cells[slots, 0].tolist() == list(range(50))
        assert table.names(slots) == [f"s{number}" for number in range(50)]

    def test_are_found_by_partition_and_name(self) -> None:
        table = SeriesTable(COLUMNS)
        (a,), (other,) = table.admit(P0, ["a"]), table.admit(P1, ["a"])
        assert a != other
        assert table.find(P0, ["a", "b", "a"]).tolist() == [a, -1, a]
        assert table.find(P1, ["a"]).tolist() == [other]
        assert table.partitions(np.array([a, other])) == [P0, P1]
        assert (table.name(a), table.partition(other)) == ("a", P1)
        assert (table.count(P0), len(table)) == (1, 2)

    def test_of_a_dropped_partition_are_gone_and_the_others_stay(self) -> None:
        table = SeriesTable(COLUMNS, capacity=2)
        gone, kept = table.admit(P0, ["a", "b", "c"]), table.admit(P1, ["a"])
        table.drop_partition(P0)
        assert table.find(P0, ["a"]).tolist() == [-1]
        assert table.is_used(np.concatenate([gone, kept])).tolist() == [False] * 3 + [True]
        assert (table.count(P0), table.slots(P0).tolist()) == (0, [])
        assert table.find(P1, ["a"]).tolist() == kept.tolist()
        table.drop_partition(P0)  # nothing is left to forget

    def test_come_and_go_at_random_and_never_share_a_slot(self) -> None:
        rng, table = np.random.default_rng(0), SeriesTable([Column("mark", "<i8")], capacity=1)
        wanted: dict[tuple[Any, str], int] = {}
        for mark in range(1, 600):
            partition = (P0, P1)[rng.integers(2)]
            name = f"s{rng.integers(40)}"
            if (partition, name) in wanted:
                table.drop(table.find(partition, [name]))
                del wanted[partition, name]
            else:
                slot = table.admit(partition, [name])
                table["mark"][slot] = mark
                wanted[partition, name] = mark
        assert len(table) == len(wanted)
        for (partition, name), mark in wanted.items():
            assert table["mark"][table.find(partition, [name])] == mark


class TestColumns:
    def test_of_two_stages_must_not_share_a_name(self) -> None:
        with pytest.raises(AssertionError, match="two stages"):
            SeriesTable([Column("h0", "<i8"), Column("h0", "<i8")])

    def test_are_accounted_for_in_bytes(self) -> None:
        table = SeriesTable(COLUMNS, [Store()], capacity=4)
        sizes = table.bytes_by_column()
        assert sizes["ring"] == 4 * 2 * 8
        assert sizes["far"] == 2 * 4
        assert table.total_bytes == 4 * sum(sizes.values())
        table.admit(P0, ["a", "b"])
        assert table.bytes_by_column()["name"] > 50


class TestBankColumns:
    def test_keep_a_row_of_the_bank_for_every_slot_and_phase(self) -> None:
        network = MemoryNetwork(timesteps=2, features=1, head=(1, 1, 1), units=2)
        table = SeriesTable([], bank_columns(network, network.states, 3), capacity=1)
        slots = table.admit(P0, ["a", "b", "c"])
        cells = np.arange(3 * 3 * 2, dtype=np.float32).reshape(3, 3, 2)
        table.write("c0", slots, cells)
        assert table.read("c0", slots).tolist() == cells.tolist()
        assert not table.read("h0", slots).any()
        for at, slot in enumerate(slots.tolist()):
            rows = np.arange(3 * slot, 3 * slot + 3, dtype=np.int32)
            assert network.read_state(0, "c", rows).tolist() == cells[at].tolist()

    def test_of_a_reused_slot_are_zero(self) -> None:
        network = MemoryNetwork(timesteps=1, features=1, head=(1, 1, 1))
        table = SeriesTable([], bank_columns(network, network.states, 1), capacity=1)
        slot = table.admit(P0, ["a"])
        network.predict(np.ones((1, 1, 1), np.float32), slot)
        assert table.read("h0", slot).any()
        table.drop(slot)
        assert table.admit(P0, ["b"]).tolist() == slot.tolist()
        assert not table.read("h0", slot).any()
        assert not table.read("c0", slot).any()
