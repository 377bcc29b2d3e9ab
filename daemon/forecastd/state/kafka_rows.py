"""The rows on a state topic, read from its beginning to its end.

The end is the log end, not the last stable offset: with a transaction still open the reader waits
for it rather than missing what it wrote. A position that has passed the end is the end, whether or
not a record was seen there: the markers of transactions take offsets, too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from kafka import KafkaAdminClient, KafkaConsumer
from kafka import TopicPartition as KafkaPartition
from kafka.admin import OffsetSpec
from kafka.errors import UnknownTopicOrPartitionError

from forecastd.kafka_connection import broker_errors, build_client, connection_options
from forecastd.records import ReadSoFar, TopicPartition
from forecastd.settings import Settings

_FETCH_BYTES = 16 * 1024 * 1024


class KafkaRowReader:
    """Reads one partition of a state topic at a time; connected while there is one to read."""

    def __init__(
        self, settings: Settings, add_partitions: Callable[[], None] | None = None
    ) -> None:
        """Connect later.

        Args:
            settings: where the topics are.
            add_partitions: called where the state topic lacks a partition; None: that is an error.
        """
        self._settings = settings
        self._add_partitions = add_partitions
        self._timeout_ms = settings.kafka.request_timeout
        self._consumer: KafkaConsumer | None = None
        self._admin: KafkaAdminClient | None = None
        self._partition: KafkaPartition | None = None
        self._so_far = ReadSoFar("", 0, 0)

    def start(self, partition: TopicPartition) -> int:
        """Begin with the rows of an input partition; returns about how many there are.

        Raises:
            TopicError: the state topic lacks the partition, and an operator must add it.
        """
        topic = self._settings.state_topic(partition.topic)
        self._partition = kafka = KafkaPartition(topic, partition.partition)
        with broker_errors(f"rows of {partition}"):
            self._connect()
            end = self._end_of(kafka)
            assert self._consumer is not None, "connected"
            self._consumer.assign([kafka])
            self._consumer.seek_to_beginning(kafka)
            at = self._consumer.position(kafka, timeout_ms=self._timeout_ms)
        self._so_far = ReadSoFar(str(TopicPartition(*kafka)), at or 0, end)
        return max(end - (at or 0), 0)

    def read(self, timeout_s: float) -> tuple[Sequence[tuple[bytes, bytes | None]], bool]:
        """Next keys and rows (None: tombstone) in order, and whether that was the end."""
        consumer, partition = self._consumer, self._partition
        assert consumer is not None, "read before start"
        with broker_errors(f"rows in {partition}"):
            if self._so_far.position >= self._so_far.end:
                return [], True
            polled = consumer.poll(timeout_ms=round(timeout_s * 1000))
            at = consumer.position(partition, timeout_ms=self._timeout_ms)
        rows = [(record.key, record.value) for record in polled.get(partition, ())]
        if at is not None:
            self._so_far = self._so_far._replace(position=at)
        return rows, self._so_far.position >= self._so_far.end

    @property
    def so_far(self) -> ReadSoFar:
        """How far it has been read; no I/O."""
        return self._so_far

    def close(self) -> None:
        """Disconnect."""
        consumer, self._consumer = self._consumer, None
        admin, self._admin = self._admin, None
        with broker_errors("rows"):
            if admin is not None:
                admin.close()
            if consumer is not None:
                consumer.close(autocommit=False, timeout_ms=1000)

    def _end_of(self, partition: KafkaPartition) -> int:
        """The end of the log, not of what is committed: see above."""
        assert self._admin is not None, "connected"
        wanted = {partition: OffsetSpec.LATEST}
        try:
            ends = self._admin.list_partition_offsets(wanted)
        except UnknownTopicOrPartitionError:
            if self._add_partitions is None:
                raise
            self._add_partitions()
            ends = self._admin.list_partition_offsets(wanted)
        return int(ends[partition].offset)

    def _connect(self) -> None:
        kafka = self._settings.kafka
        if self._admin is None:
            self._admin = build_client(
                KafkaAdminClient, **connection_options(kafka, "restore-admin")
            )
        if self._consumer is None:
            self._consumer = build_client(
                KafkaConsumer,
                **connection_options(kafka, "restore"),
                group_id=None,
                enable_auto_commit=False,
                auto_offset_reset="earliest",
                isolation_level="read_committed",
                max_poll_records=5_000,
                fetch_max_bytes=_FETCH_BYTES,
                max_partition_fetch_bytes=_FETCH_BYTES,
                allow_auto_create_topics=False,
            )
