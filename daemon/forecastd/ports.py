"""What the loop needs from the world outside, as typed protocols.

The Kafka client stands behind `Source` and `Sink`; a second client, or the in-memory twins of
`memory/`, fit the same shape. Stages name each other's services here and never import each other.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from numpy.typing import NDArray

from forecastd.records import (
    Column,
    Committed,
    Message,
    Polled,
    ReadSoFar,
    Round,
    Slots,
    Stage,
    TopicPartition,
    Turn,
)


class Assignment(Protocol):
    """What changed in the group since it was last asked for."""

    @property
    def added(self) -> Sequence[TopicPartition]:
        """Partitions given to us: paused, to be restored."""
        ...

    @property
    def removed(self) -> Sequence[TopicPartition]:
        """Partitions taken from us."""
        ...


class Source(Protocol):
    """Records in, offsets out: one member of a consumer group.

    Every method raises `BrokerError` when the broker does not answer in time.
    """

    def poll(self, timeout_s: float) -> Polled:
        """Records of the partitions that are not paused; empty after `timeout_s`."""
        ...

    @property
    def is_joining(self) -> bool:
        """Whether the last poll left us in the midst of a round in which the group shares out.

        It has read nothing then, and no offset can be committed.
        """
        ...

    def take_assignment(self) -> Assignment:
        """What changed since the last call; a partition that left and came back is in both."""
        ...

    def is_reachable(self) -> bool:
        """Whether the broker has answered lately."""
        ...

    def committed(self, partition: TopicPartition) -> Committed | None:
        """The group's committed offset, None where there is none."""
        ...

    def bounds(self, partition: TopicPartition) -> tuple[int, int]:
        """Lowest offset kept, and the offset after the last record."""
        ...

    def start_offset(self, partition: TopicPartition) -> int:
        """Where a group without offsets begins (`ingest.start`)."""
        ...

    def position(self, partition: TopicPartition) -> int | None:
        """The offset that the next poll reads from.

        It is above the last record where the marker of a transaction follows that.
        """
        ...

    def serve_from(self, partition: TopicPartition, offset: int) -> None:
        """Read an assigned partition from `offset` on, no longer paused."""
        ...

    def commit(self, committed: Mapping[TopicPartition, Committed]) -> None:
        """Commit; returns when the broker has acknowledged."""
        ...

    def end_offset(self, partition: TopicPartition) -> int | None:
        """The offset after the last record as the last fetch saw it; no I/O."""
        ...

    def close(self, timeout_s: float) -> None:
        """Leave the group."""
        ...


class Sink(Protocol):
    """Messages out."""

    def send(self, messages: Iterable[Message]) -> None:
        """Send all and return when the broker has acknowledged every one.

        Raises:
            BrokerError: one of them was not acknowledged; none may be taken as sent.
            TopicError: one of them is too large for its topic.
        """
        ...

    def close(self, timeout_s: float) -> None:
        """Give up whatever is not acknowledged yet."""
        ...


class Timer(Protocol):
    """Whatever measures how long the stages of a turn take."""

    def timed(self, stage: Stage) -> AbstractContextManager[None]:
        """Add the time of a block to a stage."""
        ...


class Delivery(Protocol):
    """How a turn reaches the broker: what a crash in the midst of it may leave."""

    def deliver(self, turn: Turn, timer: Timer) -> None:
        """Publish, save and commit; returns when the broker has acknowledged everything.

        Raises:
            BrokerError: it has not. Whatever the turn computed must be forgotten.
            TopicError: a topic can never take what must go there.
        """
        ...

    def close(self, timeout_s: float) -> None:
        """Give up whatever is not acknowledged yet."""
        ...


class Learner(Protocol):
    """Which model serves from turn to turn, and what is kept to learn from."""

    @property
    def needs_network(self) -> bool:
        """Whether another network must serve, with which the loop is to be built anew."""
        ...

    def finished(self, origins: Round) -> list[Message]:
        """The windows of a round that are to be learnt from; asked while it is worked on."""
        ...

    def step(self, served: Collection[TopicPartition]) -> None:
        """Do what is due between two turns; `served` are the partitions that we own.

        Raises:
            BrokerError: the broker did not take what was written.
        """
        ...


class RowReader(Protocol):
    """Rows of one partition's state topic, read from its beginning to its end."""

    def start(self, partition: TopicPartition) -> int:
        """Begin with the rows of an input partition; returns about how many there are.

        Raises:
            TopicError: the state topic lacks the partition, and an operator must add it.
        """
        ...

    def read(self, timeout_s: float) -> tuple[Sequence[tuple[bytes, bytes | None]], bool]:
        """Next keys and rows (None: tombstone) in order, and whether that was the end."""
        ...

    @property
    def so_far(self) -> ReadSoFar:
        """How far it has been read; no I/O."""
        ...

    def close(self) -> None:
        """Stop reading."""
        ...


class ColumnStore(Protocol):
    """Storage of one column that does not live in the table's own arrays (the model's bank)."""

    @property
    def column(self) -> Column:
        """What is stored."""
        ...

    def read(self, slots: Slots) -> NDArray[Any]:
        """Cells of `slots`, shape (B, *column.shape)."""
        ...

    def write(self, slots: Slots, cells: NDArray[Any]) -> None:
        """Set the cells of `slots`, which are distinct."""
        ...

    def grow(self, capacity: int) -> None:
        """Make room for slots below `capacity`."""
        ...


class Table(Protocol):
    """All per-series state: named arrays indexed by slot."""

    def __getitem__(self, name: str) -> NDArray[Any]:
        """The array of a column, shape (capacity, *column.shape).

        Not to be kept across turns: growth replaces it.
        """
        ...

    def name(self, slot: int) -> str:
        """Series name of a slot."""
        ...

    def names(self, slots: Slots) -> list[str]:
        """Series names of slots."""
        ...

    def partition(self, slot: int) -> TopicPartition:
        """Partition of a slot."""
        ...

    def partitions(self, slots: Slots) -> list[TopicPartition]:
        """Partitions of slots."""
        ...

    def count(self, partition: TopicPartition) -> int:
        """Series of a partition."""
        ...

    def slots(self, partition: TopicPartition) -> Slots:
        """Slots of a partition."""
        ...

    def find(self, partition: TopicPartition, names: Sequence[str]) -> Slots:
        """Slots of series by name, -1 where there is none."""
        ...

    def admit(self, partition: TopicPartition, names: Sequence[str]) -> Slots:
        """Give slots to new series, their cells as declared."""
        ...

    def clear(self, slots: Slots, keep: Sequence[str]) -> None:
        """Set the cells of series to what was declared, but for the columns in `keep`."""
        ...

    def drop(self, slots: Slots) -> None:
        """Forget series."""
        ...
