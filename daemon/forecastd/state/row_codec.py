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
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from forecastd.errors import RowError
from forecastd.records import Column, Slots
from forecastd.state.table import SeriesTable

SCHEMA = 1
"""Version of the frame above; the columns carry their own."""

_HEAD = struct.Struct("<3sBIH")
_OFFSET = struct.Struct("=q")
_MAGIC = b"fcr"
_Numbers = Annotated[str, Meta(pattern=r"^[<>|]?[biuf][0-9]{1,2}$")]
"""A type of numbers. numpy takes much else for a type, and some of it for Python to be run."""
_Axis = Annotated[int, Meta(ge=0, le=2**31)]
_Layout = tuple[str, list[tuple[str, _Numbers, tuple[_Axis, ...], int]]]
_NEEDED = ("offset", "steps")  # which row is newest, and where a ring ends
_PREFIX = _MAGIC + bytes([SCHEMA])


def row_meaning(timesteps: int, values: Sequence[str]) -> str:
    """The settings without which the numbers of a row mean nothing."""
    return f"timesteps={timesteps} values={','.join(values)}"


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """What a row holds, whatever daemon saved it.

    Attributes:
        meaning: `row_meaning` of the settings that it was saved with.
        columns: its cells by column, each with the column's shape; they share the row's memory.
    """

    meaning: str
    columns: dict[str, NDArray[Any]]

    def number(self, name: str) -> int | None:
        """The cell of a column of one whole number; None where the row does not hold it so."""
        cell = self.columns.get(name)
        return (
            int(cell) if cell is not None and cell.ndim == 0 and cell.dtype.kind in "iu" else None
        )


def read_row(row: bytes) -> Row:
    """Read a row by what it says of itself: for tools, which have no table to put it into.

    Raises:
        RowError: it is no row, of another schema, or damaged.
    """
    layout = _checked_layout(row)
    meaning, dtype = _described(layout)
    _check_length(row, _HEAD.size + len(layout) + dtype.itemsize)
    cells = np.frombuffer(row, dtype, 1, _HEAD.size + len(layout))
    return Row(meaning, {name: cells[name][0, ...] for name in dtype.names or ()})


def row_schema(row: bytes) -> int | None:
    """The schema version that a row names, readable or not; None where it is no row of ours."""
    return row[3] if len(row) >= _HEAD.size and row[:3] == _MAGIC else None


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
        self._layouts: dict[bytes, np.dtype[Any]] = {}  # the dtype of a whole row, frame included

    @property
    def columns(self) -> list[str]:
        """Names of the columns that `decode` writes."""
        return [column.name for column in self._saved]

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

    def decode(self, rows: Sequence[bytes], slots: Slots) -> None:
        """Fill slots from rows; a column that a row does not hold in our form begins anew.

        Args:
            rows: each of them one that `offset` could read: it is not checked a second time.
            slots: theirs, distinct.
        """
        groups: dict[bytes, list[int]] = {}
        for at, row in enumerate(rows):
            groups.setdefault(_layout(row), []).append(at)
        for layout, members in groups.items():
            packed = b"".join([rows[at] for at in members])
            self._load(np.frombuffer(packed, self._layout_dtype(layout)), slots[members])

    def offset(self, row: bytes) -> int:
        """The last record applied to a row.

        Raises:
            RowError: the row cannot be read.
        """
        dtype = self._layout_dtype(_checked_layout(row))
        _check_length(row, dtype.itemsize)
        assert dtype.fields is not None, "a row has columns"
        offset: int = _OFFSET.unpack_from(row, dtype.fields["offset"][1])[0]
        return offset

    def _layout_dtype(self, layout: bytes) -> np.dtype[Any]:
        """Dtype of a whole row of a layout, the columns where they lie behind the frame."""
        dtype = self._layouts.get(layout)
        if dtype is None:
            dtype = self._layouts[layout] = _framed(self._parse(layout), layout)
        return dtype

    def _parse(self, layout: bytes) -> np.dtype[Any]:
        """Dtype of a layout. Columns of another version get a name that no column has."""
        versions = {column.name: column.version for column in self._saved}

        def known_as(name: str, version: int) -> str:
            return name if versions.get(name, version) == version else f"{name}@{version}"

        meaning, dtype = _parsed(layout, known_as)
        if meaning != self._meaning:
            raise RowError(f"row: saved with {meaning}, wanted {self._meaning}")
        return dtype

    def _load(self, cells: NDArray[Any], slots: Slots) -> None:
        forms = _forms(cells.dtype)
        for column in self._saved:
            found = forms.get(column.name)
            if found == np.dtype((column.dtype, column.shape)):
                self._table.write(column.name, slots, cells[column.name])
            elif found is not None and _is_same_ring(found, column):
                self._table.write(column.name, slots, _relaid(cells, column))
            else:
                fill = np.full((len(slots), *column.shape), column.fill, column.dtype)
                self._table.write(column.name, slots, fill)


def _checked_layout(row: bytes) -> bytes:
    """The layout of a row that is whole."""
    if len(row) < _HEAD.size or row[:3] != _MAGIC:
        raise RowError(f"row: {len(row)} bytes that begin with {row[:4]!r}, wanted {_MAGIC!r}")
    _, schema, crc, length = _HEAD.unpack_from(row)
    if schema != SCHEMA:
        raise RowError(f"row: schema {schema}, wanted {SCHEMA}")
    if zlib.crc32(memoryview(row)[8:]) != crc:
        raise RowError(f"row: another checksum over {len(row)} bytes, wanted {crc:08x}")
    return row[_HEAD.size : _HEAD.size + length]


def _layout(row: bytes) -> bytes:
    """The layout of a row that is known to be whole."""
    return row[_HEAD.size : _HEAD.size + int.from_bytes(row[8:10], "little")]


def _framed(dtype: np.dtype[Any], layout: bytes) -> np.dtype[Any]:
    """The dtype of a whole row: its columns, moved behind the frame."""
    start, fields = _HEAD.size + len(layout), dtype.fields
    assert fields is not None, "a row has columns"
    forms, offsets = zip(*[(form, start + at) for form, at, *_ in fields.values()], strict=True)
    return np.dtype(
        {
            "names": list(fields),
            "formats": list(forms),
            "offsets": list(offsets),
            "itemsize": start + dtype.itemsize,
        }
    )


def _check_length(row: bytes, wanted: int) -> None:
    if len(row) != wanted:
        raise RowError(f"row: {len(row)} bytes, wanted what its layout says")


def _parsed(layout: bytes, known_as: Callable[[str, int], str]) -> tuple[str, np.dtype[Any]]:
    """Meaning and dtype of a layout; `known_as` names a column of some version."""
    try:
        meaning, parts = msgspec.json.decode(layout, type=_Layout)
        dtype = np.dtype([(known_as(name, version), *form) for name, *form, version in parts])
    except (msgspec.MsgspecError, TypeError, ValueError, OverflowError) as error:
        wanted = f"columns of numbers ({error})"
        raise RowError(f"row: layout {layout[:80]!r}, wanted {wanted}") from error
    forms = _forms(dtype)
    wrong = [name for name in _NEEDED if forms.get(name) != np.int64]
    if wrong:
        raise RowError(f"row: no column {wrong[0]!r} of the type int64, wanted one")
    return meaning, dtype


@lru_cache(maxsize=64)
def _described(layout: bytes) -> tuple[str, np.dtype[Any]]:
    """Meaning and dtype of a layout, every column under its own name."""
    return _parsed(layout, lambda name, _version: name)


def _forms(row: np.dtype[Any]) -> dict[str, np.dtype[Any]]:
    """Type and shape of each column of a row."""
    return {name: row[name] for name in row.names or ()}


def _is_same_ring(found: np.dtype[Any], column: Column) -> bool:
    """Whether these are cells of the same ring, of another length."""
    shape = (*found.shape[:1], *column.shape[1:])
    return column.is_ring and found.shape == shape and found.base == np.dtype(column.dtype)


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
