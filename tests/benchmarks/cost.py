"""What state costs: throughput by how it is saved, bytes of a row, memory of a series.

    python -m tests.benchmarks.cost [--records 400000] [--runs 3] [--out bench.json]

One topic of 1,000 series on the embedded broker is read by the daemon's loop (LSTM of 64 units,
T = 16, H = 16), each time by a process and a group of its own: without rows, with the default
`state.row_every`, with a row at every window, and with `delivery = "exactly_once"`. What counts are
the ratios within one run. Memory is that of a process that is fed series by series through the same
loop over an input in memory, less what it takes with the first of them.
"""

from __future__ import annotations

import argparse
import gc
import os
import time
from pathlib import Path
from typing import Any

import numpy as np

from tests.benchmarks.served_loop import (
    StageSums,
    fill,
    measured,
    model_of,
    serve,
    settings_of,
    write_figures,
)

NEVER = 10**9
WAYS: dict[str, dict[str, Any]] = {
    "without rows": {"state": {"row_every": NEVER, "max_replay": NEVER}},
    "default": {},
    "row at every window": {"state": {"row_every": 1}},
    "exactly once": {"delivery": "exactly_once"},
}
RATIOS = {
    "default": "without rows",
    "row at every window": "without rows",
    "exactly once": "default",
}
CHUNK = 500
STEPS = 33  # two windows, the second of which is scored against the first's forecast


class Nowhere:
    """A delivery that commits and forgets the messages."""

    def __init__(self, source: Any) -> None:
        self._source = source

    def deliver(self, turn: Any, _stopwatch: Any) -> None:
        self._source.commit(turn.commits)

    def close(self, timeout_s: float) -> None:
        pass


def throughput(bootstrap: str, records: int, runs: int) -> dict[str, Any]:
    """Every way in turn, `runs` times; the median ratios, and records a second of the last run."""
    topic = "cost"
    fill(bootstrap, topic, records, 1_000)
    ratios: dict[str, list[float]] = {way: [] for way in RATIOS}
    found: dict[str, Any] = {}
    for run in range(runs):
        for number, (way, settings) in enumerate(WAYS.items()):
            group = f"cost-{run}-{number}"
            found[way] = figures = measured(serve, bootstrap, topic, records, group, settings)
            saved = figures["messages"].get(f"{group}-{topic}-state", {"per_record": 0, "bytes": 0})
            print(
                f"{way:>20}: {figures['records_per_s']:>7.0f} records/s, "
                f"{figures['cpu_us_per_record']:.1f} us CPU a record, "
                f"{saved['per_record'] * records:.0f} rows of {saved['bytes']} bytes",
                flush=True,
            )
        for way, reference in RATIOS.items():
            ratio = found[way]["records_per_s"] / found[reference]["records_per_s"]
            ratios[way].append(ratio)
    return {
        "records_per_s": {way: figures["records_per_s"] for way, figures in found.items()},
        "cpu_us_per_record": {way: figures["cpu_us_per_record"] for way, figures in found.items()},
        "ratio": {way: float(np.median(seen)) for way, seen in ratios.items()},
    }


def memory(sizes: list[int]) -> dict[str, Any]:
    """Resident bytes a series at so many series, and the bytes of a row by column."""
    from forecastd.clock import SystemClock
    from forecastd.memory.log import MemoryBroker, MemoryRowReader, MemorySource
    from forecastd.records import TopicPartition
    from forecastd.wiring import Ends, build_loop

    settings = settings_of("unused:9092", "cost", "cost", {})
    partition, broker = TopicPartition("cost", 0), MemoryBroker()
    source = MemorySource(broker, CHUNK)
    ends = Ends(source, Nowhere(source), MemoryRowReader(broker, "cost-{}-state"), 2**20)
    loop = build_loop(settings, ends, model_of(settings), StageSums(), SystemClock())
    broker.records[partition] = []
    gc.collect()
    gc.freeze()  # as the daemon does
    start_ms = int(time.time() * 1000) - 3_600_000
    seen: dict[int, int] = {}
    for first in range(0, max(sizes), CHUNK):
        for name in range(first, first + CHUNK):
            broker.append(partition, _record(f"s{name:06d}", start_ms), start_ms)
        end = broker.end(partition)
        while partition not in loop.served or loop.served[partition].position < end:
            loop.run_once()
        broker.delete_below(partition, end)
        if first == 0 or first + CHUNK in sizes:
            seen[first + CHUNK] = resident_bytes()
    assert len(loop.table) == max(sizes), "a series was lost"
    base = seen.pop(CHUNK)
    return {
        "resident_bytes": {size: (seen[size] - base) / (size - CHUNK) for size in sizes},
        "table_bytes": loop.table.bytes_by_column(),
        "row_bytes": row_bytes(loop),
    }


def _record(series: str, start_ms: int) -> bytes:
    steps = ",".join(
        f'{{"series":"{series}","timestamp":{start_ms + at * 1000},"value":{at % 7 + 0.5}}}'
        for at in range(STEPS)
    )
    return f"[{steps}]".encode()


def row_bytes(loop: Any) -> dict[str, int]:
    """Bytes of a row by column; `frame` is its head and the layout that describes the columns."""
    columns = {
        column.name: int(np.dtype(column.dtype).itemsize * np.prod(column.shape, dtype=np.int64))
        for column in loop.table.columns
        if column.saved
    }
    return {**columns, "frame": loop.saver.codec.row_bytes - sum(columns.values())}


def resident_bytes() -> int:
    """Of this process, now; Linux."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def listed(sizes: dict[str, int]) -> str:
    """The sum and the largest parts."""
    largest = sorted(sizes.items(), key=lambda part: -part[1])
    return f"{sum(sizes.values())}: " + ", ".join(f"{name} {n}" for name, n in largest if n >= 16)


def main() -> None:
    """Print the figures, and write them to a file."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--records", type=int, default=400_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--series", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--out", type=Path, default=Path("bench.json"))
    arguments = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from forecastd.demo.kafka_broker import EmbeddedKafka

    print("alone: python -m tests.benchmarks.cost", flush=True)
    sizes = measured(memory, arguments.series)
    print(f"bytes of a row {listed(sizes['row_bytes'])}")
    print(f"bytes of a series in the table {listed(sizes['table_bytes'])}")
    for series, size in sizes["resident_bytes"].items():
        print(f"{series} series: {size:.0f} bytes resident each, aim 3072", flush=True)
    result = {"memory": sizes}
    if arguments.runs:
        with EmbeddedKafka() as kafka:
            result["throughput"] = throughput(kafka.bootstrap, arguments.records, arguments.runs)
        for way, reference in RATIOS.items():
            ratio = result["throughput"]["ratio"][way]
            print(f"{way} to {reference}: median ratio {ratio:.2f}")
        print("aim of default to without rows: 0.9")
    write_figures(arguments.out, "cost", result)


if __name__ == "__main__":
    main()
