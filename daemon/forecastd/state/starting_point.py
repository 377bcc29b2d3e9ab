"""Where a partition is read from, once its rows are known: offsets and rows must fit together."""

from __future__ import annotations

from dataclasses import dataclass

from forecastd.errors import RestoreError
from forecastd.observe.events import OffsetsReset, PartitionRestored, Telemetry
from forecastd.ports import Source
from forecastd.records import Committed
from forecastd.state.restorer import Restored
from forecastd.state.row_saver import RowSaver
from forecastd.state.table import SeriesTable


@dataclass(frozen=True, slots=True)
class StartingPoint:
    """Finds where to begin, and starts series cold whose past cannot be had.

    Attributes:
        publish_history: with False what lies in the input at the first start is read in silence.
        stop_on_gap: rather stop than start series cold.
    """

    source: Source
    table: SeriesTable
    saver: RowSaver
    telemetry: Telemetry
    publish_history: bool
    stop_on_gap: bool

    def find(self, restored: Restored) -> Committed:
        """The position to go on from and the offset to resume at.

        Those of a first start are committed. Where series start cold that is left to the caller's
        next commit, which follows the tombstones of their rows: were a commit of ours to stand
        beside such a row, a restart would believe it.

        Raises:
            RestoreError: rows and offsets do not fit, and `state.on_gap` is to stop.
        """
        partition = restored.partition
        committed = self.source.committed(partition)
        first, end = self.source.bounds(partition)
        if committed is None and not restored.keys:
            start = self.source.start_offset(partition)
            begin = Committed(start if self.publish_history else end, start)
            self.source.commit({partition: begin})
        else:
            fault = offsets_fault(committed, first, end, has_rows=bool(restored.keys))
            if fault is None:
                assert committed is not None, "without a commit there is a fault"
                begin = committed
                # Like a series that an operator resets (`state/reset.py`): not in the midst of the
                # replay, at a record that the rows of its neighbours choose.
                self.table["offset"][restored.unreadable] = committed.position - 1
                self.saver.queue(restored.unreadable)
            else:
                begin = self._start_cold(restored, committed, fault, first, end)
        assert begin.resume_from is not None, "whatever begins says where"
        self.telemetry.emit(
            PartitionRestored(
                partition,
                self.table.count(partition),
                begin.resume_from,
                begin.position,
                restored.seconds,
            )
        )
        return begin

    def _start_cold(
        self, restored: Restored, committed: Committed | None, fault: str, first: int, end: int
    ) -> Committed:
        partition = restored.partition
        if self.stop_on_gap:
            wanted = "offsets that fit the saved state; state.on_gap = 'reset' starts cold"
            raise RestoreError(f"{partition}: {fault}, wanted {wanted}")
        names = self.table.names(self.table.slots(partition))
        self.saver.start_over(partition, restored.keys)
        self.table.drop_partition(partition)
        cold = self.table.admit(partition, names)
        self.table["reset"][cold] = True
        self.saver.queue(cold)  # or a crash before their next row would forget that they were reset
        if committed is None or committed.position > end:
            # A log that ends below what was committed is another one, begun anew.
            position = self.source.start_offset(partition)
        else:
            position = max(committed.position, first)
        self.telemetry.emit(OffsetsReset(partition, fault, len(names)))
        return Committed(position, position)


def offsets_fault(
    committed: Committed | None, first: int, end: int, *, has_rows: bool
) -> str | None:
    """Why rows and offsets do not fit, or None."""
    if committed is None:
        return "saved rows and no committed offset"
    if committed.resume_from is None:
        return f"offset {committed.position} was committed by another tool"
    if committed.position > end:
        return f"offset {committed.position} is committed and the log ends at {end}"
    if committed.resume_from < first:
        return f"must resume at {committed.resume_from} and the log begins at {first}"
    if committed.has_rows and not has_rows:
        return f"offset {committed.position} was committed beside saved rows, and none is left"
    return None
