"""The group from outside, on a real broker: what the broker refuses is what makes a reset safe."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from uuid import uuid4

import pytest
from kafka import KafkaAdminClient, KafkaConsumer

from forecastd.errors import StateError
from forecastd.records import Committed, TopicPartition
from forecastd.settings import Settings
from forecastd.state.kafka_group import GroupAdmin
from tests.secured_kafka import SOCKETS_LEFT, swept

__all__ = ["swept"]

pytestmark = [pytest.mark.kafka, SOCKETS_LEFT]


@pytest.fixture
def settings(kafka: str) -> Settings:
    """A group that nobody has used, and its input topic."""
    topic = f"r-{uuid4().hex[:8]}"
    admin = KafkaAdminClient(bootstrap_servers=kafka)
    admin.create_topics({topic: {"num_partitions": 2}}, wait_for_metadata=True)
    admin.close()
    group = {"bootstrap_servers": kafka, "group_id": f"g-{topic}"}
    return Settings.model_validate({"kafka": group, "ingest": {"topics": [topic]}})


@pytest.fixture
def group(settings: Settings) -> Iterator[GroupAdmin]:
    with GroupAdmin(settings) as admin:
        yield admin


@pytest.fixture
def place(settings: Settings) -> TopicPartition:
    return TopicPartition(settings.ingest.topics[0], 1)


@pytest.fixture
def member(settings: Settings, place: TopicPartition) -> Iterator[KafkaConsumer]:
    """A static member, which stays in the group for its session's length after it is gone."""
    consumer = KafkaConsumer(
        place.topic,
        bootstrap_servers=settings.kafka.bootstrap_servers[0],
        group_id=settings.kafka.group_id,
        group_instance_id="one",
        client_id="cara",
        session_timeout_ms=6_000,
        enable_auto_commit=False,
    )
    while not consumer.assignment():
        consumer.poll(timeout_ms=100)
    yield consumer
    consumer.close()


class TestGroup:
    def test_that_was_never_used_has_neither_members_nor_offsets(
        self, group: GroupAdmin, place: TopicPartition
    ) -> None:
        assert group.members() == []
        assert group.committed([place.topic]) == {}

    def test_keeps_what_is_committed_for_it(self, group: GroupAdmin, place: TopicPartition) -> None:
        group.commit({place: Committed(7, 3)})
        assert group.committed([place.topic]) == {place: Committed(7, 3)}
        assert group.committed(["another"]) == {}
        group.disown({place: Committed(7, 3)})
        assert group.committed([place.topic]) == {place: Committed(7, None)}
        group.forget([place])
        assert group.committed([place.topic]) == {}

    def test_names_its_members(self, group: GroupAdmin, member: KafkaConsumer) -> None:
        assert [str(found) for found in group.members()] == [
            "cara at 127.0.0.1, kafka.instance_id one"
        ]

    def test_names_a_static_member_that_has_just_left(
        self, group: GroupAdmin, member: KafkaConsumer
    ) -> None:
        """It may come back at any moment, to partitions that are still its own."""
        member.close()
        assert len(group.members()) == 1

    @pytest.mark.parametrize(
        "move",
        [
            lambda group, place: group.commit({place: Committed(9, 9)}),
            lambda group, place: group.disown({place: Committed(9, 9)}),
            lambda group, place: group.forget([place]),
        ],
        ids=["commit", "disown", "forget"],
    )
    def test_moves_no_offset_while_it_has_a_member(
        self,
        group: GroupAdmin,
        place: TopicPartition,
        request: pytest.FixtureRequest,
        move: Callable[[GroupAdmin, TopicPartition], None],
    ) -> None:
        """A daemon that starts while somebody resets is not overlooked: the broker refuses."""
        group.commit({place: Committed(7, 3)})
        request.getfixturevalue("member")
        with pytest.raises(StateError, match=r"a member joined while .*\[1\] was reset, wanted a"):
            move(group, place)
        assert group.committed([place.topic]) == {place: Committed(7, 3)}

    def test_tells_the_ends_of_a_log(self, group: GroupAdmin, place: TopicPartition) -> None:
        assert group.bounds([place]) == {place: (0, 0)}
        assert group.bounds([]) == {}
        assert group.partitions([place.topic, "no-such"]) == {place.topic: 2}
