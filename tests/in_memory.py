"""The daemon in memory: a broker, a loop and what came out. No Kafka, no TensorFlow, no clock."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

import numpy as np

from forecastd.clock import ManualClock
from forecastd.forecast.forecaster import ServedModel
from forecastd.forecast.model import Model
from forecastd.loop import Loop
from forecastd.memory.log import MemoryBroker, MemoryRowReader, MemorySink, MemorySource
from forecastd.memory.network import MemoryNetwork
from forecastd.observe import events
from forecastd.observe.events import Event
from forecastd.ports import Learner
from forecastd.publish.at_least_once import AtLeastOnce
from forecastd.records import Floats, TopicPartition
from forecastd.settings import Settings
from forecastd.wiring import Ends, build_loop

START_MS = 1_700_000_000_000
P0, P1 = TopicPartition("records", 0), TopicPartition("records", 1)
STATE_TOPIC = "forecastd-records-state"

Heard = TypeVar("Heard", bound=Event)


@dataclass
class Telemetry:
    """Keeps what it is told."""

    events: list[Event] = field(default_factory=list)

    def emit(self, event: Event) -> None:
        self.events.append(event)

    def heard(self, kind: type[Heard]) -> list[Heard]:
        """The events of one kind."""
        return [event for event in self.events if isinstance(event, kind)]


class Obs(NamedTuple):
    """One observation, before it is JSON."""

    series: str
    at_ms: int
    values: tuple[float, ...]


def fields(count: int) -> tuple[str, ...]:
    """Names of the values of an observation."""
    return ("value",) if count == 1 else tuple(f"v{number}" for number in range(count))


def encode(observations: Iterable[Obs]) -> bytes:
    """A record's value: one object, or an array of several."""
    objects = [
        {"series": series, "timestamp": at_ms, **dict(zip(fields(len(v)), v, strict=True))}
        for series, at_ms, v in observations
    ]
    return json.dumps(objects[0] if len(objects) == 1 else objects).encode()


def feed(
    records: int = 300,
    *,
    series: int = 4,
    features: int = 1,
    seed: int = 0,
    broken: float = 0.05,
    late: float = 0.1,
    start_ms: int = START_MS,
) -> MemoryBroker:
    """Records of two partitions with whatever can happen.

    Several observations a record, of several series, out of order, at equal times; bad records,
    tombstones, markers of transactions, and a flat series.
    """
    rng, broker, now = np.random.default_rng(seed), MemoryBroker(), start_ms
    for _ in range(records):
        partition = P0 if rng.random() < 0.6 else P1
        now += int(rng.integers(1, 40)) * 250
        observations = []
        for place in range(1 if rng.random() < 0.7 else int(rng.integers(2, 12))):
            name = int(rng.integers(series) if rng.random() < 0.7 else 0)
            at_ms = now + 100 * place
            if rng.random() < late:
                at_ms -= int(rng.integers(0, 12)) * 250
            noise = rng.normal(size=features) * (name != 1)
            values = 10.0**name * (np.sin(at_ms / 20_000 + np.arange(features)) + noise / 4)
            observations.append(Obs(f"s{name}", at_ms, tuple((values * (name != 1)).tolist())))
        value: bytes | None = encode(observations)
        if rng.random() < broken:
            value = [b"{", b"[]", None, b'{"series": "s0"}'][rng.integers(4)]
        broker.append(partition, value, now)
        if rng.random() < 0.02:
            broker.mark(partition)
    return broker


def feed_more(broker: MemoryBroker, records: int, **options: Any) -> None:
    """More of the same, an hour later."""
    later = feed(records, start_ms=START_MS + 3_600_000, **options)
    for partition, log in later.records.items():
        for record in log:
            broker.append(partition, record.value, record.timestamp)


def copy_input(broker: MemoryBroker) -> MemoryBroker:
    """Another broker with the same records, to which nothing was committed or sent."""
    logs = {partition: list(log) for partition, log in broker.records.items()}
    return MemoryBroker(records=logs, ends=dict(broker.ends))


def make_settings(**sections: Mapping[str, Any]) -> Settings:
    """Settings with small windows, unless they say otherwise."""
    windows = {"timesteps": 4, **sections.pop("windows", {})}
    forecast = {"horizon": 3, **sections.pop("forecast", {})}
    return Settings.model_validate({"windows": windows, "forecast": forecast, **sections})


def make_model(
    settings: Settings,
    *,
    version: str = "1-aa",
    seed: int = 1,
    units: int = 3,
    values: int | None = None,
    is_point: bool = False,
    network: type[MemoryNetwork] = MemoryNetwork,
) -> Model:
    """A model whose weights are drawn from `seed`, its state empty."""
    features = len(settings.ingest.values)
    quantiles = () if is_point else settings.forecast.quantiles
    head = (settings.forecast.horizon, max(len(quantiles), 1), values or features)
    keyed = network(settings.windows.timesteps, features, head, units, seed)
    forecast = settings.forecast
    served = ServedModel(keyed, version, quantiles, head[2], forecast.scaling, forecast.anchor)
    return Model(served, "numpy", keyed, keyed.states)


def start(
    broker: MemoryBroker,
    settings: Settings,
    model: Model | None = None,
    *,
    poll_records: int = 5_000,
    telemetry: events.Telemetry | None = None,
    read_rows: int = 5_000,
    learner: Learner | None = None,
) -> Loop:
    """A daemon that has just been started."""
    source = MemorySource(broker, poll_records)
    ends = Ends(
        source,
        AtLeastOnce(source, MemorySink(broker)),
        MemoryRowReader(broker, settings.state_topic("{}"), read_rows),
        broker.bytes_max.get(settings.ingest.dead_letter_topic, 2**20),
    )
    return build_loop(settings, ends, model, telemetry or Telemetry(), ManualClock(), learner)


def drain(loop: Loop) -> None:
    """Turn until nothing is left to do."""
    idle = 0
    while idle < 3:
        idle = 0 if loop.run_once() or not loop.is_ready else idle + 1


def run(
    broker: MemoryBroker, settings: Settings, model: Model | None = None, poll_records: int = 5_000
) -> Telemetry:
    """Start a daemon, and let it do all there is to do."""
    telemetry = Telemetry()
    drain(start(broker, settings, model, poll_records=poll_records, telemetry=telemetry))
    return telemetry


def published(broker: MemoryBroker) -> list[dict[str, Any]]:
    """Every forecast that was acknowledged, in order."""
    return [json.loads(message.value or b"") for message in broker.messages("forecasts")]


def by_id(broker: MemoryBroker) -> dict[str, dict[str, Any]]:
    """The same by id; of one that was sent twice, the last."""
    return {message["id"]: message for message in published(broker)}


def numbers(message: Mapping[str, Any]) -> Floats:
    """All numbers of a forecast: (targets, horizon, quantiles)."""
    return np.array(list(message["forecasts"].values()), np.float64)


def assert_same(
    found: Mapping[str, Any],
    wanted: Mapping[str, Any],
    *,
    rtol: float = 1e-6,
    flags: Iterable[str] = (),
) -> None:
    """Two messages say the same, but for `flags`, which either may have."""
    told = {name: value for name, value in found.items() if name not in ("forecasts", "flags")}
    assert told == {name: wanted[name] for name in told}
    assert found.keys() == wanted.keys()
    assert set(found["flags"]) - set(flags) == set(wanted["flags"]) - set(flags)
    assert found["forecasts"].keys() == wanted["forecasts"].keys()
    a, b = numbers(found), numbers(wanted)
    # Nine digits are printed of a number, and fewer of one that is small beside its series.
    np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol * np.abs(b).max(), err_msg=found["id"])


def saved_state(loop: Loop, partition: TopicPartition) -> dict[str, dict[str, Any]]:
    """All that a row would hold of each series, by name and column."""
    slots = loop.table.slots(partition)
    columns = {
        column.name: loop.table.read(column.name, slots)
        for column in loop.table.columns
        if column.saved
    }
    return {
        name: {column: cells[at] for column, cells in columns.items()}
        for at, name in enumerate(loop.table.names(slots))
    }
