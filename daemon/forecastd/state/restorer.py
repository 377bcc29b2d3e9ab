"""Restoring a partition: its rows are read to the log end, a piece each turn of the loop.

Partitions that are served meanwhile are not kept waiting, and a partition that is taken away in
the middle is simply forgotten.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from math import inf
from operator import itemgetter

from forecastd.clock import Clock
from forecastd.errors import BrokerError, RowError, TopicError
from forecastd.observe.events import (
    RestoreBlocked,
    RestoreMoved,
    RestoreStarted,
    RowsUnreadable,
    Telemetry,
)
from forecastd.ports import RowReader
from forecastd.records import ReadSoFar, Slots, TopicPartition
from forecastd.state.row_codec import RowCodec
from forecastd.state.row_key import decode_key
from forecastd.state.row_saver import RowSaver
from forecastd.state.table import SeriesTable

_ROWS_DECODED = 5_000
"""In a step: some 50 ms, and decoding needs a copy of them."""


RETRY_S = 10.0
"""Pause before a partition is tried again that waits for an operator."""


def stood_still(read: ReadSoFar, seconds: float) -> str:
    """What a reader of rows waits for."""
    found = f"{read.where} stands at {read.position} for {seconds:g} s"
    return f"{found}, wanted its end at {read.end}; a transaction may be open there"


@dataclass(slots=True)
class _Progress:
    """One partition's restore.

    Attributes:
        position: up to where the state topic has been read.
        rows_read: tombstones and replaced rows included.
        rows_wanted: about how many there are.
        keys: by series, every key that has a row.
        rows: by series and key, offset and row of what no tombstone has removed. The last one of
            highest offset counts; the others are kept because a tombstone may take it away: that of
            a frozen instance whose last poll reached further than its successor's.
        unreadable: by series, the key of its last row, and why that cannot be read.
        foreign: keys that are none of ours, and why.
        to_load: (series, row) to be put into the table, once all rows are read.
    """

    partition: TopicPartition
    started_s: float
    moved_s: float
    rows_wanted: int
    position: int = -1
    rows_read: int = 0
    keys: dict[str, set[bytes]] = field(default_factory=dict)
    rows: dict[str, dict[bytes, tuple[int, bytes]]] = field(default_factory=dict)
    unreadable: dict[str, tuple[bytes, str]] = field(default_factory=dict)
    foreign: dict[bytes, str] = field(default_factory=dict)
    to_load: list[tuple[str, bytes]] | None = None


def _newest_rows(progress: _Progress) -> list[tuple[str, bytes]]:
    """Each series' row that counts; what was known of the others is let go."""
    newest = [
        (name, max(reversed(saved.values()), key=itemgetter(0))[1])
        for name, saved in progress.rows.items()
        if saved
    ]
    progress.rows.clear()
    return newest


@dataclass(frozen=True, slots=True)
class Restored:
    """A partition whose rows are in the table.

    Attributes:
        series: how many.
        keys: every key of the partition that has a row, readable or not.
        unreadable: slots of the series among them whose row cannot be read.
    """

    partition: TopicPartition
    series: int
    keys: list[bytes]
    unreadable: Slots
    seconds: float


@dataclass(slots=True)
class Restorer:
    """Restores the partitions in its queue, one after the other.

    A partition that waits for an operator is tried again from time to time.
    """

    table: SeriesTable
    codec: RowCodec
    saver: RowSaver
    reader: RowReader
    clock: Clock
    telemetry: Telemetry
    timeout_s: float
    stop_on_mismatch: bool
    _queue: deque[TopicPartition] = field(default_factory=deque)
    _blocked_until_s: dict[TopicPartition, float] = field(default_factory=dict)
    _now: _Progress | None = None

    @property
    def is_busy(self) -> bool:
        """Whether there is something to do now."""
        if self._now is not None or self._queue:
            return True
        return min(self._blocked_until_s.values(), default=inf) <= self.clock.monotonic_s()

    @property
    def waiting(self) -> list[TopicPartition]:
        """Partitions that are not restored yet."""
        now = [self._now.partition] if self._now is not None else []
        return [*now, *self._queue, *self._blocked_until_s]

    def add(self, partition: TopicPartition) -> None:
        """Queue a partition."""
        self._queue.append(partition)

    def remove(self, partition: TopicPartition) -> None:
        """Forget a partition that is taken away."""
        if partition in self._queue:
            self._queue.remove(partition)
        self._blocked_until_s.pop(partition, None)
        if self._now is not None and self._now.partition == partition:
            self._now = None
            self.reader.close()

    def step(self, timeout_s: float) -> Restored | None:
        """Read on for at most about `timeout_s`; returns the partition that is done.

        Raises:
            BrokerError: the state topic was not read on for `state.restore_timeout`.
            RowError: a series' row cannot be read, and `state.on_mismatch` is to stop.
        """
        now_s = self.clock.monotonic_s()
        progress = self._now or self._begin(now_s)
        if progress is None:
            return None
        if progress.to_load is None:
            rows, is_end = self.reader.read(timeout_s)
            self._note(progress, rows)
            self._note_progress(progress, len(rows), now_s)
            if not is_end:
                return None
            progress.to_load = _newest_rows(progress)
        self._load_some(progress)
        return None if progress.to_load else self._finish(progress)

    def _begin(self, now_s: float) -> _Progress | None:
        """Begin with the next partition; None where that must wait for an operator."""
        for blocked, until_s in list(self._blocked_until_s.items()):
            if until_s <= now_s:
                del self._blocked_until_s[blocked]
                self._queue.append(blocked)
        partition = self._queue.popleft()
        try:
            rows = self.reader.start(partition)
        except TopicError as error:
            self._blocked_until_s[partition] = now_s + RETRY_S
            self.telemetry.emit(RestoreBlocked(partition, "; ".join(str(error).splitlines())))
            return None
        self.telemetry.emit(RestoreStarted(partition, rows))
        self._now = _Progress(partition, now_s, now_s, rows)
        return self._now

    def _note_progress(self, progress: _Progress, rows: int, now_s: float) -> None:
        """Remember that the reader got on, or give up when it has not for too long.

        It gets on without rows, too: over what compaction and transactions have left behind.
        """
        read = self.reader.so_far
        if read.position > progress.position:
            progress.position, progress.moved_s = read.position, now_s
            progress.rows_read += rows
            self.telemetry.emit(
                RestoreMoved(progress.partition, progress.rows_read, progress.rows_wanted)
            )
        elif read.position < read.end and now_s - progress.moved_s > self.timeout_s:
            raise BrokerError(
                f"restore of {progress.partition}: {stood_still(read, self.timeout_s)}"
            )

    def _note(self, progress: _Progress, rows: Iterable[tuple[bytes, bytes | None]]) -> None:
        """Take note of rows and tombstones, in the order of their topic."""
        for key, row in rows:
            try:
                series, _ = decode_key(key)
            except RowError as error:
                progress.foreign[key] = str(error)
                if row is None:
                    del progress.foreign[key]
                continue
            self._note_row(progress, series, key, row)

    def _note_row(self, progress: _Progress, series: str, key: bytes, row: bytes | None) -> None:
        """Take note of a row, or of a tombstone.

        A row that cannot be read makes what came before it worthless: its offset is not known, and
        the input may no longer be read from where the older row ends.
        """
        keys, saved = progress.keys.setdefault(series, set()), progress.rows.get(series, {})
        saved.pop(key, None)
        if row is None:
            keys.discard(key)
            if progress.unreadable.get(series, (b"", ""))[0] == key:
                del progress.unreadable[series]
            return
        keys.add(key)
        try:
            saved[key] = self.codec.offset(row), row
        except RowError as error:
            progress.rows.pop(series, None)
            progress.unreadable[series] = key, str(error)
            return
        progress.rows[series] = saved
        progress.unreadable.pop(series, None)

    def _finish(self, progress: _Progress) -> Restored:
        self._now = None
        if not self._queue:
            self.reader.close()
        partition = progress.partition
        slots = self.table.slots(partition)
        self.table["row_steps"][slots] = self.table["steps"][slots]
        self.saver.restored(partition, slots)
        self.table["restored"][slots] = True
        names = self.table.names(slots)
        self._adopt(progress, names)
        if progress.unreadable or progress.foreign:
            self._start_cold(progress)
        cold = self.table.find(partition, list(progress.unreadable))
        keys = [key for several in progress.keys.values() for key in several]
        seconds = self.clock.monotonic_s() - progress.started_s
        return Restored(partition, len(names), [*keys, *progress.foreign], cold, seconds)

    def _load_some(self, progress: _Progress) -> None:
        """Put rows that count into the table: some of them, for others are served meanwhile."""
        assert progress.to_load is not None, "all rows are known"
        some = [progress.to_load.pop() for _ in range(min(len(progress.to_load), _ROWS_DECODED))]
        names = [name for name, _ in some]
        slots = self.table.admit(progress.partition, names, keep=self.codec.columns)
        self.codec.decode([row for _, row in some], slots)

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
