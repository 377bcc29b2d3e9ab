"""What must be written so that a restart starts series cold: messages and offsets, no I/O.

**One series.** Its rows are removed, but the other series of the partition keep theirs, so that a
restart still reads the input from `resume_from`, and in silence up to the committed position. The
series would begin anew in the midst of that replay: at a record that is chosen by how far the rows
of its neighbours lag behind, and perhaps with the very records for whose sake it is reset. So a
**cold row** takes the place of its rows: no step, applied up to the last record below the committed
position, flagged `reset`. A restart then passes over what is replayed, and the series begins with
the first record that it publishes for. Where the removed row reached further (a crash between the
save and the commit), so does the cold row: forecasts that are out are not made again with other
numbers.

**All series.** Nothing is left that would need the replay, so that the committed position itself
becomes `resume_from`. Between the tombstones and that commit lies a moment that a crash could use,
so the metadata of the commits is taken away first: rows beside a commit that is not ours are taken
for an outside reset, which is what this is. Tombstones alone in between would let a restart replay
records into series that had a past; a commit of ours before them would vouch for rows that lack it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from forecastd.records import Column, Committed, Message, TopicPartition
from forecastd.state.row_codec import RowCodec
from forecastd.state.row_key import encode_key
from forecastd.state.table import SeriesTable


def cold_row(meaning: str, offset: int) -> bytes:
    """The row of a series that has no past and passes over every record up to `offset`.

    The columns that it leaves out begin anew in whatever daemon reads it.
    """
    table = SeriesTable([Column("steps", "<i8")], capacity=1)
    slots = table.admit(TopicPartition("", 0), [""])
    table["offset"][slots] = offset
    table["reset"][slots] = True
    (row,) = RowCodec(table, meaning).encode(slots)
    return row


def cold_offset(committed: Committed | None, newest_offset: int) -> int | None:
    """The last record that a series that is reset passes over.

    None where no row is needed: without a commit of ours a restart starts the whole partition cold.
    """
    if committed is None or committed.resume_from is None:
        return None
    return max(committed.position - 1, newest_offset)


def removals(state_topic: str, partition: int, keys: Iterable[bytes]) -> Iterator[Message]:
    """Tombstones for rows."""
    return (Message(state_topic, key, None, partition) for key in keys)


def replacement(state_topic: str, partition: int, series: str, writer: str, row: bytes) -> Message:
    """The row that takes the place of all others of a series; sent before their tombstones."""
    return Message(state_topic, encode_key(series, writer), row, partition)


def cold_start(committed: Committed, first: int, end: int) -> Committed | None:
    """The commit beside which no row stands: it goes on where the group is, and replays nothing.

    None where there should be no commit: a log that ends below the committed position is another
    one, begun anew, and the group begins with it as with any new one.

    Args:
        committed: as it is.
        first: lowest offset that the log holds; what lies below cannot be read any more.
        end: the offset after its last record.
    """
    if committed.position > end:
        return None
    position = max(committed.position, first)
    return Committed(position, position)
