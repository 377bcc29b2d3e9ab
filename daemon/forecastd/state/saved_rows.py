"""The saved rows of a partition as a restart would take them, for tools that only look.

`Restorer` puts rows into a table while it decides which of them count. Here nothing is kept of a
row but what the caller asks for, so that 100,000 series fit into little memory; which row counts is
decided by the same rules, and a test holds the two together.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from forecastd.clock import Clock
from forecastd.errors import BrokerError, RowError
from forecastd.ports import RowReader
from forecastd.records import TopicPartition
from forecastd.state.restorer import stood_still
from forecastd.state.row_codec import Row, read_row, row_schema
from forecastd.state.row_key import decode_key

Kept = TypeVar("Kept")
KeyedRow = tuple[bytes, bytes | None]
"""Key and row as they lie on the state topic; None is a tombstone."""

_READ_S = 0.5


def read_to_end(
    reader: RowReader, partition: TopicPartition, clock: Clock, patience_s: float
) -> Iterator[Sequence[KeyedRow]]:
    """What lies on the state topic of an input partition, up to its end as of now.

    Raises:
        BrokerError: it was not read on for `patience_s`.
    """
    reader.start(partition)
    moved_s, position, is_end = clock.monotonic_s(), -1, False
    while not is_end:
        rows, is_end = reader.read(_READ_S)
        if rows:
            yield rows
        if reader.so_far.position > position:
            moved_s, position = clock.monotonic_s(), reader.so_far.position
        elif not is_end and clock.monotonic_s() - moved_s > patience_s:
            raise BrokerError(f"state of {partition}: {stood_still(reader.so_far, patience_s)}")


@dataclass(slots=True)
class SavedSeries(Generic[Kept]):
    """What the state topic holds of one series.

    Attributes:
        keys: every key under which it has a row.
        key: of the row that counts, or of the last one where that cannot be read; empty where a
            tombstone took it away.
        offset: of the last record applied to it; -1 where none is known.
        kept: what the caller keeps of it; None where it cannot be read.
        fault: why it cannot be read.
        rows: by key, offset and `kept` of what no tombstone has removed.
    """

    keys: tuple[bytes, ...] = ()
    key: bytes = b""
    offset: int = -1
    kept: Kept | None = None
    fault: str | None = None
    rows: dict[bytes, tuple[int, Kept]] = field(default_factory=dict)

    @property
    def older_keys(self) -> list[bytes]:
        """Keys under which it has rows that do not count."""
        return [key for key in self.keys if key != self.key]

    def choose(self) -> None:
        """Let the last row of highest offset count."""
        self.key, self.offset, self.kept = b"", -1, None
        for key, (offset, kept) in self.rows.items():
            if offset >= self.offset:
                self.key, self.offset, self.kept = key, offset, kept


@dataclass(slots=True)
class RowCounts:
    """What lies on the state topic of one partition, replaced rows included.

    Attributes:
        rows: how many.
        tombstones: how many.
        key_bytes: of both.
        row_bytes: of the rows.
        by_column: bytes of the cells of readable rows, by column.
        by_schema: rows by the schema version that they name; None counts what is no row of ours.
    """

    rows: int = 0
    tombstones: int = 0
    key_bytes: int = 0
    row_bytes: int = 0
    by_column: Counter[str] = field(default_factory=Counter)
    by_schema: Counter[int | None] = field(default_factory=Counter)

    def add(self, other: RowCounts) -> None:
        """Count what another has counted."""
        self.rows += other.rows
        self.tombstones += other.tombstones
        self.key_bytes += other.key_bytes
        self.row_bytes += other.row_bytes
        self.by_column.update(other.by_column)
        self.by_schema.update(other.by_schema)

    def see(self, key: bytes, row: bytes | None) -> None:
        """Count a row or a tombstone."""
        self.key_bytes += len(key)
        if row is None:
            self.tombstones += 1
            return
        self.rows += 1
        self.row_bytes += len(row)
        self.by_schema[row_schema(row)] += 1

    def see_cells(self, row: Row) -> None:
        """Count the cells of a readable row."""
        for name, cell in row.columns.items():
            self.by_column[name] += cell.nbytes


@dataclass(slots=True)
class SavedRows(Generic[Kept]):
    """The rows of one partition.

    Attributes:
        meaning: of the settings in effect; a restart cannot read a row of another one.
        keep: what to keep of the row that counts, from its bytes and its content.
        only: the one series that is looked for; None: all.
        series: by name.
        foreign: keys that are none of ours and have a row, and why.
        counts: of all that was read.
    """

    meaning: str
    keep: Callable[[bytes, Row], Kept]
    only: str | None = None
    series: dict[str, SavedSeries[Kept]] = field(default_factory=dict)
    foreign: dict[bytes, str] = field(default_factory=dict)
    counts: RowCounts = field(default_factory=RowCounts)

    def take(self, rows: Iterable[KeyedRow]) -> None:
        """Take note of rows and tombstones, in the order of their topic."""
        for key, row in rows:
            try:
                name, _ = decode_key(key)
            except RowError as error:
                self._take_foreign(key, row, str(error))
                continue
            if self.only in (None, name):
                self.counts.see(key, row)
                self._take(name, key, row)

    @property
    def live(self) -> dict[str, SavedSeries[Kept]]:
        """The series that a restart would find."""
        return {name: saved for name, saved in self.series.items() if saved.key and not saved.fault}

    @property
    def faults(self) -> list[str]:
        """What a restart could not read, a sentence each."""
        unreadable = [
            f"series {name!r}: {saved.fault}" for name, saved in self.series.items() if saved.fault
        ]
        return [*unreadable, *self.foreign.values()]

    @property
    def keys(self) -> list[bytes]:
        """Every key that has a row, whether or not that counts or can be read."""
        ours = [key for saved in self.series.values() for key in saved.keys]
        return [*ours, *self.foreign]

    def _take_foreign(self, key: bytes, row: bytes | None, why: str) -> None:
        if self.only is not None:
            return
        self.counts.see(key, row)
        if row is None:
            self.foreign.pop(key, None)
        else:
            self.foreign[key] = why

    def _take(self, name: str, key: bytes, row: bytes | None) -> None:
        saved = self.series.setdefault(name, SavedSeries())
        saved.rows.pop(key, None)
        if row is None:
            saved.keys = tuple(other for other in saved.keys if other != key)
            if saved.fault and saved.key == key:
                saved.fault = None
            if not saved.fault:
                saved.choose()
            if not saved.keys:
                del self.series[name]
            return
        if key not in saved.keys:
            saved.keys = (*saved.keys, key)
        try:
            content = self._read(row)
        except RowError as error:
            saved.rows.clear()
            saved.choose()
            saved.key, saved.fault = key, str(error)
            return
        saved.rows[key] = int(content.columns["offset"]), self.keep(row, content)
        saved.fault = None
        saved.choose()

    def _read(self, row: bytes) -> Row:
        content = read_row(row)
        self.counts.see_cells(content)
        if content.meaning != self.meaning:
            raise RowError(f"row: saved with {content.meaning}, wanted {self.meaning}")
        return content
