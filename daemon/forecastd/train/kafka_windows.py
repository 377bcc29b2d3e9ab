"""The windows topic, read to its end by whoever trains.

All partitions at once, each to where it ended when reading began: what is written meanwhile is for
the next run. Windows of a transaction that is still open, or was given up, are not seen.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from kafka import KafkaConsumer
from kafka import TopicPartition as KafkaPartition

from forecastd.errors import BrokerError, WindowError
from forecastd.kafka_connection import broker_errors, build_client, connection_options
from forecastd.settings import Settings
from forecastd.train.window_record import WindowRecord, decode

_POLL_MS = 500
_FETCH_BYTES = 16 * 1024 * 1024


@dataclass(slots=True)
class WindowsReport:
    """What was on the windows topic, and what of it cannot be learnt from.

    Attributes:
        found: messages that were looked at.
        older: of them, those that `training.max_windows` newer ones followed.
        unusable: how many could not be read, by `WindowError.fault`.
        examples: one sentence a kind of fault.
    """

    found: int = 0
    older: int = 0
    unusable: dict[str, int] = field(default_factory=dict)
    examples: dict[str, str] = field(default_factory=dict)


def read_windows(settings: Settings) -> tuple[list[WindowRecord], WindowsReport]:
    """The newest windows of the group, `training.max_windows` at most, in no order.

    Repeats are among them.

    Raises:
        BrokerError: the broker does not answer, or stops answering.
    """
    newest = _Newest(settings.training.max_windows)
    with _consumer(settings) as consumer:
        partitions = _partitions(consumer, settings.windows_topic)
        begins, ends = consumer.beginning_offsets(partitions), consumer.end_offsets(partitions)
        for partition in partitions:
            # More of one partition cannot be among the newest of all.
            first = max(begins[partition], ends[partition] - newest.count)
            consumer.seek(partition, first)
        quiet_polls = settings.kafka.request_timeout // _POLL_MS
        for position, timestamp, value in _records(consumer, ends, quiet_polls):
            newest.add(timestamp, position, value)
    return _decoded(newest)


class WindowCounter:
    """Says how many windows there are, over a connection that it keeps: it is asked often."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._consumer: KafkaConsumer | None = None

    def __call__(self) -> int:
        """About how many windows the topic has: markers of transactions and repeats count, too.

        Raises:
            BrokerError: the broker does not answer.
        """
        try:
            with broker_errors(f"windows in {self._settings.windows_topic}"):
                return self._count()
        except BrokerError:
            with suppress(BrokerError):
                self.close()
            raise

    def _count(self) -> int:
        if self._consumer is None:
            self._consumer = _new_consumer(self._settings, "windows-count")
        partitions = _partitions(self._consumer, self._settings.windows_topic)
        begins = self._consumer.beginning_offsets(partitions)
        ends = self._consumer.end_offsets(partitions)
        return sum(ends[partition] - begins[partition] for partition in partitions)

    def close(self) -> None:
        """Disconnect; asked again, it connects again."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            with broker_errors("windows"):
                consumer.close(autocommit=False, timeout_ms=1000)


class _Newest:
    """The newest messages by the time of writing; never more than twice of them in memory."""

    def __init__(self, count: int) -> None:
        self.count, self.found = count, 0
        self._kept: list[tuple[int, tuple[int, int], bytes | None]] = []

    def add(self, timestamp: int, position: tuple[int, int], value: bytes | None) -> None:
        """Take note of a message at a partition and offset."""
        self.found += 1
        self._kept.append((timestamp, position, value))
        if len(self._kept) >= 2 * self.count:
            self._kept = self._newest()

    def values(self) -> list[bytes | None]:
        """Those that are among the newest."""
        return [value for _, _, value in self._newest()]

    def _newest(self) -> list[tuple[int, tuple[int, int], bytes | None]]:
        return sorted(self._kept, key=lambda message: message[:2])[-self.count :]


def _decoded(newest: _Newest) -> tuple[list[WindowRecord], WindowsReport]:
    values = newest.values()
    records, report = [], WindowsReport(newest.found, newest.found - len(values))
    for value in values:
        try:
            records.append(decode(value or b""))
        except WindowError as error:
            report.unusable[error.fault] = report.unusable.get(error.fault, 0) + 1
            report.examples.setdefault(error.fault, str(error))
    return records, report


@contextmanager
def _consumer(settings: Settings) -> Iterator[KafkaConsumer]:
    """A consumer, gone afterwards."""
    with broker_errors(f"windows in {settings.windows_topic}"):
        consumer = _new_consumer(settings, "windows")
        try:
            yield consumer
        finally:
            consumer.close(autocommit=False, timeout_ms=1000)


def _new_consumer(settings: Settings, role: str) -> KafkaConsumer:
    """A consumer without a group."""
    return build_client(
        KafkaConsumer,
        **connection_options(settings.kafka, role),
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
        max_poll_records=5_000,
        fetch_max_bytes=_FETCH_BYTES,
        max_partition_fetch_bytes=_FETCH_BYTES,
        allow_auto_create_topics=False,
    )


def _partitions(consumer: KafkaConsumer, topic: str) -> list[KafkaPartition]:
    """All partitions of a topic, assigned."""
    found = consumer.partitions_for_topic(topic)
    if not found:
        raise BrokerError(f"{topic}: no such topic, wanted the one with the group's windows")
    partitions = [KafkaPartition(topic, number) for number in sorted(found)]
    consumer.assign(partitions)
    return partitions


def _records(
    consumer: KafkaConsumer, ends: dict[KafkaPartition, int], quiet_polls: int
) -> Iterator[tuple[tuple[int, int], int, bytes | None]]:
    """Partition and offset, timestamp and value of everything below `ends`.

    A position that has passed the end is the end: the markers of transactions take offsets, too.
    """
    quiet, open_ones = 0, _not_read(consumer, list(ends), ends)
    while open_ones:
        polled = consumer.poll(timeout_ms=_POLL_MS)
        quiet = 0 if polled else quiet + 1
        if quiet > quiet_polls:  # a client of a broker that is gone polls nothing for ever
            names = ", ".join(f"{at.topic}[{at.partition}]" for at in open_ones)
            raise BrokerError(f"{names}: nothing more to read, wanted all windows to their end")
        for partition, records in polled.items():
            for record in records:
                if record.offset < ends[partition]:
                    at = (partition.partition, record.offset)
                    yield at, record.timestamp, record.value
        open_ones = _not_read(consumer, open_ones, ends)
        consumer.pause(*(set(ends) - set(open_ones)))


def _not_read(
    consumer: KafkaConsumer, partitions: Sequence[KafkaPartition], ends: dict[KafkaPartition, int]
) -> list[KafkaPartition]:
    """Those of `partitions` whose end is not reached."""
    return [at for at in partitions if (consumer.position(at) or 0) < ends[at]]
