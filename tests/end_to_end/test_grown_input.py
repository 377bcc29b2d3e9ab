"""An input topic that is given more partitions while the daemon reads it."""

from __future__ import annotations

import json
from pathlib import Path

from kafka import KafkaAdminClient

from tests.end_to_end.daemons import Daemon, World
from tests.end_to_end.observed import observations

QUICK = {"KAFKA__METADATA_MAX_AGE": "1s", "STATE__ROW_EVERY": "1"}


def grow(world: World, topic: str, partitions: int) -> None:
    admin = KafkaAdminClient(bootstrap_servers=world.bootstrap)
    admin.create_partitions({topic: partitions})
    admin.close()


def lines(daemon: Daemon, said: str) -> list[str]:
    return [line for line in daemon.log.splitlines() if said in line]


def test_it_is_read_in_full_and_its_state_topic_grows_with_it(kafka: str, tmp_path: Path) -> None:
    """Without a restart, and said once; the rows of the new partitions are kept as well."""
    world = World(kafka, partitions=2).create()
    with Daemon(world, tmp_path / "log", **QUICK) as daemon:
        daemon.until_ready()
        world.produce(observations("a", 0, 20, partition=0))
        daemon.until_caught_up()
        grow(world, world.records, 4)
        world.partitions = 4
        for partition in (0, 2, 3):
            world.produce(observations("a", 20, 60, partition=partition))
        daemon.until_caught_up().until_ready()
        daemon.until(lambda: {row.partition for row in world.read(world.state)} == {0, 2, 3}, "row")
        metrics = daemon.get("metrics")[1]
        assert daemon.stop() == 0
    assert "forecastd_broker_errors_total 0.0" in metrics
    (told,) = lines(daemon, "has grown")
    assert json.loads(told)["partitions"] == 4
    assert {message["input"]["partition"] for message in world.messages()} == {0, 2, 3}
    cold = [m for m in world.messages() if m["input"]["partition"] == 2 and m["flags"] == ["cold"]]
    assert len(cold) == 15, "a new series where it is new"


def test_without_leave_to_grow_the_state_topic_the_new_partition_waits(
    kafka: str, tmp_path: Path
) -> None:
    """The others are served meanwhile, and the line holds the command that an operator must run."""
    world = World(kafka, partitions=1).create()
    with Daemon(world, tmp_path / "log") as daemon:
        daemon.until_ready()
        assert daemon.stop() == 0
    with Daemon(world, tmp_path / "log", KAFKA__CREATE_TOPICS="false", **QUICK) as daemon:
        daemon.until_ready()
        grow(world, world.records, 2)
        daemon.until(lambda: lines(daemon, f"--alter --topic {world.state}"), "line")
        world.produce(observations("a", 0, 20, partition=0))
        daemon.until_caught_up()
        world.partitions = 2
        world.produce(observations("a", 0, 20, partition=1))
        status, waits_for = daemon.get("readyz")
        assert (status, f"{world.records}[1]" in waits_for) == (503, True)
        grow(world, world.state, 2)
        daemon.until_caught_up().until_ready()
        assert daemon.stop() == 0
    assert len(lines(daemon, "--alter")) == 1
