"""Starting and stopping, as an operator or an orchestrator does it."""

from __future__ import annotations

import json
from pathlib import Path

from tests.end_to_end.daemons import Daemon, World


def test_it_creates_its_topics_serves_and_stops_within_the_timeout(
    kafka: str, tmp_path: Path
) -> None:
    """SIGTERM: the poll is finished, everything is committed, the exit status is 0."""
    world = World(kafka)
    with Daemon(world, tmp_path / "log") as daemon:
        daemon.until_ready()
        value = json.dumps({"series": "a", "timestamp": 1_700_000_000, "value": 1.5})
        world.partitions = 1
        world.produce([(0, None, value.encode())])
        daemon.until_caught_up()
        assert daemon.get("healthz")[0] == 200
        page = daemon.get("")[1]
        metrics = daemon.get("metrics")[1]
        assert daemon.stop() == 0
    assert "<html" in page
    assert "forecastd_records_consumed_total 1.0" in metrics
    (message,) = world.messages()
    assert message["flags"] == ["cold"]
    assert message["step_ms"] is None


def test_without_leave_to_create_topics_a_missing_one_stops_the_start(
    kafka: str, tmp_path: Path
) -> None:
    """The sentence holds the command that would create it."""
    world = World(kafka)
    with Daemon(world, tmp_path / "log", KAFKA__CREATE_TOPICS="false") as daemon:
        assert daemon.process.wait(timeout=60) == 1
        errors = [line for line in daemon.log.splitlines() if '"level": "error"' in line]
    commands = [
        f"--create --topic {topic}" in line
        for topic in (world.records, world.state)
        for line in errors
    ]
    assert commands.count(True) == 2


def test_history_false_reads_what_was_there_in_silence(kafka: str, tmp_path: Path) -> None:
    """What lies in the input moves state, and only what comes later is published."""
    world = World(kafka, partitions=1).create()
    early = [
        (
            0,
            None,
            json.dumps({"series": "a", "timestamp": 1_700_000_000 + at, "value": at}).encode(),
        )
        for at in range(24)
    ]
    world.produce(early)
    with Daemon(world, tmp_path / "log", PUBLISH__HISTORY="false") as daemon:
        daemon.until_ready()
        late = json.dumps(
            [{"series": "a", "timestamp": 1_700_000_024 + at, "value": 24 + at} for at in range(8)]
        )
        world.produce([(0, None, late.encode())])
        daemon.until_caught_up()
        assert daemon.stop() == 0
    (message,) = world.messages()
    assert message["id"] == f"{world.records}-0-a-1700000031000"
    assert message["input"]["first_offset"] == 16
    assert message["input"]["last_offset"] == 24
