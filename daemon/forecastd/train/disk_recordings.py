"""Recorded series from files: CSV, or JSON lines as they would lie in a topic.

A file stands for partition 0 of a topic of its name, and a row of it for a record: rows are
counted from 0, as offsets are. What cannot be read ends the reading, with the line (from 1).
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import NamedTuple, NoReturn

import numpy as np

from forecastd.errors import FileError
from forecastd.records import (
    EARLIEST_MS,
    SERIES_BYTES_MAX,
    Decoded,
    Observations,
    Record,
    TopicPartition,
)

ParseTime = Callable[[str], int]
"""Event time in ms since the Unix epoch, of a number or ISO 8601 text; ValueError if neither."""

Decode = Callable[[TopicPartition, Sequence[Record]], Decoded]
"""The decoder of `ingest.*`."""

_TIME_NAMES = ("date", "timestamp")
_GAPS = ("", "nan")
_FLOAT32_MAX = float(np.finfo(np.float32).max)


class Line(NamedTuple):
    """A line of a file as a record: it has no key, and no timestamp (Kafka's -1)."""

    offset: int
    value: bytes
    timestamp: int = -1
    key: bytes | None = None
    headers: Sequence[tuple[str, bytes]] = ()


@dataclass(frozen=True, slots=True)
class Recording:
    """A file that is open; it may be a pipe, so it is read once and from beginning to end.

    Attributes:
        lines: all of them, once.
        is_json_lines: the first line with text begins with a brace or a bracket; else the file is
            taken for CSV.
    """

    path: Path
    lines: Iterator[str]
    is_json_lines: bool


@contextmanager
def opened(path: Path) -> Iterator[Recording]:
    """A file, open for as long as it is read.

    Raises:
        FileError: it cannot be opened or read.
    """
    with _read_errors(path), path.open(encoding="utf-8-sig", newline="") as file:
        head: list[str] = []
        for line in file:
            head.append(line)
            if line.strip():
                break
        is_json_lines = bool(head) and head[-1].lstrip().startswith(("{", "["))
        yield Recording(path, chain(head, file), is_json_lines)


def read_csv(recording: Recording, parse_time: ParseTime) -> Observations:
    """Observations of the columns of a table, row by row.

    Raises:
        FileError: it is none.
    """
    return _CsvReader(recording.path, parse_time).read(recording.lines)


def read_json_lines(recording: Recording, decode: Decode) -> Observations:
    """Observations of a file whose lines are records; empty lines are left out.

    Raises:
        FileError: one of them is no record that can be used.
    """
    path = recording.path
    lines = [Line(row, text.strip().encode()) for row, text in enumerate(recording.lines)]
    decoded = decode(_partition(path), [line for line in lines if line.value])
    if decoded.rejects:
        reject = decoded.rejects[0]
        told = reject.error.removeprefix(f"{reject.partition}@{reject.record.offset}")
        raise FileError(f"{path}:{reject.record.offset + 1}{told}")
    return decoded.observations


@contextmanager
def _read_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except UnicodeDecodeError as error:
        raise FileError(f"{path}: not UTF-8 at byte {error.start}, wanted UTF-8 text") from error
    except OSError as error:
        raise FileError(f"{path}: {error.strerror}, wanted a CSV or JSON lines file") from error


def _partition(path: Path) -> TopicPartition:
    return TopicPartition(path.name, 0)


@dataclass(slots=True)
class _CsvReader:
    """First column time, then one column a series; an empty cell is an observation less."""

    path: Path
    parse_time: ParseTime
    _series: list[str] = field(default_factory=list)
    _at_ms: list[int] = field(default_factory=list)
    _values: list[float] = field(default_factory=list)
    _rows: list[int] = field(default_factory=list)

    def read(self, lines: Iterator[str]) -> Observations:
        """Read the whole file."""
        reader = csv.reader(lines, strict=True)
        try:
            names = self._header(next(reader, []))
            for row, cells in enumerate(filter(None, reader)):
                self._row(names, row, reader.line_num, cells)
        except csv.Error as error:
            raise FileError(f"{self.path}:{reader.line_num}: {error}, wanted CSV") from error
        return Observations(
            _partition(self.path),
            self._series,
            np.array(self._at_ms, np.int64),
            np.array(self._values, np.float64).reshape(-1, 1),
            np.array(self._rows, np.int64),
            np.array(self._at_ms, np.int64),  # a row is taken to have been written when it was due
        )

    def _header(self, cells: Sequence[str]) -> list[str]:
        time, *names = [cell.strip() for cell in cells] or [""]
        if time.lower() not in _TIME_NAMES:
            wanted = "a header that begins with date or timestamp"
            self._refuse(1, f"first column '{_cut(time)}'", wanted)
        if not names:
            self._refuse(1, "no column but the time", "one column a series")
        for name in names:
            if not 0 < len(name.encode()) <= SERIES_BYTES_MAX:
                found = f"a column name of {len(name.encode())} bytes"
                self._refuse(1, found, f"a series name of 1 to {SERIES_BYTES_MAX}")
            if names.count(name) > 1:
                self._refuse(1, f"column '{_cut(name)}' twice", "one column a series")
        return names

    def _row(self, names: Sequence[str], row: int, line: int, cells: Sequence[str]) -> None:
        if len(cells) != len(names) + 1:
            found = "1 cell" if len(cells) == 1 else f"{len(cells)} cells"
            self._refuse(line, found, f"{len(names) + 1}, as in the header")
        at_ms = self._time(line, cells[0].strip())
        for name, cell in zip(names, cells[1:], strict=True):
            if (value := self._value(line, name, cell.strip())) is not None:
                self._series.append(name)
                self._at_ms.append(at_ms)
                self._values.append(value)
                self._rows.append(row)

    def _time(self, line: int, cell: str) -> int:
        try:
            at_ms = self.parse_time(cell)
        except (ValueError, OverflowError):
            at_ms = 0
        if at_ms < EARLIEST_MS:
            wanted = "ISO 8601 or a Unix time in s, ms, us or ns, from 1990 on"
            self._refuse(line, f"time '{_cut(cell)}'", wanted)
        return at_ms

    def _value(self, line: int, name: str, cell: str) -> float | None:
        if cell.lower() in _GAPS:
            return None
        try:
            # To Python 1_5 is fifteen; to whoever wrote the file it is a mistake.
            value = math.inf if "_" in cell else float(cell)
        except ValueError:
            value = math.inf
        if not abs(value) <= _FLOAT32_MAX:
            found = f"column '{_cut(name)}' is '{_cut(cell)}'"
            self._refuse(line, found, "a number in float32's range, or an empty cell")
        return value

    def _refuse(self, line: int, found: str, wanted: str) -> NoReturn:
        raise FileError(f"{self.path}:{line}: {found}, wanted {wanted}")


def _cut(text: str) -> str:
    """What fits into a sentence."""
    return text if len(text) <= 40 else f"{text[:40]}..."
