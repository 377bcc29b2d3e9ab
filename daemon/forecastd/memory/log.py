"""A log of records in memory, read and written like a broker's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from forecastd.errors import BrokerError
from forecastd.records import Committed, Message, Polled, TopicPartition


class MemoryRecord(NamedTuple):
    """One record, as `forecastd.records.Record` wants it."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]] = ()


@dataclass(slots=True)
class MemoryBroker:
    """What survives a restart: records, committed offsets, and the messages of every topic.

    Attributes:
        records: of input partitions.
        committed: the group's offsets.
        sent: acknowledged messages in order.
        refuse: asked before a message is acknowledged; True refuses it, and the send fails.
    """

    records: dict[TopicPartition, list[MemoryRecord]] = field(default_factory=dict)
    committed: dict[TopicPartition, Committed] = field(default_factory=dict)
    sent: list[Message] = field(default_factory=list)
    refuse: list[Message] = field(default_factory=list)

    def append(
        self,
        partition: TopicPartition,
        value: bytes | None,
        timestamp: int,
        key: bytes | None = None,
    ) -> None:
        """Add a record to an input partition."""
        log = self.records.setdefault(partition, [])
        log.append(MemoryRecord(len(log), timestamp, key, value))

    def messages(self, topic: str) -> list[Message]:
        """What was sent to a topic."""
        return [message for message in self.sent if message.topic == topic]


@dataclass(slots=True)
class MemoryChanges:
    """Partitions that came and went."""

    added: list[TopicPartition]
    removed: list[TopicPartition]


@dataclass(slots=True)
class MemorySource:
    """A group of one member over a `MemoryBroker`; `poll_records` at most a poll."""

    broker: MemoryBroker
    poll_records: int
    _positions: dict[TopicPartition, int] = field(default_factory=dict)
    _is_joined: bool = False

    def poll(self, timeout_s: float) -> Polled:
        """Records of the partitions that are served; never waits."""
        records: dict[TopicPartition, Sequence[MemoryRecord]] = {}
        room = self.poll_records
        for partition, at in self._positions.items():
            found = self.broker.records[partition][at : at + room]
            if found:
                records[partition] = found
                self._positions[partition] = at + len(found)
                room -= len(found)
            if not room:
                break
        ends = {partition: self._positions[partition] for partition in records}
        return Polled(dict(records), ends)

    def take_assignment(self) -> MemoryChanges:
        """Every partition, the first time."""
        added = [] if self._is_joined else sorted(self.broker.records)
        self._is_joined = True
        return MemoryChanges(added, [])

    def is_reachable(self) -> bool:
        """Always."""
        return True

    def committed(self, partition: TopicPartition) -> Committed | None:
        """The committed offset."""
        return self.broker.committed.get(partition)

    def bounds(self, partition: TopicPartition) -> tuple[int, int]:
        """Nothing is ever deleted."""
        return 0, len(self.broker.records[partition])

    def start_offset(self, partition: TopicPartition) -> int:
        """The beginning."""
        return 0

    def position(self, partition: TopicPartition) -> int | None:
        """The offset that the next poll reads from."""
        return self._positions.get(partition)

    def serve_from(self, partition: TopicPartition, offset: int) -> None:
        """Read a partition from `offset` on."""
        self._positions[partition] = offset

    def commit(self, committed: Mapping[TopicPartition, Committed]) -> None:
        """Commit at once."""
        self.broker.committed.update(committed)

    def end_offset(self, partition: TopicPartition) -> int | None:
        """The offset after the last record."""
        return len(self.broker.records[partition])

    def close(self, timeout_s: float) -> None:
        """Nothing to leave."""


@dataclass(slots=True)
class MemorySink:
    """Sends to a `MemoryBroker`."""

    broker: MemoryBroker

    def send(self, messages: Iterable[Message]) -> list[Message]:
        """Acknowledge all.

        Raises:
            BrokerError: the broker was told to refuse one of them.
        """
        for message in messages:
            if any(
                message.key == refused.key and message.topic == refused.topic
                for refused in self.broker.refuse
            ):
                raise BrokerError(f"send to {message.topic}: refused")
            self.broker.sent.append(message)
        return []

    def close(self, timeout_s: float) -> None:
        """Nothing to give up."""


@dataclass(slots=True)
class MemoryRowReader:
    """Reads the rows that were sent to a state topic."""

    broker: MemoryBroker
    state_topic: str
    _rows: list[tuple[bytes, bytes | None]] = field(default_factory=list)

    def start(self, partition: TopicPartition) -> int:
        """Begin with the rows of an input partition."""
        self._rows = [
            (message.key or b"", message.value)
            for message in self.broker.sent
            if message.topic == self.state_topic.format(partition.topic)
            and message.partition == partition.partition
        ]
        return len(self._rows)

    def read(self, timeout_s: float) -> tuple[Sequence[tuple[bytes, bytes | None]], bool]:
        """All at once."""
        rows, self._rows = self._rows, []
        return rows, True

    def close(self) -> None:
        """Nothing to close."""
