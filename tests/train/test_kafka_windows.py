"""Reading the windows topic, on a real broker."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest
from kafka import KafkaProducer

from forecastd.errors import BrokerError
from forecastd.kafka_topics import TopicAdmin
from forecastd.publish.kafka_sink import KafkaSink
from forecastd.records import Message
from forecastd.settings import Settings
from forecastd.train.kafka_windows import WindowCounter, read_windows
from forecastd.train.window_record import encode
from tests.secured_kafka import SOCKETS_LEFT, swept
from tests.train.test_window_record import assert_same, window

__all__ = ["swept"]

pytestmark = [pytest.mark.kafka, SOCKETS_LEFT]

WINDOWS = [replace(window(number, seed=number), series=f"s{number % 5}") for number in range(40)]


def group(kafka: str, partitions: int = 3, **training: Any) -> Settings:
    """A group that nobody has used, its topics made as the daemon makes them."""
    name = uuid4().hex[:8]
    settings = Settings.model_validate(
        {
            "kafka": {"bootstrap_servers": kafka, "group_id": f"g-{name}"},
            "ingest": {"topics": [f"r-{name}"], "dead_letter_topic": f"d-{name}"},
            "publish": {"topic": f"f-{name}"},
            "training": training,
        }
    )
    with TopicAdmin(settings.kafka) as admin:
        plans = {plan.purpose: plan for plan in admin.inspect(settings).missing}
        admin.create([replace(plans["input"], partitions=partitions)])
        admin.ensure_topics(settings)
    return settings


@pytest.fixture
def settings(kafka: str) -> Settings:
    return group(kafka)


def write(settings: Settings, values: Iterable[bytes | None]) -> None:
    """As the daemon writes: keys choose the partitions."""
    sink = KafkaSink(settings)
    messages = [
        Message(settings.windows_topic, f"s{at % 5}".encode(), value)
        for at, value in enumerate(values)
    ]
    sink.send(messages)
    sink.close(5)


class TestReading:
    def test_finds_all_windows_of_all_partitions(self, settings: Settings) -> None:
        write(settings, map(encode, WINDOWS))
        records, report = read_windows(settings)
        assert (report.found, report.older, report.unusable) == (40, 0, {})
        for own, wanted in zip(sorted(records, key=lambda one: one.number), WINDOWS, strict=True):
            assert_same(own, wanted)

    def test_of_an_empty_topic_finds_nothing(self, settings: Settings) -> None:
        assert read_windows(settings)[0] == []

    def test_counts_what_it_cannot_read_and_goes_on(self, settings: Settings) -> None:
        """Whoever writes there must not stop the group from learning."""
        good = encode(WINDOWS[0])
        bad = [b"poison", b"fcw", good[:3] + b"\x09" + good[4:], good[:-1] + b"\x00", None]
        write(settings, [*bad, good])
        records, report = read_windows(settings)
        assert len(records) == 1
        assert report.unusable == {"frame": 3, "schema": 1, "checksum": 1}
        assert report.examples["schema"] == "window: schema 9, wanted 1"

    def test_takes_the_newest_windows(self, kafka: str) -> None:
        """By the time of writing, whatever partition they are in."""
        settings = group(kafka, max_windows=7)
        write(settings, map(encode, WINDOWS[:30]))
        write(settings, map(encode, WINDOWS[30:]))
        records, report = read_windows(settings)
        assert len(records) == 7
        assert min(one.number for one in records) >= 30
        assert report.found == report.older + 7

    def test_sees_committed_windows_and_passes_markers(self, settings: Settings) -> None:
        """An end that is a marker is never seen in a record, and an open transaction is left."""
        producers = [
            KafkaProducer(
                bootstrap_servers=list(settings.kafka.bootstrap_servers),
                transactional_id=f"{settings.kafka.group_id}-{number}",
            )
            for number in range(3)
        ]
        for producer, one in zip(producers, WINDOWS, strict=False):
            producer.init_transactions()
            producer.begin_transaction()
            producer.send(settings.windows_topic, encode(one), b"s", partition=0)
            producer.flush()
        producers[0].commit_transaction()
        producers[1].abort_transaction()
        numbers = [one.number for one in read_windows(settings)[0]]
        producers[2].abort_transaction()
        for producer in producers:
            producer.close()
        assert numbers == [0]
        assert [one.number for one in read_windows(settings)[0]] == [0]

    def test_of_a_missing_topic_says_which(self, settings: Settings) -> None:
        other = settings.kafka.model_copy(update={"group_id": "g-nobody"})
        with pytest.raises(BrokerError, match="g-nobody-windows: no such topic"):
            read_windows(settings.model_copy(update={"kafka": other}))


class TestCounting:
    def test_goes_on_while_windows_come(self, settings: Settings) -> None:
        counter = WindowCounter(settings)
        counts = [counter()]
        write(settings, map(encode, WINDOWS))
        counts.append(counter())
        counter.close()
        counts.append(counter())
        counter.close()
        assert counts == [0, 40, 40]

    def test_of_a_missing_topic_says_which(self, settings: Settings) -> None:
        other = settings.kafka.model_copy(update={"group_id": "g-nobody"})
        counter = WindowCounter(settings.model_copy(update={"kafka": other}))
        with pytest.raises(BrokerError, match="g-nobody-windows: no such topic"):
            counter()
        counter.close()


def test_the_topic_is_as_the_plan_has_it(kafka: str) -> None:
    settings = group(kafka, partitions=2, retention="3h")
    with TopicAdmin(settings.kafka) as admin:
        (shape,) = admin.describe([settings.windows_topic])[0].values()
    assert shape.partitions == 2
    assert shape.configs["retention.ms"] == str(3 * 3_600_000)
    assert shape.configs["message.timestamp.type"] == "LogAppendTime"
    assert shape.configs["cleanup.policy"] == "delete"
