"""The daemon as a process, the topics around it, and what comes out: for tests on a real broker."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self
from uuid import uuid4

import kafka
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer

from tests.deadline import DEADLINE_S, until


@dataclass(slots=True)
class World:
    """Topics of one test on a broker that others use as well.

    Attributes:
        reads: an input topic that is there already; none: one of its own.
    """

    bootstrap: str
    partitions: int = 4
    name: str = field(default_factory=lambda: f"t{uuid4().hex[:8]}")
    reads: str | None = None

    @property
    def records(self) -> str:
        """The input topic."""
        return self.reads or f"{self.name}-records"

    @property
    def forecasts(self) -> str:
        """The output topic."""
        return f"{self.name}-forecasts"

    @property
    def dead_letters(self) -> str:
        """The dead-letter topic."""
        return f"{self.name}-dead"

    @property
    def state(self) -> str:
        """The topic with the saved rows."""
        return f"{self.name}-{self.records}-state"

    def create(self) -> Self:
        """Create the input topic."""
        admin = KafkaAdminClient(bootstrap_servers=self.bootstrap)
        admin.create_topics(
            {self.records: {"num_partitions": self.partitions, "replication_factor": -1}}
        )
        admin.wait_for_topics([self.records], 10_000)
        admin.close()
        return self

    def produce(self, records: Iterable[tuple[int, bytes | None, bytes | None]]) -> None:
        """Send (partition, key, value) in order; returns when all are acknowledged."""
        producer = KafkaProducer(
            bootstrap_servers=self.bootstrap, linger_ms=10, max_request_size=2**26
        )
        sent = [
            producer.send(self.records, partition=partition, key=key, value=value)
            for partition, key, value in records
        ]
        producer.flush()
        for future in sent:
            future.get(timeout=0)
        producer.close()

    def read(self, topic: str) -> list[Any]:
        """Every record that is in a topic now, by partition and offset."""
        consumer = KafkaConsumer(
            bootstrap_servers=self.bootstrap, group_id=None, isolation_level="read_committed"
        )
        count = len(consumer.partitions_for_topic(topic) or ())
        parts = [kafka.TopicPartition(topic, number) for number in range(count)]
        if not parts:
            return []
        consumer.assign(parts)
        consumer.seek_to_beginning(*parts)
        ends = consumer.end_offsets(parts)
        found: list[Any] = []
        deadline = time.monotonic() + DEADLINE_S
        while any(consumer.position(part) < ends[part] for part in parts):
            assert time.monotonic() < deadline, f"{topic} could not be read to its end"
            for records in consumer.poll(timeout_ms=500).values():
                found.extend(records)
        consumer.close()
        return sorted(found, key=lambda record: (record.partition, record.offset))

    def messages(self) -> list[dict[str, Any]]:
        """Every forecast in the output topic."""
        return [json.loads(record.value) for record in self.read(self.forecasts)]

    def lag(self) -> int:
        """Records between the group's committed offsets and the ends of the input."""
        consumer = KafkaConsumer(bootstrap_servers=self.bootstrap, group_id=self.name)
        parts = [kafka.TopicPartition(self.records, at) for at in range(self.partitions)]
        ends = consumer.end_offsets(parts)
        behind = sum(int(ends[part] - (consumer.committed(part) or 0)) for part in parts)
        consumer.close()
        return behind

    def settings(self, more: Mapping[str, str]) -> dict[str, str]:
        """The daemon's environment."""
        return {
            "FORECASTD_KAFKA__BOOTSTRAP_SERVERS": self.bootstrap,
            "FORECASTD_KAFKA__GROUP_ID": self.name,
            "FORECASTD_KAFKA__SESSION_TIMEOUT": "6s",
            "FORECASTD_INGEST__TOPICS": self.records,
            "FORECASTD_INGEST__DEAD_LETTER_TOPIC": self.dead_letters,
            "FORECASTD_PUBLISH__TOPIC": self.forecasts,
            "FORECASTD_OBSERVE__PORT": "0",
            "FORECASTD_OBSERVE__LOG_FORMAT": "json",
            # A promotion in the midst of a test would change what it compares.
            "FORECASTD_TRAINING__ENABLED": "false",
            **more,
        }


class Daemon:
    """`forecastd run` in a process of its own; ended with the block."""

    def __init__(self, world: World, log: Path, **settings: str) -> None:
        """Start it, with settings by their names in the environment, less the prefix."""
        named = {f"FORECASTD_{name}": value for name, value in settings.items()}
        environ = {
            key: value for key, value in os.environ.items() if not key.startswith("FORECASTD_")
        }
        self._log = log
        self._world = world
        self._stdout = log.open("ab")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "forecastd", "run"],
            env=environ | world.settings(named),
            stdout=self._stdout,
            stderr=subprocess.STDOUT,
            cwd=log.parent,
        )
        self._started_at = self._log.stat().st_size

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._stdout.close()

    @property
    def log(self) -> str:
        """What all daemons with this log have written."""
        return self._log.read_text()

    @property
    def listens(self) -> bool:
        """Whether its page can be asked for."""
        return self._find_address() is not None

    @property
    def address(self) -> str:
        """Where its page is, once it listens."""
        found = self._wait(self._find_address, "an address")
        assert isinstance(found, str)
        return found

    def get(self, path: str) -> tuple[int, str]:
        """Status and body of one of its pages."""
        try:
            with urllib.request.urlopen(self.address + path, timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def until_ready(self) -> Self:
        """Wait for `/readyz`."""
        self._wait(lambda: self.get("readyz")[0] == 200, "readiness")
        return self

    def until_caught_up(self) -> Self:
        """Wait until everything in the input is committed."""
        self._wait(lambda: self._world.lag() == 0, "no lag")
        return self

    def until(self, holds: Any, what: str) -> Self:
        """Wait for something that a test can see."""
        self._wait(holds, what)
        return self

    def stop(self) -> int:
        """SIGTERM; returns the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=DEADLINE_S)

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()
        self.process.wait()

    def _find_address(self) -> str | None:
        with self._log.open() as lines:
            lines.seek(self._started_at)
            for line in lines:
                if '"address"' in line:
                    return str(json.loads(line)["address"])
        return None

    def _wait(self, holds: Any, what: str) -> Any:
        return until(holds, what, process=self.process, log=self._log)
