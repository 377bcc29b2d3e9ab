"""What learning costs: throughput while windows are written, and a training run's seconds.

    python -m tests.benchmarks.learning_cost [--records 400000] [--runs 3] [--out bench.json]

One topic of 1,000 series on the embedded broker is read by the daemon's loop (LSTM of 64 units,
T = 16, H = 16), each time by a process and a group of its own: with every window written to the
windows topic, which is the most that learning asks of it, and without. What counts is the ratio
within one run. A training process then learns from the windows that were written.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any

from tests.benchmarks.served_loop import fill, measured, serve, settings_of, write_figures

TOPIC, SERIES = "learnt", 1_000
WORTH = 100_000
"""Windows that the cost of training is given for."""


def compare(bootstrap: str, records: int, run: int) -> dict[str, Any]:
    """With the windows topic and without, in turn."""
    found = {}
    for name in ("without", "with"):
        more = {"training": {"enabled": name == "with"}}
        group = f"{TOPIC}-{name}-{run}"
        found[name] = figures = measured(serve, bootstrap, TOPIC, records, group, more)
        written = figures["messages"].get(f"{group}-windows", {"per_record": 0, "bytes": 0})
        print(
            f"{name:>8} windows: {figures['records_per_s']:>7.0f} records/s, "
            f"{figures['cpu_us_per_record']:.1f} us CPU a record, "
            f"{written['per_record'] * records:.0f} windows of {written['bytes']} bytes",
            flush=True,
        )
    return found


def train(bootstrap: str, group: str) -> dict[str, Any]:
    """One training run on the windows of a group, in its process, beside nothing else."""
    from forecastd.clock import SystemClock
    from forecastd.patience import looks
    from forecastd.train.run_outcome import TrainingJob
    from forecastd.train.subprocess_trainer import TrainerProcess

    settings = settings_of(bootstrap, TOPIC, group, {})
    trainer = TrainerProcess(settings.training.timeout, SystemClock())
    started_s = time.monotonic()
    trainer.start(TrainingJob.of(settings))
    for _ in looks(3_600):
        if (outcome := trainer.poll()) is not None:
            break
    assert outcome is not None, "no end in an hour"
    assert outcome.status != "failed", outcome.reason
    return {
        "windows": outcome.windows,
        "seconds": outcome.seconds,
        "cpu_seconds": outcome.cpu_seconds,
        "epochs": len(outcome.facts["history"]),
        "seconds_per_100000": outcome.seconds / outcome.windows * WORTH,
        "cpu_seconds_per_100000": outcome.cpu_seconds / outcome.windows * WORTH,
        "with_its_start_s": time.monotonic() - started_s,
        "status": outcome.status,
        "reason": outcome.reason,
    }


def ratios(runs: Collection[dict[str, Any]]) -> dict[str, float]:
    """Medians over the runs, of with to without."""
    return {
        name: statistics.median(run["with"][name] / run["without"][name] for run in runs)
        for name in ("records_per_s", "cpu_us_per_record")
    }


def main() -> None:
    """Print the figures, and write them to a file."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--records", type=int, default=400_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("bench.json"))
    arguments = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from forecastd.demo.kafka_broker import EmbeddedKafka

    print("alone: python -m tests.benchmarks.learning_cost", flush=True)
    with EmbeddedKafka() as kafka:
        fill(kafka.bootstrap, TOPIC, arguments.records, SERIES)
        runs = [compare(kafka.bootstrap, arguments.records, run) for run in range(arguments.runs)]
        trained = train(kafka.bootstrap, f"{TOPIC}-with-0")
    ratio = ratios(runs)
    print(
        f"with windows to without: median ratio {ratio['records_per_s']:.2f}, CPU a record "
        f"{ratio['cpu_us_per_record']:.2f}"
    )
    print(
        f"training: {trained['windows']} windows, {trained['epochs']} epochs in "
        f"{trained['seconds']:.0f} s, {trained['cpu_seconds']:.0f} s CPU; for {WORTH} windows "
        f"{trained['seconds_per_100000']:.0f} s, {trained['cpu_seconds_per_100000']:.0f} s CPU"
    )
    print(f"training: {trained['status']}, {trained['reason']}")
    write_figures(arguments.out, "learning_cost", {"throughput": ratio, "training": trained})


if __name__ == "__main__":
    main()
