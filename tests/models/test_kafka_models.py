"""The models topic on a real broker, and its twin in memory: what both promise."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias
from uuid import uuid4

import numpy as np
import pytest
from kafka import KafkaAdminClient

from forecastd.errors import BrokerError, TopicError
from forecastd.kafka_topics import TopicAdmin
from forecastd.memory.log import MemoryBroker
from forecastd.memory.models import MemoryModels
from forecastd.models.kafka_models import KafkaModels
from forecastd.models.model_records import CHUNK_BYTES, NewModel, encode_entry, encode_pointer
from forecastd.settings import Settings
from forecastd.topic_plan import plan_models
from tests.models.some_models import NETWORK, NOW_MS, serves, some_model
from tests.secured_kafka import SOCKETS_LEFT, swept

__all__ = ["swept"]

pytestmark = [pytest.mark.kafka, SOCKETS_LEFT]

Models: TypeAlias = KafkaModels | MemoryModels
Open: TypeAlias = Callable[[], Models]


def settings_of(bootstrap: str) -> Settings:
    kafka = {"bootstrap_servers": bootstrap, "group_id": f"g-{uuid4().hex[:8]}"}
    return Settings.model_validate({"kafka": kafka})


@pytest.fixture
def settings(kafka: str) -> Settings:
    """A group whose models topic is there, and empty."""
    settings = settings_of(kafka)
    with TopicAdmin(settings.kafka) as admin:
        admin.create([plan_models(settings)])
    return settings


@pytest.fixture(params=["memory", "kafka"])
def open_models(request: pytest.FixtureRequest) -> Iterator[Open]:
    """Opens one more reader of one topic."""
    opened: list[Models] = []
    if request.param == "memory":
        broker = MemoryBroker()

        def new() -> Models:
            return MemoryModels(broker, "g-models")

    else:
        settings: Settings = request.getfixturevalue("settings")

        def new() -> Models:
            return KafkaModels(settings)

    def open_one() -> Models:
        opened.append(new())
        return opened[-1]

    yield open_one
    for models in opened:
        models.close()


def add(models: Models, model: NewModel) -> str:
    entry, messages = encode_entry(models.log.topic, model, models.log.next_number(), NOW_MS)
    models.write(messages)
    return entry.version


def await_news(models: Models) -> None:
    """Poll as the loop does, until something has come."""
    for _ in range(10_000_000):
        if models.poll():
            return
    pytest.fail("nothing came")


class TestBoth:
    def test_read_what_another_wrote(self, open_models: Open) -> None:
        one, other = open_models(), open_models()
        one.read_to_end()
        version = add(one, some_model())
        one.read_to_end()
        one.write([encode_pointer(one.log.topic, one.log.promote(version, "trainer", NOW_MS, ""))])
        other.read_to_end()
        assert serves(other.log) == version
        for found, given in zip(
            other.log.models.weights(version), some_model().weights, strict=True
        ):
            np.testing.assert_array_equal(found, given)

    def test_follow_what_is_written_later(self, open_models: Open) -> None:
        one, other = open_models(), open_models()
        other.read_to_end()
        assert not other.poll()
        version = add(one, some_model())
        while [entry.version for entry in other.log.versions] != [version]:
            await_news(other)

    def test_tell_once_of_what_was_read_to_the_end(self, open_models: Open) -> None:
        """Who reads to the end before writing must not keep from others what came."""
        one, other = open_models(), open_models()
        version = add(one, some_model())
        other.read_to_end()
        assert [entry.version for entry in other.log.versions] == [version]
        assert other.poll()
        assert not other.poll()

    def test_read_to_the_end_once_more(self, open_models: Open) -> None:
        models = open_models()
        models.read_to_end()
        add(models, some_model(1))
        models.read_to_end()
        add(models, some_model(2))
        models.read_to_end()
        assert len(models.log.versions) == 2

    def test_find_an_empty_topic_empty(self, open_models: Open) -> None:
        models = open_models()
        models.read_to_end()
        assert models.is_there
        assert models.log.versions == []


class TestKafka:
    def test_takes_models_larger_than_a_message(self, settings: Settings) -> None:
        """4 MB of weights, where a message may have one."""
        units = 512
        network = NETWORK.from_settings(
            Settings.model_validate({"forecast": {"units": units, "horizon": 16}})
        )
        weights = [np.full(shape, 0.5, np.float32) for shape in network.weight_shapes]
        models = KafkaModels(settings)
        models.read_to_end()
        version = add(models, NewModel(network, weights, "a test"))
        models.read_to_end()
        entry = models.log.models.entry(version)
        models.close()
        assert entry.weights.bytes > 4 * CHUNK_BYTES

    def test_finds_no_models_where_there_is_no_topic(self, kafka: str) -> None:
        """And makes none: by itself kafka-python would have the broker create what it asks for."""
        settings = settings_of(kafka)
        models = KafkaModels(settings)
        models.read_to_end()
        assert not models.is_there
        assert not models.poll()
        assert models.log.versions == []
        with pytest.raises(TopicError, match="no such topic, wanted the group's models topic"):
            add(models, some_model())
        models.close()
        admin = KafkaAdminClient(bootstrap_servers=kafka)
        assert settings.models_topic not in admin.list_topics()
        admin.close()

    def test_says_when_the_end_is_too_far(self, settings: Settings) -> None:
        models = KafkaModels(settings)
        models.read_to_end()
        add(models, some_model())
        models.close()
        late = KafkaModels(settings)
        with pytest.raises(BrokerError, match="its end was not reached in 0s, wanted all models"):
            late.read_to_end(timeout_s=0)
        given_up = late.log
        late.read_to_end()
        assert len(late.log.versions) == 1
        assert late.log is not given_up, "another client, which reads all anew"
        late.close()

    def test_says_when_no_broker_answers(self) -> None:
        settings = Settings.model_validate(
            {"kafka": {"bootstrap_servers": "127.0.0.1:1", "request_timeout": "1s"}}
        )
        models = KafkaModels(settings)
        with pytest.raises(BrokerError, match=r"nothing answers at 127\.0\.0\.1:1"):
            models.read_to_end()
        models.close()
