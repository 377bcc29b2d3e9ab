from __future__ import annotations

import struct
import zlib
from typing import Any

import msgspec
import numpy as np
import pytest

from forecastd.errors import RowError
from forecastd.forecast.bank_columns import bank_columns
from forecastd.memory.network import MemoryNetwork
from forecastd.records import Column
from forecastd.state.row_codec import RowCodec
from forecastd.state.table import SeriesTable
from forecastd.wiring import build_table
from tests.in_memory import P0, fields, make_model, make_settings

MEANING = "timesteps=4 values=value"
SLOTS = 5
NEEDED: list[list[Any]] = [["offset", "<i8", [], 1], ["steps", "<i8", [], 1]]


def fill_with_noise(table: SeriesTable, slots: np.ndarray, seed: int = 0) -> None:
    """Every cell of every column gets random bytes: any float, NaN of any kind among them."""
    rng = np.random.default_rng(seed)
    for column in table.columns:
        dtype = np.dtype(column.dtype)
        cells = np.empty((len(slots), *column.shape), dtype)
        noise = rng.integers(0, 256, cells.nbytes, np.uint8)
        if dtype == np.bool_:
            noise &= 1
        table.write(column.name, slots, noise.view(dtype).reshape(cells.shape))


def cells_of(table: SeriesTable, slots: np.ndarray, *, saved: bool = True) -> dict[str, bytes]:
    """Bits of every column."""
    return {
        column.name: table.read(column.name, slots).tobytes()
        for column in table.columns
        if column.saved == saved
    }


def full_table(**sections: Any) -> SeriesTable:
    """The table of the daemon, with a model's state in it."""
    settings = make_settings(windows={"stride": 2}, ingest={"values": fields(2)}, **sections)
    return build_table(settings, make_model(settings))


def small(*columns: Column, meaning: str = MEANING) -> tuple[SeriesTable, RowCodec, np.ndarray]:
    """A table with `steps` and these columns, and its only slot."""
    table = SeriesTable([Column("steps", "<i8"), *columns])
    return table, RowCodec(table, meaning), table.admit(P0, ["a"])


def framed(layout: bytes, cells: bytes, *, schema: int = 1, magic: bytes = b"fcr") -> bytes:
    """A row whose frame is whole, whatever it holds."""
    body = struct.pack("<H", len(layout)) + layout + cells
    return magic + bytes([schema]) + struct.pack("<I", zlib.crc32(body)) + body


def row_of(columns: list[list[Any]], cells: bytes, meaning: str = MEANING) -> bytes:
    return framed(msgspec.json.encode([meaning, columns]), cells)


class TestRows:
    @pytest.mark.parametrize("seed", range(5))
    def test_read_back_bit_for_bit(self, seed: int) -> None:
        """All columns that the stages declare, those in the model's bank too."""
        table = full_table()
        slots = table.admit(P0, [f"s{at}" for at in range(SLOTS)])
        fill_with_noise(table, slots, seed)
        rows = RowCodec(table, MEANING).encode(slots)
        other = full_table()
        other.admit(P0, ["taken"])
        target = other.admit(P0, [f"s{at}" for at in range(SLOTS)])
        before = cells_of(other, target, saved=False)
        codec = RowCodec(other, MEANING)
        codec.decode(rows, target)
        assert cells_of(other, target) == cells_of(table, slots)
        assert cells_of(other, target, saved=False) == before
        assert {len(row) for row in rows} == {codec.row_bytes}
        assert codec.encode(target) == rows

    def test_tell_their_offset_without_being_read(self) -> None:
        table = full_table()
        slots = table.admit(P0, ["a", "b"])
        table["offset"][slots] = [2**40, -1]
        codec = RowCodec(table, MEANING)
        assert [codec.offset(row) for row in codec.encode(slots)] == [2**40, -1]

    def test_of_nothing_are_none(self) -> None:
        table = full_table()
        codec = RowCodec(table, MEANING)
        assert codec.encode(np.zeros(0, np.int32)) == []
        codec.decode([], np.zeros(0, np.int32))

    def test_of_several_layouts_may_come_together(self) -> None:
        """Compaction keeps rows of all ages."""
        old, old_codec, old_slot = small(Column("x", "<i8"))
        old["x"][old_slot] = 7
        new, new_codec, new_slot = small(Column("x", "<i8"), Column("y", "<i8", fill=3))
        new["x"][new_slot], new["y"][new_slot] = 8, 9
        rows = [
            *old_codec.encode(old_slot),
            *new_codec.encode(new_slot),
            *old_codec.encode(old_slot),
        ]
        slots = new.admit(P0, ["b", "c", "d"])
        new_codec.decode(rows, slots)
        assert new["x"][slots].tolist() == [7, 8, 7]
        assert new["y"][slots].tolist() == [3, 9, 3]


@pytest.fixture(scope="module")
def codec() -> RowCodec:
    return RowCodec(full_table(), MEANING)


@pytest.fixture(scope="module")
def row() -> bytes:
    table = full_table()
    slots = table.admit(P0, ["a"])
    fill_with_noise(table, slots)
    return RowCodec(table, MEANING).encode(slots)[0]


class TestBrokenRows:
    def test_that_are_cut_anywhere_are_refused(self, codec: RowCodec, row: bytes) -> None:
        for length in [*range(60), *range(60, len(row), 37), len(row) - 1]:
            with pytest.raises(RowError, match=r"^row: .+, wanted .+"):
                codec.offset(row[:length])

    def test_with_any_byte_changed_are_refused(self, codec: RowCodec, row: bytes) -> None:
        for at in [*range(40), *range(40, len(row), 23)]:
            changed = bytearray(row)
            changed[at] ^= 0x10
            with pytest.raises(RowError):
                codec.offset(bytes(changed))

    def test_with_something_behind_are_refused(self, codec: RowCodec, row: bytes) -> None:
        with pytest.raises(RowError, match="checksum"):
            codec.offset(row + b"\0")

    def test_of_random_bytes_are_refused(self, codec: RowCodec) -> None:
        rng = np.random.default_rng(0)
        for _ in range(200):
            noise = rng.bytes(int(rng.integers(0, 60)))
            for row in (noise, b"fcr\x01" + noise, framed(noise, b""), framed(noise, noise)):
                with pytest.raises(RowError):
                    codec.offset(row)

    @pytest.mark.parametrize(
        ("row", "said"),
        [
            (b"", "0 bytes that begin with b''"),
            (b"PAR1" + b"x" * 20, "24 bytes that begin with b'PAR1'"),
            (framed(b"[]", b"", schema=2), "schema 2, wanted 1"),
            (framed(b"not JSON", b""), "layout b'not JSON', wanted columns"),
            (framed(b'["m",[["offset"]]]', b""), "wanted columns"),
            (row_of([["offset", "no such type", [], 1]], b"12345678"), "wanted columns"),
            (row_of([["offset", "<i8", [-1], 1]], b""), "wanted columns"),
            (row_of([["offset", "<i8", [2**40, 2**40], 1]], b""), "wanted columns"),
            (row_of([*NEEDED, ["offset", "<i8", [], 1]], b"x" * 24), "wanted columns"),
            (row_of([*NEEDED, ["x", "O", [], 1]], b"x" * 24), "wanted columns of numbers"),
            (row_of([["steps", "<i8", [], 1]], b"12345678"), "'offset' of the type int64"),
            (row_of([["offset", "<f8", [], 1], NEEDED[1]], b"x" * 16), "no column 'offset'"),
            (row_of([["offset", "<i8", [2], 1], NEEDED[1]], b"x" * 24), "no column 'offset'"),
            (row_of(NEEDED[:1], b"12345678"), "no column 'steps'"),
            (row_of(NEEDED, b"1234567"), "bytes, wanted what its layout says"),
            (row_of([], b""), "no column 'offset'"),
            (
                row_of(NEEDED, b"x" * 16, "timesteps=8 values=value"),
                "saved with timesteps=8 values=value, wanted timesteps=4 values=value",
            ),
        ],
    )  # fmt: skip
    def test_of_another_hand_are_refused_with_what_is_wrong(
        self, codec: RowCodec, row: bytes, said: str
    ) -> None:
        """Whole by their checksum, and still not ours."""
        with pytest.raises(RowError) as error:
            codec.offset(row)
        assert said in str(error.value)
        assert str(error.value).startswith("row: ")
        assert ", wanted " in str(error.value)


class TestChangedColumns:
    def test_that_are_unknown_are_passed_over(self) -> None:
        old, old_codec, old_slot = small(Column("gone", "<f8", (3,)), Column("x", "<i8"))
        old["x"][old_slot] = 7
        new, new_codec, slot = small(Column("x", "<i8"))
        new_codec.decode(old_codec.encode(old_slot), slot)
        assert new["x"][slot] == 7

    @pytest.mark.parametrize(
        "now",
        [
            Column("x", "<f4", (2,), fill=9),  # another type
            Column("x", "<i8", (3,), fill=9),  # another shape
            Column("x", "<i8", (2,), fill=9, version=2),  # another meaning
            Column("y", "<i8", (2,), fill=9),
        ],
    )
    def test_of_another_form_begin_anew(self, now: Column) -> None:
        """Also where the slot held another row before: nothing of that may shine through."""
        old, old_codec, old_slot = small(Column("x", "<i8", (2,)), Column("kept", "<i8"))
        old["x"][old_slot], old["kept"][old_slot] = 5, 6
        new, new_codec, slot = small(now, Column("kept", "<i8"))
        new[now.name][slot] = 1
        new_codec.decode(old_codec.encode(old_slot), slot)
        assert (new[now.name][slot] == 9).all()
        assert new["kept"][slot] == 6

    def test_in_the_bank_begin_anew(self) -> None:
        def with_units(units: int) -> tuple[SeriesTable, RowCodec, np.ndarray]:
            network = MemoryNetwork(2, 1, (1, 1, 1), units)
            stores = bank_columns(network, network.states, 2)
            table = SeriesTable([Column("steps", "<i8")], stores)
            return table, RowCodec(table, MEANING), table.admit(P0, ["a"])

        old, old_codec, old_slot = with_units(3)
        fill_with_noise(old, old_slot)
        new, new_codec, slot = with_units(4)
        new.write("h0", slot, np.ones((1, 2, 4), np.float32))
        new_codec.decode(old_codec.encode(old_slot), slot)
        assert not new.read("h0", slot).any()
        assert new["steps"][slot] == old["steps"][old_slot]


class TestRings:
    @pytest.mark.parametrize("steps", [0, 1, 3, 4, 5, 9, 10, 11, 1_000])
    @pytest.mark.parametrize(("before", "now"), [(4, 10), (10, 4), (4, 5), (5, 5), (1, 9)])
    def test_of_another_length_keep_the_newest_steps(
        self, before: int, now: int, steps: int
    ) -> None:
        """A longer season or more priming windows must not cost what is there."""
        old, old_codec, old_slot = small(Column("ring", "<f8", (before, 2), np.nan, is_ring=True))
        old["steps"][old_slot] = steps
        for number in range(max(1, steps - before + 1), steps + 1):
            old["ring"][old_slot, (number - 1) % before] = [number, -number]
        new, new_codec, slot = small(Column("ring", "<f8", (now, 2), np.nan, is_ring=True))
        new_codec.decode(old_codec.encode(old_slot), slot)
        wanted = np.full((now, 2), np.nan)
        for number in range(max(1, steps - min(before, now) + 1), steps + 1):
            wanted[(number - 1) % now] = [number, -number]
        np.testing.assert_array_equal(new["ring"][slot[0]], wanted)

    @pytest.mark.parametrize("form", [["<f8", []], ["<f8", [4, 3]], ["<f4", [4, 2]], ["<f8", [4]]])
    def test_of_another_form_begin_anew(self, form: list[Any]) -> None:
        new, codec, slot = small(Column("ring", "<f8", (5, 2), np.nan, is_ring=True))
        columns = [*NEEDED, ["ring", *form, 1]]
        size = np.dtype([(name, dtype, tuple(shape)) for name, dtype, shape, _ in columns]).itemsize
        codec.decode([row_of(columns, bytes(size))], slot)
        assert np.isnan(new["ring"][slot]).all()
