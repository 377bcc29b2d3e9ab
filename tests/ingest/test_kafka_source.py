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
        self.owned: dict[str | None, set[TopicPartition]] = {}
        self.sources: dict[str | None, KafkaSource] = {}

    def grow(self, partitions: int) -> None:
        """Give the topic so many partitions."""
        admin = KafkaAdminClient(bootstrap_servers=self.server)
        admin.create_partitions({self.topic: partitions})
        admin.close()

    def start(self, instance_id: str | None) -> None:
        """A member; a static one, unless that is None, may be in the place of one that is gone."""
        kafka = {
            "bootstrap_servers": self.server,
            "group_id": self.name,
            "instance_id": instance_id,
            "session_timeout": "30s",
            "metadata_max_age": "1s",
        }
        settings = Settings.model_validate({"kafka": kafka, "ingest": {"topics": [self.topic]}})
        source = KafkaSource(settings, Telemetry(), SystemClock())
        self.undo.callback(source.close, 1.0)
        self.sources[instance_id], self.owned[instance_id] = source, set()

    def turn(self, instance_id: str | None, timeout_s: float = 0.1) -> set[TopicPartition]:
        """One poll; what the member owns after it."""
        self.sources[instance_id].poll(timeout_s)
        changes = self.sources[instance_id].take_assignment()
        owned = (self.owned[instance_id] - set(changes.removed)) | set(changes.added)
        self.owned[instance_id] = owned
        return owned


@pytest.fixture
def group(kafka: str) -> Iterator[Group]:
    with ExitStack() as undo:
        yield Group(kafka, undo)


class TestMember:
    def test_is_given_partitions_though_no_poll_waits_for_them(self, group: Group) -> None:
        """As it polls while other partitions are restored."""
        group.start(None)
        until(lambda: len(group.turn(None, 0.0)) == 4, "all partitions to be its own")
        group.start("b")

        def is_shared() -> bool:
            return len(group.turn(None, 0.0)) == len(group.turn("b", 0.0)) == 2

        until(is_shared, "two partitions for each")

    def test_waits_for_a_round_that_began_because_partitions_were_found(self, group: Group) -> None:
        """The leader knows them, so its client holds the round for done, if it outlasts a poll."""
        group.start(None)
        until(lambda: len(group.turn(None)) == 4, "all partitions to be its own")
        group.grow(6)
        until(lambda: len(group.turn(None, 0.0)) == 6, "the new partitions to be its own as well")


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
