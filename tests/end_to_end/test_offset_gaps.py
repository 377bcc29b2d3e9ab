"""Offsets and saved rows that do not fit: whatever moved one of them without the other."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaAdminClient, KafkaProducer, TopicPartition
from kafka.structs import OffsetAndMetadata

from tests.deadline import DEADLINE_S
from tests.end_to_end.daemons import Daemon, World
from tests.end_to_end.observed import observations

SETTINGS = {
    "STATE__ROW_EVERY": "2",
    "KAFKA__REQUEST_TIMEOUT": "3s",
    "KAFKA__DELIVERY_TIMEOUT": "3s",
}
COLD = "does not continue the saved state"


def with_admin(world: World, ask: Callable[[KafkaAdminClient], Any]) -> None:
    admin = KafkaAdminClient(bootstrap_servers=world.bootstrap)
    try:
        ask(admin)
    finally:
        admin.close()


def moved_by_another_tool(world: World) -> None:
    """`kafka-consumer-groups.sh --reset-offsets --to-offset 30`."""
    at = {TopicPartition(world.records, 0): OffsetAndMetadata(30, "", -1)}
    with_admin(world, lambda admin: admin.alter_group_offsets(world.name, at))


def deleted_up_to_the_end(world: World) -> None:
    """Retention was faster than the restart: `kafka-delete-records.sh`."""
    with_admin(world, lambda admin: admin.delete_records({TopicPartition(world.records, 0): -1}))


def without_state(world: World) -> None:
    """Somebody deletes the state topic."""
    with_admin(world, lambda admin: admin.delete_topics([world.state]))


def emptied_state(world: World) -> None:
    """Somebody writes a tombstone for every row."""
    producer = KafkaProducer(bootstrap_servers=world.bootstrap)
    for key in newest_rows(world):
        producer.send(world.state, key=key, value=None, partition=0)
    producer.close()


CASES = [
    (moved_by_another_tool, "offset 30 was committed by another tool"),
    (deleted_up_to_the_end, "must resume at"),
    (without_state, "was committed beside saved rows, and none is left"),
    (emptied_state, "was committed beside saved rows, and none is left"),
]


def served_and_stopped(world: World, log: Path, **settings: str) -> None:
    """A daemon does its work: a row, and ten records behind it."""
    world.produce(observations("a", 0, 90))
    with Daemon(world, log, **SETTINGS, **settings) as daemon:
        daemon.until_ready().until_caught_up()
        world.produce(observations("a", 90, 100))
        daemon.until_caught_up()
        assert daemon.stop() == 0


def told(daemon: Daemon, said: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in daemon.log.splitlines() if said in line]


def newest_rows(world: World) -> dict[bytes, bytes | None]:
    """What compaction would leave of the state topic."""
    return {row.key: row.value for row in world.read(world.state)}


@pytest.mark.parametrize(
    ("happen", "found", "delivery"),
    [
        *((*case, "at_least_once") for case in CASES),
        (*CASES[0], "exactly_once"),
    ],
)
def test_are_named_once_and_the_series_begin_anew(
    kafka: str, tmp_path: Path, happen: Callable[[World], None], found: str, delivery: str
) -> None:
    """In the default `state.on_gap = "reset"`; a later restart has nothing to say."""
    world = World(kafka, partitions=1).create()
    served_and_stopped(world, tmp_path / "log", DELIVERY=delivery)
    before = set(newest_rows(world))
    happen(world)
    world.produce(observations("a", 100, 140))
    with Daemon(world, tmp_path / "log", DELIVERY=delivery, **SETTINGS) as daemon:
        daemon.until_ready().until_caught_up()
        assert "forecastd_offsets_resets_total 1.0" in daemon.get("metrics")[1]
        assert daemon.stop() == 0
    with Daemon(world, tmp_path / "log", DELIVERY=delivery, **SETTINGS) as daemon:
        daemon.until_ready().until_caught_up()
        assert daemon.stop() == 0
    (line,) = told(daemon, COLD)
    assert found in line["found"]
    if happen in (moved_by_another_tool, deleted_up_to_the_end):
        rows = newest_rows(world)
        assert {key for key in before if rows[key] is not None} == set()
        assert [m["flags"] for m in world.messages()].count(["reset"]) == 1


@pytest.mark.parametrize(("happen", "found"), CASES[:3])
def test_may_stop_the_daemon_with_one_line(
    kafka: str, tmp_path: Path, happen: Callable[[World], None], found: str
) -> None:
    """`state.on_gap = "stop"`: nothing is changed, so that the next start finds the same."""
    world = World(kafka, partitions=1).create()
    served_and_stopped(world, tmp_path / "log")
    happen(world)
    log = tmp_path / "stopped"
    with Daemon(world, log, STATE__ON_GAP="stop", **SETTINGS) as daemon:
        assert daemon.process.wait(timeout=DEADLINE_S) == 1
    (line,) = told(daemon, '"level": "error"')
    assert line["event"].startswith(f"{world.records}[0]: ")
    assert found in line["event"]
    assert "wanted offsets that fit" in line["event"]


def test_of_records_deleted_before_they_were_read_are_named_while_it_runs(
    kafka: str, tmp_path: Path
) -> None:
    """A reader that is too slow must not jump over what it has missed in silence."""
    world = World(kafka, partitions=1).create()
    with Daemon(world, tmp_path / "log", **SETTINGS) as daemon:
        daemon.until_ready()
        world.produce(observations("a", 0, 40))
        daemon.until_caught_up()
        daemon.process.send_signal(signal.SIGSTOP)
        try:
            for first in range(40, 400, 40):
                world.produce(observations("a", first, first + 40))
            deleted_up_to_the_end(world)
            world.produce(observations("a", 400, 440))
        finally:
            os.kill(daemon.process.pid, signal.SIGCONT)
        daemon.until(lambda: told(daemon, COLD), "line").until_caught_up().until_ready()
        assert daemon.stop() == 0
    (line,) = told(daemon, COLD)
    assert "the log begins at 400" in line["found"]


def test_of_a_state_topic_that_is_deleted_while_it_runs_are_named(
    kafka: str, tmp_path: Path
) -> None:
    """It is made anew, and what was in it is not forgotten in silence."""
    world = World(kafka, partitions=1).create()
    with Daemon(world, tmp_path / "log", **SETTINGS) as daemon:
        daemon.until_ready()
        world.produce(observations("a", 0, 100))
        daemon.until_caught_up()
        without_state(world)
        world.produce(observations("a", 100, 200))
        daemon.until(lambda: told(daemon, COLD), "line").until_caught_up().until_ready()
        world.produce(observations("a", 200, 300))
        daemon.until_caught_up()
        assert daemon.stop() == 0
    (line,) = told(daemon, COLD)
    assert "none is left" in line["found"]
    assert [row.value for row in world.read(world.state)]
