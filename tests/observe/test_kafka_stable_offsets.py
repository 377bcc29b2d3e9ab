from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest
from kafka import KafkaProducer
from kafka.admin import KafkaAdminClient
from kafka.errors import KafkaError

from forecastd.clock import ManualClock, SystemClock
from forecastd.errors import BrokerError
from forecastd.observe.events import ReadersHeldUp, StableOffsetsSeen
from forecastd.observe.kafka_stable_offsets import NAMED_AFTER_S, StableOffsetWatch
from forecastd.records import TopicPartition
from forecastd.settings import KafkaSettings
from tests.deadline import until
from tests.hanging import hanging_transaction, open_transaction

pytestmark = pytest.mark.kafka


@pytest.fixture
def topic(kafka: str) -> Iterator[str]:
    """A topic of two partitions with a message in each that waits for nobody."""
    name = f"stable-{uuid.uuid4().hex[:8]}"
    admin = KafkaAdminClient(bootstrap_servers=kafka)
    admin.create_topics({name: {"num_partitions": 2}}, wait_for_metadata=True)
    producer = KafkaProducer(bootstrap_servers=kafka)
    for partition in range(2):
        producer.send(name, b"x", partition=partition).get(timeout=30)
    producer.close()
    yield name
    admin.close()


class Watched:
    """A watch over some topics, and its clock."""

    def __init__(self, kafka: str, *topics: str) -> None:
        self.clock = ManualClock(SystemClock().now_ms())
        settings = KafkaSettings.model_validate(
            {"bootstrap_servers": kafka, "request_timeout": "5s", "session_timeout": "6s"}
        )
        self.watch = StableOffsetWatch(settings, topics, self.clock)

    def look(self, after_s: float) -> tuple[dict[TopicPartition, float], list[str]]:
        """Seconds of standstill, and the sentences about transactions."""
        self.clock.advance(after_s)
        self.watch.look()
        seen, *named = self.watch.take()
        assert isinstance(seen, StableOffsetsSeen)
        held_up = [event for event in named if isinstance(event, ReadersHeldUp)]
        assert held_up == named
        return dict(seen.standstill), [event.transaction for event in held_up]


@pytest.fixture
def watched(kafka: str, topic: str) -> Iterator[Watched]:
    made = Watched(kafka, topic, "no-such-topic")
    yield made
    made.watch.stop()


class TestLook:
    def test_sees_every_partition_that_is_there_and_nothing_on_an_idle_one(
        self, watched: Watched, topic: str
    ) -> None:
        idle = {TopicPartition(topic, 0): 0.0, TopicPartition(topic, 1): 0.0}
        assert watched.look(0) == (idle, [])
        assert watched.look(60) == (idle, [])

    def test_names_the_transaction_that_readers_have_waited_for_too_long(
        self, watched: Watched, topic: str, kafka: str
    ) -> None:
        with hanging_transaction(kafka, topic, f"lost-{topic}"):
            assert watched.look(0)[1] == []
            assert watched.look(NAMED_AFTER_S - 10)[1] == []
            seconds, (sentence,) = watched.look(10)
        assert seconds == {TopicPartition(topic, 0): NAMED_AFTER_S, TopicPartition(topic, 1): 0}
        assert sentence.startswith(f"{topic}[0]: a transaction of producer ")
        assert "hangs since offset 1" in sentence
        assert watched.look(10) == (dict.fromkeys(seconds, 0.0), [])

    def test_names_its_owner_where_somebody_will_end_it(
        self, watched: Watched, topic: str, kafka: str
    ) -> None:
        with open_transaction(kafka, topic, f"slow-{topic}"):
            watched.look(0)
            _, (sentence,) = watched.look(NAMED_AFTER_S)
        assert f"the transaction 'slow-{topic}' of producer" in sentence

    def test_leaves_it_to_the_caller_that_nobody_answers(self) -> None:
        with pytest.raises((KafkaError, BrokerError)):
            Watched("127.0.0.1:1").watch.look()


class TestThread:
    def test_looks_at_once_and_keeps_what_it_saw(self, watched: Watched, topic: str) -> None:
        watched.watch.start()
        (seen,) = until(watched.watch.take, "look")
        assert isinstance(seen, StableOffsetsSeen)
        assert seen.standstill.keys() == {TopicPartition(topic, 0), TopicPartition(topic, 1)}

    def test_that_never_ran_can_be_stopped(self, watched: Watched) -> None:
        watched.watch.stop()
        assert watched.watch.take() == []
