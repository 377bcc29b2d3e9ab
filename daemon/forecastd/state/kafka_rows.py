"""The rows on a state topic, read from its beginning to its end.

The end is the log end, not the last stable offset: with a transaction still open the reader waits
for it rather than missing what it wrote. A position that has passed the end is the end, whether or
not a record was seen there: the markers of transactions take offsets, too.
"""

from __future__ import annotations

from collections.abc import Sequence

from kafka import KafkaAdminClient, KafkaConsumer
from kafka import TopicPartition as KafkaPartition
from kafka.admin import OffsetSpec
from kafka.errors import KafkaError

from forecastd.errors import BrokerError
from forecastd.kafka_connection import build_client, connection_options
from forecastd.records import TopicPartition
from forecastd.settings import Settings

_FETCH_BYTES = 16 * 1024 * 1024


class KafkaRowReader:
    """Reads one partition of a state topic at a time; opened when there is something to read."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._consumer: KafkaConsumer | None = None
        self._partition: KafkaPartition | None = None
        self._end = 0

    def start(self, partition: TopicPartition) -> int:
        """Begin with the rows of an input partition; returns about how many there are."""
        topic = self._settings.state_topic(partition.topic)
        kafka = KafkaPartition(topic, partition.partition)
        try:
            self._end = self._log_end(kafka)
            if self._consumer is None:
                self._consumer = self._open()
            self._consumer.assign([kafka])
            self._consumer.seek_to_beginning(kafka)
            at = self._consumer.position(kafka, timeout_ms=self._settings.kafka.request_timeout)
        except KafkaError as error:
            raise BrokerError(f"rows of {partition}: {type(error).__name__} ({error})") from error
        self._partition = kafka
        return max(self._end - (at or 0), 0)

    def read(self, timeout_s: float) -> tuple[Sequence[tuple[bytes, bytes | None]], bool]:
        """Next keys and rows (None: tombstone) in order, and whether that was the end."""
        consumer, partition = self._consumer, self._partition
        assert consumer is not None, "read before start"
        assert partition is not None, "read before start"
        try:
            at = consumer.position(partition, timeout_ms=self._settings.kafka.request_timeout)
            if at is not None and at >= self._end:
                return [], True
            polled = consumer.poll(timeout_ms=round(timeout_s * 1000))
            at = consumer.position(partition, timeout_ms=self._settings.kafka.request_timeout)
        except KafkaError as error:
            raise BrokerError(f"rows of {partition}: {type(error).__name__} ({error})") from error
        rows = [(record.key, record.value) for record in polled.get(partition, ())]
        return rows, at is not None and at >= self._end

    def close(self) -> None:
        """Stop reading."""
        if self._consumer is not None:
            consumer, self._consumer = self._consumer, None
            try:
                consumer.close(autocommit=False, timeout_ms=1000)
            except KafkaError as error:
                raise BrokerError(f"rows: {type(error).__name__} ({error})") from error

    def _open(self) -> KafkaConsumer:
        return build_client(
            KafkaConsumer,
            **connection_options(self._settings.kafka, "restore"),
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            isolation_level="read_committed",
            max_poll_records=5_000,
            fetch_max_bytes=_FETCH_BYTES,
            max_partition_fetch_bytes=_FETCH_BYTES,
            allow_auto_create_topics=False,
        )

    def _log_end(self, partition: KafkaPartition) -> int:
        admin = build_client(
            KafkaAdminClient, **connection_options(self._settings.kafka, "restore-admin")
        )
        try:
            found = admin.list_partition_offsets({partition: OffsetSpec.LATEST})
        finally:
            admin.close()
        return int(found[partition].offset)
