"""Which series have a place in the table, and which give theirs up.

A partition holds at most `windows.max_series` series. One more takes the place of the series that
has been idle longest, by record offset: the clock has no say in it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import repeat

import numpy as np

from forecastd.observe.events import SeriesEvicted, Telemetry
from forecastd.ports import Table
from forecastd.records import Observations, Slots, TopicPartition


@dataclass(slots=True)
class Admission:
    """Slots for series names.

    `evicted` collects the series that lost their place, with the slot they had, since the loop
    last emptied it.
    """

    table: Table
    max_series: int
    telemetry: Telemetry
    evicted: list[tuple[TopicPartition, str, int]] = field(default_factory=list)

    def chunks(self, polled: Sequence[Observations]) -> Iterator[list[Observations]]:
        """Cut what was polled so that each chunk's series have places at the same time.

        Nearly always that is one chunk. A chunk must be applied before the next is asked for,
        and it ends where a record ends: a single record with more series than the table may hold
        exceeds the bound until the partition's next one.
        """
        whole = [part for part in polled if self._fits(part)]
        if whole:
            yield whole
        for part in polled:
            if not any(part is other for other in whole):
                for piece in self._pieces(part):
                    yield [piece]

    def slots(self, part: Observations, silent_below: int) -> Slots:
        """The slot of each observation, new series admitted, idle ones evicted for them.

        Evictions that records below `silent_below` cause were told before.
        """
        slots = self.table.find(part.partition, part.series)
        missing = np.flatnonzero(slots < 0)
        names = list(dict.fromkeys(part.series[at] for at in missing.tolist()))
        over = self.table.count(part.partition) + len(names) - self.max_series
        if over > 0:
            heard = {part.series[at] for at in missing[part.offsets[missing] >= silent_below]}
            self._evict(part.partition, over, slots[slots >= 0], len(heard))
        if not names:
            return slots
        self.table.admit(part.partition, names)
        return self.table.find(part.partition, part.series)

    def _fits(self, part: Observations) -> bool:
        room = self.max_series - self.table.count(part.partition)
        if room >= len(part.series):
            return True
        slots = self.table.find(part.partition, part.series)
        new = {part.series[at] for at in np.flatnonzero(slots < 0).tolist()}
        return len(new) <= max(room, 0)

    def _pieces(self, part: Observations) -> Iterator[Observations]:
        start, ends = 0, np.flatnonzero(np.diff(part.offsets, append=-1)) + 1
        series: set[str] = set()
        begin = 0
        for end in ends.tolist():
            record = set(part.series[begin:end])
            if begin > start and len(series) + len(record - series) > self.max_series:
                yield _between(part, start, begin)
                start, series = begin, set()
            series |= record
            begin = end
        yield _between(part, start, begin)

    def _evict(self, partition: TopicPartition, count: int, keep: Slots, told_max: int) -> None:
        idle = np.setdiff1d(self.table.slots(partition), keep)
        count = min(count, len(idle))
        if not count:
            return
        oldest = np.argpartition(self.table["offset"][idle], count - 1)[:count]
        slots = idle[oldest].astype(np.int32)
        names = self.table.names(slots)
        self.evicted.extend(zip(repeat(partition), names, slots.tolist()))
        self.table.drop(slots)
        told = min(count, told_max)
        if told:
            self.telemetry.emit(SeriesEvicted(partition, told))


def _between(part: Observations, start: int, end: int) -> Observations:
    return Observations(
        part.partition,
        part.series[start:end],
        part.at_ms[start:end],
        part.values[start:end],
        part.offsets[start:end],
        part.recorded_ms[start:end],
    )
