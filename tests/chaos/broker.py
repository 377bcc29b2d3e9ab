"""Broker faults: nodes are killed in mid-stream, and frozen for longer than a session.

At least once a lone broker serves, which is started again on its data. Exactly once is judged on
three nodes: a lone broker that is killed between the decision and the markers of a transaction can
leave one that hangs for ever, of its own making.
"""

from __future__ import annotations

import itertools
import os
import signal
import time

from kafka import KafkaAdminClient

from forecastd.demo.kafka_broker import EmbeddedKafka
from tests.chaos.harness import Case, Report, Run
from tests.end_to_end.daemons import World

PAUSE_S = 9.0
"""Longer than the session of the daemons' group, and than that of a node with its controller."""


def broker(case: Case, kafka: EmbeddedKafka, kills: int, pauses: int) -> Report:
    """Kill a node `kills` times, freeze one `pauses` times; one instance works meanwhile."""
    draw = case.draw
    died_ms: list[int] = []
    with Run(case, ["one"]) as run:
        _create_output(run.world)
        (one,) = run.instances
        one.start()
        deeds = ["kill"] * kills + ["pause"] * pauses
        draw.shuffle(deeds)
        for number, goal in enumerate(case.goals(draw, len(deeds))):
            run.until_committed(goal)
            node = number % len(kafka.pids) + 1
            if deeds[number] == "pause":
                _pause(run, kafka, node)
                continue
            died_ms.append(time.time_ns() // 1_000_000)
            kafka.kill_node(node)
            if len(kafka.pids):
                # The others must do without it; only then it comes back.
                run.until_committed(min(goal + case.ahead // 2, case.stream.count))
            kafka.start_node(node)
        report = run.finish()
        appended_ms = sorted(record.timestamp for record in run.world.read(run.world.forecasts))
    silent = [_seconds_to_next(appended_ms, at) for at in died_ms]
    report.figures |= {"kills": kills, "pauses": pauses, "seconds to the next forecast": silent}
    return report


def _create_output(world: World) -> None:
    """The output topic, whose timestamps say when the broker had a forecast."""
    times = {"message.timestamp.type": "LogAppendTime"}
    shape = {"num_partitions": world.partitions, "replication_factor": -1, "configs": times}
    admin = KafkaAdminClient(bootstrap_servers=world.bootstrap)
    admin.create_topics({world.forecasts: shape})
    admin.wait_for_topics([world.forecasts], 10_000)
    admin.close()


def _pause(run: Run, kafka: EmbeddedKafka, node: int) -> None:
    """Freeze a node; its clients cannot tell this from a network that drops everything."""
    pid = kafka.pids[node]
    os.kill(pid, signal.SIGSTOP)
    try:
        ends = time.monotonic() + PAUSE_S
        run.wait(lambda: time.monotonic() >= ends, "end of the pause")
    finally:
        os.kill(pid, signal.SIGCONT)


def _seconds_to_next(appended_ms: list[int], died_ms: int) -> float:
    """From a death to the forecast that ended the silence after it.

    That is the longest one that began within two seconds: what other nodes lead may still get
    through for a moment.
    """
    pairs = itertools.pairwise(appended_ms)
    silences = [
        (after - before, after) for before, after in pairs if after > died_ms > before - 2_000
    ]
    return round((max(silences)[1] - died_ms) / 1000, 1) if silences else float("nan")
