"""Rows a second of a restore, against a bare read of the same topic by kafka-python.

    python -m tests.benchmarks.restore [--series 100000] [--runs 5] [--out bench.json]

A state topic of four partitions on the embedded broker gets one row a series, made by the row codec
(LSTM of 64 units, T = 16, H = 16). It is read in turn by the daemon's loop, from the assignment to
the last partition that is served, and by a consumer that polls to the end and drops what it reads.
Each has a process of its own; what counts is the ratio within one run. One more restore is timed by
part, which is where its own cost can be seen.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tests.benchmarks.served_loop import (
    PARTITIONS,
    create_topic,
    is_serving,
    measured,
    model_of,
    open_loop,
    settings_of,
    write_figures,
)

TOPIC, GROUP = "restored", "bench-restore"
CHUNK = 5_000


class Nobody:
    """Hears no event."""

    def emit(self, event: object) -> None:
        pass


class Timed:
    """Stands before a part, adds up the seconds that its methods take, and knows its first call."""

    def __init__(self, part: Any, name: str, seconds: dict[str, float]) -> None:
        self._part, self._name, self._seconds = part, name, seconds
        self.began = 0.0

    def __getitem__(self, column: str) -> Any:
        return self._part[column]

    def __getattr__(self, method: str) -> Any:
        call = getattr(self._part, method)
        if not callable(call):
            return call
        seconds, name = self._seconds, f"{self._name}.{method}"

        def timed(*arguments: Any, **named: Any) -> Any:
            started = time.perf_counter()
            self.began = self.began or started
            try:
                return call(*arguments, **named)
            finally:
                seconds[name] = seconds.get(name, 0.0) + time.perf_counter() - started

        return timed


def rows(settings: Any, series: int) -> Iterator[tuple[int, bytes, bytes]]:
    """(partition, key, row) of series whose cells are random and whose last record is offset 0."""
    from forecastd.records import TopicPartition
    from forecastd.state.row_codec import RowCodec, row_meaning
    from forecastd.state.row_key import encode_key
    from forecastd.wiring import build_table

    rng = np.random.default_rng(0)
    table = build_table(settings, model_of(settings))
    codec = RowCodec(table, row_meaning(settings.windows.timesteps, settings.ingest.values))
    for first in range(0, series, CHUNK):
        names = [f"s{number:06d}" for number in range(first, min(first + CHUNK, series))]
        slots = table.admit(TopicPartition(TOPIC, 0), names)
        for column in table.columns:
            cells = rng.random((len(names), *column.shape)) * 100
            table.write(column.name, slots, cells.astype(column.dtype))
        table["offset"][slots] = 0
        for at, (name, row) in enumerate(zip(names, codec.encode(slots), strict=True)):
            yield (first + at) % PARTITIONS, encode_key(name, "0badcafe"), row
        table.drop(slots)


def fill(bootstrap: str, series: int) -> dict[str, Any]:
    """The rows, one input record a partition, and the commit behind it; what a row takes."""
    from kafka import KafkaConsumer, KafkaProducer

    from forecastd.kafka_offsets import kafka_offsets
    from forecastd.kafka_topics import TopicAdmin
    from forecastd.records import Committed, TopicPartition

    settings = settings_of(bootstrap, TOPIC, GROUP, {})
    create_topic(bootstrap, TOPIC)
    with TopicAdmin(settings.kafka) as admin:
        admin.ensure_topics(settings)
    state, size = settings.state_topic(TOPIC), 0
    producer = KafkaProducer(bootstrap_servers=bootstrap, linger_ms=20, batch_size=256 * 1024)
    for partition, key, row in rows(settings, series):
        producer.send(state, key=key, value=row, partition=partition)
        size += len(key) + len(row)
    for partition in range(PARTITIONS):
        producer.send(TOPIC, value=b"[]", partition=partition)
    producer.flush()
    producer.close()
    commits = {TopicPartition(TOPIC, at): Committed(1, 1) for at in range(PARTITIONS)}
    consumer = KafkaConsumer(bootstrap_servers=bootstrap, group_id=GROUP, enable_auto_commit=False)
    offsets = kafka_offsets(commits)
    consumer.assign(list(offsets))
    consumer.commit(offsets)
    consumer.close()
    return {"state_topic": state, "row_bytes": size / series}


def restore(bootstrap: str, series: int, by_part: bool) -> dict[str, Any]:  # noqa: FBT001  # pool
    """The daemon's loop, from the assignment to the last partition that is served."""
    loop, _ = open_loop(settings_of(bootstrap, TOPIC, GROUP, {}), Nobody())
    restorer: Any = loop.restorer
    seconds: dict[str, float] = {}
    for name in ("reader", "codec", "table", "saver") if by_part else ("reader",):
        setattr(restorer, name, Timed(getattr(restorer, name), name, seconds))
    cpu = time.process_time()
    while not is_serving(loop):
        loop.run_once()
    took = time.perf_counter() - restorer.reader.began
    cpu = time.process_time() - cpu
    assert len(loop.table) == series, f"{len(loop.table)} series restored, wanted {series}"
    loop.close(5)
    rest = took - sum(seconds.values())
    parts = {name: part / series * 1e6 for name, part in {**seconds, "rest": rest}.items()}
    return {"rows_per_s": series / took, "cpu_us_per_row": cpu / series * 1e6, "us_per_row": parts}


def bare(bootstrap: str, state_topic: str, series: int) -> dict[str, Any]:
    """kafka-python reads all partitions to their end, as fast as it can."""
    from kafka import KafkaConsumer, TopicPartition

    consumer = KafkaConsumer(
        bootstrap_servers=bootstrap,
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
        max_poll_records=5_000,
        fetch_max_bytes=16 * 1024 * 1024,
        max_partition_fetch_bytes=16 * 1024 * 1024,
    )
    partitions = [TopicPartition(state_topic, at) for at in range(PARTITIONS)]
    consumer.assign(partitions)
    consumer.seek_to_beginning(*partitions)
    started, cpu = time.perf_counter(), time.process_time()
    read = 0
    while read < series:
        read += sum(map(len, consumer.poll(timeout_ms=500).values()))
    took, cpu = time.perf_counter() - started, time.process_time() - cpu
    consumer.close()
    return {"rows_per_s": read / took, "cpu_us_per_row": cpu / series * 1e6}


def compare(bootstrap: str, series: int, runs: int) -> dict[str, Any]:
    """Both in turn, `runs` times; the median run."""
    filled = measured(fill, bootstrap, series)
    print(f"{series} rows of {filled['row_bytes']:.0f} bytes with their key", flush=True)
    measured(bare, bootstrap, filled["state_topic"], series)  # so that the broker is warm for both
    seen = []
    for _ in range(runs):
        run = measured(restore, bootstrap, series, False)  # noqa: FBT003  # pool
        other = measured(bare, bootstrap, filled["state_topic"], series)
        run["bare_rows_per_s"] = other["rows_per_s"]
        run["ratio"] = run["rows_per_s"] / other["rows_per_s"]
        seen.append(run)
        print(
            f"restore {run['rows_per_s']:.0f} rows/s, bare read {other['rows_per_s']:.0f}, "
            f"ratio {run['ratio']:.2f}; CPU us a row {run['cpu_us_per_row']:.1f} and "
            f"{other['cpu_us_per_row']:.1f}",
            flush=True,
        )
    seen.sort(key=lambda one: one["ratio"])
    parts = measured(restore, bootstrap, series, True)["us_per_row"]  # noqa: FBT003  # pool
    return {**seen[len(seen) // 2], "row_bytes": filled["row_bytes"], "us_per_row": parts}


def main() -> None:
    """Print the figures, and write them to a file."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--series", type=int, default=100_000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("bench.json"))
    arguments = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from forecastd.demo.kafka_broker import EmbeddedKafka

    print("alone: python -m tests.benchmarks.restore", flush=True)
    with EmbeddedKafka() as kafka:
        result = compare(kafka.bootstrap, arguments.series, arguments.runs)
    print(f"median ratio {result['ratio']:.2f}, aim 0.5")
    parts = sorted(result["us_per_row"].items(), key=lambda part: -part[1])
    print("wall us a row: " + ", ".join(f"{name} {us:.1f}" for name, us in parts))
    write_figures(arguments.out, "restore", result)


if __name__ == "__main__":
    main()
