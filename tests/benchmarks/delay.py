"""Delay from a record's timestamp to the acknowledgement of its forecast, at a steady rate.

    python -m tests.benchmarks.delay [--rate 1000] [--seconds 30] [--series 1000] [--model DIR]

The daemon runs as its own process on the embedded broker, with every phase of the windows used
(stride 4), so that each series forecasts at every fourth record. The figures are the daemon's own
(`/snapshot.json`), over the last minute.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

from kafka import KafkaProducer

from forecastd.demo.kafka_broker import EmbeddedKafka
from tests.end_to_end.daemons import Daemon, World


def feed(world: World, rate: int, seconds: int, series: int) -> None:
    """Records at a steady rate, in slices of 10 ms."""
    producer = KafkaProducer(bootstrap_servers=world.bootstrap, linger_ms=0)
    started, sent = time.monotonic(), 0
    while sent < rate * seconds:
        due = min(int((time.monotonic() - started) * rate), rate * seconds)
        for at in range(sent, due):
            number = at % series
            text = {"series": f"s{number}", "timestamp": time.time_ns() // 1_000_000}
            value = json.dumps(text | {"value": at % 97 / 10}).encode()
            producer.send(world.records, partition=number % world.partitions, value=value)
        sent = due
        time.sleep(0.01)
    producer.flush()
    producer.close()


def main() -> None:
    """Print one line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rate", type=int, default=1_000)
    parser.add_argument("--seconds", type=int, default=30)
    parser.add_argument("--series", type=int, default=1_000)
    parser.add_argument("--model", type=Path, help="a model to serve; none: the baseline")
    arguments = parser.parse_args()
    more = {"MODELS__SERVE": str(arguments.model.resolve())} if arguments.model else {}
    with EmbeddedKafka() as kafka, tempfile.TemporaryDirectory() as folder:
        world = World(kafka.bootstrap).create()
        with Daemon(world, Path(folder) / "log", WINDOWS__STRIDE="4", **more) as daemon:
            daemon.until_ready()
            feed(world, arguments.rate, arguments.seconds, arguments.series)
            daemon.until_caught_up()
            seen = json.loads(daemon.get("snapshot.json")[1])
            daemon.stop()
    print(
        f"{arguments.rate} records/s over {arguments.series} series: delay p50 "
        f"{seen['delay_p50_ms']:.1f} ms, p99 {seen['delay_p99_ms']:.1f} ms "
        f"({seen['forecasts_total']} forecasts)"
    )


if __name__ == "__main__":
    main()
