"""What learning does to the delay of forecasts: a training run in progress, a swap, and neither.

    python -m tests.benchmarks.learning_stalls [--rate 1000] [--series 10000] [--out bench.json]

One daemon on the embedded broker serves an LSTM of the default size, with every phase of the
windows used (stride 4), and is fed at a steady rate. For a minute it does no more than that; for
the next it serves other weights, through which every series' memory is built anew; then for a
minute a training process works beside it that would not end by itself, and takes ten times
`kafka.max_poll_interval`. Delays are the daemon's own (`/snapshot.json`), over each of these
minutes. What counts are the ratios: the machine's speed drops out of them.
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from forecastd.demo.kafka_broker import EmbeddedKafka
from tests.benchmarks.delay import feed, records
from tests.benchmarks.served_loop import write_figures
from tests.end_to_end.daemons import Daemon, World
from tests.end_to_end.learning import add_model, operate, settings_of, trainers_of, untrained

WARM_UP_S, PHASE_S = 20, 65
HISTORY = 34
"""Records of each series before the start: two windows to learn from, and a remainder."""

SETTINGS = {
    "WINDOWS__STRIDE": "4",
    "KAFKA__REQUEST_TIMEOUT": "5s",
    "KAFKA__DELIVERY_TIMEOUT": "5500ms",
    "KAFKA__MAX_POLL_INTERVAL": "6s",
    "TRAINING__ENABLED": "true",
    "TRAINING__MIN_WINDOWS": "1000",
    "TRAINING__EPOCHS": "1000000",
    "TRAINING__PATIENCE": "1000000",
}


def fill(world: World, source: Iterator[tuple[int, dict[str, object]]], count: int) -> None:
    """The series' past, up to now."""
    start_ms = time.time_ns() // 1_000_000 - count
    world.produce(
        (partition, None, json.dumps(record | {"timestamp": start_ms + at}).encode())
        for at, (partition, record) in enumerate(islice(source, count))
    )


def metric(daemon: Daemon, name: str) -> float:
    """The sum of a metric's samples."""
    text = daemon.get("metrics")[1]
    found = re.findall(rf"^{name}(?:{{.*}})? (\S+)$", text, re.MULTILINE)
    return sum(map(float, found))


def phase(
    daemon: Daemon,
    world: World,
    source: Iterator[tuple[int, dict[str, object]]],
    rate: int,
    name: str,
) -> dict[str, Any]:
    """Feed for a little more than a minute; what the last minute was like."""
    rebalances, trained = metric(daemon, "forecastd_rebalances_total"), trained_s(daemon)
    feed(world, source, rate, PHASE_S)
    seen = json.loads(daemon.get("snapshot.json")[1])
    figures = {
        "p50_ms": seen["delay_p50_ms"],
        "p99_ms": seen["delay_p99_ms"],
        "lag": seen["lag_records"],
        "rebalances": metric(daemon, "forecastd_rebalances_total") - rebalances,
        "trainer_cpu_s": trained_s(daemon) - trained,
    }
    print(
        f"{name:>9}: delay p50 {figures['p50_ms']:.1f} ms, p99 {figures['p99_ms']:.1f} ms, lag "
        f"{figures['lag']} records, {figures['rebalances']:.0f} rebalances, training process "
        f"{figures['trainer_cpu_s']:.0f} s CPU",
        flush=True,
    )
    return figures


def trained_s(daemon: Daemon) -> float:
    """CPU seconds of the training process that runs."""
    times = [trainer.cpu_times() for trainer in trainers_of(daemon.process.pid)]
    return sum(time.user + time.system for time in times)


def measure(kafka: EmbeddedKafka, folder: Path, rate: int, series: int) -> dict[str, Any]:
    """The three minutes, in turn."""
    world = World(kafka.bootstrap).create()
    source = records(series, world.partitions)
    fill(world, source, HISTORY * series)
    versions, found = serve_first(world, folder), {}
    with Daemon(world, folder / "log", **SETTINGS) as daemon:
        daemon.until_ready().until_caught_up()
        feed(world, source, rate, WARM_UP_S)
        found["neither"] = phase(daemon, world, source, rate, "neither")
        operate(world, SETTINGS, "promote", versions[1])
        found["swap"] = phase(daemon, world, source, rate, "swap")
        operate(world, SETTINGS, "release")
        daemon.until(lambda: trainers_of(daemon.process.pid), "training process")
        found["training"] = phase(daemon, world, source, rate, "training")
        assert trainers_of(daemon.process.pid), "the run was to last"
        daemon.stop()
    return found


def serve_first(world: World, folder: Path) -> list[str]:
    """Add two models, and let the first serve; nothing is trained until it is released."""
    shape = settings_of(world, SETTINGS)
    versions = [add_model(world, SETTINGS, untrained(folder, shape, seed)) for seed in (1, 2)]
    operate(world, SETTINGS, "promote", versions[0])
    return versions


def main() -> None:
    """Print one line a minute and the ratios, and write them to a file."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rate", type=int, default=1_000)
    parser.add_argument("--series", type=int, default=10_000)
    parser.add_argument("--out", type=Path, default=Path("bench.json"))
    arguments = parser.parse_args()
    print("alone: python -m tests.benchmarks.learning_stalls", flush=True)
    with EmbeddedKafka() as kafka, tempfile.TemporaryDirectory() as folder:
        found = measure(kafka, Path(folder), arguments.rate, arguments.series)
    for name in ("training", "swap"):
        found[name]["p99_ratio"] = found[name]["p99_ms"] / found["neither"]["p99_ms"]
        print(f"{name:>9}: p99 {found[name]['p99_ratio']:.2f} of neither's, aim at most 3")
    write_figures(arguments.out, "learning_stalls", found)


if __name__ == "__main__":
    main()
