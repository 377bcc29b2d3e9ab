"""Small models for the tests of this folder."""

from __future__ import annotations

from typing import Any

import numpy as np

from forecastd.architecture import Architecture, Recurrent
from forecastd.memory.models import compacted
from forecastd.models.model_log import ModelLog
from forecastd.models.model_records import Entry, NewModel, Pointer, encode_entry, encode_pointer
from forecastd.records import Message

TOPIC = "g-models"
NOW_MS = 1_700_000_000_000

NETWORK = Architecture(
    cells=(Recurrent(cell="lstm", units=3),), timesteps=4, features=1, outputs=2, horizon=2
)


def some_model(seed: int = 0, parent: str | None = None, **facts: Any) -> NewModel:
    """A model that differs from those of other seeds."""
    random = np.random.default_rng(seed)
    weights = [random.normal(size=shape).astype(np.float32) for shape in NETWORK.weight_shapes]
    return NewModel(NETWORK, weights, "a test", parent, {"forecastd": "0"}, facts)


def fold(log: ModelLog, *messages: Message) -> None:
    for message in messages:
        log.fold(message.key, message.value)


class Topic:
    """A models topic: what was written, and a reader that has read along."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.log = ModelLog(TOPIC)

    def write(self, *messages: Message) -> None:
        self.messages += messages
        fold(self.log, *messages)

    def add(self, parent: str | None = None, **facts: Any) -> Entry:
        """Add a model; its number is its seed."""
        number = self.log.next_number()
        entry, messages = encode_entry(TOPIC, some_model(number, parent, **facts), number, NOW_MS)
        self.write(*messages)
        return entry

    def point(self, pointer: Pointer) -> Pointer:
        self.write(encode_pointer(TOPIC, pointer))
        return pointer

    def promote(self, version: str, by: Any = "trainer") -> Pointer:
        return self.point(self.log.promote(version, by, NOW_MS, "better"))

    def read_late(self) -> ModelLog:
        """The log of somebody who comes after compaction."""
        log = ModelLog(TOPIC)
        fold(log, *compacted(self.messages))
        return log


def serves(log: ModelLog) -> str | None:
    return log.champion.version if log.champion is not None else None
