"""From observations to windows: steps are written to the tails, and forecast origins come out.

One call takes the observations of a whole poll. Cost per observation is one dictionary look-up and
a share of a few array writes; the number of numpy calls follows the number of windows that one
series completes within the poll, not the number of series.

The regular time grid (`windows.step`) will take its place between `_increasing` and `_steps`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from forecastd.observe.events import SeriesLosesObservations, Telemetry
from forecastd.ports import Table
from forecastd.records import (
    Bools,
    Column,
    Ints,
    Observations,
    Round,
    Slots,
    TopicPartition,
)
from forecastd.series_tail import append_steps, tail_columns
from forecastd.windows.admission import Admission
from forecastd.windows.sorted_observations import SortedObservations, ends_record

COLD = -1
"""Phase of an origin at which no window ends."""

_KEPT = ("offset", "unsaved_from", "recorded_ms", "seen", "late", "warned")
"""What a series that begins anew still knows: which records it has seen."""

SEEN_BEFORE_WARNING = 20
"""Observations of a series below which the share that it loses says nothing."""


@dataclass(slots=True)
class Windower:
    """Groups the steps of each series into windows of `timesteps`, one every `stride` steps.

    Since the loop last emptied them, `accepted` and `late` count the observations taken and those
    with an equal or older time and `expired` the series that began anew (replayed ones do not
    count), and `touched` collects the series that have fallen behind their saved rows.

    A series whose next observation is more than `series_ttl_ms` after its last, by its own time or
    by the timestamp of its record, has expired: it begins anew with that observation, whenever and
    in whatever poll that arrives. The timestamps make it possible to throw an old row away: whoever
    returns after that has expired in any case.
    """

    table: Table
    admission: Admission
    timesteps: int
    stride: int
    series_ttl_ms: int
    telemetry: Telemetry
    accepted: int = 0
    late: int = 0
    expired: int = 0
    touched: list[Slots] = field(default_factory=list)

    @staticmethod
    def columns(timesteps: int, stride: int, tail: int, features: int) -> list[Column]:
        """What the table must hold for windows."""
        return [
            *tail_columns(tail, features),
            Column("opened", "<i8", (timesteps // stride,), fill=-1),  # first record, by phase
            Column("recorded_ms", "<i8", fill=-1),  # timestamp of the last record; -1: unknown
            Column("seen", "<i8"),
            Column("late", "<i8"),
            Column("warned", "|b1", saved=False),
        ]

    def rounds(
        self, polled: Sequence[Observations], silent_below: Mapping[TopicPartition, int]
    ) -> Iterator[Round]:
        """Apply the observations; yield origins while the tails end exactly at them.

        A series that has several origins in one poll has them in successive rounds. Observations
        of records that a series' row already has are skipped.

        Args:
            polled: one a partition.
            silent_below: committed position of partitions that are being replayed.
        """
        for chunk in self.admission.chunks(polled):
            below = [silent_below.get(part.partition, 0) for part in chunk]
            placed = [self.admission.slots(*item) for item in zip(chunk, below, strict=True)]
            slots = np.concatenate(placed)
            offsets = np.concatenate([part.offsets for part in chunk])
            silent = [part.offsets < first for part, first in zip(chunk, below, strict=True)]
            new = np.flatnonzero(offsets > self.table["offset"][slots])
            order = new[np.argsort(slots[new], kind="stable")]
            if len(order):
                rows = SortedObservations(
                    slots,
                    offsets,
                    np.concatenate([part.at_ms for part in chunk]),
                    np.concatenate([part.values for part in chunk]),
                    np.concatenate([part.recorded_ms for part in chunk]),
                    np.concatenate(silent),
                    order,
                ).take(order)
                returns = self._expires(rows, rows.recorded_ms, "recorded_ms")
                self._note_records(rows)
                for _, life in self._lives(rows, returns):
                    yield from self._live(self._increasing(life))

    def _note_records(self, rows: SortedObservations) -> None:
        """Remember which records each series has seen, and from which on its row is behind."""
        table, slots = self.table, rows.slots[rows.starts]
        unsaved_from = table["unsaved_from"][slots]
        table["unsaved_from"][slots] = np.minimum(unsaved_from, rows.offsets[rows.starts])
        self.touched.append(slots[unsaved_from > rows.offsets[rows.starts]])
        ends = np.append(rows.starts[1:], len(rows.slots))
        table["offset"][slots] = rows.offsets[ends - 1]
        table["recorded_ms"][slots] = rows.recorded_ms[ends - 1]
        table["seen"][slots] += ends - rows.starts

    def _increasing(self, rows: SortedObservations) -> SortedObservations:
        """The observations whose time is after everything that their series has seen."""
        before = np.empty_like(rows.at_ms)
        before[1:] = rows.at_ms[:-1]
        before[rows.starts] = self.table["at_ms"][rows.slots[rows.starts]]
        kept = rows.at_ms > before
        if kept.all():
            self.accepted += int(np.count_nonzero(~rows.is_silent))
            return rows
        ends = np.append(rows.starts[1:], len(rows.slots))
        disordered = np.logical_or.reduceat(~kept, rows.starts)
        for start, end in zip(rows.starts[disordered], ends[disordered], strict=True):
            newest = before[start]
            for at in range(start, end):
                kept[at] = rows.at_ms[at] > newest
                newest = max(newest, rows.at_ms[at])
        lost = rows.slots[~kept]
        np.add.at(self.table["late"], lost, 1)
        self.late += int(np.count_nonzero(~kept & ~rows.is_silent))
        self.accepted += int(np.count_nonzero(kept & ~rows.is_silent))
        self._warn(np.unique(rows.slots[~kept & ~rows.is_silent]))
        return rows.take(kept)

    def _warn(self, slots: Slots) -> None:
        late, seen = self.table["late"][slots], self.table["seen"][slots]
        bad = (
            (late >= 3)
            & (late * 100 > seen)
            & (seen >= SEEN_BEFORE_WARNING)
            & ~self.table["warned"][slots]
        )
        for slot in slots[bad].tolist():
            self.table["warned"][slot] = True
            self.telemetry.emit(
                SeriesLosesObservations(
                    self.table.partition(slot),
                    self.table.name(slot),
                    int(self.table["late"][slot]),
                    int(self.table["seen"][slot]),
                )
            )

    def _live(self, rows: SortedObservations) -> Iterator[Round]:
        """Append steps, a series that expires in the midst of them being emptied in between."""
        if not len(rows.slots):
            return
        is_last = ends_record(rows)
        for where, life in self._lives(rows, self._expires(rows, rows.at_ms, "at_ms")):
            yield from self._steps(life, is_last[where])

    def _expires(self, rows: SortedObservations, times_ms: Ints, column: str) -> Bools:
        """Whether each observation comes too late after the one before it in its series.

        Args:
            rows: observations.
            times_ms: (N,) of them, by the clock that is asked; -1: unknown.
            column: where the table has the same time of the series' last one.
        """
        firsts = rows.slots[rows.starts]
        before = np.empty_like(times_ms)
        before[1:] = times_ms[:-1]
        has_past = self.table["steps"][firsts] > 0
        before[rows.starts] = np.where(has_past, self.table[column][firsts], -1)
        expires: Bools = (before >= 0) & (times_ms - before > self.series_ttl_ms)
        return expires

    def _lives(
        self, rows: SortedObservations, expires: Bools
    ) -> Iterator[tuple[Bools | slice, SortedObservations]]:
        """The observations of one life of each series after the other, and where they are.

        A series is emptied before the observation with which it begins anew.
        """
        if not expires.any():
            yield slice(None), rows
            return
        self.expired += int(np.count_nonzero(expires & ~rows.is_silent))
        begun = np.cumsum(expires)
        before: Ints = begun[rows.starts] - expires[rows.starts].astype(np.int64)
        lives: Ints = begun - np.repeat(before, np.diff(rows.starts, append=len(rows.slots)))
        for life in range(lives.max() + 1):
            where = lives == life
            part = rows.take(where)
            if life:
                self._begin_anew(part.slots[part.starts])
            if len(part.slots):
                yield where, part

    def _begin_anew(self, slots: Slots) -> None:
        """Forget all but what records a series has seen."""
        self.table.clear(slots, keep=_KEPT)
        self.table["reset"][slots] = True

    def _steps(self, rows: SortedObservations, ends_record: Bools) -> Iterator[Round]:
        """Append steps; yield the origins among them, one a series at a time.

        Args:
            rows: steps of one life of each series.
            ends_record: (N,) whether a step is the last of its series in its record.
        """
        if not len(rows.slots):
            return
        numbers = self._numbers(rows)
        is_window = (numbers >= self.timesteps) & ((numbers - self.timesteps) % self.stride == 0)
        is_origin = is_window | ((numbers < self.timesteps) & ends_record)
        earlier = np.cumsum(is_origin) - is_origin  # origins of any series before this step
        earlier -= np.repeat(earlier[rows.starts], np.diff(rows.starts, append=len(numbers)))
        gaps = np.diff(rows.at_ms, prepend=0)
        firsts = rows.slots[rows.starts]
        gaps[rows.starts] = rows.at_ms[rows.starts] - self.table["at_ms"][firsts]
        gaps[numbers == 1] = 0
        order = np.argsort(earlier, kind="stable")
        bounds = np.searchsorted(earlier[order], np.arange(earlier.max() + 2))
        for begin, end in pairwise(bounds):
            part = order[begin:end]
            self._append(rows, part, numbers[part], gaps[part])
            origins = part[is_origin[part]]
            if len(origins):
                yield self._round(rows.take(origins), numbers[origins])

    def _numbers(self, rows: SortedObservations) -> Ints:
        """Step number of each observation in its series, from 1."""
        counts = np.diff(rows.starts, append=len(rows.slots))
        ranks = np.arange(len(rows.slots)) - np.repeat(rows.starts, counts)
        numbers: Ints = self.table["steps"][rows.slots] + ranks + 1
        return numbers

    def _append(self, rows: SortedObservations, part: Ints, numbers: Ints, gaps: Ints) -> None:
        slots = rows.slots[part]
        append_steps(self.table, slots, numbers, rows.at_ms[part], gaps, rows.values[part])
        opens = (numbers - 1) % self.stride == 0
        phases = ((numbers[opens] - 1) // self.stride) % self._phases
        self.table["opened"][slots[opens], phases] = rows.offsets[part][opens]

    def _round(self, rows: SortedObservations, numbers: Ints) -> Round:
        windows = (numbers - self.timesteps) // self.stride
        phases = np.where(windows >= 0, windows % self._phases, COLD).astype(np.int32)
        opened = self.table["opened"][rows.slots, np.maximum(phases, 0)]
        return Round(
            slots=rows.slots,
            phases=phases,
            origin_ms=rows.at_ms,
            first_offsets=np.where(opened < 0, rows.offsets, opened),
            last_offsets=rows.offsets,
            recorded_ms=rows.recorded_ms,
            is_silent=rows.is_silent,
        )

    @property
    def _phases(self) -> int:
        return self.timesteps // self.stride
