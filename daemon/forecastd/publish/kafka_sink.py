"""Messages out, through kafka-python's idempotent producer, every acknowledgement checked."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from kafka import KafkaProducer
from kafka.errors import MessageSizeTooLargeError, RecordListTooLargeError
from kafka.partitioner.default import murmur2

from forecastd.errors import BrokerError, TopicError
from forecastd.kafka_connection import broker_errors, build_client, connection_options
from forecastd.records import Message
from forecastd.settings import Settings

_REQUEST_BYTES_MAX = 100 * 1024 * 1024  # the topic decides what is too large, not the client
_KEYS_REMEMBERED = 2**17
_TOO_LARGE = (MessageSizeTooLargeError, RecordListTooLargeError)


class KafkaSink:
    """One idempotent producer."""

    def __init__(self, settings: Settings) -> None:
        self._timeout_s = settings.kafka.delivery_timeout / 1000
        with broker_errors("producer"):
            self._producer = build_client(KafkaProducer, **producer_options(settings))

    def send(self, messages: Iterable[Message]) -> None:
        """Send all and return when the broker has acknowledged every one.

        Raises:
            BrokerError: one of them was not acknowledged; none may be taken as sent.
            TopicError: one of them is too large for its topic.
        """
        send_all(self._producer, messages, self._timeout_s)

    def close(self, timeout_s: float) -> None:
        """Give up whatever is not acknowledged yet."""
        with broker_errors("producer"):
            self._producer.close(timeout=timeout_s)


def producer_options(settings: Settings) -> dict[str, Any]:
    """What every producer of ours is made with."""
    compression = settings.publish.compression
    return connection_options(settings.kafka, "sink") | {
        "acks": "all",
        "enable_idempotence": True,
        "linger_ms": 5,
        "batch_size": 256 * 1024,
        "compression_type": None if compression == "none" else compression,
        "delivery_timeout_ms": settings.kafka.delivery_timeout,
        "max_block_ms": settings.kafka.request_timeout,
        "max_request_size": _REQUEST_BYTES_MAX,
        "allow_auto_create_topics": False,
    }


def send_all(producer: KafkaProducer, messages: Iterable[Message], timeout_s: float) -> None:
    """Send, flush, and look at every acknowledgement: a flush alone says nothing of failures.

    Raises:
        BrokerError: one of them was not acknowledged in `timeout_s`.
        TopicError: one of them is too large for its topic, which no trying again would change.
    """
    sent: list[tuple[Message, Any]] = []
    counts: dict[str, int] = {}
    with broker_errors("send"):
        for message in messages:
            partition = message.partition
            if partition is None and message.key is not None:
                count = counts.get(message.topic)
                if count is None:
                    count = counts[message.topic] = len(producer.partitions_for(message.topic))
                partition = key_hash(message.key) % count
            future = producer.send(
                message.topic,
                value=message.value,
                key=message.key,
                headers=list(message.headers),
                partition=partition,
                timestamp_ms=message.timestamp_ms,
            )
            sent.append((message, future))
        if sent:
            producer.flush(timeout=timeout_s)
    for message, future in sent:
        _check(message, future, timeout_s)


def _check(message: Message, future: Any, timeout_s: float) -> None:
    if not future.is_done:
        raise BrokerError(f"send to {message.topic}: no answer in {timeout_s:g} s")
    failure = future.exception
    if isinstance(failure, _TOO_LARGE):
        found = f"a message of {len(message.value or b'')} bytes is too large"
        wanted = "a larger max.message.bytes, or a smaller forecast"
        raise TopicError(f"topic {message.topic}: {found}, wanted {wanted}")
    if failure is not None:
        raise BrokerError(f"send to {message.topic}: {type(failure).__name__} ({failure})")


@lru_cache(maxsize=_KEYS_REMEMBERED)
def key_hash(key: bytes) -> int:
    """Kafka's hash of a key, by which its default partitioner chooses the partition.

    The client computes it in Python, and the same keys come for ever.
    """
    return int(murmur2(key)) & 0x7FFFFFFF
