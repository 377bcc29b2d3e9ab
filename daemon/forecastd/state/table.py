"""All per-series state: one table of named arrays indexed by slot.

A stage declares its columns; rows, eviction, restore and the memory figures walk what was
declared. A column whose numbers live elsewhere (the model's state bank) joins as a `ColumnStore`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from itertools import repeat
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forecastd.ports import ColumnStore
from forecastd.records import Bools, Column, Slots, TopicPartition

NOT_IN_ROW = 2**62
"""`unsaved_from` of a series whose row holds everything."""

LIFE = (
    Column("offset", "<i8", fill=-1),  # the last record applied to the series
    Column("unsaved_from", "<i8", fill=NOT_IN_ROW, saved=False),  # first record not in its row
    Column("row_steps", "<i8", saved=False),  # steps of the series in its saved row
    Column("row_due", "|b1", saved=False),  # the row must be saved in this commit
    Column("reset", "|b1"),  # the next window is the first after a reset
    Column("restored", "|b1", saved=False),  # the next window is the first after a restart
)


class SeriesTable:
    """Slots of all series of all assigned partitions, and their cells.

    A slot belongs to one (partition, series name) until it is dropped. Capacity doubles when it is
    used up; arrays are replaced then, so nobody keeps one across calls of `admit`.
    """

    def __init__(
        self, columns: Iterable[Column], stores: Sequence[ColumnStore] = (), capacity: int = 64
    ) -> None:
        own = [*LIFE, *columns]
        names = [column.name for column in own] + [store.column.name for store in stores]
        assert len(set(names)) == len(names), "two stages declare one column"
        self._columns = {column.name: column for column in own}
        self._stores = {store.column.name: store for store in stores}
        self._arrays = {column.name: _cells(column, capacity) for column in own}
        self._names: list[str | None] = [None] * capacity
        self._partitions: list[TopicPartition | None] = [None] * capacity
        self._index: dict[TopicPartition, dict[str, int]] = {}
        self._free = list(range(capacity - 1, -1, -1))
        for store in stores:
            store.grow(capacity)

    def __getitem__(self, name: str) -> NDArray[Any]:
        """The array of a column, shape (capacity, *column.shape)."""
        return self._arrays[name]

    def __len__(self) -> int:
        """Series in the table."""
        return sum(map(len, self._index.values()))

    @property
    def columns(self) -> list[Column]:
        """Every declared column."""
        return [*self._columns.values(), *(store.column for store in self._stores.values())]

    def name(self, slot: int) -> str:
        """Series name of a slot in use."""
        name = self._names[slot]
        assert name is not None, "slot is free"
        return name

    def partition(self, slot: int) -> TopicPartition:
        """Partition of a slot in use."""
        partition = self._partitions[slot]
        assert partition is not None, "slot is free"
        return partition

    def names(self, slots: Slots) -> list[str]:
        """Series names of slots in use."""
        return [self._names[slot] for slot in slots.tolist()]

    def partitions(self, slots: Slots) -> list[TopicPartition]:
        """Partitions of slots in use."""
        return [self._partitions[slot] for slot in slots.tolist()]

    def is_used(self, slots: Slots) -> Bools:
        """Whether each slot belongs to a series."""
        return np.array([self._names[slot] is not None for slot in slots.tolist()], np.bool_)

    def count(self, partition: TopicPartition) -> int:
        """Series of one partition."""
        return len(self._index.get(partition, ()))

    def slots(self, partition: TopicPartition) -> Slots:
        """Slots of one partition."""
        return np.fromiter(self._index.get(partition, {}).values(), np.int32)

    def find(self, partition: TopicPartition, names: Sequence[str]) -> Slots:
        """Slots of series by name, -1 where the table has none."""
        find = self._index.get(partition, {}).get
        return np.fromiter(map(find, names, repeat(-1)), np.int32, len(names))

    def admit(
        self, partition: TopicPartition, names: Sequence[str], keep: Sequence[str] = ()
    ) -> Slots:
        """Give slots to new series, their cells as declared.

        Args:
            partition: theirs.
            names: none of them in the table.
            keep: columns that the caller is about to write and that need not be cleared.
        """
        lacking = len(names) - len(self._free)
        if lacking > 0:
            self._grow(lacking)
        index = self._index.setdefault(partition, {})
        slots = np.array([self._free.pop() for _ in names], np.int32)
        for name, slot in zip(names, slots.tolist(), strict=True):
            self._names[slot] = name
            self._partitions[slot] = partition
            index[name] = slot
        self.clear(slots, keep)
        return slots

    def clear(self, slots: Slots, keep: Sequence[str]) -> None:
        """Set the cells of series to what was declared, but for the columns in `keep`."""
        for column in self.columns:
            if column.name in keep:
                continue
            if column.name in self._stores:
                cells = np.full((len(slots), *column.shape), column.fill, column.dtype)
                self._stores[column.name].write(slots, cells)
            else:
                self._arrays[column.name][slots] = column.fill

    def drop(self, slots: Slots) -> None:
        """Forget series; their slots are free for others."""
        for slot in slots.tolist():
            del self._index[self.partition(slot)][self.name(slot)]
            self._names[slot] = self._partitions[slot] = None
            self._free.append(slot)

    def drop_partition(self, partition: TopicPartition) -> None:
        """Forget every series of a partition."""
        self.drop(self.slots(partition))
        self._index.pop(partition, None)

    def read(self, name: str, slots: Slots) -> NDArray[Any]:
        """Cells of a column, wherever they live: (B, *column.shape)."""
        store = self._stores.get(name)
        return store.read(slots) if store is not None else self._arrays[name][slots]

    def write(self, name: str, slots: Slots, cells: NDArray[Any]) -> None:
        """Set cells of a column, wherever they live; `slots` are distinct."""
        store = self._stores.get(name)
        if store is not None:
            store.write(slots, cells)
        else:
            self._arrays[name][slots] = cells

    def bytes_by_column(self) -> dict[str, int]:
        """Bytes of one series' cell, by column; `name` is the mean of what the index takes."""
        sizes = {column.name: _cell_bytes(column) for column in self.columns}
        used = [name for name in self._names if name is not None]
        if used:
            index = sum(sys.getsizeof(part) for part in self._index.values())
            texts = sum(map(sys.getsizeof, used))
            sizes["name"] = (index + texts) // len(used)
        return sizes

    @property
    def total_bytes(self) -> int:
        """Bytes of all cells, those of free slots included."""
        return len(self._names) * sum(_cell_bytes(column) for column in self.columns)

    def _grow(self, lacking: int) -> None:
        """Double the capacity, as often as that many more slots need it."""
        old = new = len(self._names)
        while new - old < lacking:
            new *= 2
        for name, column in self._columns.items():
            grown = _cells(column, new)
            grown[:old] = self._arrays[name]
            self._arrays[name] = grown
        for store in self._stores.values():
            store.grow(new)
        self._names.extend([None] * (new - old))
        self._partitions.extend([None] * (new - old))
        self._free = [*range(new - 1, old - 1, -1), *self._free]


def _cells(column: Column, capacity: int) -> NDArray[Any]:
    # Zeros, not `fill`: pages of slots that were never used stay untouched. `admit` fills.
    return np.zeros((capacity, *column.shape), column.dtype)


def _cell_bytes(column: Column) -> int:
    return int(np.dtype(column.dtype).itemsize * np.prod(column.shape, dtype=np.int64))
