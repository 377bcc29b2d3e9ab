"""Whatever is on the windows topic, what serves and what is published do not get worse."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest

from forecastd.forecast.model import Model
from forecastd.memory.log import MemoryBroker
from forecastd.memory.models import MemoryModels
from forecastd.models.model_records import NewModel, encode_entry, encode_pointer
from forecastd.observe.learning_events import RunEnded
from forecastd.records import Floats, Message
from forecastd.settings import Settings
from forecastd.train.keras_challenger import challenge
from forecastd.train.window_record import WindowRecord, encode
from tests.in_memory import P0, published
from tests.learning_in_memory import LearningDaemon, append_steps, readable
from tests.train.waves import T, recording

STEPS, MORE, STEP_MS = 800, 160, 1_000
SERIES = 4
SIZES: dict[str, dict[str, object]] = {
    "windows": {"timesteps": T},
    "forecast": {"units": 8, "horizon": 4},
    "training": {"epochs": 4, "prime_windows": 3, "min_windows": 1},
}
SETTINGS = Settings.model_validate(SIZES)

Poison = Callable[[Sequence[WindowRecord]], Sequence[bytes]]


def noisy_waves(steps: int, seed: int = 0) -> Floats:
    """Their noise is all that a good model does not know."""
    noise = 0.2 * np.random.default_rng(seed).normal(size=(SERIES, steps))
    periods, levels = np.linspace(2, 5, SERIES)[:, None], 50 * np.arange(1, SERIES + 1)[:, None]
    waves: Floats = levels + np.sin(np.arange(steps) / periods) + noise
    return waves


WAVES = noisy_waves(STEPS + MORE)


@pytest.fixture(scope="module")
def trained() -> tuple[MemoryBroker, Model]:
    """What a daemon that serves a good champion has left behind, and its network."""
    broker = MemoryBroker()
    broker.records[P0] = []
    append_steps(broker, WAVES[:, :STEPS], 0, STEP_MS)
    outcome = challenge(
        [recording(f"s{at}", values) for at, values in enumerate(WAVES[:, :STEPS])],
        Settings.model_validate({**SIZES, "training": {**SIZES["training"], "epochs": 20}}),
    )
    assert outcome.candidate is not None, outcome.reason
    models = MemoryModels(broker, SETTINGS.models_topic)
    new = NewModel(outcome.candidate.architecture, outcome.candidate.weights(), "training")
    entry, messages = encode_entry(SETTINGS.models_topic, new, 1, 1)
    models.write(messages)
    models.poll()
    pointer = models.log.promote(entry.version, "trainer", 2, outcome.reason)
    models.write([encode_pointer(SETTINGS.models_topic, pointer)])
    daemon = LearningDaemon(broker, SETTINGS)
    daemon.is_learning = False
    daemon.work()
    assert daemon.version == entry.version
    daemon.loop.close(1)
    return broker, daemon.model


def run_on(trained: tuple[MemoryBroker, Model], poison: Poison | None) -> LearningDaemon:
    """The daemon started again; poisoned, it trains in the midst of more records."""
    before, model = trained
    broker = replace(
        before,
        records={P0: list(before.records[P0])},
        ends=dict(before.ends),
        committed=dict(before.committed),
        sent=list(before.sent),
    )
    if poison is not None:
        others = [m for m in broker.sent if m.topic != SETTINGS.windows_topic]
        windows = readable(m.value or b"" for m in broker.messages(SETTINGS.windows_topic))
        poisoned = [Message(SETTINGS.windows_topic, b"s", value) for value in poison(windows)]
        broker.sent = [*others, *poisoned]
    daemon = LearningDaemon(broker, SETTINGS, model)
    daemon.is_learning = poison is not None
    append_steps(broker, WAVES[:, STEPS : STEPS + T], STEPS, STEP_MS)
    daemon.work()
    append_steps(broker, WAVES[:, STEPS + T :], STEPS + T, STEP_MS)
    daemon.work(seconds=1)
    daemon.loop.close(1)
    return daemon


@pytest.fixture(scope="module")
def untouched(trained: tuple[MemoryBroker, Model]) -> LearningDaemon:
    daemon = run_on(trained, None)
    assert daemon.runs == []
    return daemon


def by_series(records: Sequence[WindowRecord]) -> list[list[WindowRecord]]:
    names = sorted({record.series for record in records})
    return [[record for record in records if record.series == name] for name in names]


def following(own: Sequence[WindowRecord], values: Floats) -> list[bytes]:
    """The windows of one series with other steps, each of which begins where the last ended."""
    befores = [own[0].before, *values[:-1, -1]]
    return [
        encode(replace(record, values=steps, before=before))
        for record, steps, before in zip(own, values, befores, strict=True)
    ]


def shuffled_steps(records: Sequence[WindowRecord]) -> Sequence[bytes]:
    """All steps of each series in no order; windows follow each other as far as one can see."""
    rng, found = np.random.default_rng(1), []
    for own in by_series(records):
        steps = rng.permutation(np.concatenate([record.values for record in own]))
        found += following(own, steps.reshape(len(own), T, 1))
    return found


def shuffled_windows(records: Sequence[WindowRecord]) -> Sequence[bytes]:
    """The steps of each window those of another one, of whatever series."""
    others = np.random.default_rng(2).permutation(len(records))
    return [
        encode(replace(record, values=records[at].values))
        for record, at in zip(records, others, strict=True)
    ]


def reordered_windows(records: Sequence[WindowRecord]) -> Sequence[bytes]:
    """The windows of each series in no order, renumbered so that they seem to follow."""
    rng, found = np.random.default_rng(3), []
    for own in by_series(records):
        found += following(own, rng.permutation(np.stack([record.values for record in own])))
    return found


def constant(records: Sequence[WindowRecord]) -> Sequence[bytes]:
    return [
        encode(
            replace(
                record,
                values=np.full_like(record.values, 7.0),
                before=np.where(np.isnan(record.before), np.nan, 7.0),
                median=np.full(1, 7.0),
                spread=np.full(1, 7.0),
            )
        )
        for record in records
    ]


def spiked(records: Sequence[WindowRecord]) -> Sequence[bytes]:
    """One step in twenty is a million times what it should be."""
    rng, found = np.random.default_rng(4), []
    for own in by_series(records):
        values = np.stack([record.values for record in own])
        found += following(own, values * np.where(rng.random(values.shape) < 0.05, 1e6, 1.0))
    return found


def nan_bytes(records: Sequence[WindowRecord]) -> Sequence[bytes]:
    """Half of the windows have steps that are no number, though their checksums are right."""
    is_bad = np.random.default_rng(6).random(len(records)) < 0.5
    return [
        encode(replace(record, values=record.values * (np.nan if bad else 1.0)))
        for record, bad in zip(records, is_bad, strict=True)
    ]


def one_huge_series(records: Sequence[WindowRecord]) -> Sequence[bytes]:
    """Ten times as long as any other, in steps of 1e30, without rhyme or reason."""
    first = [record for record in records if record.series == "s0"]
    rng, before, huge = np.random.default_rng(5), np.full(1, np.nan), []
    span_ms = int(first[-1].at_ms[-1] - first[0].at_ms[0])
    for number in range(10 * len(first)):
        values = 1e30 * rng.normal(size=(T, 1)).cumsum(axis=0) ** 3
        at_ms = first[0].at_ms[0] + number * span_ms // (10 * len(first)) + 10 * np.arange(T)
        spread = np.full(1, 1e30)
        one = replace(first[0], series="huge", number=number, at_ms=at_ms, values=values)
        huge.append(encode(replace(one, before=before, median=values[0], spread=spread)))
        before = values[-1]
    return [*map(encode, records), *huge]


def another_version(records: Sequence[WindowRecord]) -> Sequence[bytes]:
    """Of a daemon that knows another form."""
    return [value[:3] + bytes([99]) + value[4:] for value in map(encode, records)]


POISONS: list[Poison] = [
    shuffled_steps,
    shuffled_windows,
    reordered_windows,
    constant,
    spiked,
    nan_bytes,
    one_huge_series,
    another_version,
]


@pytest.mark.parametrize("poison", POISONS, ids=lambda poison: poison.__name__)
def test_poison_changes_nothing(
    trained: tuple[MemoryBroker, Model], untouched: LearningDaemon, poison: Poison
) -> None:
    """No challenger is promoted, and every forecast is what it is where nobody trains."""
    daemon = run_on(trained, poison)
    (run,) = daemon.heard.heard(RunEnded)
    assert run.status in ("rejected", "failed"), run.reason
    assert daemon.version == untouched.version
    assert published(daemon.broker) == published(untouched.broker)
