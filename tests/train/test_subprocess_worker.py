"""The training process on a real broker: what it reads, and what it answers."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterable
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest

from forecastd.clock import SystemClock
from forecastd.kafka_topics import TopicAdmin
from forecastd.models.kafka_models import KafkaModels
from forecastd.models.model_records import NewModel, encode_entry, encode_pointer
from forecastd.publish.kafka_sink import KafkaSink
from forecastd.records import Message, TopicPartition
from forecastd.settings import Settings
from forecastd.train.run_outcome import TrainingJob, TrainingOutcome
from forecastd.train.subprocess_trainer import TrainerProcess
from forecastd.train.window_record import encode
from tests.secured_kafka import SOCKETS_LEFT, swept
from tests.train.waves import SIZES, WAVES, window_records

__all__ = ["swept"]

pytestmark = [pytest.mark.kafka, pytest.mark.slow, SOCKETS_LEFT]

NOW_MS = 1_700_000_000_000


def group(kafka: str, windows: Iterable[bytes], **training: Any) -> Settings:
    """A group whose windows topic holds `windows`."""
    name = uuid4().hex[:8]
    settings = Settings.model_validate(
        {
            **SIZES,
            "kafka": {"bootstrap_servers": kafka, "group_id": f"g-{name}"},
            "ingest": {"topics": [f"r-{name}"], "dead_letter_topic": f"d-{name}"},
            "publish": {"topic": f"f-{name}"},
            "training": {**SIZES["training"], **training},
        }
    )
    with TopicAdmin(settings.kafka) as admin:
        plans = {plan.purpose: plan for plan in admin.inspect(settings).missing}
        admin.create([plans["input"]])
        admin.ensure_topics(settings)
    sink = KafkaSink(settings)
    sink.send([Message(settings.windows_topic, b"a", value) for value in windows])
    sink.close(5)
    return settings


def waves() -> list[bytes]:
    return [
        encode(replace(record, partition=TopicPartition("records", 0)))
        for series in WAVES
        for record in window_records(series)
    ]


def run(settings: Settings, *, is_disk_full: bool = False) -> TrainingOutcome:
    trainer = TrainerProcess(600_000, SystemClock())
    trainer.start(TrainingJob.of(settings))
    assert trainer.pid is not None
    if is_disk_full:
        resource.prlimit(trainer.pid, resource.RLIMIT_FSIZE, (0, 0))
    os.waitid(os.P_PID, trainer.pid, os.WEXITED | os.WNOWAIT)
    outcome = trainer.poll()
    assert outcome is not None
    return outcome


def promote(settings: Settings, outcome: TrainingOutcome) -> str:
    """What the daemon does with an outcome."""
    candidate = outcome.candidate
    assert candidate is not None
    model = NewModel(candidate.architecture, candidate.weights(), "test", facts=candidate.facts)
    models = KafkaModels(settings)
    entry, messages = encode_entry(settings.models_topic, model, 1, NOW_MS)
    models.write(messages)
    models.read_to_end()
    pointer = models.log.promote(entry.version, "trainer", NOW_MS, outcome.reason)
    models.write([encode_pointer(settings.models_topic, pointer)])
    models.close()
    return entry.version


def test_learns_from_the_windows_topic_and_from_the_champion(kafka: str) -> None:
    settings = group(kafka, [*waves(), b"poison", *waves()[:3]])
    first = run(settings)
    assert first.status == "promoted", first.reason
    assert (first.champion, first.windows) == (None, 240)
    assert first.cpu_seconds > 0
    assert first.facts["data"]["left_out"] == {"unreadable": 1, "repeated": 3}
    assert first.facts["data"]["ranges"] == [
        {
            "topic": "records", "partition": 0, "first_offset": 0, "last_offset": 959,
            "from_ms": 1_600_000_000_000, "to_ms": 1_600_000_959_000, "series": 2, "windows": 240,
        }
    ]  # fmt: skip
    version = promote(settings, first)
    second = run(settings)
    assert second.champion == version
    assert second.scores is not None
    assert first.scores is not None
    assert second.scores.champion == pytest.approx(first.scores.challenger, rel=1e-6)
    if second.candidate is not None:
        assert second.candidate.parent == version


def test_says_that_there_is_too_little(kafka: str) -> None:
    found = run(group(kafka, []))
    assert found.status == "failed"
    assert found.reason.startswith("training: 0 windows to learn from and 0 held out, wanted")
    assert found.reason.endswith("; left out: none")


def test_says_what_it_could_not_use(kafka: str) -> None:
    """Such as the windows from before `windows.timesteps` was changed."""
    settings = group(kafka, [*waves(), b"poison"])
    longer = settings.windows.model_copy(update={"timesteps": 2 * settings.windows.timesteps})
    found = run(settings.model_copy(update={"windows": longer}))
    assert found.status == "failed"
    assert found.reason.endswith("; left out: 1 unreadable, 240 of another shape")


def test_that_runs_out_of_memory_says_so(kafka: str) -> None:
    """With enough to read, and too little for TensorFlow, which then fails in one of many ways."""
    found = run(group(kafka, waves(), memory="250MB"))
    assert found.status == "failed"
    assert "training.memory" in found.reason


def test_that_can_write_to_no_file_costs_one_run(kafka: str) -> None:
    """Nothing of ours is written; what libraries do is theirs."""
    found = run(group(kafka, []), is_disk_full=True)
    assert found.status == "failed"
    assert found.reason.startswith("training: ")
