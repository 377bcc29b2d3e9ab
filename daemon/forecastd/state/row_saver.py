"""Which rows are saved when, and where a restart would have to resume.

A series is behind from the first record that is not in its saved row. Its row is due after
`row_every` windows, when that record lies `max_replay` records back, or when it is behind for
`row_age_s`: records that a restart must read again may not be older than what the input topic
keeps. When it is written is a question of cost, never of meaning, so that the clock may have a say;
but where a stage asks for it, it is written at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import islice

import numpy as np

from forecastd.clock import Clock
from forecastd.records import Message, Slots, TopicPartition
from forecastd.state.row_codec import RowCodec
from forecastd.state.row_key import encode_key
from forecastd.state.table import NOT_IN_ROW, SeriesTable


@dataclass(frozen=True, slots=True, eq=False)
class RowBatch:
    """Rows and tombstones of one commit.

    Attributes:
        slots: series whose rows are among the messages.
        rows: their messages, in the order of `slots`.
        tombstones: keys that no longer hold.
    """

    slots: Slots
    rows: list[Message]
    tombstones: list[Message]


@dataclass(slots=True)
class RowSaver:
    """Keeps, for each partition, the series that are behind, the longest behind first."""

    table: SeriesTable
    codec: RowCodec
    clock: Clock
    state_topic: Callable[[str], str]
    window_steps: int  # steps of a series between two of its windows
    row_every: int
    max_replay: int
    row_age_s: float
    bytes_per_second: int
    _behind: dict[TopicPartition, dict[int, float]] = field(default_factory=dict)  # since when
    _due: dict[int, None] = field(default_factory=dict)
    _urgent: dict[int, None] = field(default_factory=dict)
    _writers: dict[TopicPartition, str] = field(default_factory=dict)
    _foreign: dict[int, list[bytes]] = field(default_factory=dict)
    _removed: dict[TopicPartition, list[bytes]] = field(default_factory=dict)
    _witness: dict[TopicPartition, int] = field(default_factory=dict)
    _budget_bytes: float = 0.0
    _budget_s: float | None = None

    def open(self, partition: TopicPartition, writer: str) -> None:
        """Begin to save a partition's rows under the name `writer`."""
        self._behind[partition] = {}
        self._removed[partition] = []
        self._writers[partition] = writer

    def close(self, partition: TopicPartition) -> None:
        """Stop saving a partition; its slots are about to be dropped."""
        self._forget(self.table.slots(partition).tolist())
        self._behind.pop(partition, None)
        self._removed.pop(partition, None)
        self._writers.pop(partition, None)
        self._witness.pop(partition, None)

    def restored(self, partition: TopicPartition, slots: Slots) -> None:
        """Note the series of a partition that have a row."""
        if len(slots):
            self._witness[partition] = int(slots[0])

    def adopt(self, slot: int, keys: list[bytes]) -> None:
        """Remember the keys of other writers under which a series has rows."""
        self._foreign[slot] = keys

    def discard(self, partition: TopicPartition, keys: Iterable[bytes]) -> None:
        """Have the rows of these keys removed."""
        self._removed[partition].extend(keys)

    def start_over(self, partition: TopicPartition, keys: Iterable[bytes]) -> None:
        """Have every row of a partition removed whose series start cold.

        Their slots are about to be dropped.
        """
        self.discard(partition, keys)
        self._forget(self.table.slots(partition).tolist())
        self._behind[partition] = {}

    def evict(self, partition: TopicPartition, name: str, slot: int) -> None:
        """Have the rows of a series removed that has lost its place in the table.

        Must be told before `touched` and `windowed` speak of the series that took the slot over.
        """
        own = encode_key(name, self._writers[partition])
        self.discard(partition, [own, *self._foreign.get(slot, ())])
        self._behind[partition].pop(slot, None)
        self._forget([slot])

    def touched(self, slots: Slots) -> None:
        """Note the series that have fallen behind since the last call, all of them at once.

        Those that have lost their place since are passed over.
        """
        slots = np.unique(slots[self.table.is_used(slots)])
        order = np.argsort(self.table["unsaved_from"][slots], kind="stable")
        now_s = self.clock.monotonic_s()
        for slot in slots[order].tolist():
            self._behind[self.table.partition(slot)].setdefault(slot, now_s)

    def windowed(self, slots: Slots) -> None:
        """Note series of which a window ended; those whose row is due are queued."""
        slots = slots[self.table.is_used(slots)]
        since = self.table["steps"][slots] - self.table["row_steps"][slots]
        due = since >= self.row_every * self.window_steps
        self._due.update(dict.fromkeys(slots[due].tolist()))
        self._urgent.update(dict.fromkeys(slots[self.table["row_due"][slots]].tolist()))

    def queue(self, slots: Slots) -> None:
        """Have the rows of series saved to which no record happened."""
        self._due.update(dict.fromkeys(slots.tolist()))

    def batch(self, positions: dict[TopicPartition, int]) -> RowBatch:
        """What is to be saved now: what a stage asked for, and the rest within the byte rate.

        What has no room stays queued.

        Args:
            positions: of partitions that are served; others (still replaying) save nothing.
        """
        oldest_s = self.clock.monotonic_s() - self.row_age_s
        for partition, position in positions.items():
            for slot, since_s in self._behind[partition].items():
                is_near = self.table["unsaved_from"][slot] > position - self.max_replay
                if is_near and since_s > oldest_s:
                    break
                self._due.setdefault(slot)
        slots = self._chosen(positions)
        chosen = np.array(slots, np.int32)
        rows = [
            Message(
                self.state_topic(partition.topic),
                encode_key(name, self._writers[partition]),
                row,
                partition.partition,
            )
            for partition, name, row in zip(
                self.table.partitions(chosen),
                self.table.names(chosen),
                self.codec.encode(chosen) if slots else [],
                strict=True,
            )
        ]
        return RowBatch(chosen, rows, self._tombstones(positions))

    def saved(self, batch: RowBatch) -> None:
        """Note that a batch is acknowledged; the keys that it replaces are removed by the next."""
        for slot in batch.slots.tolist():
            partition = self.table.partition(slot)
            self._behind[partition].pop(slot, None)
            self._due.pop(slot, None)
            self._urgent.pop(slot, None)
            self.discard(partition, self._foreign.pop(slot, ()))
            self._witness.setdefault(partition, slot)
        self.table["unsaved_from"][batch.slots] = NOT_IN_ROW
        self.table["row_steps"][batch.slots] = self.table["steps"][batch.slots]
        self.table["row_due"][batch.slots] = False
        self._budget_bytes -= len(batch.rows) * self.codec.row_bytes

    def resume_from(self, partition: TopicPartition, position: int) -> int:
        """The lowest offset of a record that is not yet in its series' row."""
        slot = next(iter(self._behind[partition]), None)
        return position if slot is None else int(self.table["unsaved_from"][slot])

    def has_rows(self, partition: TopicPartition) -> bool:
        """Whether a series of the partition has a row with a past in it.

        One series bears witness for all; another is looked for only once that one is gone.
        """
        witness = self._witness.get(partition)
        if witness is None:
            return False
        is_ours = self.table.is_used(np.array([witness]))[0]
        is_ours = is_ours and self.table.partition(witness) == partition
        if is_ours and self.table["row_steps"][witness] > 0:
            return True
        slots = self.table.slots(partition)
        others = slots[self.table["row_steps"][slots] > 0].tolist()
        if not others:
            del self._witness[partition]
            return False
        self._witness[partition] = others[0]
        return True

    def _chosen(self, positions: dict[TopicPartition, int]) -> list[int]:
        urgent = [slot for slot in self._urgent if self.table.partition(slot) in positions]
        ready = (
            slot
            for slot in self._due
            if slot not in self._urgent and self.table.partition(slot) in positions
        )
        room = self._rows_in_budget()
        return [*urgent, *islice(ready, max(room - len(urgent), 0))]

    def _tombstones(self, positions: dict[TopicPartition, int]) -> list[Message]:
        tombstones = [
            Message(self.state_topic(partition.topic), key, None, partition.partition)
            for partition in positions
            for key in self._removed[partition]
        ]
        self._removed.update({partition: [] for partition in positions})
        return tombstones

    def _rows_in_budget(self) -> int:
        """Rows that may be written now: a second's worth at most, and one at least."""
        now = self.clock.monotonic_s()
        passed = 1.0 if self._budget_s is None else now - self._budget_s
        self._budget_s = now
        refilled = self._budget_bytes + passed * self.bytes_per_second
        self._budget_bytes = min(refilled, float(self.bytes_per_second))
        return max(int(self._budget_bytes // self.codec.row_bytes), 1)

    def _forget(self, slots: list[int]) -> None:
        for slot in slots:
            self._due.pop(slot, None)
            self._urgent.pop(slot, None)
            self._foreign.pop(slot, None)
