"""The models topic in memory: the twin of `models/kafka_models.py`, for tests."""

from __future__ import annotations

from collections.abc import Iterable

from forecastd.memory.log import MemoryBroker, MemorySink
from forecastd.models.model_log import ModelLog
from forecastd.records import Message


class MemoryModels:
    """Reads and writes the models topic of a `MemoryBroker`; several may share one.

    Attributes:
        log: what has been read so far.
    """

    def __init__(self, broker: MemoryBroker, topic: str) -> None:
        self.log = ModelLog(topic)
        self._broker = broker
        self._sink = MemorySink(broker)
        self._read = 0
        self._has_news = False

    @property
    def is_there(self) -> bool:
        """Always."""
        return True

    def read_to_end(self, timeout_s: float | None = None) -> None:  # noqa: ARG002  # as Kafka's
        """Read all that is there as of now."""
        came = self._broker.messages(self.log.topic)[self._read :]
        self._read += len(came)
        for message in came:
            self.log.fold(message.key, message.value)
            self._has_news = True

    def poll(self) -> bool:
        """Take in what has come; returns whether something came since the last time."""
        self.read_to_end()
        news, self._has_news = self._has_news, False
        return news

    def write(self, messages: Iterable[Message]) -> None:
        """Send, one after the other."""
        self._sink.send(messages)

    def close(self) -> None:
        """Nothing to close."""


def compacted(messages: Iterable[Message]) -> list[Message]:
    """What compaction leaves: the last message of each key in its place, tombstones gone."""
    last: dict[bytes | None, Message] = {}
    for message in messages:
        last.pop(message.key, None)
        last[message.key] = message
    return [message for message in last.values() if message.value is not None]
