"""What several tests share: a real broker for a session, and no surprises from the environment."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from kafka import KafkaAdminClient
from kafka.errors import RetriableError

from forecastd.demo.errors import EmbeddedKafkaError
from forecastd.demo.kafka_broker import EmbeddedKafka
from tests.deadline import until

EXISTING = "FORECASTD_TEST_KAFKA"


def _has_coordinator(bootstrap: str) -> bool:
    """Whether groups can commit, which the first to ask for has to wait a moment for."""
    admin = KafkaAdminClient(bootstrap_servers=bootstrap)
    try:
        admin.list_group_offsets({"nobody": None})
    except RetriableError:
        return False
    finally:
        admin.close()
    return True


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Bootstrap address of a real Kafka: `FORECASTD_TEST_KAFKA`, else an embedded one.

    Where none can be had its tests are skipped with the reason; with CI=true that is a failure.
    """
    existing = os.environ.get(EXISTING)
    if existing:
        yield existing
        return
    broker = EmbeddedKafka(data=Path(tmp_path_factory.mktemp("kafka")))
    try:
        broker.start()
    except EmbeddedKafkaError as error:
        if os.environ.get("CI") == "true":
            pytest.fail(f"NO KAFKA: {error}", pytrace=False)
        pytest.skip(f"NO KAFKA, SO NOTHING THAT KAFKA DOES IS TESTED: {error}")
    try:
        until(lambda: _has_coordinator(broker.bootstrap), "group coordinator")
        yield broker.bootstrap
    finally:
        broker.stop()
