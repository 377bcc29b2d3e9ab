"""Restoring a partition: its rows are read to the log end, a piece each turn of the loop.

Partitions that are served meanwhile are not kept waiting, and a partition that is taken away in
the middle is simply forgotten.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from forecastd.clock import Clock
from forecastd.errors import BrokerError, RowError
from forecastd.observe.events import RestoreStarted, RowsUnreadable, Telemetry
from forecastd.ports import RowReader
from forecastd.records import TopicPartition
from forecastd.state.row_codec import RowCodec
from forecastd.state.row_key import decode_key
from forecastd.state.row_saver import RowSaver
from forecastd.state.table import SeriesTable


@dataclass(slots=True)
class _Progress:
    """One partition's restore.

    Attributes:
        keys: by series, every key that has a row.
        newest: by series, offset and key of the row that counts.
        unreadable: by series, the key of its last row, and why that cannot be read.
        foreign: keys that are none of ours, and why.
    """

    partition: TopicPartition
    started_s: float
    moved_s: float
    keys: dict[str, set[bytes]] = field(default_factory=dict)
    newest: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    unreadable: dict[str, tuple[bytes, str]] = field(default_factory=dict)
    foreign: dict[bytes, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Restored:
    """A partition whose rows are in the table.

    Attributes:
        series: how many.
        keys: every key of the partition that has a row, readable or not.
    """

    partition: TopicPartition
    series: int
    keys: list[bytes]
    seconds: float


@dataclass(slots=True)
class Restorer:
    """Restores the partitions in its queue, one after the other."""

    table: SeriesTable
    codec: RowCodec
    saver: RowSaver
    reader: RowReader
    clock: Clock
    telemetry: Telemetry
    timeout_s: float
    stop_on_mismatch: bool
    _queue: deque[TopicPartition] = field(default_factory=deque)
    _now: _Progress | None = None

    @property
    def is_busy(self) -> bool:
        """Whether a partition waits to be restored."""
        return self._now is not None or bool(self._queue)

    @property
    def waiting(self) -> list[TopicPartition]:
        """Partitions that are not restored yet."""
        now = [self._now.partition] if self._now is not None else []
        return [*now, *self._queue]

    def add(self, partition: TopicPartition) -> None:
        """Queue a partition."""
        self._queue.append(partition)

    def remove(self, partition: TopicPartition) -> None:
        """Forget a partition that is taken away."""
        if partition in self._queue:
            self._queue.remove(partition)
        if self._now is not None and self._now.partition == partition:
            self._now = None
            self.reader.close()

    def step(self, timeout_s: float) -> Restored | None:
        """Read on for at most about `timeout_s`; returns the partition that is done.

        Raises:
            BrokerError: no row has come for `state.restore_timeout`.
            RowError: a series' row cannot be read, and `state.on_mismatch` is to stop.
        """
        now_s = self.clock.monotonic_s()
        if self._now is None:
            partition = self._queue.popleft()
            self.telemetry.emit(RestoreStarted(partition, self.reader.start(partition)))
            self._now = _Progress(partition, now_s, now_s)
        progress = self._now
        rows, is_end = self.reader.read(timeout_s)
        if rows:
            progress.moved_s = now_s
            self._load(progress, rows)
        elif not is_end and now_s - progress.moved_s > self.timeout_s:
            waited = f"no row of {progress.partition} for {self.timeout_s:g} s"
            raise BrokerError(f"restore: {waited}, wanted its state topic to its end")
        return self._finish(progress) if is_end else None

    def _load(self, progress: _Progress, rows: Sequence[tuple[bytes, bytes | None]]) -> None:
        """Put rows into the table; of a series' rows the one of highest offset stays."""
        found: dict[str, bytes] = {}
        for key, row in rows:
            try:
                series, _ = decode_key(key)
            except RowError as error:
                progress.foreign[key] = str(error)
                if row is None:
                    del progress.foreign[key]
                continue
            if self._counts(progress, series, key, row):
                assert row is not None, "a tombstone counts for nothing"
                found[series] = row
        left = {name: row for name, row in found.items() if name in progress.newest}
        slots = self.table.find(progress.partition, list(left))
        new = [name for name, slot in zip(left, slots.tolist(), strict=True) if slot < 0]
        if new:
            self.table.admit(progress.partition, new)
            slots = self.table.find(progress.partition, list(left))
        self.codec.decode(list(left.values()), slots)

    def _counts(self, progress: _Progress, series: str, key: bytes, row: bytes | None) -> bool:
        """Take note of a row or a tombstone; True where it is the row that counts so far.

        A row that cannot be read makes what came before it worthless: its offset is not known, and
        the input may no longer be read from where the older row ends.
        """
        keys = progress.keys.setdefault(series, set())
        if row is None:
            keys.discard(key)
            if progress.newest.get(series, (0, b""))[1] == key:
                del progress.newest[series]
            if progress.unreadable.get(series, (b"", ""))[0] == key:
                del progress.unreadable[series]
            return False
        keys.add(key)
        try:
            offset = self.codec.offset(row)
        except RowError as error:
            progress.newest.pop(series, None)
            progress.unreadable[series] = key, str(error)
            return False
        if offset < progress.newest.get(series, (-1, b""))[0]:
            return False
        progress.newest[series] = offset, key
        progress.unreadable.pop(series, None)
        return True

    def _finish(self, progress: _Progress) -> Restored:
        self._now = None
        if not self._queue:
            self.reader.close()
        self._drop_void(progress)
        partition = progress.partition
        slots = self.table.slots(partition)
        self.table["row_steps"][slots] = self.table["steps"][slots]
        self.table["restored"][slots] = True
        names = self.table.names(slots)
        self._adopt(progress, names)
        if progress.unreadable or progress.foreign:
            self._start_cold(progress)
        keys = [key for several in progress.keys.values() for key in several]
        seconds = self.clock.monotonic_s() - progress.started_s
        return Restored(partition, len(names), [*keys, *progress.foreign], seconds)

    def _drop_void(self, progress: _Progress) -> None:
        """Drop series whose row was followed by a tombstone, or by one that cannot be read."""
        slots = self.table.slots(progress.partition)
        names = self.table.names(slots)
        void = np.array([name not in progress.newest for name in names], np.bool_)
        self.table.drop(slots[void])

    def _start_cold(self, progress: _Progress) -> None:
        """Begin anew with series whose row cannot be read, and remove what is not ours.

        Raises:
            RowError: `state.on_mismatch` is to stop.
        """
        partition, names = progress.partition, list(progress.unreadable)
        faults = [f"series {name!r}: {why}" for name, (_, why) in progress.unreadable.items()]
        faults.extend(progress.foreign.values())
        if self.stop_on_mismatch:
            raise RowError(f"{partition} {faults[0]}")
        cold = self.table.admit(partition, names)
        self.table["reset"][cold] = True
        self._adopt(progress, names)
        self.saver.discard(partition, progress.foreign)
        self.telemetry.emit(RowsUnreadable(partition, len(faults), faults[0]))

    def _adopt(self, progress: _Progress, names: Sequence[str]) -> None:
        slots = self.table.find(progress.partition, names)
        for name, slot in zip(names, slots.tolist(), strict=True):
            self.saver.adopt(slot, sorted(progress.keys[name]))
