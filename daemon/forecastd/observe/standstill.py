"""For how long readers of committed messages have not got on, from what brokers say of offsets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from forecastd.records import TopicPartition


class Reach(NamedTuple):
    """How far a partition can be read.

    Attributes:
        stable: the last stable offset: a reader of committed messages gets no further.
        end: the offset after the last message.
    """

    stable: int
    end: int


@dataclass(slots=True)
class Standstill:
    """Remembers since when each partition's last stable offset stands.

    A transaction that is open when one looks is nothing: the offset has moved when one looks
    again. What stands still is held up by a single transaction.
    """

    _since: dict[TopicPartition, tuple[int, float]] = field(default_factory=dict)

    def seconds(
        self, reaches: Mapping[TopicPartition, Reach], now_s: float
    ) -> dict[TopicPartition, float]:
        """How long each partition has stood still, 0 where messages are not waiting or get on."""
        since = {}
        for partition, reach in reaches.items():
            if reach.stable < reach.end:
                offset, seen_s = self._since.get(partition, (-1, now_s))
                since[partition] = reach.stable, seen_s if offset == reach.stable else now_s
        self._since = since
        return {
            partition: now_s - since[partition][1] if partition in since else 0.0
            for partition in reaches
        }
