from __future__ import annotations

import threading
from pathlib import Path
from uuid import uuid4

import pytest
from kafka import KafkaAdminClient

from forecastd.demo.kafka_broker import EmbeddedKafka
from forecastd.errors import BrokerError
from forecastd.publish.kafka_sink import KafkaSink
from forecastd.records import Message
from forecastd.settings import Settings


def test_sends_to_a_partition_that_was_added_since_it_last_asked(kafka: str) -> None:
    """What the client knows of a topic is old, and it would take the partition for our mistake."""
    topic = f"t{uuid4().hex[:8]}"
    admin = KafkaAdminClient(bootstrap_servers=kafka)
    admin.create_topics({topic: {"num_partitions": 1}}, wait_for_metadata=True)
    address = {"bootstrap_servers": kafka, "metadata_max_age": "1h"}
    sink = KafkaSink(Settings.model_validate({"kafka": address}))
    try:
        sink.send([Message(topic, b"key", b"value", 0)])
        with pytest.raises(BrokerError, match=f"^send to {topic}: no partition 1 yet, wanted it$"):
            sink.send([Message(topic, b"key", b"value", 1)])
        admin.create_partitions({topic: 2})
        admin.wait_for_topics([topic])
        sink.send([Message(topic, b"key", b"value", number) for number in (0, 1)])
    finally:
        sink.close(1.0)
        admin.close()


def test_a_sink_that_is_given_up_leaves_no_thread_behind(kafka: str, tmp_path: Path) -> None:
    """The client's own close waits for a dead broker, raises, and sends once that is back."""
    before = set(threading.enumerate())
    with EmbeddedKafka(data=tmp_path / "kafka") as own:
        admin = KafkaAdminClient(bootstrap_servers=own.bootstrap)
        admin.create_topics({"t": {"num_partitions": 1}}, wait_for_metadata=True)
        admin.close()
        address = {"bootstrap_servers": own.bootstrap, "request_timeout": "1s"}
        sink = KafkaSink(Settings.model_validate({"kafka": address | {"delivery_timeout": "1s"}}))
        sink.send([Message("t", b"key", b"value")])
        own.kill()
        with pytest.raises(BrokerError):
            sink.send([Message("t", b"key", b"value")])
        sink.close(5.0)
        left = {thread.name for thread in set(threading.enumerate()) - before}
    assert not {name for name in left if "sink" in name}
