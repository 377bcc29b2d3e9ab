"""The group's models topic: read to its end, followed, and written to.

It has one partition and is read without a group: every instance reads all of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from kafka import KafkaConsumer
from kafka import TopicPartition as KafkaPartition
from kafka.errors import KafkaError

from forecastd.clock import Clock, SystemClock
from forecastd.errors import BrokerError, TopicError
from forecastd.kafka_connection import broker_errors, build_client, connection_options
from forecastd.kafka_topics import TopicAdmin
from forecastd.models.model_log import ModelLog
from forecastd.models.model_records import PARTITION
from forecastd.publish.kafka_sink import KafkaSink
from forecastd.records import Message
from forecastd.settings import Settings, format_duration

_FETCH_BYTES = 16 * 1024 * 1024
_POLL_MS = 500
_CLOSE_S = 1.0


class KafkaModels:
    """A reader of the models topic, and a writer once there is something to write.

    Not for two threads at once.

    Attributes:
        log: what has been read so far.
    """

    def __init__(self, settings: Settings, clock: Clock | None = None) -> None:
        self.log = ModelLog(settings.models_topic)
        self._settings = settings
        self._clock = clock or SystemClock()
        self._at = KafkaPartition(settings.models_topic, PARTITION)
        self._consumer: KafkaConsumer | None = None
        self._sink: KafkaSink | None = None
        self._is_there: bool | None = None
        self._has_news = False

    @property
    def is_there(self) -> bool:
        """Whether there is such a topic; asked once, because asking takes a connection.

        Raises:
            BrokerError: the broker does not answer.
            TopicError: the broker does not let us see it.
        """
        if self._is_there is None:
            with TopicAdmin(self._settings.kafka) as admin:
                there, hidden = admin.describe([self.log.topic])
            if hidden:
                raise TopicError("\n".join(hidden.values()))
            self._is_there = bool(there)
        return self._is_there

    def read_to_end(self, timeout_s: float | None = None) -> None:
        """Read all that is there as of now. A topic that is not there holds nothing.

        Args:
            timeout_s: at most; None: `kafka.delivery_timeout`.

        Raises:
            BrokerError: the end was not reached in that time.
            TopicError: the broker does not let us see the topic.
        """
        if not self.is_there:
            return
        default_s = self._settings.kafka.delivery_timeout / 1000
        patience_s = default_s if timeout_s is None else timeout_s
        deadline_s = self._clock.monotonic_s() + patience_s
        with self._reading():
            consumer = self._connected()
            request_ms = self._settings.kafka.request_timeout
            end = consumer.end_offsets([self._at], timeout_ms=request_ms)[self._at]
            while consumer.position(self._at, timeout_ms=request_ms) < end:
                if self._clock.monotonic_s() >= deadline_s:
                    waited = format_duration(round(patience_s * 1000))
                    found = f"{self.log.topic}: its end was not reached in {waited}"
                    raise BrokerError(f"{found}, wanted all models")
                self._fold_polled(consumer, _POLL_MS)

    def poll(self) -> bool:
        """Take in what has come; never waits. Returns whether something came since the last time.

        What `read_to_end` has taken in meanwhile is no less news.

        A topic that was not there when it was first looked for is not looked for again.

        Raises:
            BrokerError: the client gave up.
        """
        if self._consumer is None:
            return False
        with self._reading():
            self._fold_polled(self._consumer, 0)
        news, self._has_news = self._has_news, False
        return news

    def write(self, messages: Sequence[Message]) -> None:
        """Send, one after the other; returns when all are acknowledged. They are read by `poll`.

        Raises:
            BrokerError: one of them was not acknowledged; those before it may be there.
            TopicError: there is no such topic, or one message is too large for it.
        """
        if not self.is_there:
            raise TopicError(f"{self.log.topic}: no such topic, wanted the group's models topic")
        if self._sink is None:
            self._sink = KafkaSink(self._settings)
        try:
            self._sink.send(messages)
        except BrokerError:
            # What it still holds must not arrive after what is written by the next one.
            sink, self._sink = self._sink, None
            sink.close(_CLOSE_S)
            raise

    def close(self) -> None:
        """Disconnect."""
        consumer, self._consumer = self._consumer, None
        sink, self._sink = self._sink, None
        with broker_errors("models"):
            if sink is not None:
                sink.close(_CLOSE_S)
            if consumer is not None:
                consumer.close(autocommit=False, timeout_ms=1000)

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """A client that fails is given up: who asks next gets another, which reads all anew."""
        try:
            with broker_errors(f"models in {self.log.topic}"):
                yield
        except BrokerError:
            consumer, self._consumer = self._consumer, None
            if consumer is not None:
                with suppress(KafkaError):
                    consumer.close(autocommit=False, timeout_ms=1000)
            raise

    def _fold_polled(self, consumer: KafkaConsumer, timeout_ms: int) -> None:
        polled = consumer.poll(timeout_ms=timeout_ms)
        for record in polled.get(self._at, ()):
            self.log.fold(record.key, record.value)
            self._has_news = True

    def _connected(self) -> KafkaConsumer:
        if self._consumer is None:
            self.log = ModelLog(self._settings.models_topic)
            self._consumer = build_client(
                KafkaConsumer,
                **connection_options(self._settings.kafka, "models"),
                group_id=None,
                enable_auto_commit=False,
                auto_offset_reset="earliest",
                fetch_max_bytes=_FETCH_BYTES,
                max_partition_fetch_bytes=_FETCH_BYTES,
                allow_auto_create_topics=False,
            )
            self._consumer.assign([self._at])
            self._consumer.seek_to_beginning(self._at)
        return self._consumer
