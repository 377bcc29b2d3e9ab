"""Seconds without a forecast when the owner of partitions is killed, while another instance waits.

    python -m tests.benchmarks.failover [--series 1000] [--rate 500] [--kills 2] [--out bench.json]

Two daemons of one group on the embedded broker serve an LSTM and are fed at a steady rate. One is
killed with SIGKILL. For each of its partitions the gap is that from the broker's time of its last
forecast to that of the first one of the other daemon. Most of it is the session timeout, which the
group waits before it gives the partitions to somebody else; the rest is the rebalance, the restore
of the rows, the silent replay and the first turn.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

from tests.benchmarks.delay import feed, records, untrained_model
from tests.benchmarks.served_loop import write_figures
from tests.end_to_end.daemons import Daemon, World

SESSION_S = 6
STRIDE = 4
HISTORY = 70
"""Records of each series before the first kill: four windows, so that each has a saved row."""


def create_output(world: World) -> None:
    """The output topic, stamped with the broker's time: a daemon's own says nothing of its end."""
    from kafka import KafkaAdminClient

    admin = KafkaAdminClient(bootstrap_servers=world.bootstrap)
    configs = {"message.timestamp.type": "LogAppendTime"}
    topic = {"num_partitions": 1, "replication_factor": 1, "configs": configs}
    admin.create_topics({world.forecasts: topic})
    admin.close()


def fill(world: World, source: Iterator[tuple[int, dict[str, object]]], series: int) -> None:
    """The series' past, a millisecond a record, up to now.

    Their windows end at different times, so that every pass over the series makes forecasts: a
    series has up to `STRIDE` - 1 records more than others of its partition.
    """
    past = []
    for passed in range(HISTORY):
        for place, found in enumerate(islice(source, series)):
            if place // world.partitions % STRIDE <= passed:
                past.append(found)
    start_ms = time.time_ns() // 1_000_000 - len(past)
    world.produce(
        (partition, None, json.dumps(record | {"timestamp": start_ms + at}).encode())
        for at, (partition, record) in enumerate(past)
    )


def stamps(world: World) -> dict[int, list[int]]:
    """By input partition, the broker's times of its forecasts, in ms."""
    found: dict[int, list[int]] = {}
    for message in world.read(world.forecasts):
        where = re.search(rb'"partition":\s*(\d+)', message.value)
        assert where is not None, "a forecast names its partition"
        found.setdefault(int(where[1]), []).append(message.timestamp)
    return found


def gaps_of(world: World, killed_ms: int) -> dict[int, float]:
    """Seconds without a forecast, of the partitions that the killed daemon owned.

    Those are the ones that were silent for most of a session from then on.
    """
    gaps = {}
    for partition, at in stamps(world).items():
        before = max(ms for ms in at if ms <= killed_ms + 500)
        after = min((ms for ms in at if ms > before), default=None)
        if after is not None and after - before > SESSION_S * 500:
            gaps[partition] = (after - before) / 1000
    return gaps


def kill_one(world: World, daemons: list[Daemon], run: Callable[[int], None]) -> dict[int, float]:
    """Feed, kill the first of the daemons, and feed on until the other has taken over."""
    run(3)
    daemons[0].kill()
    killed_ms = time.time_ns() // 1_000_000
    run(SESSION_S + 6)
    daemons[1].until_caught_up()
    return gaps_of(world, killed_ms)


def main() -> None:
    """Print a line a kill, and write the figures to a file."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--series", type=int, default=1_000)
    parser.add_argument("--rate", type=int, default=500)
    parser.add_argument("--kills", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("bench.json"))
    arguments = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from forecastd.demo.kafka_broker import EmbeddedKafka

    print("alone: python -m tests.benchmarks.failover", flush=True)
    gaps: list[float] = []
    with EmbeddedKafka() as kafka, tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "model"
        untrained_model(model)
        world = World(kafka.bootstrap).create()
        create_output(world)
        source = records(arguments.series, world.partitions)
        fill(world, source, arguments.series)
        settings = {
            "KAFKA__SESSION_TIMEOUT": f"{SESSION_S}s",
            "MODELS__SERVE": str(model.resolve()),
            "WINDOWS__STRIDE": str(STRIDE),
        }

        def started(number: int) -> Daemon:
            return Daemon(world, Path(folder) / f"{number}.log", **settings).until_ready()

        def run(seconds: int) -> None:
            feed(world, source, arguments.rate, seconds)

        daemons = [started(0), started(1)]
        try:
            for kill in range(arguments.kills):
                daemons[1].until_caught_up()
                found = kill_one(world, daemons, run)
                gaps.extend(found.values())
                said = ", ".join(f"{gap:.1f}" for gap in found.values())
                print(f"kill {kill + 1}: gaps of {said} s, session {SESSION_S} s", flush=True)
                daemons = [daemons[1], started(2 + kill)]
        finally:
            for daemon in daemons:
                daemon.__exit__()
    median = statistics.median(gaps)
    print(
        f"failover gap of {len(gaps)} partitions: median {median:.1f} s, most {max(gaps):.1f} s, "
        f"of which up to {SESSION_S} s session timeout"
    )
    figures = {"gaps_s": gaps, "median_s": median, "session_timeout_s": SESSION_S}
    write_figures(arguments.out, "failover", figures)


if __name__ == "__main__":
    main()
