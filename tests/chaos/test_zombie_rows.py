"""What the zombie scenario reads off the state topic."""

from __future__ import annotations

from forecastd.records import Column
from forecastd.state.row_codec import RowCodec
from forecastd.state.row_key import encode_key
from forecastd.state.table import SeriesTable
from tests.chaos.zombie import count_overtaken, newest_offsets, restored_offsets
from tests.in_memory import P0


def saved(writer: str, offset: int | None, series: str = "a") -> tuple[bytes, bytes | None]:
    """A row whose last record is `offset`; None: a tombstone."""
    key = encode_key(series, writer)
    if offset is None:
        return key, None
    table = SeriesTable([Column("steps", "<i8")], capacity=1)
    slots = table.admit(P0, [series])
    table["offset"][slots] = offset
    return key, RowCodec(table, "m").encode(slots)[0]


def test_rows_that_came_after_a_newer_one_are_counted_by_series() -> None:
    """They are what a frozen instance had in hand when it was frozen."""
    rows = [saved("w1", 10), saved("w2", 30), saved("w1", 20), saved("w2", None), saved("w3", 30)]
    numbered = [(at, *row) for at, row in enumerate([*rows, saved("w1", 5, "b")])]
    assert count_overtaken(numbered) == 1


def test_a_restore_uses_the_newest_row_that_no_tombstone_has_removed() -> None:
    """Whatever the order in which an owner and a frozen instance wrote theirs."""
    rows = [saved("owner", 20), saved("frozen", 30), saved("frozen", None), saved("w", 4, "b")]
    assert newest_offsets(rows) == restored_offsets(rows) == {"a": 20, "b": 4}
    assert newest_offsets(rows[:2]) == restored_offsets(rows[:2]) == {"a": 30}
