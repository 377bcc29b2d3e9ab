"""The values that pass from stage to stage. None of them reads a clock or is written to.

Axes are named by letters throughout: B windows of one call, T timesteps, F values of an
observation, H horizon, Q quantiles, N observations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Float32s = NDArray[np.float32]
Ints = NDArray[np.int64]
Slots = NDArray[np.int32]
Bools = NDArray[np.bool_]

EARLIEST_MS = 631_152_000_000
"""1990-01-01: an event time before it is a fault of its emitter, not an observation."""

SERIES_BYTES_MAX = 512
"""Longest series name, in bytes of UTF-8."""

REJECT_REASONS = (
    "empty",  # no value, or an empty array of observations
    "json",  # not JSON
    "shape",  # JSON, but neither an object nor an array of objects
    "missing",  # a field is not there
    "type",  # a field has another type
    "number",  # a value is not finite, or too large for float32
    "time",  # an event time cannot be read, or is absurd
    "series",  # a series name is empty, too long or not UTF-8
)
"""Why a record can be unusable; the closed list of label values."""


Stage = Literal["poll", "decode", "window", "forecast", "publish", "save", "commit"]
"""The stages of the data path, in order."""


class TopicPartition(NamedTuple):
    """One partition of a topic."""

    topic: str
    partition: int

    def __str__(self) -> str:
        return f"{self.topic}[{self.partition}]"


class Record(Protocol):
    """One record of an input topic, as a broker holds it (kafka-python's `ConsumerRecord` fits)."""

    @property
    def offset(self) -> int: ...  # noqa: D102  # the words of Kafka
    @property
    def timestamp(self) -> int: ...  # noqa: D102
    @property
    def key(self) -> bytes | None: ...  # noqa: D102
    @property
    def value(self) -> bytes | None: ...  # noqa: D102
    @property
    def headers(self) -> Sequence[tuple[str, bytes]]: ...  # noqa: D102


@dataclass(frozen=True, slots=True, eq=False)
class Polled:
    """What one poll returned.

    Attributes:
        records: of each partition, in offset order.
        positions: of each partition with records, the offset after the last one.
    """

    records: dict[TopicPartition, Sequence[Record]]
    positions: dict[TopicPartition, int]


@dataclass(frozen=True, slots=True, eq=False)
class Observations:
    """The observations of one partition in one poll, in the order of their records.

    Attributes:
        partition: where they were read.
        series: (N,) series names.
        at_ms: (N,) event times, ms since the Unix epoch, UTC.
        values: (N, F) finite, each in float32's range.
        offsets: (N,) offsets of their records; a record's observations are neighbours.
        recorded_ms: (N,) timestamps of their records.
    """

    partition: TopicPartition
    series: list[str]
    at_ms: Ints
    values: Floats
    offsets: Ints
    recorded_ms: Ints


@dataclass(frozen=True, slots=True, eq=False)
class Reject:
    """One record that cannot be used.

    Attributes:
        partition: where it was read.
        record: the record, raw.
        reason: one of `REJECT_REASONS`.
        error: the sentence that says where, what was found and what was wanted.
    """

    partition: TopicPartition
    record: Record
    reason: str
    error: str


@dataclass(frozen=True, slots=True, eq=False)
class Decoded:
    """What the records of one partition in one poll hold."""

    observations: Observations
    rejects: list[Reject]
    tombstones: int


@dataclass(frozen=True, slots=True)
class Column:
    """One column of the series table, as the stage that owns it declares it.

    Attributes:
        name: unique in the table, and the column's name in saved rows.
        dtype: numpy's name of the element type; memory and row have the same.
        shape: of one series' cell.
        fill: what a new series begins with.
        saved: whether it is part of the row; False for what a restart can do without.
        version: raised when the meaning of the stored numbers changes.
        is_ring: the first axis is a ring over the series' steps, and may change its length.
    """

    name: str
    dtype: str
    shape: tuple[int, ...] = ()
    fill: float = 0
    saved: bool = True
    version: int = 1
    is_ring: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Round:
    """Forecast origins of one moment: at most one a series, in no order that matters.

    The rings of the table hold, while a round is worked on, exactly the steps up to its origins.

    Attributes:
        slots: (B,) rows of the series table, distinct.
        phases: (B,) phase of each window; -1 where no window ends (a `cold` origin).
        origin_ms: (B,) event time of the last step.
        first_offsets: (B,) record of the window's first step.
        last_offsets: (B,) record of the last step.
        recorded_ms: (B,) timestamp of that record.
        is_silent: (B,) True where the record lies below the committed position: it moves state
            and nothing else.
    """

    slots: Slots
    phases: Slots
    origin_ms: Ints
    first_offsets: Ints
    last_offsets: Ints
    recorded_ms: Ints
    is_silent: Bools

    def take(self, where: Bools) -> Round:
        """The origins where `where` holds."""
        return Round(
            self.slots[where],
            self.phases[where],
            self.origin_ms[where],
            self.first_offsets[where],
            self.last_offsets[where],
            self.recorded_ms[where],
            self.is_silent[where],
        )


@dataclass(frozen=True, slots=True, eq=False)
class Forecasts:
    """What is to be published of one round.

    Attributes:
        partitions: of each series.
        series: names.
        origin_ms: (B,) event time of the last step.
        step_ms: (B,) median step of the tail; 0 where a single step tells none.
        first_offsets, last_offsets: (B,) records that the window spans.
        recorded_ms: (B,) timestamp of the last of them.
        quantiles: (Q,) ascending.
        values: (B, H, Q, F), in the series' own unit, non-decreasing along Q.
        spread: (B, F) running spread of the series: what rounding must not reach.
        is_cold: no window made this.
        is_model: the model made this, not the baseline.
        model_version: of the model that is serving, or None.
        flags: (B,) further flags of each, from the closed list of the message format.
    """

    partitions: list[TopicPartition]
    series: list[str]
    origin_ms: Ints
    step_ms: Ints
    first_offsets: Ints
    last_offsets: Ints
    recorded_ms: Ints
    quantiles: tuple[float, ...]
    values: Floats
    spread: Floats
    is_cold: bool
    is_model: Bools
    model_version: str | None
    flags: list[tuple[str, ...]]


class Message(NamedTuple):
    """One message to be sent. `partition` None leaves it to the key's hash."""

    topic: str
    key: bytes | None
    value: bytes | None
    partition: int | None = None
    headers: Sequence[tuple[str, bytes]] = ()
    timestamp_ms: int | None = None


class Committed(NamedTuple):
    """A partition's committed offset.

    Attributes:
        position: every record below it is published; tools that read lag see this.
        resume_from: the lowest offset of a record that is not yet in its series' row; None when
            the commit carries no metadata of ours.
        has_rows: whether the state topic must hold a row of the partition.
    """

    position: int
    resume_from: int | None
    has_rows: bool = False


class ReadSoFar(NamedTuple):
    """How far a partition of a state topic has been read.

    Attributes:
        where: `topic[partition]`.
        position: offset of what is read next.
        end: the offset after the last row; reading ends there.
    """

    where: str
    position: int
    end: int


@dataclass(frozen=True, slots=True, eq=False)
class Turn:
    """What one turn of the loop leaves behind.

    Attributes:
        published: forecasts and dead letters.
        rows: rows and tombstones for the state topics, in this order within a key.
        windows: finished windows to learn from, which leave before the rows that have read them.
        commits: of partitions whose offsets have moved.
    """

    published: list[Message]
    rows: list[Message]
    windows: list[Message]
    commits: dict[TopicPartition, Committed]

    def __bool__(self) -> bool:
        """Whether there is anything to deliver."""
        return bool(self.published or self.rows or self.windows or self.commits)
