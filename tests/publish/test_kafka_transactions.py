"""What a transaction of ours leaves at a real broker: everything of a turn, or nothing."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from kafka import KafkaConsumer, KafkaProducer
from kafka import TopicPartition as KafkaPartition
from kafka.admin import KafkaAdminClient
from kafka.structs import ConsumerGroupMetadata

from forecastd.clock import SystemClock
from forecastd.errors import BrokerError, TopicError
from forecastd.ingest.kafka_source import KafkaSource
from forecastd.publish.kafka_transactions import KafkaTransactions, Reader
from forecastd.records import Committed, Message, TopicPartition, Turn
from forecastd.settings import Settings
from forecastd.stopwatch import Stopwatch
from forecastd.watchdog import Watchdog
from tests.deadline import until
from tests.in_memory import Telemetry

pytestmark = pytest.mark.kafka

SMALL = 1_000


class Bench:
    """Topics of one test, the members of its group, and what others see of them.

    `forecasts` and `state` take everything; `small` takes no large message.
    """

    def __init__(self, server: str) -> None:
        mark = uuid.uuid4().hex[:8]
        self.server, self.group, self.undo = server, f"group-{mark}", ExitStack()
        self.records, self.forecasts, self.state, self.small = (
            f"{name}-{mark}" for name in ("records", "forecasts", "state", "small")
        )
        self.p0, self.p1 = TopicPartition(self.records, 0), TopicPartition(self.records, 1)
        self.admin = KafkaAdminClient(bootstrap_servers=server)
        self.undo.callback(self.admin.close)
        wanted: dict[str, dict[str, Any]] = {
            self.records: {"num_partitions": 2},
            self.forecasts: {"num_partitions": 1},
            self.state: {"num_partitions": 1},
            self.small: {"num_partitions": 1, "configs": {"max.message.bytes": str(SMALL)}},
        }
        self.admin.create_topics(wanted, wait_for_metadata=True)

    def settings(self, **kafka: Any) -> Settings:
        times = {"delivery_timeout": "5s", "request_timeout": "5s", "session_timeout": "30s"}
        own = {"bootstrap_servers": self.server, "group_id": self.group}
        return Settings.model_validate(
            {
                "delivery": "exactly_once",
                "kafka": own | times | kafka,
                "ingest": {"topics": [self.records]},
            }
        )

    def member(self, **kafka: Any) -> KafkaSource:
        """A member of the group that was given partitions."""
        source = KafkaSource(self.settings(**kafka), Telemetry(), SystemClock())
        self.undo.callback(source.close, 1.0)

        def is_in() -> bool:
            source.poll(0.1)
            return bool(source.take_assignment().added)

        until(is_in, "assignment")
        return source

    def transactions(self, source: Reader, **kafka: Any) -> KafkaTransactions:
        made = KafkaTransactions.open(self.settings(**kafka), source, Watchdog(print, _never))
        self.undo.callback(made.close, 1.0)
        return made

    def turn(self, *texts: str, topic: str | None = None, **commits: int) -> Turn:
        """A turn that publishes texts, saves one row and commits `p0`, `p1` or both."""
        published = [Message(self.forecasts, b"cpu", text.encode()) for text in texts]
        if topic is not None:
            published.insert(0, Message(topic, b"cpu", b"x" * 2 * SMALL))
        rows = [Message(self.state, b"cpu", b"row", partition=0)]
        moved = {getattr(self, name): Committed(at, at) for name, at in commits.items()}
        return Turn(published, rows, moved)

    def seen(self, topic: str) -> list[str]:
        """What a reader of committed messages sees, to the end of the log."""
        at = KafkaPartition(topic, 0)
        consumer = KafkaConsumer(
            bootstrap_servers=self.server,
            group_id=None,
            auto_offset_reset="earliest",
            isolation_level="read_committed",
        )
        ends = KafkaConsumer(bootstrap_servers=self.server, group_id=None)
        try:
            consumer.assign([at])
            end = ends.end_offsets([at])[at]
            texts: list[str] = []

            def is_read() -> bool:
                for records in consumer.poll(timeout_ms=200).values():
                    texts.extend(record.value.decode() for record in records)
                return bool(consumer.position(at) >= end)

            until(is_read, f"{topic} read to its end")
            return texts
        finally:
            ends.close()
            consumer.close()

    def committed(self) -> dict[TopicPartition, int]:
        """Where the group stands."""
        found = self.admin.list_group_offsets([self.group])[self.group]
        return {TopicPartition(*at): offset.offset for at, offset in found.items()}


def _never(_status: int) -> None:
    pytest.fail("the watchdog bit")


def let_rows_die(bench: Bench, transactions: KafkaTransactions) -> None:
    """Keep back what is sent to the state topic until its time to be delivered is over."""
    batches = transactions.producer._accumulator
    batches.muted.add(KafkaPartition(bench.state, 0))
    batches.config["delivery_timeout_ms"] = 300


def deliver(transactions: KafkaTransactions, turn: Turn) -> None:
    transactions.deliver(turn, Stopwatch(Telemetry()))


@pytest.fixture
def bench(kafka: str) -> Iterator[Bench]:
    made = Bench(kafka)
    with made.undo:
        yield made


class TestTurn:
    def test_is_there_as_a_whole(self, bench: Bench) -> None:
        transactions = bench.transactions(bench.member())
        deliver(transactions, bench.turn("a", "b", p0=7, p1=9))
        deliver(transactions, bench.turn("c", p1=12))
        assert bench.seen(bench.forecasts) == ["a", "b", "c"]
        assert bench.seen(bench.state) == ["row", "row"]
        assert bench.committed() == {bench.p0: 7, bench.p1: 12}

    def test_is_nothing_where_one_message_dies(self, bench: Bench) -> None:
        """The client fails only that message's future; its commit would go through."""
        source = bench.member(instance_id="a")
        transactions = bench.transactions(source, instance_id="a")
        let_rows_die(bench, transactions)
        with pytest.raises(BrokerError, match=f"send to {bench.state}: KafkaTimeoutError"):
            deliver(transactions, bench.turn("a", p0=7))
        bench.transactions(source, instance_id="a")  # ends what the other left
        assert bench.seen(bench.forecasts) == bench.seen(bench.state) == []
        assert bench.committed() == {}

    def test_is_nothing_where_one_message_is_too_large(self, bench: Bench) -> None:
        source = bench.member(instance_id="a")
        transactions = bench.transactions(source, instance_id="a")
        with pytest.raises(TopicError, match=f"topic {bench.small}: a message of 2000 bytes"):
            deliver(transactions, bench.turn("a", topic=bench.small, p0=7))
        bench.transactions(source, instance_id="a")
        assert bench.seen(bench.forecasts) == []
        assert bench.committed() == {}

    def test_after_a_failed_one_carries_its_own_offsets_only(self, bench: Bench) -> None:
        """The client would send the failed one's again, for a partition that others may own."""
        source = bench.member(instance_id="a")
        failed = bench.transactions(source, instance_id="a")
        deliver(failed, bench.turn("a", p0=3))
        let_rows_die(bench, failed)
        with pytest.raises(BrokerError):
            deliver(failed, bench.turn("lost", p0=7))
        deliver(bench.transactions(source, instance_id="a"), bench.turn("b", p1=9))
        assert bench.seen(bench.forecasts) == ["a", "b"]
        assert bench.committed() == {bench.p0: 3, bench.p1: 9}


class TestMember:
    def test_of_an_older_generation_cannot_commit(self, bench: Bench) -> None:
        """Frozen while others took its partitions over, it still believes in its membership."""

        class Frozen:
            def __init__(self, source: KafkaSource) -> None:
                self.metadata = source.group_metadata()

            def group_metadata(self) -> Any:
                return self.metadata

        first = bench.member()
        transactions = bench.transactions(Frozen(first), instance_id="a")
        first.close(1.0)
        second = bench.member()
        deliver(bench.transactions(second), bench.turn("b", p0=9))
        with pytest.raises(BrokerError, match="transaction: "):
            deliver(transactions, bench.turn("a", p0=7))
        bench.transactions(second, instance_id="a")  # ends what the other left
        assert bench.seen(bench.forecasts) == ["b"]
        assert bench.committed() == {bench.p0: 9}

    def test_that_was_thrown_out_sends_nothing(self, bench: Bench) -> None:
        """Its metadata say generation -1, which the broker would take without a question."""

        class Out:
            def group_metadata(self) -> Any:
                return ConsumerGroupMetadata(group_id=bench.group)

        with pytest.raises(BrokerError, match="wanted a member of it"):
            deliver(bench.transactions(Out()), bench.turn("a", p0=7))
        assert bench.seen(bench.forecasts) == []
        assert bench.committed() == {}


class TestOpen:
    @pytest.fixture
    def abandoned(self, bench: Bench) -> Iterator[KafkaProducer]:
        """A process of instance `a` that died in a transaction which has a minute to go."""
        producer = KafkaProducer(
            bootstrap_servers=bench.server,
            transactional_id=f"{bench.group}-a",
            transaction_timeout_ms=60_000,
        )
        producer.init_transactions()
        producer.begin_transaction()
        producer.send(bench.forecasts, b"half", partition=0)
        producer.flush()
        yield producer
        producer.close(timeout=0)

    @pytest.mark.usefixtures("abandoned")
    def test_ends_what_an_earlier_process_of_the_same_id_left_open(self, bench: Bench) -> None:
        """Readers of committed messages, our own restore among them, would wait for it."""
        source = bench.member(instance_id="a")
        deliver(bench.transactions(source, instance_id="a"), bench.turn("whole", p0=7))
        assert bench.seen(bench.forecasts) == ["whole"]

    def test_shuts_an_earlier_process_of_the_same_id_out(self, bench: Bench) -> None:
        """Two that believe to be the same instance: the younger one is."""
        source = bench.member(instance_id="a")
        old = bench.transactions(source, instance_id="a")
        deliver(old, bench.turn("a", p0=7))
        young = bench.transactions(source, instance_id="a")
        with pytest.raises(BrokerError):
            deliver(old, bench.turn("b", p0=9))
        deliver(young, bench.turn("c", p0=11))
        assert bench.seen(bench.forecasts) == ["a", "c"]
