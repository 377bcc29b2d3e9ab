"""Whether anything is left behind by many training runs and changes of model.

    python -m tests.benchmarks.learning_leak [--cycles 50] [--out bench.json]

A daemon on the embedded broker has records to learn from. In each cycle an operator lets a model
serve that was never trained and releases it; the daemon trains from there, promotes what came of
it, and forecasts with that. Printed are the daemon's resident memory after the first cycles and
after the last, its zombie processes, its open files and the files in its folder.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import psutil

from forecastd.demo.kafka_broker import EmbeddedKafka
from tests.benchmarks.served_loop import write_figures
from tests.deadline import until
from tests.end_to_end.daemons import Daemon, World
from tests.end_to_end.learning import (
    LEARNS,
    GroupModels,
    add_model,
    operate,
    settings_of,
    untrained,
    waves,
)

HISTORY, LIVE = 600, 16
SETTLED = 5
"""Cycles after which memory is looked at first: libraries allocate what they keep."""

SETTINGS = LEARNS | {"TRAINING__EVERY": "1s", "MODELS__KEEP": "3"}


def state(daemon: Daemon, folder: Path) -> dict[str, Any]:
    """What the daemon holds now."""
    process = psutil.Process(daemon.process.pid)
    children = process.children(recursive=True)
    return {
        "rss_mb": process.memory_info().rss / 1e6,
        "open_files": process.num_fds(),
        "threads": process.num_threads(),
        "zombies": sum(child.status() == psutil.STATUS_ZOMBIE for child in children),
        "files": sum(path.is_file() for path in folder.rglob("*")),
        "temporary": sum(1 for _ in (folder / "tmp").iterdir()),
    }


def cycle(world: World, models: GroupModels, daemon: Daemon, step: int, start: str) -> None:
    """Swap, train, swap, forecast.

    A run that was under way when the operator came is void, and another one follows it.
    """
    operate(world, SETTINGS, "promote", start)
    until(lambda: served(daemon) == start, "untrained model", process=daemon.process)
    world.produce(waves(step, step + LIVE))
    operate(world, SETTINGS, "release")
    until(lambda: models.champion != start, "promotion", within_s=300, process=daemon.process)
    until(lambda: served(daemon) == models.champion, "champion", process=daemon.process)
    world.produce(waves(step + LIVE, step + 2 * LIVE))
    daemon.until_caught_up()


def served(daemon: Daemon) -> str | None:
    """The version that it serves."""
    found: str | None = json.loads(daemon.get("snapshot.json")[1])["model_version"]
    return found


def measure(kafka: EmbeddedKafka, folder: Path, cycles: int) -> dict[str, Any]:
    """All cycles, and a line every few of them."""
    world, first = World(kafka.bootstrap).create(), {}
    (folder / "daemon" / "tmp").mkdir(parents=True)
    os.environ["TMPDIR"] = str(folder / "daemon" / "tmp")  # what lies in it is counted
    world.produce(waves(0, HISTORY))
    with (
        Daemon(world, folder / "daemon" / "log", **SETTINGS) as daemon,
        GroupModels(settings_of(world, SETTINGS)) as models,
    ):
        start = add_model(world, SETTINGS, untrained(folder, settings_of(world, SETTINGS), 1))
        daemon.until_ready().until_caught_up()
        for at in range(cycles):
            step = HISTORY + 2 * LIVE * at
            cycle(world, models, daemon, step, start)
            seen = state(daemon, folder / "daemon")
            if at + 1 == min(SETTLED, cycles):
                first = seen
            if at % 5 == 4:
                print(f"cycle {at + 1}: {words(seen)}", flush=True)
        last = state(daemon, folder / "daemon")
        daemon.stop()
    return {"cycles": cycles, "first": first, "last": last}


def words(seen: dict[str, Any]) -> str:
    """One line."""
    return ", ".join(f"{name} {number:.0f}" for name, number in seen.items())


def main() -> None:
    """Print the figures, and write them to a file."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--cycles", type=int, default=50)
    parser.add_argument("--out", type=Path, default=Path("bench.json"))
    arguments = parser.parse_args()
    print("alone: python -m tests.benchmarks.learning_leak", flush=True)
    with EmbeddedKafka() as kafka, tempfile.TemporaryDirectory() as folder:
        found = measure(kafka, Path(folder), arguments.cycles)
    print(f"after {min(SETTLED, found['cycles'])} cycles: {words(found['first'])}")
    print(f"after {found['cycles']} cycles: {words(found['last'])}")
    write_figures(arguments.out, "learning_leak", found)


if __name__ == "__main__":
    main()
