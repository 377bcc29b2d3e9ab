"""The daemon's own loop over its own clients, in a process of its own: what benchmarks measure.

One topic is filled once and read by as many groups as there are things to compare. The model has
the default size and is untrained: its numbers cost what a trained one's cost.
"""

from __future__ import annotations

import gc
import json
import multiprocessing
import resource
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from forecastd.clock import SystemClock
from forecastd.forecast.model import Model
from forecastd.kafka_topics import TopicAdmin
from forecastd.loop import Loop
from forecastd.observe.events import Event, StageTimed
from forecastd.settings import Settings
from forecastd.train.window_buffer import WindowBuffer

PARTITIONS = 4

Sections = Mapping[str, Any]
"""Settings by section, as a settings file has them."""


def create_topic(bootstrap: str, topic: str) -> None:
    """A topic of `PARTITIONS` partitions."""
    from kafka import KafkaAdminClient

    admin = KafkaAdminClient(bootstrap_servers=bootstrap)
    admin.create_topics({topic: {"num_partitions": PARTITIONS, "replication_factor": 1}})
    admin.wait_for_topics([topic], 10_000)
    admin.close()


def fill(bootstrap: str, topic: str, records: int, series: int) -> None:
    """Records of `series` interleaved series, about 65 bytes each."""
    from kafka import KafkaProducer

    create_topic(bootstrap, topic)
    producer = KafkaProducer(bootstrap_servers=bootstrap, linger_ms=20, batch_size=256 * 1024)
    start_ms = int(time.time() * 1000) - 10 * records
    for at in range(records):
        name = f"s{at % series:06d}"
        value = 50 + 10 * ((at // series) % 24) / 24 + (at * 7919 % 1000) / 1000
        text = f'{{"series":"{name}","timestamp":{start_ms + at},"value":{value:.3f}}}'
        producer.send(topic, key=name.encode(), value=text.encode())
    producer.flush()
    producer.close()


def settings_of(bootstrap: str, topic: str, group: str, more: Sections) -> Settings:
    """A group of its own, with output topics of its own, that reads `topic`."""
    more = dict(more)
    own = {
        "kafka": {"bootstrap_servers": bootstrap, "group_id": group, **more.pop("kafka", {})},
        "ingest": {"topics": [topic], "dead_letter_topic": f"{group}-dead"},
        "publish": {"topic": f"{group}-forecasts"},
    }
    return Settings.model_validate({**own, **more})


def model_of(settings: Settings) -> Model:
    """An untrained model of the size that the settings say."""
    from forecastd.architecture import Architecture
    from forecastd.forecast.forecaster import ServedModel
    from forecastd.keras_network import KeyedNetwork

    architecture = Architecture.from_settings(settings)
    network = KeyedNetwork(architecture, rows=64)
    network.warm_up()
    served = ServedModel(network, "0-bench", architecture.quantiles, 1, "series", "last")
    states = [
        (layer, part, cell.units)
        for layer, cell in enumerate(architecture.cells)
        for part in cell.state_parts
    ]
    return Model(served, architecture.describe(), network, states)


class StageSums:
    """CPU and wall seconds by stage."""

    def __init__(self) -> None:
        self.cpu: dict[str, float] = {}
        self.wall: dict[str, float] = {}

    def emit(self, event: Event) -> None:
        if isinstance(event, StageTimed):
            self.cpu[event.stage] = self.cpu.get(event.stage, 0) + event.cpu_seconds
            self.wall[event.stage] = self.wall.get(event.stage, 0) + event.seconds


class Counting:
    """A delivery that counts what goes through it, by topic: messages and bytes."""

    def __init__(self, delivery: Any) -> None:
        self.topics: dict[str, tuple[int, int]] = {}
        self._delivery = delivery

    def deliver(self, turn: Any, stopwatch: Any) -> None:
        for message in (*turn.published, *turn.rows, *turn.windows):
            count, size = self.topics.get(message.topic, (0, 0))
            self.topics[message.topic] = (count + 1, size + len(message.value or b""))
        self._delivery.deliver(turn, stopwatch)

    def close(self, timeout_s: float) -> None:
        self._delivery.close(timeout_s)


class Writing:
    """A learner that writes what is to be learnt from, and nothing more."""

    needs_network = False

    def __init__(self, buffer: WindowBuffer) -> None:
        self.finished = buffer.finished

    def step(self, served: Any) -> None:
        pass


def open_loop(settings: Settings, telemetry: Any) -> tuple[Loop, Counting]:
    """The loop of a daemon that has yet to join its group, and what counts its messages."""
    from forecastd.watchdog import Watchdog
    from forecastd.wiring import Ends, build_loop, kafka_ends, window_buffer

    with TopicAdmin(settings.kafka) as admin:
        admin.ensure_topics(settings)
    clock = SystemClock()
    model = model_of(settings)
    ends = kafka_ends(settings, 2**20, Watchdog(print), telemetry, clock)
    sent = Counting(ends.delivery)
    loop = build_loop(settings, Ends(ends.source, sent, ends.rows, 2**20), model, telemetry, clock)
    if buffer := window_buffer(settings, loop.table, telemetry):
        loop.learner = Writing(buffer)
    gc.collect()
    gc.freeze()  # as the daemon does
    return loop, sent


def is_serving(loop: Loop) -> bool:
    """Whether every partition is restored."""
    return len(loop.served) == PARTITIONS and not loop.restorer.is_busy


def serve(bootstrap: str, topic: str, records: int, group: str, more: Sections) -> dict[str, Any]:
    """Read a topic from its beginning to its end; figures of all but the first poll."""
    sums = StageSums()
    loop, sent = open_loop(settings_of(bootstrap, topic, group, more), sums)
    while not is_serving(loop):
        loop.run_once()
    taken = sum(at.position for at in loop.served.values())
    sums.cpu.clear()
    sums.wall.clear()
    sent.topics.clear()
    started, cpu = time.perf_counter(), time.process_time()
    first = taken
    while taken < records:
        loop.run_once()
        # Markers of transactions take offsets in the output topics, not in this one.
        taken = sum(at.position for at in loop.served.values())
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    counted = records - first
    loop.close(5)
    return {
        "records_per_s": counted / seconds,
        "cpu_us_per_record": cpu / counted * 1e6,
        "stage_cpu_us_per_record": {s: v / counted * 1e6 for s, v in sums.cpu.items()},
        "stage_wall_us_per_record": {s: v / counted * 1e6 for s, v in sums.wall.items()},
        "messages": {
            topic: {"per_record": count / counted, "bytes": size // count}
            for topic, (count, size) in sent.topics.items()
        },
        "max_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "bytes_by_column": loop.table.bytes_by_column(),
    }


def measured(work: Any, *arguments: Any) -> dict[str, Any]:
    """Run in a process of its own."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        result: dict[str, Any] = pool.apply(work, arguments)
        return result


def write_figures(path: Path, benchmark: str, figures: Mapping[str, Any]) -> None:
    """Put a benchmark's figures into a file beside those of the others."""
    known = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**known, benchmark: figures}, indent=1))
