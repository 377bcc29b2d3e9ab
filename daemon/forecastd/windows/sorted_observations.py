"""The observations of one poll as the windower works on them: sorted by slot."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from forecastd.records import Bools, Floats, Ints, Slots


@dataclass(frozen=True, slots=True, eq=False)
class SortedObservations:
    """Observations of several series, sorted by slot, in the order of their records.

    `starts` are the indexes at which a slot's observations begin.
    """

    slots: Slots
    offsets: Ints
    at_ms: Ints
    values: Floats
    recorded_ms: Ints
    is_silent: Bools
    starts: Ints

    def take(self, where: Bools | Ints) -> SortedObservations:
        """Those where `where` holds, or at these indexes."""
        slots = self.slots[where]
        return SortedObservations(
            slots,
            self.offsets[where],
            self.at_ms[where],
            self.values[where],
            self.recorded_ms[where],
            self.is_silent[where],
            _starts(slots),
        )


def _starts(slots: Slots) -> Ints:
    return np.flatnonzero(np.diff(slots, prepend=-1))


def ends_record(rows: SortedObservations) -> Bools:
    """Whether an observation is the last of its series in its record."""
    last = np.ones(len(rows.slots), np.bool_)
    last[:-1] = (rows.offsets[1:] != rows.offsets[:-1]) | (rows.slots[1:] != rows.slots[:-1])
    return last
