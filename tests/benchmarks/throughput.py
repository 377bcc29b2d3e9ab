"""Records a second, end to end, against a bare loop that does nothing but poll and send.

    python -m tests.benchmarks.throughput [--records N] [--series 1000 [100 ...]] [--out bench.json]

One topic of four partitions on the embedded broker is read three times, each time by a process of
its own and a group of its own: by the daemon's loop (LSTM of 64 units, T = 16, H = 16), by
kafka-python alone, and by the bare loop, which polls and sends as many messages of the same sizes
as the daemon did, flushed and checked per poll. What counts is the ratio within one run: the
machine's speed drops out of it.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from typing import Any

from tests.benchmarks.served_loop import create_topic, fill, measured, serve, write_figures

RUNS = 3


def bare(
    bootstrap: str, topic: str, records: int, run: int, messages: list[tuple[float, int]]
) -> dict[str, Any]:
    """kafka-python polls, and sends `messages` (per record, of so many bytes), and nothing else."""
    from kafka import KafkaConsumer, KafkaProducer

    from forecastd.settings import Settings

    out = f"{topic}-bare-{len(messages)}-{run}"
    if messages:
        create_topic(bootstrap, out)
    consumer = KafkaConsumer(
        topic,
        bootstrap_servers=bootstrap,
        group_id=f"{topic}-bare-{len(messages)}-{run}",
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        max_poll_records=Settings().ingest.poll_records,
        max_partition_fetch_bytes=4 * 1024 * 1024,
    )
    producer = KafkaProducer(bootstrap_servers=bootstrap, linger_ms=5, batch_size=256 * 1024)
    keys = [b"s%06d" % number for number in range(1000)]
    taken, owed = 0, [0.0] * len(messages)
    started = None
    while taken < records:
        polled = consumer.poll(timeout_ms=500)
        started = started or (time.perf_counter() if polled else None)
        count = sum(map(len, polled.values()))
        taken += count
        futures: list[Any] = []
        for at, (share, size) in enumerate(messages):
            owed[at] += share * count
            while owed[at] >= 1:
                owed[at] -= 1
                futures.append(producer.send(out, key=keys[len(futures) % 1000], value=b"x" * size))
        if futures:
            producer.flush(timeout=30)
            for future in futures:
                future.get(timeout=0)
    assert started is not None
    seconds = time.perf_counter() - started
    consumer.close()
    producer.close()
    return {"records_per_s": records / seconds}


def compare(bootstrap: str, records: int, series: int) -> dict[str, Any]:
    """One daemon, one bare loop and one bare poll, in turn, `RUNS` times; medians."""
    topic = f"bench-{series}"
    fill(bootstrap, topic, records, series)
    runs = []
    for run in range(RUNS):
        daemon = measured(serve, bootstrap, topic, records, f"{topic}-daemon-{run}", {})
        messages = [(of["per_record"], of["bytes"]) for of in daemon["messages"].values()]
        other = measured(bare, bootstrap, topic, records, run, messages)
        poll = measured(bare, bootstrap, topic, records, run, [])
        daemon["bare_records_per_s"] = other["records_per_s"]
        daemon["poll_records_per_s"] = poll["records_per_s"]
        daemon["ratio"] = daemon["records_per_s"] / other["records_per_s"]
        daemon["ratio_to_poll"] = daemon["records_per_s"] / poll["records_per_s"]
        runs.append(daemon)
        print(
            f"{series:>7} series: {daemon['records_per_s']:>8.0f} records/s, "
            f"bare {other['records_per_s']:>8.0f}, ratio {daemon['ratio']:.2f}, "
            f"to polling alone {daemon['ratio_to_poll']:.2f}, "
            f"{daemon['cpu_us_per_record']:.1f} us CPU a record, {daemon['max_rss_mb']:.0f} MB",
            flush=True,
        )
    runs.sort(key=lambda one: one["ratio"])
    return runs[len(runs) // 2]


def main() -> None:
    """Print the figures, and write them to a file."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--records", type=int, default=400_000)
    parser.add_argument("--series", type=int, nargs="+", default=[1_000, 100, 10_000, 100_000])
    parser.add_argument("--out", type=Path, default=Path("bench.json"))
    arguments = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from forecastd.demo.kafka_broker import EmbeddedKafka

    print("alone: python -m tests.benchmarks.throughput", flush=True)
    results = {}
    with EmbeddedKafka() as kafka:
        for series in arguments.series:
            results[str(series)] = compare(kafka.bootstrap, arguments.records, series)
    for series, result in results.items():
        stages = result["stage_cpu_us_per_record"]
        split = ", ".join(f"{stage} {us:.1f}" for stage, us in stages.items())
        print(
            f"{series:>7} series, median run: ratio {result['ratio']:.2f}; CPU us a record: {split}"
        )
        columns = result["bytes_by_column"]
        split = ", ".join(f"{name} {size}" for name, size in columns.items() if size >= 16)
        print(f"{series:>7} series: {sum(columns.values())} bytes each: {split}")
    write_figures(arguments.out, "throughput", results)


if __name__ == "__main__":
    main()
