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

    `keys` holds, by series, every key with a row; `unreadable` the series none of whose rows
    can be read so far.
    """

    partition: TopicPartition
    started_s: float
    moved_s: float
    keys: dict[str, set[bytes]] = field(default_factory=dict)
    foreign_keys: list[bytes] = field(default_factory=list)
    unreadable: dict[str, str] = field(default_factory=dict)
    rows: int = 0


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
            RowError: a row cannot be read, and `state.on_mismatch` is to stop.
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
        best: dict[str, tuple[int, bytes]] = {}
        for key, row in rows:
            try:
                series, _ = decode_key(key)
            except RowError as error:
                self._unreadable(progress, key.decode("utf-8", "backslashreplace"), error)
                progress.foreign_keys.append(key)
                continue
            keys = progress.keys.setdefault(series, set())
            if row is None:
                keys.discard(key)
                continue
            keys.add(key)
            try:
                offset = self.codec.offset(row)
            except RowError as error:
                self._unreadable(progress, series, error)
                continue
            if offset >= best.get(series, (-1,))[0]:
                best[series] = (offset, row)
        self._keep_newest(progress, best)

    def _keep_newest(self, progress: _Progress, best: dict[str, tuple[int, bytes]]) -> None:
        names = list(best)
        slots = self.table.find(progress.partition, names)
        new = [name for name, slot in zip(names, slots.tolist(), strict=True) if slot < 0]
        if new:
            self.table.admit(progress.partition, new)
            slots = self.table.find(progress.partition, names)
        offsets = np.array([best[name][0] for name in names], np.int64)
        newer = np.flatnonzero(offsets >= self.table["offset"][slots])
        self.codec.decode([best[names[at]][1] for at in newer.tolist()], slots[newer])
        progress.rows += len(newer)

    def _unreadable(self, progress: _Progress, series: str, error: RowError) -> None:
        if self.stop_on_mismatch:
            raise RowError(f"{progress.partition} series {series!r}: {error}")
        progress.unreadable.setdefault(series, str(error))

    def _finish(self, progress: _Progress) -> Restored:
        self._now = None
        partition = progress.partition
        if not self._queue:
            self.reader.close()
        self._drop_removed(progress)
        slots = self.table.slots(partition)
        self.table["row_steps"][slots] = self.table["steps"][slots]
        self.table["restored"][slots] = True
        names = self.table.names(slots)
        for name, slot in zip(names, slots.tolist(), strict=True):
            self.saver.adopt(slot, sorted(progress.keys[name]))
        lost = {name: why for name, why in progress.unreadable.items() if name not in set(names)}
        if lost:
            cold = self.table.admit(partition, list(lost))
            self.table["reset"][cold] = True
            for name, slot in zip(lost, cold.tolist(), strict=True):
                self.saver.adopt(slot, sorted(progress.keys.get(name, ())))
            self.saver.discard(partition, progress.foreign_keys)
            example = next(f"series {name!r}: {why}" for name, why in lost.items())
            self.telemetry.emit(RowsUnreadable(partition, len(lost), example))
        keys = [key for several in progress.keys.values() for key in several]
        seconds = self.clock.monotonic_s() - progress.started_s
        return Restored(partition, len(names), [*keys, *progress.foreign_keys], seconds)

    def _drop_removed(self, progress: _Progress) -> None:
        """Drop series all of whose rows were followed by tombstones."""
        gone = [name for name, keys in progress.keys.items() if not keys]
        slots = self.table.find(progress.partition, gone)
        self.table.drop(slots[slots >= 0])
