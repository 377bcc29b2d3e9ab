"""Membership of the group, against a real broker."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from kafka.admin import KafkaAdminClient

from forecastd.clock import SystemClock
from forecastd.ingest.kafka_source import KafkaSource
from forecastd.records import TopicPartition
from forecastd.settings import Settings
from tests.deadline import until
from tests.in_memory import Telemetry
from tests.secured_kafka import SOCKETS_LEFT, swept

__all__ = ["swept"]

pytestmark = SOCKETS_LEFT


class Group:
    """A topic of four partitions, and members of a group that say what they own."""

    def __init__(self, server: str, undo: ExitStack) -> None:
        mark = uuid.uuid4().hex[:8]
        self.server, self.undo = server, undo
        self.topic, self.name = f"records-{mark}", f"group-{mark}"
        admin = KafkaAdminClient(bootstrap_servers=server)
        admin.create_topics({self.topic: {"num_partitions": 4}}, wait_for_metadata=True)
        admin.close()
        self.owned: dict[str, set[TopicPartition]] = {}
        self.sources: dict[str, KafkaSource] = {}

    def start(self, instance_id: str) -> None:
        """A static member, new or in the place of one that is gone."""
        kafka = {
            "bootstrap_servers": self.server,
            "group_id": self.name,
            "instance_id": instance_id,
            "session_timeout": "30s",
        }
        settings = Settings.model_validate({"kafka": kafka, "ingest": {"topics": [self.topic]}})
        source = KafkaSource(settings, Telemetry(), SystemClock())
        self.undo.callback(source.close, 1.0)
        self.sources[instance_id], self.owned[instance_id] = source, set()

    def turn(self, instance_id: str) -> set[TopicPartition]:
        """One poll; what the member owns after it."""
        self.sources[instance_id].poll(0.1)
        changes = self.sources[instance_id].take_assignment()
        owned = (self.owned[instance_id] - set(changes.removed)) | set(changes.added)
        self.owned[instance_id] = owned
        return owned


@pytest.fixture
def group(kafka: str) -> Iterator[Group]:
    with ExitStack() as undo:
        yield Group(kafka, undo)


class TestStaticMember:
    def test_that_dies_between_two_rounds_leaves_no_partition_to_nobody(self, group: Group) -> None:
        """The second round, in which what it gave up is given to another, was its to begin."""
        group.start("a")
        until(lambda: len(group.turn("a")) == 4, "all partitions to be the first member's")
        group.start("b")

        def gave_up() -> bool:
            group.turn("b")
            return len(group.turn("a")) < 4

        until(gave_up, "the first member to give partitions up")
        group.sources["a"].close(1.0)  # a static member does not leave
        group.start("a")
        until(lambda: len(group.turn("a") | group.turn("b")) == 4, "an owner for each partition")
        assert not group.owned["a"] & group.owned["b"]

    def test_that_restarts_takes_nothing_from_the_others(self, group: Group) -> None:
        for name in ("a", "b"):
            group.start(name)
        until(lambda: len(group.turn("a")) == len(group.turn("b")) == 2, "two partitions for each")
        others = group.owned["b"]
        group.sources["a"].close(1.0)
        group.start("a")

        def is_back() -> bool:
            assert group.turn("b") == others
            return len(group.turn("a")) == 2

        until(is_back, "its own partitions")
