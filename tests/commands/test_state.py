"""`forecastd state` against a real broker. The rows are the daemon's own, made in memory."""

from __future__ import annotations

import io
import json
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
import numpy as np
import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer
from kafka import TopicPartition as KafkaPartition
from kafka.structs import OffsetAndMetadata

from forecastd.__main__ import main
from forecastd.architecture import Architecture
from forecastd.commit_metadata import metadata_of, read_commit
from forecastd.disk_models import save_model
from forecastd.memory.log import MemoryBroker
from forecastd.records import Committed, TopicPartition
from forecastd.state.row_key import decode_key, encode_key
from tests.end_to_end.daemons import Daemon, World
from tests.in_memory import P0, P1, START_MS, Obs, drain, encode, make_model, make_settings, start
from tests.secured_kafka import SOCKETS_LEFT, swept

__all__ = ["swept"]

pytestmark = [pytest.mark.kafka, SOCKETS_LEFT]

EVIL = "evil\x1b[2J\u202e\nname"
NAMES = ("host.cpu0", "host.mem", EVIL, "größe")
RECORDS = 90
STATE_TOPIC = "forecastd-records-state"
Message = tuple[int, bytes | None, bytes | None]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder without `config/`, and an environment without settings."""
    monkeypatch.chdir(tmp_path)
    for variable in list(os.environ):
        if variable.startswith("FORECASTD_"):
            monkeypatch.delenv(variable)


def lived_through(version: str) -> MemoryBroker:
    """What a daemon leaves behind that has read some records of two partitions."""
    settings, broker = make_settings(state={"row_every": 2}), MemoryBroker()
    for at in range(RECORDS):
        observation = Obs(NAMES[at % 4], START_MS + 10_000 * at, (math.sin(at / 9) + at % 4,))
        broker.append((P0, P1)[at % 2], encode([observation]), START_MS + 10_000 * at)
    drain(start(broker, settings, make_model(settings, version=version), poll_records=10))
    return broker


@dataclass
class Saved:
    """Records, rows and offsets of a group on a real broker, and the command that looks at them."""

    bootstrap: str
    capsys: pytest.CaptureFixture[str]
    broker: MemoryBroker = field(default_factory=MemoryBroker)
    mark: str = field(default_factory=lambda: uuid4().hex[:8])

    @property
    def group(self) -> str:
        return f"g-{self.mark}"

    @property
    def records(self) -> str:
        return f"r-{self.mark}"

    @property
    def state(self) -> str:
        return f"{self.group}-{self.records}-state"

    def run(self, action: str, *words: str) -> tuple[int, str, str]:
        """Exit status and what was said."""
        status = main(
            [
                "state",
                action,
                f"--kafka.bootstrap_servers={self.bootstrap}",
                f"--kafka.group_id={self.group}",
                f"--ingest.topics={self.records}",
                "--windows.timesteps=4",
                "--forecast.horizon=3",
                *words,
            ]
        )
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

    def rows(self, series: str) -> list[bytes]:
        """The rows that were saved of a series, oldest first."""
        saved = self.broker.messages(STATE_TOPIC)
        return [m.value for m in saved if m.value and decode_key(m.key or b"")[0] == series]

    def publish(self, version: str = "7-3fa9c1") -> None:
        """Put what lies in a broker in memory onto the real one."""
        self.broker = lived_through(version)
        self.create(self.records, self.state)
        log = [
            (at.partition, record.value) for at in (P0, P1) for record in self.broker.records[at]
        ]
        self.send(self.records, [(partition, None, value) for partition, value in log])
        rows = self.broker.messages(STATE_TOPIC)
        self.send(self.state, [(row.partition or 0, row.key, row.value) for row in rows])
        self.commit(self.broker.committed)

    def create(self, *topics: str) -> None:
        admin = KafkaAdminClient(bootstrap_servers=self.bootstrap)
        admin.create_topics(
            {topic: {"num_partitions": 2} for topic in topics}, wait_for_metadata=True
        )
        admin.close()

    def send(self, topic: str, messages: Sequence[Message]) -> None:
        producer = KafkaProducer(bootstrap_servers=self.bootstrap, linger_ms=5)
        for partition, key, value in messages:
            producer.send(topic, key=key, value=value, partition=partition)
        producer.flush()
        producer.close()

    def commit(self, committed: dict[TopicPartition, Committed]) -> None:
        """Commit for the group; without `resume_from` as another tool would."""
        admin = KafkaAdminClient(bootstrap_servers=self.bootstrap)
        offsets = {
            KafkaPartition(self.records, at.partition): OffsetAndMetadata(
                commit.position, "" if commit.resume_from is None else metadata_of(commit), None
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

    def written(self) -> int:
        """How much was ever written to the state topic."""
        consumer = KafkaConsumer(bootstrap_servers=self.bootstrap)
        ends = consumer.end_offsets([KafkaPartition(self.state, at) for at in (0, 1)])
        consumer.close()
        return int(sum(ends.values()))


@pytest.fixture
def nothing(kafka: str, capsys: pytest.CaptureFixture[str]) -> Saved:
    """A group that was never started."""
    return Saved(kafka, capsys)


@pytest.fixture
def saved(nothing: Saved) -> Saved:
    """A stopped group, with rows of a model."""
    nothing.publish()
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
        assert told["steps"] == "20, the last at 2023-11-14T22:26:00.000Z, one every 40s (median)"
        assert told["windows"] == "5 ended, 0 steps in the open one"
        assert told["last values"].startswith("value: ")
        assert told["last values"].endswith("0.830683  (the newest last)")
        assert told["scale"].startswith("value: median ")
        assert told["model"].startswith("weights ")
        assert told["model"].endswith("(state h0 1 x 3, c0 1 x 3)")
        assert told["error"].startswith("value: model ")
        assert told["pending"].startswith("from 2023-11-14T22:26:00.000Z by the ")
        assert told["offset"] == "38, the last record applied to it"
        assert "saved with timesteps=4 values=value" in told["row"]
        assert len(told["writer"]) == 8
        assert "older rows" not in told

    def test_gives_programs_every_column(self, saved: Saved) -> None:
        (told,) = saved.objects("show", "host.cpu0")
        assert (told["series"], told["partition"], told["offset"]) == ("host.cpu0", 0, 38)
        assert told["last_values"][-1] == [math.sin(76 / 9)]
        columns = told["columns"]
        assert columns["steps"] == told["steps"] == 20
        assert len(columns["tail"]) == make_settings().tail_steps
        assert columns["tail"][-1] == [None]  # a young series has not filled it: NaN is no JSON
        assert told["row_bytes"] == len(saved.rows("host.cpu0")[-1])
        assert sum(told["bytes_by_column"].values()) < told["row_bytes"]

    def test_names_the_model_that_models_serve_names(self, nothing: Saved, tmp_path: Path) -> None:
        """A row holds a number that stands for the version; here is who knows its name."""
        network = Architecture.from_settings(make_settings(forecast={"segment": 1}))
        weights = [np.zeros(shape, np.float32) for shape in network.weight_shapes]
        made = save_model(tmp_path / "model", network, weights, "a test", {})
        nothing.publish(version=f"0-{made.version_hash}")
        served = f"--models.serve={tmp_path / 'model'}"
        (told,) = nothing.objects("show", "host.cpu0", served)
        assert told["model_versions"] == [f"0-{made.version_hash}"]
        assert nothing.objects("show", "host.cpu0", "--models.serve=elsewhere")

    @pytest.mark.parametrize("words", [(), ("--partition=1",)])
    def test_finds_a_series_in_whichever_partition_it_is(
        self, saved: Saved, words: tuple[str, ...]
    ) -> None:
        assert saved.out("show", "größe", *words).startswith(f"series größe in {saved.records}[1]")

    def test_shows_every_partition_that_knows_the_series(self, saved: Saved) -> None:
        """Records of one name in two partitions are two series."""
        row = saved.rows("host.mem")[-1]
        saved.send(saved.state, [(0, encode_key("host.mem", "elsewhere"), row)])
        assert [told["partition"] for told in saved.objects("show", "host.mem")] == [0, 1]
        assert "\n\nseries host.mem in" in saved.out("show", "host.mem")
        (told,) = saved.objects("show", "host.mem", f"--topic={saved.records}", "--partition=1")
        assert told["partition"] == 1

    def test_tells_of_older_rows_that_do_not_count(self, saved: Saved) -> None:
        """What a frozen instance may leave; the highest offset wins, wherever it lies."""
        older = saved.rows("host.cpu0")[0]
        saved.send(saved.state, [(0, encode_key("host.cpu0", "zombie"), older)])
        text = saved.out("show", "host.cpu0")
        assert "offset          38, the last" in text
        assert "older rows      1, of writer zombie; they do not count" in text

    def test_says_why_a_row_cannot_be_read(self, saved: Saved) -> None:
        text = saved.out("show", "host.cpu0", "--windows.timesteps=8")
        assert (
            "cannot be read  row: saved with timesteps=4 values=value,"
            " wanted timesteps=8 values=value; state.on_mismatch says"
        ) in text
        (told,) = saved.objects("show", "host.cpu0", "--windows.timesteps=8")
        assert told["fault"].startswith("row: saved with")
        assert told["offset"] is None

    def test_escapes_what_would_paint_the_terminal(self, saved: Saved) -> None:
        text = saved.out("show", EVIL)
        assert text.startswith("series evil\\x1b[2J\\u202e\\nname in ")
        assert "\x1b" not in text

    def test_says_in_one_sentence_that_a_series_is_not_there(self, saved: Saved) -> None:
        assert saved.fault("show", "no\x1bsuch") == (
            f"forecastd: series no\\x1bsuch: no saved row in {saved.records}, wanted one; a row is"
            " saved after state.row_every (4) windows, at the first commit after them"
        )


class TestList:
    def test_is_a_line_a_series(self, saved: Saved) -> None:
        header, *lines = saved.out("list").splitlines()
        assert header.split() == ["LAST", "EVENT", "STEPS", "OFFSET", "PARTITION", "SERIES"]
        assert [line.split(maxsplit=4) for line in lines] == [
            [
                "2023-11-14T22:26:20.000Z",
                "20",
                "39",
                f"{saved.records}[0]",
                r"evil\x1b[2J\u202e\nname",
            ],
            ["2023-11-14T22:26:00.000Z", "20", "38", f"{saved.records}[0]", "host.cpu0"],
            ["2023-11-14T22:27:50.000Z", "22", "43", f"{saved.records}[1]", "größe"],
            ["2023-11-14T22:24:50.000Z", "18", "34", f"{saved.records}[1]", "host.mem"],
        ]

    def test_gives_programs_the_names_as_they_are(self, saved: Saved) -> None:
        assert saved.names() == sorted(NAMES)
        assert saved.out("list", "--json").isascii()
        told = saved.objects("list", "--partition=1")[0]
        assert told == {
            "series": "größe",
            "topic": saved.records,
            "partition": 1,
            "at_ms": START_MS + 870_000,
            "steps": 22,
            "offset": 43,
        }

    @pytest.mark.parametrize("limit", [1, 2, 3, 9])
    def test_ends_at_its_limit(self, saved: Saved, limit: int) -> None:
        assert len(saved.objects("list", f"--limit={limit}")) == min(limit, 4)

    def test_names_series_whose_row_cannot_be_read(self, saved: Saved) -> None:
        saved.send(saved.state, [(0, encode_key("broken", "w"), b"noise")])
        assert f"cannot be read                    -            -  {saved.records}[0]  broken" in (
            saved.out("list").splitlines()
        )
        (told,) = [told for told in saved.objects("list") if told["series"] == "broken"]
        assert told["fault"].startswith("row: 5 bytes that begin with b'nois', wanted")

    def test_tells_of_each_series_once(self, saved: Saved) -> None:
        rows = [
            (0, encode_key("host.cpu0", f"w{at}"), row)
            for at, row in enumerate(saved.rows("host.cpu0"))
        ]
        saved.send(saved.state, rows)
        assert saved.names() == sorted(NAMES)

    def test_leaves_series_out_that_were_removed(self, saved: Saved) -> None:
        (key,) = {m.key for m in saved.broker.messages(STATE_TOPIC) if b"mem" in (m.key or b"")}
        saved.send(saved.state, [(1, key, None)])
        assert "host.mem" not in saved.names()

    @pytest.mark.parametrize("limit", ["0", "-1", "few"])
    def test_refuses_a_limit_that_is_none(self, nothing: Saved, limit: str) -> None:
        with pytest.raises(SystemExit, match="2"):
            nothing.run("list", f"--limit={limit}")
        assert f"invalid positive number value: '{limit}'" in nothing.capsys.readouterr().err


class TestStats:
    def test_add_up_to_what_lies_on_the_topics(self, saved: Saved) -> None:
        (told,) = saved.objects("stats")
        messages = saved.broker.messages(STATE_TOPIC)
        total, parts = told["total"], told["partitions"]
        assert [part["series"] for part in parts] == [2, 2]
        assert total["rows"] == sum(message.value is not None for message in messages)
        assert total["tombstones"] == len(messages) - total["rows"]
        assert total["bytes"] == sum(len(m.key or b"") + len(m.value or b"") for m in messages)
        assert total["bytes"] == sum(total["bytes_by_column"].values())
        for name in ("series", "rows", "bytes", "replay", "lag"):
            assert total[name] == sum(part[name] for part in parts)
        assert total["schemas"] == {"1": total["rows"]}
        assert (total["oldest_ms"], total["newest_ms"]) == (START_MS + 690_000, START_MS + 870_000)

    def test_say_what_a_restart_would_replay(self, saved: Saved) -> None:
        saved.commit({P0: Committed(40, 31), P1: Committed(45, 45)})
        (told,) = saved.objects("stats")
        zero, one = told["partitions"]
        assert (zero["resume_from"], zero["position"], zero["log_end"]) == (31, 40, 45)
        assert (zero["restart"], zero["replay"], zero["lag"]) == ("replay", 9, 5)
        assert (one["restart"], one["replay"], one["lag"]) == ("replay", 0, 0)
        text = saved.out("stats")
        assert "a restart replays at most 9 records, then reads 5 more" in text

    def test_are_a_table_with_a_line_a_partition(self, saved: Saved) -> None:
        header, zero, one, total, *_ = saved.out("stats").splitlines()
        assert header.split()[:3] == ["PARTITION", "SERIES", "ROWS"]
        assert zero.split()[:2] == [f"{saved.records}[0]", "2"]
        assert one.split()[:2] == [f"{saved.records}[1]", "2"]
        assert total.split()[:2] == ["total", "4"]
        assert len({len(line) for line in (header, zero, one, total)}) == 1

    def test_tell_of_offsets_that_do_not_fit_the_rows(self, saved: Saved) -> None:
        """What `kafka-consumer-groups.sh --reset-offsets` leaves."""
        saved.commit({P0: Committed(12, None)})
        (told,) = saved.objects("stats")
        assert told["partitions"][0]["restart"] == "gap"
        assert (
            f"{saved.records}[0]: offset 12 was committed by another tool; state.on_gap says"
        ) in saved.out("stats")

    def test_tell_of_rows_that_cannot_be_read(self, saved: Saved) -> None:
        later = saved.rows("host.cpu0")[0]
        later = later[:3] + b"\x09" + later[4:]
        noise = [(0, encode_key("new", "w"), later), (1, b"theirs", b"x"), (1, b"more", b"x")]
        saved.send(saved.state, noise)
        (told,) = saved.objects("stats")
        assert [part["unreadable"] for part in told["partitions"]] == [1, 2]
        assert {"9": 1, "unknown": 2}.items() <= told["total"]["schemas"].items()
        text = saved.out("stats")
        assert "unreadable rows: 3; the first: series 'new': row: schema 9, wanted 1" in text

    def test_work_without_input_topic_and_offsets(self, nothing: Saved) -> None:
        nothing.create(nothing.state)
        (told,) = nothing.objects("stats")
        assert [part["restart"] for part in told["partitions"]] == ["no input"] * 2
        assert "the input topic has no such partition" in nothing.out("stats")

    def test_tell_of_a_group_that_has_never_read(self, nothing: Saved) -> None:
        nothing.create(nothing.state, nothing.records)
        (told,) = nothing.objects("stats")
        assert [part["restart"] for part in told["partitions"]] == ["first start"] * 2


class TestLooking:
    @pytest.mark.parametrize("words", [("show", "host.cpu0"), ("list",), ("stats",)])
    def test_changes_nothing_beside_a_running_group(
        self, saved: Saved, member: KafkaConsumer, words: tuple[str, ...]
    ) -> None:
        """It is no member itself, so that nobody's partitions move."""
        before = (saved.written(), saved.committed(), member.group_metadata().generation_id)
        assert saved.out(*words)
        member.poll(timeout_ms=100)
        after = (saved.written(), saved.committed(), member.group_metadata().generation_id)
        assert after == before

    @pytest.mark.parametrize(
        "words", [("show", "x"), ("list",), ("stats",), ("reset", "x", "--yes")]
    )
    def test_says_that_nothing_was_ever_saved(self, nothing: Saved, words: tuple[str, ...]) -> None:
        assert nothing.fault(*words) == (
            f"forecastd: {nothing.state}: no such topic, wanted the saved rows of"
            f" {nothing.records}; group {nothing.group} has saved none yet, or it has another name"
        )

    def test_says_that_there_is_no_such_partition(self, saved: Saved) -> None:
        assert saved.fault("list", "--partition=2") == (
            "forecastd: partition 2: no such partition, wanted one of the state topic's"
            f" (partitions: {saved.state} 2)"
        )

    def test_says_that_nobody_answers(self, nothing: Saved) -> None:
        nothing.bootstrap = "127.0.0.1:1"
        fault = nothing.fault("list", "--kafka.request_timeout=600ms")
        assert fault.startswith(
            "forecastd: kafka.bootstrap_servers: nothing answers at 127.0.0.1:1"
        )


class Terminal(io.StringIO):
    """Somebody who types."""

    def isatty(self) -> bool:
        return True


class TestResetOfOneSeries:
    def test_leaves_a_row_that_starts_it_cold(self, saved: Saved) -> None:
        saved.send(
            saved.state, [(0, encode_key("host.cpu0", "zombie"), saved.rows("host.cpu0")[0])]
        )
        before = saved.committed()
        text, where = (
            saved.out("reset", "host.cpu0", "--yes"),
            f"series host.cpu0 in {saved.records}[0]",
        )
        assert text.splitlines() == [
            f"{where}: 2 rows, 20 steps, the last at 2023-11-14T22:26:00.000Z",
            f"{where}: 2 rows removed, it starts cold behind offset 44",
        ]
        (told,) = saved.objects("show", "host.cpu0")
        assert (told["steps"], told["offset"], told["reset"]) == (0, 44, True)
        assert told["older_rows"] == []
        assert "steps           none: it starts cold with the first" in saved.out(
            "show", "host.cpu0"
        )
        assert saved.names() == sorted(NAMES)
        assert saved.committed() == before

    def test_passes_over_what_is_replayed(self, saved: Saved) -> None:
        saved.commit({P0: Committed(60, 10)})
        saved.out("reset", "host.cpu0", "--yes")
        assert saved.objects("show", "host.cpu0")[0]["offset"] == 59

    def test_leaves_nothing_where_the_partition_starts_cold_anyway(self, saved: Saved) -> None:
        saved.commit({P0: Committed(40, None)})
        text = saved.out("reset", "host.cpu0", "--yes")
        assert text.endswith(": 1 row removed, it starts cold with its partition\n")
        assert "host.cpu0" not in saved.names()

    def test_resets_a_row_that_cannot_be_read(self, saved: Saved) -> None:
        saved.send(saved.state, [(0, encode_key("host.cpu0", "w"), b"noise")])
        assert "2 rows, and the last cannot be read (row: 5 bytes" in saved.out(
            "reset", "host.cpu0", "--yes"
        )
        assert saved.objects("show", "host.cpu0")[0]["offset"] == 44

    def test_of_a_series_that_is_not_there_is_one_sentence(self, saved: Saved) -> None:
        before = saved.written()
        fault = saved.fault("reset", "nobody", "--yes")
        assert fault.startswith(
            f"forecastd: series nobody: no saved row in {saved.records}, wanted"
        )
        assert saved.written() == before

    def test_resets_a_series_whose_name_looks_like_an_option(self, saved: Saved) -> None:
        saved.send(saved.state, [(0, encode_key("--all", "w"), saved.rows("host.cpu0")[0])])
        assert "series --all in" in saved.out("reset", "--yes", "--", "--all")
        assert len(saved.names()) == 5


class TestResetOfAll:
    def test_removes_every_row_and_moves_no_position(self, saved: Saved) -> None:
        saved.send(saved.state, [(1, b"theirs", b"x"), (0, encode_key("b", "w"), b"noise")])
        saved.commit({P0: Committed(40, 31), P1: Committed(44, 12)})
        assert saved.out("reset", "--all", "--yes").splitlines() == [
            f"{saved.records}[0]: 3 series, 3 rows removed; goes on at offset 40",
            f"{saved.records}[1]: 2 series, 3 rows removed; goes on at offset 44",
        ]
        assert saved.committed() == {0: Committed(40, 40), 1: Committed(44, 44)}
        (told,) = saved.objects("stats")
        total = told["total"]
        assert (total["series"], total["unreadable"], total["replay"]) == (0, 0, 0)
        assert saved.names() == []

    def test_makes_the_commit_of_another_tool_ours(self, saved: Saved) -> None:
        """Offsets were moved on purpose: with the rows gone there is nothing that does not fit."""
        saved.commit({P0: Committed(12, None)})
        saved.out("reset", "--all", "--yes")
        assert saved.committed()[0] == Committed(12, 12)

    def test_begins_anew_with_an_input_that_was_begun_anew(self, saved: Saved) -> None:
        saved.commit({P0: Committed(10_000, 9_000)})
        text = saved.out("reset", "--all", "--yes")
        assert f"{saved.records}[0]: 2 series, 2 rows removed; goes on at ingest.start" in text
        assert list(saved.committed()) == [1]
        assert saved.objects("stats")[0]["partitions"][0]["restart"] == "first start"

    def test_may_be_asked_of_one_partition(self, saved: Saved) -> None:
        before = saved.committed()
        saved.out("reset", "--all", "--yes", "--partition=1")
        assert saved.names() == sorted(NAMES[::2])
        assert saved.committed()[0] == before[0]

    def test_can_be_done_again(self, saved: Saved) -> None:
        saved.out("reset", "--all", "--yes")
        again = saved.out("reset", "--all", "--yes")
        assert again.startswith(f"{saved.records}[0]: 0 series, 0 rows removed; goes on at")


class TestReset:
    @pytest.mark.parametrize("which", ["host.cpu0", "--all"])
    def test_refuses_while_somebody_is_in_the_group(
        self, saved: Saved, member: KafkaConsumer, which: str
    ) -> None:
        before = saved.written(), saved.committed()
        assert saved.fault("reset", which, "--yes") == (
            f"forecastd: group {saved.group}: 1 member (cara at 127.0.0.1), wanted none; stop the"
            " daemon, one that was killed counts for its kafka.session_timeout (10s)"
        )
        assert (saved.written(), saved.committed()) == before

    @pytest.mark.parametrize("which", ["host.cpu0", "--all"])
    def test_refuses_to_guess_where_nobody_can_be_asked(
        self, saved: Saved, monkeypatch: pytest.MonkeyPatch, which: str
    ) -> None:
        before = saved.written()
        monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
        fault = saved.fault("reset", which)
        assert fault == "forecastd: state reset: no terminal to ask at, wanted one, or --yes"
        assert saved.written() == before

    @pytest.mark.parametrize("which", ["host.cpu0", "--all"])
    @pytest.mark.parametrize("answer", ["", "\n", "n\n", "yesterday\n"])
    def test_changes_nothing_without_a_yes(
        self, saved: Saved, monkeypatch: pytest.MonkeyPatch, which: str, answer: str
    ) -> None:
        before = saved.written(), saved.committed()
        monkeypatch.setattr("sys.stdin", Terminal(answer))
        status, out, _ = saved.run("reset", which)
        assert status == 1
        assert out.splitlines()[-1].endswith("[y/N] nothing was changed")
        assert (saved.written(), saved.committed()) == before

    @pytest.mark.parametrize(
        ("which", "question"),
        [
            ("host.cpu0", "reset it in 1 partition? [y/N] "),
            ("--all", "reset every series of group {0.group} in 2 partitions of {0.state}? [y/N] "),
        ],
    )
    def test_asks_at_a_terminal(
        self, saved: Saved, monkeypatch: pytest.MonkeyPatch, which: str, question: str
    ) -> None:
        monkeypatch.setattr("sys.stdin", Terminal("y\n"))
        assert question.format(saved) in saved.out("reset", which)
        assert len(saved.objects("show", "host.cpu0") if which != "--all" else [0]) == 1
        assert saved.objects("stats")[0]["total"]["tombstones"] > 0

    @pytest.mark.parametrize("words", [(), ("a", "--all")])
    def test_wants_one_series_or_all(self, nothing: Saved, words: tuple[str, ...]) -> None:
        with pytest.raises(SystemExit, match="2"):
            nothing.run("reset", "--yes", *words)


@pytest.mark.slow
def test_a_real_daemon_goes_on_after_both_kinds_of_reset(kafka: str, tmp_path: Path) -> None:
    """The whole way: two runs of the daemon around a reset of one series, a third after all."""
    world = World(kafka, partitions=1).create()
    small = {"WINDOWS__TIMESTEPS": "4", "FORECAST__HORIZON": "3", "INGEST__POLL_RECORDS": "7"}

    def live(begin: int, end: int) -> list[dict[str, Any]]:
        """What a daemon publishes that reads records `begin` to `end` and is stopped."""
        before = len(world.messages())
        values = (
            msgspec.json.encode({"timestamp": START_MS + at, "value": at})
            for at in range(begin, end)
        )
        world.produce([(0, b"ab"[at % 2 : at % 2 + 1], value) for at, value in enumerate(values)])
        with Daemon(world, tmp_path / "log", INGEST__SERIES="none", **small) as daemon:
            daemon.until_ready().until_caught_up()
            assert daemon.stop() == 0
        return world.messages()[before:]

    def state(*words: str) -> None:
        names = world.settings(small).items()
        options = [
            f"--{name.removeprefix('FORECASTD_').replace('__', '.').lower()}={value}"
            for name, value in names
        ]
        assert main(["state", *words, *options]) == 0

    live(0, 50)
    state("reset", "a", "--yes")
    found = live(50, 90)
    windows = {
        name: [m for m in found if m["series"] == name and "cold" not in m["flags"]]
        for name in "ab"
    }
    assert [m["input"]["first_offset"] for m in windows["a"]] == [50, 58, 66, 74, 82]
    assert ["reset" in message["flags"] for message in windows["a"]] == [True, *[False] * 4]
    assert not any("reset" in message["flags"] for message in windows["b"])
    assert windows["b"][0]["input"]["first_offset"] < 50
    state("reset", "--all", "--yes")
    again = live(90, 106)
    assert min(message["input"]["first_offset"] for message in again) == 90
    assert sum("cold" in message["flags"] for message in again) == 6
