"""Messages out, through kafka-python's idempotent producer, every acknowledgement checked."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from contextlib import suppress
from functools import lru_cache
from typing import Any

from kafka import KafkaProducer
from kafka.errors import KafkaError, MessageSizeTooLargeError, RecordListTooLargeError
from kafka.partitioner.default import murmur2
from kafka.util import Timer

from forecastd.errors import BrokerError, TopicError
from forecastd.kafka_connection import broker_errors, build_client, connection_options
from forecastd.records import Message
from forecastd.settings import Settings

_REQUEST_BYTES_MAX = 100 * 1024 * 1024  # the topic decides what is too large, not the client
_LINGER_MS = 5
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
        close_producer(self._producer, timeout_s)


def producer_options(settings: Settings) -> dict[str, Any]:
    """What every producer of ours is made with."""
    compression = settings.publish.compression
    return connection_options(settings.kafka, "sink") | {
        "acks": "all",
        "enable_idempotence": True,
        "linger_ms": _LINGER_MS,
        "batch_size": 256 * 1024,
        "compression_type": None if compression == "none" else compression,
        # The client refuses less than the time of one request and of its linger.
        "delivery_timeout_ms": settings.kafka.delivery_timeout + _LINGER_MS,
        "max_block_ms": settings.kafka.request_timeout,
        "max_request_size": _REQUEST_BYTES_MAX,
        "allow_auto_create_topics": False,
        "metadata_max_age_ms": settings.kafka.metadata_max_age,
    }


def send_all(producer: KafkaProducer, messages: Iterable[Message], timeout_s: float) -> None:
    """Send, flush, and look at every acknowledgement: a flush alone says nothing of failures.

    Raises:
        BrokerError: one of them was not acknowledged in `timeout_s`.
        TopicError: one of them is too large for its topic, which no trying again would change.
    """
    sent: list[tuple[Message, Any]] = []
    known: dict[str, set[int]] = {}
    try:
        for message in messages:
            topic, partition = message.topic, message.partition
            if topic not in known or (partition is not None and partition not in known[topic]):
                known[topic] = _partitions(producer, topic, partition, timeout_s)
            if partition is None and message.key is not None:
                partition = key_hash(message.key) % len(known[topic])
            future = producer.send(
                topic,
                value=message.value,
                key=message.key,
                headers=list(message.headers),
                partition=partition,
                timestamp_ms=message.timestamp_ms,
            )
            sent.append((message, future))
        if sent:
            _flush(producer, [future for _, future in sent], timeout_s)
    except KafkaError as error:
        # Within a transaction one message that fails makes the next call fail: told is the first.
        for message, future in sent:
            if future.is_done:
                _check(message, future, timeout_s)
        raise BrokerError(f"send: {type(error).__name__} ({error})") from error
    for message, future in sent:
        _check(message, future, timeout_s)


def _flush(producer: KafkaProducer, futures: Iterable[Any], timeout_s: float) -> None:
    """Wait for all of them, `timeout_s` at most; the producer's own waits as long for each batch.

    What fails meanwhile is left to whoever looks at the futures.
    """
    batches = producer._accumulator  # noqa: SLF001  # nothing public sends at once
    timer = Timer(timeout_s * 1000)
    batches.begin_flush()
    producer._sender.wakeup()  # noqa: SLF001
    try:
        for future in futures:
            if not future.is_done:
                with suppress(KafkaError):
                    future.get(timeout=timer.timeout_secs)
    finally:
        batches._flushes_in_progress.decrement()  # noqa: SLF001


def close_producer(producer: KafkaProducer, timeout_s: float) -> None:
    """Give a producer up, with whatever it was not told the fate of.

    Its own `close` first waits for every message, and where a broker is away raises before it has
    ended its thread. That would go on for good, with its connections, and would send what was given
    up once the broker is back.

    Raises:
        BrokerError: its thread is in a request that has not ended in `timeout_s`.
    """
    producer._sender.force_close()  # noqa: SLF001  # nothing public does
    producer._sender.join(timeout_s)  # noqa: SLF001
    with broker_errors("producer"):
        producer.close(timeout=0)


def _partitions(
    producer: KafkaProducer, topic: str, wanted: int | None, timeout_s: float
) -> set[int]:
    """The partitions that a topic has.

    One that was added since the producer last asked would be taken by it for a mistake of ours, so
    it is made to ask again.

    Raises:
        BrokerError: `wanted` is not among them.
    """
    known: set[int] = producer.partitions_for(topic)
    if wanted is None or wanted in known:
        return known
    told = threading.Event()
    asked = producer._metadata.request_update()  # noqa: SLF001  # nothing public asks
    asked.add_both(lambda *_: told.set())
    producer._sender.wakeup()  # noqa: SLF001
    told.wait(timeout_s)
    known = producer.partitions_for(topic)
    if wanted not in known:
        raise BrokerError(f"send to {topic}: no partition {wanted} yet, wanted it")
    return known


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
