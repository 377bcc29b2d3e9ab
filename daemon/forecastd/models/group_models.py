"""The group's models topic, as those see it who follow it and write to it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from forecastd.models.model_log import ModelLog
from forecastd.records import Message


class GroupModels(Protocol):
    """The group's models topic."""

    @property
    def log(self) -> ModelLog:
        """What has been read so far."""
        ...

    def read_to_end(self) -> None:
        """Read all that is there as of now."""
        ...

    def poll(self) -> bool:
        """Take in what has come; never waits. Returns whether something came since the last time.

        What `read_to_end` has taken in meanwhile is no less news.
        """
        ...

    def write(self, messages: Sequence[Message]) -> None:
        """Send, one after the other; returns when all are acknowledged."""
        ...
