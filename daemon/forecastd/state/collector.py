"""Giving up series that do not come back: their place in the table, and their rows.

That is garbage collection, and changes no forecast. A series that was away for `state.series_ttl`
by the timestamps of its records begins anew when it returns (`windows/windower.py`), so once the
records of its partition have got that far, nobody will read what it remembers. Time is what records
say, never the clock: a replay collects nothing that the first run would still have used.

The rows are removed a turn later than the series. Were the last row of a partition removed before
the commit that no longer counts on it, a crash in between would look like a state topic that was
emptied.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from forecastd.observe.events import SeriesCollected, Telemetry
from forecastd.records import Committed, Polled, Slots, TopicPartition
from forecastd.state.row_saver import RowSaver
from forecastd.state.table import NOT_IN_ROW, SeriesTable

SLOTS_A_TURN = 4096
"""Slots that are looked at in a turn: the table is gone through in pieces, for ever."""


@dataclass(slots=True)
class Collector:
    """Looks for series to give up, a piece of the table each turn.

    Attributes:
        slots_a_turn: how many slots that is.
    """

    table: SeriesTable
    saver: RowSaver
    series_ttl_ms: int
    telemetry: Telemetry
    slots_a_turn: int = SLOTS_A_TURN
    _times_ms: dict[TopicPartition, tuple[int, int]] = field(default_factory=dict)
    _next: int = 0

    def note_time(self, polled: Polled) -> None:
        """Note how far each partition has got, by the timestamps of its records."""
        for partition, records in polled.records.items():
            time_ms = min(records[0].timestamp, records[-1].timestamp)
            _, before_ms = self._times_ms.get(partition, (-1, -1))
            self._times_ms[partition] = before_ms, time_ms

    def time_ms(self, partition: TopicPartition) -> int:
        """The time that a partition has surely passed; -1: none is known.

        It is the lower of two polls, so that a record from a producer whose clock is wrong, dated
        a year ahead, does not give up every other series.
        """
        return min(self._times_ms.get(partition, (-1, -1)))

    def collect(self, committed: Mapping[TopicPartition, Committed]) -> None:
        """Give up series of the next piece of the table.

        Args:
            committed: what the broker has acknowledged, of partitions that are served.
        """
        recorded_ms = self.table["recorded_ms"]
        begin, end = self._next, min(self._next + self.slots_a_turn, len(recorded_ms))
        self._next = end % len(recorded_ms)
        newest_ms = max(map(self.time_ms, committed), default=-1)
        is_idle = recorded_ms[begin:end] < newest_ms - self.series_ttl_ms
        idle: Slots = np.arange(begin, end, dtype=np.int32)[is_idle]
        idle = idle[self.table.is_used(idle)]
        partitions = self.table.partitions(idle)
        for partition in dict.fromkeys(partitions):
            if partition in committed:
                ours = np.array([other == partition for other in partitions], np.bool_)
                self._collect(partition, idle[ours], committed[partition].resume_from or 0)

    def _collect(self, partition: TopicPartition, idle: Slots, resume_from: int) -> None:
        table, time_ms = self.table, self.time_ms(partition)
        recorded_ms = table["recorded_ms"][idle]
        # Of rows that do not say, the time begins now.
        table["recorded_ms"][idle[recorded_ms < 0]] = time_ms
        away = idle[(recorded_ms >= 0) & (recorded_ms < time_ms - self.series_ttl_ms)]
        is_saved = table["unsaved_from"][away] == NOT_IN_ROW
        # No window will make these rows due, and a restart would read from their first record on.
        self.saver.queue(away[~is_saved])
        gone = away[is_saved & (table["offset"][away] < resume_from)]
        if not len(gone):
            return
        for name, slot in zip(table.names(gone), gone.tolist(), strict=True):
            self.saver.evict(partition, name, slot)
        table.drop(gone)
        self.telemetry.emit(SeriesCollected(partition, len(gone)))
