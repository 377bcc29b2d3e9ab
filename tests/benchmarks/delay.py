"""Delay from a record's timestamp to the acknowledgement of its forecast, at a steady rate.

    python -m tests.benchmarks.delay [--rate 1000] [--seconds 65] [--series 1000] [--model DIR]

The daemon runs as its own process on the embedded broker and serves an LSTM, with every phase of
the windows used (stride 4), so that each series forecasts at every fourth record. The figures are
the daemon's own (`/snapshot.json`), over the last minute: once for the start, while the broker's
code is still being compiled and the page has had no minute yet, and once for the steady state.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from kafka import KafkaProducer

from forecastd.demo.kafka_broker import EmbeddedKafka
from tests.end_to_end.daemons import Daemon, World

WARM_UP_S = 20


def untrained_model(path: Path) -> None:
    """A model of the default size: its numbers cost what a trained one's cost."""
    from forecastd.architecture import Architecture
    from forecastd.disk_models import save_model
    from forecastd.keras_network import KeyedNetwork
    from forecastd.settings import Settings

    architecture = Architecture.from_settings(Settings())
    save_model(path, architecture, KeyedNetwork(architecture, rows=1).weights(), "benchmark", {})


def records(series: int, partitions: int) -> Iterator[tuple[int, dict[str, object]]]:
    """(partition, record) of interleaved series, for ever."""
    at = 0
    while True:
        number = at % series
        yield number % partitions, {"series": f"s{number}", "value": at % 97 / 10}
        at += 1


def feed(world: World, source: Iterator[tuple[int, dict[str, object]]], rate: int, s: int) -> None:
    """Records at a steady rate, in slices of 10 ms."""
    producer = KafkaProducer(bootstrap_servers=world.bootstrap, linger_ms=0)
    started, sent = time.monotonic(), 0
    while sent < rate * s:
        due = min(int((time.monotonic() - started) * rate), rate * s)
        for _ in range(sent, due):
            partition, record = next(source)
            value = json.dumps(record | {"timestamp": time.time_ns() // 1_000_000}).encode()
            producer.send(world.records, partition=partition, value=value)
        sent = due
        time.sleep(0.01)  # noqa: TID251  # paces the load
    producer.flush()
    producer.close()


def main() -> None:
    """Print one line a phase."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rate", type=int, default=1_000)
    parser.add_argument("--seconds", type=int, default=65, help="of the steady state, over 60")
    parser.add_argument("--series", type=int, default=1_000)
    parser.add_argument("--model", type=Path, help="a model to serve; else an untrained one")
    arguments = parser.parse_args()
    with EmbeddedKafka() as kafka, tempfile.TemporaryDirectory() as folder:
        model = arguments.model or Path(folder) / "model"
        if arguments.model is None:
            untrained_model(model)
        world = World(kafka.bootstrap).create()
        source = records(arguments.series, world.partitions)
        settings = {"WINDOWS__STRIDE": "4", "MODELS__SERVE": str(model.resolve())}
        with Daemon(world, Path(folder) / "log", **settings) as daemon:
            daemon.until_ready()
            for phase, seconds in {"start": WARM_UP_S, "steady": arguments.seconds}.items():
                feed(world, source, arguments.rate, seconds)
                seen = json.loads(daemon.get("snapshot.json")[1])
                print(
                    f"{phase}: {arguments.rate} records/s over {arguments.series} series: delay "
                    f"p50 {seen['delay_p50_ms']:.1f} ms, p99 {seen['delay_p99_ms']:.1f} ms",
                    flush=True,
                )
            daemon.until_caught_up()
            daemon.stop()


if __name__ == "__main__":
    main()
