"""Which finished windows go to the windows topic, from which models are trained.

Whole series are chosen, by the hash of their names, so that what is written of a series stays
consecutive, and each step of it is written once: the windows of one phase, from which the others
can be cut. Nothing is kept here for training; what a series was told is a column of its row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import blake2b

import numpy as np

from forecastd.observe.events import SeriesNotLearnt, Telemetry
from forecastd.ports import Table
from forecastd.records import Column, Floats, Ints, Message, Round, Slots, TopicPartition
from forecastd.series_tail import steps_back
from forecastd.train.window_record import Windows, encode_windows

BUCKET_S = 3_600
"""Record time whose worth of windows may be written at once: the rate holds from then on.

Long, because a history that was copied to a topic has its records within seconds of record time,
and most of its series would be left out for good."""

WRITTEN, LEFT_OUT = 1, -1
_STEPWISE = 0.5  # share of the series that are left out at a time, at most: see `_leave_out`


@dataclass(slots=True)
class Bucket:
    """Windows of one partition that were written since `start_ms` of its record time.

    Attributes:
        start_ms: record timestamp; -1 before any is known.
        limit: hash from which on series are left out.
    """

    limit: float
    start_ms: int = -1
    count: int = 0


@dataclass(frozen=True, slots=True)
class WindowBuffer:
    """Picks the windows to learn from while a round is worked on.

    Attributes:
        table: with the columns of the windower, of the forecaster, and of `columns`.
        topic: the windows topic.
        timesteps, stride: of the windows.
        sample_rate: windows a second of record time and partition; a single series may exceed it.
    """

    table: Table
    topic: str
    timesteps: int
    stride: int
    sample_rate: float
    telemetry: Telemetry
    _buckets: dict[TopicPartition, Bucket] = field(default_factory=dict)

    @staticmethod
    def columns() -> list[Column]:
        """What the table must hold: 0 undecided, 1 written, -1 left out for good.

        A series that begins anew is undecided again.
        """
        return [Column("buffered", "|i1")]

    def finished(self, origins: Round) -> list[Message]:
        """The windows of a round to learn from, each of which is written once.

        To be called while the tails end at the round's origins, after the forecaster has noted
        what it feeds their windows with.
        """
        heard = (origins.phases == 0) & ~origins.is_silent
        if not heard.any():
            return []
        ended = origins.take(heard)
        partitions = self.table.partitions(ended.slots)
        self._decide(ended.slots, partitions)
        chosen = self.table["buffered"][ended.slots] == WRITTEN
        if not chosen.any():
            return []
        if not chosen.all():
            ended = ended.take(chosen)
            partitions = self.table.partitions(ended.slots)
        messages = self._messages(ended, partitions)
        self._count(ended, partitions)
        return messages

    def _decide(self, slots: Slots, partitions: Sequence[TopicPartition]) -> None:
        """Say of each undecided series whether it is one of those that are written."""
        buffered = self.table["buffered"]
        for at in np.flatnonzero(buffered[slots] == 0).tolist():
            slot, partition = int(slots[at]), partitions[at]
            place, limit = (
                series_hash(partition, self.table.name(slot)),
                self._bucket(partition).limit,
            )
            buffered[slot] = WRITTEN if place < limit else LEFT_OUT

    def _messages(self, ended: Round, partitions: Sequence[TopicPartition]) -> list[Message]:
        table, slots, names = self.table, ended.slots, self.table.names(ended.slots)
        steps = table["steps"][slots]
        values = steps_back(table, slots, range(self.timesteps, -1, -1))
        windows = (steps - self.timesteps) // self.stride
        fed = table["fed"][slots, windows % table["fed"].shape[1]]
        encoded = encode_windows(
            Windows(
                partitions,
                names,
                steps // self.timesteps - 1,
                ended.first_offsets,
                ended.last_offsets,
                self._times(ended, steps),
                values[:, 1:],
                values[:, 0],
                fed[:, 0],
                fed[:, 1],
            )
        )
        return [
            Message(self.topic, name.encode(), value)
            for name, value in zip(names, encoded, strict=True)
        ]

    def _times(self, ended: Round, steps: Ints) -> Ints:
        """(B, T) event times of the windows' steps, back from the last one by the gaps between."""
        gap_ms = self.table["gap_ms"]
        numbers = steps[:, None] - np.arange(self.timesteps - 1)  # of a gap's later step
        gaps = gap_ms[ended.slots[:, None], (numbers - 1) % gap_ms.shape[1]].astype(np.int64)
        times = np.repeat(ended.origin_ms[:, None], self.timesteps, axis=1)
        times[:, :-1] -= np.cumsum(gaps, axis=1)[:, ::-1]
        return times

    def _count(self, written: Round, partitions: Sequence[TopicPartition]) -> None:
        """Note what was written; leave series out where that was too much."""
        times: dict[TopicPartition, list[int]] = {}
        for partition, at_ms in zip(partitions, written.recorded_ms.tolist(), strict=True):
            times.setdefault(partition, []).append(at_ms)
        for partition, recorded_ms in times.items():
            bucket, now_ms = self._bucket(partition), max(recorded_ms)
            if bucket.start_ms < 0:
                bucket.start_ms = now_ms
            elif abs(now_ms - bucket.start_ms) >= 1000 * BUCKET_S:
                # Either way: one record from the future must not stop the clock for good.
                bucket.start_ms, bucket.count = now_ms, 0
            bucket.count += len(recorded_ms)
            if bucket.count > self.sample_rate * BUCKET_S:
                self._leave_out(partition, bucket, now_ms)

    def _leave_out(self, partition: TopicPartition, bucket: Bucket, now_ms: int) -> None:
        """Drop the series with the highest hashes, so many that the rest keep the rate.

        At most half of them at a time: the records of a copied history have no time to measure.
        One stays in any case.
        """
        elapsed = (now_ms - bucket.start_ms) / (1000 * BUCKET_S)
        bucket.start_ms, bucket.count = now_ms, 0
        slots = self.table.slots(partition)
        slots = slots[self.table["buffered"][slots] == WRITTEN]
        hashes = self._hashes(partition, slots)
        kept = max(1, int(len(slots) * max(elapsed, _STEPWISE)))
        if kept >= len(slots):
            return
        bucket.limit = float(np.sort(hashes)[kept])
        dropped = slots[hashes >= bucket.limit]
        self.table["buffered"][dropped] = LEFT_OUT
        self.telemetry.emit(SeriesNotLearnt(partition, len(dropped), len(slots) - len(dropped)))

    def _bucket(self, partition: TopicPartition) -> Bucket:
        """Of a partition; after a restart its limit is that of the series left out before it."""
        bucket = self._buckets.get(partition)
        if bucket is None:
            slots = self.table.slots(partition)
            out = self._hashes(partition, slots[self.table["buffered"][slots] == LEFT_OUT])
            bucket = self._buckets[partition] = Bucket(limit=float(out.min(initial=1.0)))
        return bucket

    def _hashes(self, partition: TopicPartition, slots: Slots) -> Floats:
        return np.array([series_hash(partition, name) for name in self.table.names(slots)])


def series_hash(partition: TopicPartition, series: str) -> float:
    """Where a series stands among all, from 0 to below 1; the same in every process.

    >>> round(series_hash(TopicPartition("records", 0), "cpu"), 3)
    0.826
    """
    name = f"{partition}:{series}".encode()
    return int.from_bytes(blake2b(name, digest_size=6).digest(), "little") / 2**48
