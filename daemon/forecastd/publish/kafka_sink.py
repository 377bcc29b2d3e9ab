"""Messages out, through kafka-python's idempotent producer, every acknowledgement checked."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from kafka import KafkaProducer
from kafka.errors import KafkaError, MessageSizeTooLargeError, RecordListTooLargeError
from kafka.partitioner.default import murmur2

from forecastd.errors import BrokerError
from forecastd.kafka_connection import build_client, connection_options
from forecastd.records import Message
from forecastd.settings import Settings

_REQUEST_BYTES_MAX = 100 * 1024 * 1024  # the topic decides what is too large, not the client
_KEYS_REMEMBERED = 2**17
_TOO_LARGE = (MessageSizeTooLargeError, RecordListTooLargeError)


@lru_cache(maxsize=_KEYS_REMEMBERED)
def key_hash(key: bytes) -> int:
    """Kafka's hash of a key. The client computes it in Python, and the same keys come for ever."""
    return int(murmur2(key)) & 0x7FFFFFFF


class KafkaSink:
    """One idempotent producer."""

    def __init__(self, settings: Settings) -> None:
        self._timeout_s = settings.kafka.delivery_timeout / 1000
        compression = settings.publish.compression
        try:
            self._producer = build_client(
                KafkaProducer,
                **connection_options(settings.kafka, "sink"),
                acks="all",
                enable_idempotence=True,
                linger_ms=5,
                batch_size=256 * 1024,
                compression_type=None if compression == "none" else compression,
                delivery_timeout_ms=settings.kafka.delivery_timeout,
                max_block_ms=settings.kafka.request_timeout,
                max_request_size=_REQUEST_BYTES_MAX,
                allow_auto_create_topics=False,
            )
        except KafkaError as error:
            raise BrokerError(f"producer: {type(error).__name__} ({error})") from error

    def send(self, messages: Iterable[Message]) -> list[Message]:
        """Send all and return when the broker has answered for every one.

        Returns:
            Messages that are too large for their topic; all others are acknowledged.

        Raises:
            BrokerError: one of them was not acknowledged; none may be taken as sent.
        """
        sent, refused = [], []
        send = self._producer.send
        counts: dict[str, int] = {}
        try:
            for message in messages:
                try:
                    future = send(
                        message.topic,
                        value=message.value,
                        key=message.key,
                        headers=list(message.headers),
                        partition=self._partition(message, counts),
                        timestamp_ms=message.timestamp_ms,
                    )
                except _TOO_LARGE:
                    refused.append(message)
                else:
                    sent.append((message, future))
            if sent:
                self._producer.flush(timeout=self._timeout_s)
        except KafkaError as error:
            raise BrokerError(f"send: {type(error).__name__} ({error})") from error
        for message, future in sent:
            if not future.is_done:
                raise BrokerError(f"send to {message.topic}: no answer in {self._timeout_s:g} s")
            if isinstance(future.exception, _TOO_LARGE):
                refused.append(message)
            elif future.exception is not None:
                error = future.exception
                raise BrokerError(f"send to {message.topic}: {type(error).__name__} ({error})")
        return refused

    def _partition(self, message: Message, counts: dict[str, int]) -> int | None:
        """The partition that Kafka's default partitioner chooses."""
        if message.partition is not None or message.key is None:
            return message.partition
        count = counts.get(message.topic)
        if count is None:
            count = counts[message.topic] = len(self._producer.partitions_for(message.topic))
        return key_hash(message.key) % count

    def close(self, timeout_s: float) -> None:
        """Give up whatever is not acknowledged yet."""
        try:
            self._producer.close(timeout=timeout_s)
        except KafkaError as error:
            raise BrokerError(f"producer: {type(error).__name__} ({error})") from error
