"""Transactions that do not end, made at a real broker."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from kafka import KafkaProducer
from kafka import TopicPartition as KafkaPartition
from kafka.admin import AbortTransactionSpec, ConfigResource, KafkaAdminClient

VERIFICATION = "transaction.partition.verification.enable"


@contextmanager
def open_transaction(server: str, topic: str, owner: str) -> Iterator[None]:
    """One that its producer has forgotten, on partition 0; its coordinator ends it in a minute."""
    producer = KafkaProducer(
        bootstrap_servers=server, transactional_id=owner, transaction_timeout_ms=60_000
    )
    producer.init_transactions()
    producer.begin_transaction()
    producer.send(topic, b"x", partition=0)
    producer.flush()
    try:
        yield
    finally:
        producer.abort_transaction()
        producer.close()


@contextmanager
def hanging_transaction(server: str, topic: str, owner: str) -> Iterator[None]:
    """One on partition 0 that no coordinator knows, as a broker that was killed can leave it."""
    admin = KafkaAdminClient(bootstrap_servers=server)
    (node,) = (broker["broker_id"] for broker in admin.describe_cluster()["brokers"][:1])
    at = KafkaPartition(topic, 0)
    producer = KafkaProducer(bootstrap_servers=server, transactional_id=owner)
    try:
        # Brokers have refused such messages since 3.6, as long as they are not told otherwise.
        admin.alter_configs([ConfigResource("BROKER", str(node), {VERIFICATION: "false"})])
        producer.init_transactions()
        producer.begin_transaction()
        # The client takes the coordinator for told, and it is not.
        producer._transaction_manager._partitions_in_transaction.add(at)
        producer.send(topic, b"x", partition=0).get(timeout=30)
    finally:
        admin.reset_configs([ConfigResource("BROKER", str(node), {VERIFICATION: None})])
    try:
        yield
    finally:
        identity = producer._transaction_manager.producer_id_and_epoch
        producer.close(timeout=0)
        admin.abort_transaction(AbortTransactionSpec(at, identity.producer_id, identity.epoch))
        admin.close()
