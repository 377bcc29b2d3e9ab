"""`forecastd state` against a real broker. The rows are the daemon's own, made in memory."""

from __future__ import annotations

import io
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer
from kafka import TopicPartition as KafkaPartition
from kafka.structs import OffsetAndMetadata

from forecastd.__main__ import main
from forecastd.commit_metadata import metadata_of, read_commit
from forecastd.forecast.keras_model import Model
from forecastd.memory.log import MemoryBroker
from forecastd.records import Committed, TopicPartition
from forecastd.settings import Settings
from forecastd.state.row_key import encode_key
from tests.end_to_end.daemons import Daemon, World
from tests.in_memory import P0, P1, START_MS, Obs, drain, encode, make_model, make_settings, start
from tests.secured_kafka import SOCKETS_LEFT, swept

__all__ = ["swept"]

pytestmark = [pytest.mark.kafka, SOCKETS_LEFT]

EVIL = "evil\x1b[2J\u202e\nname"
NAMES = ("host.cpu0", "host.mem", EVIL, "größe")
RECORDS = 90


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder without `config/`, and an environment without settings."""
    monkeypatch.chdir(tmp_path)
    for variable in list(os.environ):
        if variable.startswith("FORECASTD_"):
            monkeypatch.delenv(variable)


def lived_through(settings: Settings, model: Model | None = None) -> MemoryBroker:
    """What a daemon leaves behind that has read some records of two partitions."""
    broker = MemoryBroker()
    for at in range(RECORDS):
        name = NAMES[at % 4]
        observation = Obs(name, START_MS + 10_000 * at, (math.sin(at / 9) + at % 4,))
        broker.append((P0, P1)[at % 2], encode([observation]), START_MS + 10_000 * at)
    drain(start(broker, settings, model, poll_records=10))
    return broker


@dataclass
class Saved:
    """Rows, records and offsets of a group on a real broker, and the command that looks at them."""

    bootstrap: str
    capsys: pytest.CaptureFixture[str]
    mark: str = field(default_factory=lambda: uuid4().hex[:8])
    words: tuple[str, ...] = ("--windows.timesteps=4", "--forecast.horizon=3")

    def __post_init__(self) -> None:
        self.group, self.records = f"g-{self.mark}", f"r-{self.mark}"
        self.state = f"{self.group}-{self.records}-state"
        self.words = (
            f"--kafka.bootstrap_servers={self.bootstrap}",
            f"--kafka.group_id={self.group}",
            f"--ingest.topics={self.records}",
            *self.words,
        )

    def run(self, *words: str) -> tuple[int, str, str]:
        """Exit status and what was said."""
        status = main(["state", *words[:1], *self.words, *words[1:]])
        said = self.capsys.readouterr()
        return status, said.out, said.err

    def out(self, *words: str) -> str:
        status, out, err = self.run(*words)
        assert (status, err) == (0, "")
        return out

    def objects(self, *words: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out(*words, "--json").splitlines()]

    def names(self) -> list[str]:
        return sorted(told["series"] for told in self.objects("list"))

    def fault(self, *words: str) -> str:
        """The one sentence of a command that could not do what was asked."""
        status, out, err = self.run(*words)
        assert (status, out) == (1, "")
        (line,) = err.splitlines()
        return line

    def publish(self, broker: MemoryBroker) -> None:
        """Put what lies in a broker in memory onto the real one."""
        admin = KafkaAdminClient(bootstrap_servers=self.bootstrap)
        compacted = {"num_partitions": 2, "configs": {"cleanup.policy": "compact"}}
        topics = {self.records: {"num_partitions": 2}, self.state: compacted}
        admin.create_topics(topics, wait_for_metadata=True)
        admin.close()
        log = [(at.partition, record.value) for at in (P0, P1) for record in broker.records[at]]
        self.send(self.records, [(partition, None, value) for partition, value in log])
        rows = broker.messages("forecastd-records-state")
        self.send(self.state, [(row.partition or 0, row.key, row.value) for row in rows])
        self.commit(broker.committed)

    def send(self, topic: str, records: list[tuple[int, bytes | None, bytes | None]]) -> None:
        producer = KafkaProducer(bootstrap_servers=self.bootstrap, linger_ms=5)
        for partition, key, value in records:
            producer.send(topic, key=key, value=value, partition=partition)
        producer.flush()
        producer.close()

    def commit(self, committed: dict[TopicPartition, Committed], *, ours: bool = True) -> None:
        admin = KafkaAdminClient(bootstrap_servers=self.bootstrap)
        offsets = {
            KafkaPartition(self.records, at.partition): OffsetAndMetadata(
                commit.position, metadata_of(commit) if ours else "", None
            )
            for at, commit in committed.items()
        }
        admin.alter_group_offsets(self.group, offsets)
        admin.close()

    def committed(self) -> dict[int, Committed]:
        admin = KafkaAdminClient(bootstrap_servers=self.bootstrap)
        found = admin.list_group_offsets({self.group: None})[self.group]
        admin.close()
        return {at.partition: read_commit(one.offset, one.metadata) for at, one in found.items()}

    def state_end(self) -> int:
        """How much was ever written to the state topic."""
        consumer = KafkaConsumer(bootstrap_servers=self.bootstrap)
        ends = consumer.end_offsets([KafkaPartition(self.state, at) for at in (0, 1)])
        consumer.close()
        return sum(ends.values())


@pytest.fixture
def nothing(kafka: str, capsys: pytest.CaptureFixture[str]) -> Saved:
    """A group that was never started."""
    return Saved(kafka, capsys)


@pytest.fixture
def saved(nothing: Saved) -> Saved:
    """A stopped group, with rows of a model."""
    settings = make_settings(state={"row_every": 2})
    nothing.publish(lived_through(settings, make_model(settings)))
    return nothing


@pytest.fixture
def member(saved: Saved) -> Iterator[KafkaConsumer]:
    """Somebody in the group."""
    consumer = KafkaConsumer(
        saved.records,
        bootstrap_servers=saved.bootstrap,
        group_id=saved.group,
        client_id="cara",
        enable_auto_commit=False,
    )
    while not consumer.assignment():
        consumer.poll(timeout_ms=100)
    yield consumer
    consumer.close()


class TestShow:
    def test_says_what_is_saved_in_words(self, saved: Saved) -> None:
        lines = saved.out("show", "host.cpu0").splitlines()
        assert lines[0] == f"series host.cpu0 in {saved.records}[0]"
        told = {line[2:18].strip(): line[18:] for line in lines[1:]}
        assert told["steps"] == "22, the last at 2023-11-14T22:27:20.000Z, one every 40s (median)"
        assert told["windows"] == "5 ended, 2 steps in the open one"
        assert told["last values"].startswith("value: 0.951")
        assert told["last values"].endswith("(the newest last)")
        assert told["scale"].startswith("value: median ")
        assert told["model"].startswith("weights ")
        assert told["model"].endswith("(state h0 1 x 3, c0 1 x 3)")
        assert told["error"].startswith("value: model ")
        assert told["pending"].startswith("from 2023-11-14T22:26:00.000Z by the model: value ")
        assert told["offset"] == "42, the last record applied to it"
        assert "saved with timesteps=4 values=value" in told["row"]
        assert len(told["writer"]) == 8
        assert "older rows" not in told

    def test_gives_programs_every_column(self, saved: Saved) -> None:
        (told,) = saved.objects("show", "host.cpu0")
        assert (told["series"], told["partition"], told["offset"]) == ("host.cpu0", 0, 42)
        assert told["last_values"][-1] == [math.sin(84 / 9)]
        columns = told["columns"]
        assert columns["steps"] == told["steps"] == 22
        assert len(columns["tail"]) == make_settings().tail_steps
        assert columns["tail"][-1] == [None]  # a young series has not filled it: NaN is no JSON
        assert sum(told["bytes_by_column"].values()) < told["row_bytes"]

    def test_finds_a_series_in_whichever_partition_it_is(self, saved: Saved) -> None:
        assert saved.out("show", "host.mem").startswith(f"series host.mem in {saved.records}[1]")
        assert saved.out("show", "größe", "--partition=1").startswith("series größe in")

    def test_shows_every_partition_that_knows_the_series(self, saved: Saved) -> None:
        """Records of one name in two partitions are two series."""
        key = encode_key("host.mem", "elsewhere")
        (row,) = {message.value for message in self.rows(saved, "host.mem")}
        saved.send(saved.state, [(0, key, row)])
        assert [told["partition"] for told in saved.objects("show", "host.mem")] == [0, 1]

    def test_tells_of_older_rows_that_do_not_count(self, saved: Saved) -> None:
        """What a frozen instance may leave; the highest offset wins, wherever it lies."""
        rows = [m for m in saved_rows(RECORDS, "host.cpu0") if m.offset < 42]
        saved.send(saved.state, [(0, encode_key("host.cpu0", "zombie"), rows[0].row)])
        text = saved.out("show", "host.cpu0")
        assert "offset          42," in text
        assert "older rows      1, of writer zombie; they do not count" in text

    def test_escapes_what_would_paint_the_terminal(self, saved: Saved) -> None:
        text = saved.out("show", EVIL)
        assert text.startswith("series evil\\x1b[2J\\u202e\\nname in ")
        assert "\x1b" not in text

    def test_says_in_one_sentence_that_a_series_is_not_there(self, saved: Saved) -> None:
        assert saved.fault("show", "no\x1bsuch") == (
            f"forecastd: series no\\x1bsuch: no saved row in {saved.records}, wanted one; a row is"
            " saved after state.row_every (4) windows, at the first commit after them"
        )

    def rows(self, saved: Saved, series: str) -> list[Any]:
        consumer = KafkaConsumer(bootstrap_servers=saved.bootstrap)
        part = KafkaPartition(saved.state, 1)
        consumer.assign([part])
        consumer.seek_to_beginning(part)
        found: list[Any] = []
        while consumer.position(part) < consumer.end_offsets([part])[part]:
            for records in consumer.poll(timeout_ms=200).values():
                found.extend(records)
        consumer.close()
        return [one for one in found if one.key.startswith(encode_key(series, "")[:-3])][-1:]
