"""A saved row: all saved columns of one series, self-contained and self-describing.

    magic "fcr" | schema 1 byte | crc32 4 bytes | layout length 2 bytes | layout | cells

The layout is JSON, `[meaning, [[name, dtype, shape, version], ...]]`, and the cells are one packed
numpy record of it: decode(encode(x)) is x, bit for bit. `meaning` names the settings without which
the numbers mean nothing (timesteps, values): a row of another meaning cannot be read. Otherwise a
reader takes the columns that it still knows in the same form, so that a later daemon with another
network or another horizon keeps the rest. The crc covers all that follows it.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from forecastd.errors import RowError
from forecastd.records import Column, Slots
from forecastd.state.table import SeriesTable

SCHEMA = 1
"""Version of the frame above; the columns carry their own."""

_HEAD = struct.Struct("<3sBIH")
_MAGIC = b"fcr"
_Layout = tuple[str, list[tuple[str, str, tuple[int, ...], int]]]
_PREFIX = _MAGIC + bytes([SCHEMA])


class RowCodec:
    """Turns slots of a table into rows and rows into slots."""

    def __init__(self, table: SeriesTable, meaning: str) -> None:
        self._table = table
        self._meaning = meaning
        self._saved = [column for column in table.columns if column.saved]
        columns = [[c.name, c.dtype, c.shape, c.version] for c in self._saved]
        self._layout = msgspec.json.encode([meaning, columns])
        self._dtype = np.dtype(
            [(column.name, column.dtype, column.shape) for column in self._saved]
        )
        self._layouts: dict[bytes, np.dtype[Any]] = {}

    @property
    def row_bytes(self) -> int:
        """Length of every row."""
        return _HEAD.size + len(self._layout) + self._dtype.itemsize

    def encode(self, slots: Slots) -> list[bytes]:
        """One row a slot."""
        cells = np.empty(len(slots), self._dtype)
        for column in self._saved:
            cells[column.name] = self._table.read(column.name, slots)
        size, packed = self._dtype.itemsize, cells.tobytes()
        front = struct.pack("<H", len(self._layout)) + self._layout
        front_crc = zlib.crc32(front)
        rows = []
        for at in range(0, len(packed), size):
            row = packed[at : at + size]
            crc = zlib.crc32(row, front_crc)
            rows.append(b"".join((_PREFIX, crc.to_bytes(4, "little"), front, row)))
        return rows

    def decode(self, rows: Sequence[bytes], slots: Slots) -> list[tuple[int, RowError]]:
        """Fill newly admitted slots from rows.

        Returns:
            Indexes of rows that cannot be read, each with why; their slots keep what they had.
        """
        faults: list[tuple[int, RowError]] = []
        groups: dict[bytes, list[int]] = {}
        for at, row in enumerate(rows):
            try:
                groups.setdefault(self._check(row), []).append(at)
            except RowError as error:
                faults.append((at, error))
        for layout, members in groups.items():
            dtype, start = self._layouts[layout], _HEAD.size + len(layout)
            packed = b"".join([rows[at][start:] for at in members])
            self._load(np.frombuffer(packed, dtype), slots[members])
        return faults

    def offset(self, row: bytes) -> int:
        """The last record applied to a row.

        Raises:
            RowError: the row cannot be read.
        """
        layout = self._check(row)
        cells = np.frombuffer(row, self._layouts[layout], 1, _HEAD.size + len(layout))
        return int(cells["offset"][0])

    def _check(self, row: bytes) -> bytes:
        """The layout of a row that is whole."""
        if len(row) < _HEAD.size or row[:3] != _MAGIC:
            raise RowError(f"row: {len(row)} bytes that begin with {row[:4]!r}, wanted {_MAGIC!r}")
        _, schema, crc, length = _HEAD.unpack_from(row)
        if schema != SCHEMA:
            raise RowError(f"row: schema {schema}, wanted {SCHEMA}")
        if zlib.crc32(memoryview(row)[8:]) != crc:
            raise RowError(f"row: another checksum over {len(row)} bytes, wanted {crc:08x}")
        layout = row[_HEAD.size : _HEAD.size + length]
        if layout not in self._layouts:
            self._layouts[layout] = self._parse(layout)
        if len(row) != _HEAD.size + length + self._layouts[layout].itemsize:
            raise RowError(f"row: {len(row)} bytes, wanted what its layout says")
        return layout

    def _parse(self, layout: bytes) -> np.dtype[Any]:
        """Dtype of a layout. Columns of another version get a name that no column has."""
        versions = {column.name: column.version for column in self._saved}
        try:
            meaning, parts = msgspec.json.decode(layout, type=_Layout)
            fields = [
                (name if versions.get(name, version) == version else f"{name}@{version}", *form)
                for name, *form, version in parts
            ]
            dtype = np.dtype(fields)
        except (msgspec.MsgspecError, TypeError, ValueError) as error:
            raise RowError(f"row: layout {layout[:80]!r}, wanted columns ({error})") from error
        if meaning != self._meaning:
            raise RowError(f"row: saved with {meaning}, wanted {self._meaning}")
        if "offset" not in (dtype.names or ()):
            raise RowError("row: no column 'offset', wanted one")
        return dtype

    def _load(self, cells: NDArray[Any], slots: Slots) -> None:
        for column in self._saved:
            if column.name not in (cells.dtype.names or ()):
                continue
            found = cells.dtype[column.name]
            if found == np.dtype((column.dtype, column.shape)):
                self._table.write(column.name, slots, cells[column.name])
            elif column.is_ring and found == np.dtype(
                (column.dtype, (*found.shape[:1], *column.shape[1:]))
            ):
                self._table.write(column.name, slots, _relaid(cells, column))


def _relaid(cells: NDArray[Any], column: Column) -> NDArray[Any]:
    """The cells of a ring whose length has changed, in places of the new length."""
    old, new = cells[column.name].shape[1], column.shape[0]
    relaid = np.full((len(cells), *column.shape), column.fill, column.dtype)
    rows = np.arange(len(cells))[:, None]
    numbers = cells["steps"][:, None] - np.arange(min(old, new))  # newest first
    kept = numbers >= 1
    rows, numbers = np.broadcast_to(rows, numbers.shape)[kept], numbers[kept]
    relaid[rows, (numbers - 1) % new] = cells[column.name][rows, (numbers - 1) % old]
    return relaid
