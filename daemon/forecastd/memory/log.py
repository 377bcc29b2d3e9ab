"""A log of records in memory, read and written like a broker's."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from operator import attrgetter
from typing import Literal, NamedTuple

from forecastd.errors import BrokerError, TopicError
from forecastd.records import Committed, Message, Polled, ReadSoFar, TopicPartition

Request = Literal["poll", "send", "commit", "rows"]
"""What a client asks of the broker."""


class MemoryRecord(NamedTuple):
    """One record, as `forecastd.records.Record` wants it."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]] = ()


def _nothing(_request: Request, _message: Message | None) -> None:
    """Let a request pass."""


@dataclass(slots=True)
class MemoryBroker:
    """What survives a restart: records, committed offsets, and the messages of every topic.

    Attributes:
        records: of input partitions, by offset.
        begins: the lowest offset kept, where older records were deleted.
        ends: the offset after the last record, where the markers of transactions follow it.
        committed: the group's offsets.
        sent: acknowledged messages in order.
        bytes_max: of topics that take no larger message than this.
        before: called before each request, and for each message of a send with that message;
            whatever it raises is what the client meets.
    """

    records: dict[TopicPartition, list[MemoryRecord]] = field(default_factory=dict)
    begins: dict[TopicPartition, int] = field(default_factory=dict)
    ends: dict[TopicPartition, int] = field(default_factory=dict)
    committed: dict[TopicPartition, Committed] = field(default_factory=dict)
    sent: list[Message] = field(default_factory=list)
    bytes_max: dict[str, int] = field(default_factory=dict)
    before: Callable[[Request, Message | None], None] = _nothing

    def append(
        self,
        partition: TopicPartition,
        value: bytes | None,
        timestamp: int,
        key: bytes | None = None,
        headers: Sequence[tuple[str, bytes]] = (),
    ) -> None:
        """Add a record to an input partition."""
        log, offset = self.records.setdefault(partition, []), self.end(partition)
        log.append(MemoryRecord(offset, timestamp, key, value, headers))
        self.ends[partition] = offset + 1

    def mark(self, partition: TopicPartition) -> None:
        """Use up an offset for something that is no record, such as a transaction's marker."""
        self.records.setdefault(partition, [])
        self.ends[partition] = self.end(partition) + 1

    def delete_below(self, partition: TopicPartition, offset: int) -> None:
        """Delete old records, as retention does."""
        self.begins[partition] = offset
        self.records[partition] = self.read(partition, offset)

    def end(self, partition: TopicPartition) -> int:
        """The offset that the next record gets."""
        return self.ends.get(partition, 0)

    def read(self, partition: TopicPartition, offset: int) -> list[MemoryRecord]:
        """Records from `offset` on."""
        log = self.records[partition]
        return log[bisect_left(log, offset, key=attrgetter("offset")) :]

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
    """A group's member over a `MemoryBroker`; `poll_records` at most a poll.

    Attributes:
        moves: what the group decides after it gave us every partition, one a poll.
        is_joining: whether the group shares its partitions out, so that no offset is committed.
    """

    broker: MemoryBroker
    poll_records: int
    moves: deque[MemoryChanges] = field(default_factory=deque)
    is_joining: bool = False
    _positions: dict[TopicPartition, int] = field(default_factory=dict)
    _is_joined: bool = False

    def poll(self, timeout_s: float) -> Polled:  # noqa: ARG002  # as ports.Source has it
        """Records of the partitions that are served; never waits."""
        self.broker.before("poll", None)
        records: dict[TopicPartition, Sequence[MemoryRecord]] = {}
        room = self.poll_records
        for partition, at in self._positions.items():
            found = self.broker.read(partition, at)
            if len(found) <= room:
                self._positions[partition] = self.broker.end(partition)
            elif room:
                found = found[:room]
                self._positions[partition] = found[-1].offset + 1
            else:
                continue
            room -= len(found)
            if found:
                records[partition] = found
        ends = {partition: found[-1].offset + 1 for partition, found in records.items()}
        return Polled(dict(records), ends)

    def take_assignment(self) -> MemoryChanges:
        """Every partition, the first time; then what the group decides."""
        if not self._is_joined:
            self._is_joined = True
            return MemoryChanges(sorted(self.broker.records), [])
        changes = self.moves.popleft() if self.moves else MemoryChanges([], [])
        for partition in changes.removed:
            self._positions.pop(partition, None)
        return changes

    def is_reachable(self) -> bool:
        """Always."""
        return True

    def committed(self, partition: TopicPartition) -> Committed | None:
        """The committed offset."""
        return self.broker.committed.get(partition)

    def bounds(self, partition: TopicPartition) -> tuple[int, int]:
        """Lowest offset kept, and the offset after the last record."""
        return self.broker.begins.get(partition, 0), self.broker.end(partition)

    def start_offset(self, partition: TopicPartition) -> int:
        """The beginning."""
        return self.bounds(partition)[0]

    def position(self, partition: TopicPartition) -> int | None:
        """The offset that the next poll reads from."""
        return self._positions.get(partition)

    def serve_from(self, partition: TopicPartition, offset: int) -> None:
        """Read a partition from `offset` on."""
        self._positions[partition] = offset

    def commit(self, committed: Mapping[TopicPartition, Committed]) -> None:
        """Commit at once.

        Raises:
            BrokerError: the group shares its partitions out.
        """
        if self.is_joining:
            raise BrokerError("commit: the group is joining, wanted a member of it")
        self.broker.before("commit", None)
        self.broker.committed.update(committed)

    def end_offset(self, partition: TopicPartition) -> int | None:
        """The offset after the last record."""
        return self.broker.end(partition)

    def close(self, timeout_s: float) -> None:
        """Nothing to leave."""


@dataclass(slots=True)
class MemorySink:
    """Sends to a `MemoryBroker`."""

    broker: MemoryBroker

    def send(self, messages: Iterable[Message]) -> None:
        """Acknowledge one after the other.

        Raises:
            TopicError: one of them is too large for its topic.
        """
        for message in messages:
            self.broker.before("send", message)
            bytes_max = self.broker.bytes_max.get(message.topic)
            if bytes_max is not None and _size(message) > bytes_max:
                found = f"a message of {len(message.value or b'')} bytes is too large"
                wanted = "a larger max.message.bytes, or a smaller forecast"
                raise TopicError(f"topic {message.topic}: {found}, wanted {wanted}")
            self.broker.sent.append(message)

    def close(self, timeout_s: float) -> None:
        """Nothing to give up."""


@dataclass(slots=True)
class MemoryRowReader:
    """Reads the rows that were sent to a state topic, at most `read_rows` at a time.

    Attributes:
        state_topic: its name, `{}` standing for the input topic's.
    """

    broker: MemoryBroker
    state_topic: str
    read_rows: int = 5_000
    _rows: deque[tuple[bytes, bytes | None]] = field(default_factory=deque)
    _so_far: ReadSoFar = field(default_factory=lambda: ReadSoFar("", 0, 0))

    def start(self, partition: TopicPartition) -> int:
        """Begin with the rows of an input partition."""
        self._rows = deque(
            (message.key or b"", message.value)
            for message in self.broker.messages(self.state_topic.format(partition.topic))
            if message.partition == partition.partition
        )
        where = f"{self.state_topic.format(partition.topic)}[{partition.partition}]"
        self._so_far = ReadSoFar(where, 0, len(self._rows))
        return len(self._rows)

    def read(
        self,
        timeout_s: float,  # noqa: ARG002  # as ports.RowReader has it
    ) -> tuple[Sequence[tuple[bytes, bytes | None]], bool]:
        """The next keys and rows, and whether those were the last."""
        self.broker.before("rows", None)
        rows = list(islice(self._rows, self.read_rows))
        for _ in rows:
            self._rows.popleft()
        self._so_far = self._so_far._replace(position=self._so_far.end - len(self._rows))
        return rows, not self._rows

    @property
    def so_far(self) -> ReadSoFar:
        """How far that is."""
        return self._so_far

    def close(self) -> None:
        """Nothing to close."""


def _size(message: Message) -> int:
    headers = sum(len(name) + len(text) for name, text in message.headers)
    return len(message.key or b"") + len(message.value or b"") + headers
