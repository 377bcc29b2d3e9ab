"""Rows of schema 1 as forecastd 0.1.0 wrote them, read for ever.

`rows_schema_1.bin` is never written again: it stands for the state topics of people who upgrade. Of
each message it holds the length of the key (4 bytes, little-endian), the key, the length of the row
and the row. It was made once, from the table of `small_table` below, by

    rows = zip(NAMES, codec.encode(slots))
    messages = [(encode_key(name, "5f0c9a3e"), row) for name, row in rows]
    messages.append((encode_key("cold", "reset-00c0ffee"), cold_row(MEANING, 77)))

with `codec = RowCodec(table, MEANING)`. A test of a later schema gets a file of its own.
"""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from forecastd.errors import RowError
from forecastd.records import Column, Slots, TopicPartition
from forecastd.state.reset import cold_row
from forecastd.state.row_codec import RowCodec, read_row, row_meaning, row_schema
from forecastd.state.row_key import decode_key
from forecastd.state.table import SeriesTable

FILE = Path(__file__).with_name("rows_schema_1.bin")
NAMES = ["host.cpu0", "größe ☃ 温度", 'a "quoted"\nname\x1b[2J', "new"]
MEANING = "timesteps=4 values=value,größe"
COLUMNS = [
    Column("steps", "<i8"),
    Column("at_ms", "<i8", fill=-(2**62)),
    Column("tail", "<f8", (5, 2), fill=np.nan, is_ring=True),
    Column("gap_ms", "<u4", (5,), is_ring=True),
    Column("version", "<u8", (2,), version=7),
    Column("pending", "<f4", (1, 4, 3, 2), fill=np.nan),
    Column("h0", "<f4", (2, 3)),
]
ODD_NAN = struct.unpack("<d", b"\x01\x00\x00\x00\x00\x00\xf4\x7f")[0]
"""A NaN with a payload of its own: what is read back must be the same bits."""


def small_table() -> tuple[SeriesTable, Slots]:
    """The table that the file was made from; the last series has no step."""
    table = SeriesTable(COLUMNS, capacity=4)
    slots = table.admit(TopicPartition("records", 0), NAMES)
    numbers = np.arange(4)
    table["offset"][slots] = [41, 2**40, 1042, -1]
    table["reset"][slots] = numbers == 1
    table["steps"][slots] = [3, 1_000_000, 7, 0]
    table["at_ms"][slots[:3]] = 1_790_000_000_000 + 10_000 * numbers[:3]
    table["tail"][slots[:3]] = np.linspace(-1e300, 1e300, 30).reshape(3, 5, 2)
    table["tail"][slots[0], 3:] = np.nan
    table["tail"][slots[1], 0] = [np.inf, ODD_NAN]
    table["gap_ms"][slots[:3]] = np.array([0, 1, 10_000, 2**31, 2**32 - 1])
    table["version"][slots] = numbers[:, None] * np.array([1, 2**62], np.uint64)
    table["pending"][slots[2]] = np.arange(24, dtype=np.float32).reshape(1, 4, 3, 2) / 3
    table["h0"][slots] = np.linspace(-1, 1, 24, dtype=np.float32).reshape(4, 2, 3)
    return table, slots


def messages() -> list[tuple[bytes, bytes]]:
    """Keys and rows of the file."""
    data, at, parts = FILE.read_bytes(), 0, []
    while at < len(data):
        (length,) = struct.unpack_from("<I", data, at)
        parts.append(data[at + 4 : at + 4 + length])
        at += 4 + length
    return list(zip(parts[::2], parts[1::2], strict=True))


KEYS, ROWS = map(list, zip(*messages(), strict=True))


class TestRowsOfSchema1:
    def test_have_keys_that_name_series_and_writer(self) -> None:
        named = [decode_key(key) for key in KEYS]
        assert named[:-1] == [(name, "5f0c9a3e") for name in NAMES]
        assert named[-1] == ("cold", "reset-00c0ffee")

    def test_are_read_into_a_table_bit_for_bit(self) -> None:
        wanted, slots = small_table()
        table = SeriesTable(COLUMNS)
        target = table.admit(TopicPartition("other", 3), NAMES)
        RowCodec(table, MEANING).decode(ROWS[:-1], target)
        for column in table.columns:
            if column.saved:
                found = table.read(column.name, target).tobytes()
                assert found == wanted.read(column.name, slots).tobytes(), column.name

    def test_are_read_without_a_table_bit_for_bit(self) -> None:
        """What `forecastd state` does; it knows no columns but those that a row names."""
        table, slots = small_table()
        saved = [column for column in table.columns if column.saved]
        for slot, row in zip(slots, ROWS, strict=False):
            found = read_row(row)
            assert found.meaning == MEANING == row_meaning(4, ("value", "größe"))
            assert list(found.columns) == [column.name for column in saved]
            for column in saved:
                cell = found.columns[column.name]
                assert (cell.dtype, cell.shape) == (np.dtype(column.dtype), column.shape)
                assert cell.tobytes() == table[column.name][slot].tobytes(), column.name

    def test_are_what_is_written_today(self) -> None:
        """Once this fails, the frame has changed: it needs another schema version, and its file."""
        table, slots = small_table()
        assert RowCodec(table, MEANING).encode(slots) == ROWS[:-1]
        assert cold_row(MEANING, 77) == ROWS[-1]

    def test_give_what_they_hold_to_a_daemon_with_other_columns(self) -> None:
        """A longer ring, another version of the weights' column, no pending forecasts."""
        others = [
            Column("tail", "<f8", (9, 2), fill=np.nan, is_ring=True),
            Column("version", "<u8", (2,), version=8),
        ]
        table = SeriesTable([*COLUMNS[:2], *others])
        slots = table.admit(TopicPartition("records", 0), NAMES)
        RowCodec(table, MEANING).decode(ROWS[:-1], slots)
        wanted, _ = small_table()
        assert table["tail"][slots[0], :3].tolist() == wanted["tail"][0, :3].tolist()
        assert np.isnan(table["tail"][slots[0], 3:]).all()
        assert not table["version"][slots].any()

    def test_let_a_reset_series_begin_anew(self) -> None:
        table = SeriesTable(COLUMNS)
        slots = table.admit(TopicPartition("records", 0), ["cold"])
        fresh = {column.name: table[column.name][slots].tobytes() for column in COLUMNS}
        table["tail"][slots], table["steps"][slots] = 1.0, 9
        RowCodec(table, MEANING).decode(ROWS[-1:], slots)
        assert {name: table[name][slots].tobytes() for name in fresh} == fresh
        assert table["offset"][slots].tolist() == [77]
        assert table["reset"][slots].tolist() == [True]


class TestReadRow:
    def test_gives_whole_numbers_and_none_for_what_is_not_there(self) -> None:
        row = read_row(ROWS[1])
        assert (row.number("offset"), row.number("steps")) == (2**40, 1_000_000)
        assert row.number("late") is None
        assert row.number("tail") is None

    def test_reads_rows_of_any_meaning(self) -> None:
        """A tool shows what other settings have saved; a daemon must not use it."""
        assert read_row(cold_row("timesteps=9 values=x", 3)).meaning == "timesteps=9 values=x"

    @pytest.mark.parametrize("at", [0, 3, 5, 9, 40, -1])
    def test_refuses_a_damaged_row(self, at: int) -> None:
        damaged = bytearray(ROWS[0])
        damaged[at] ^= 0xFF
        with pytest.raises(RowError, match=r"^row: .*, wanted "):
            read_row(bytes(damaged))

    @pytest.mark.parametrize("length", [0, 3, 9, 100])
    def test_refuses_a_row_that_is_cut(self, length: int) -> None:
        with pytest.raises(RowError, match=r"^row: .*, wanted "):
            read_row(ROWS[0][:length])

    def test_tells_the_schema_of_what_it_cannot_read(self) -> None:
        later = ROWS[0][:3] + b"\x09" + ROWS[0][4:]
        assert [row_schema(row) for row in (ROWS[0], later, b"", b"noise, and more")] == [
            1,
            9,
            None,
            None,
        ]
        with pytest.raises(RowError, match="row: schema 9, wanted 1"):
            read_row(later)
