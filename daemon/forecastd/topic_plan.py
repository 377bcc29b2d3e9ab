"""Which topics the daemon needs, of what shape, and what is wrong with those that are there."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from forecastd.settings import Settings

Purpose = Literal["input", "output", "dead letters", "state", "windows", "models"]

DEAD_LETTER_ROOM = 64 * 1024
"""A dead letter is the record and the headers that say what was wrong with it."""

STATE_ROW_BYTES_MAX = 16 * 1024 * 1024
"""A row grows with timesteps, values and units; Kafka's own limit of 1 MiB is soon reached."""

_MESSAGE_BYTES = 1_048_588
"""Kafka's default of `max.message.bytes`."""

_STATE_CONFIGS = {
    "cleanup.policy": "compact",
    # A restart reads what is not compacted yet, and the newest segment never is.
    "min.cleanable.dirty.ratio": "0.1",
    "segment.bytes": str(64 * 1024 * 1024),
    "segment.ms": str(60 * 60 * 1000),
    "max.message.bytes": str(STATE_ROW_BYTES_MAX),
}

_MODELS_CONFIGS = {**_STATE_CONFIGS, "max.message.bytes": str(_MESSAGE_BYTES)}

_WINDOWS_CONFIGS = {
    "cleanup.policy": "delete",
    # What is learnt from is what was written lately, whenever it happened.
    "message.timestamp.type": "LogAppendTime",
    "segment.bytes": str(64 * 1024 * 1024),  # only whole segments are deleted
    "max.message.bytes": str(STATE_ROW_BYTES_MAX),
}

_TOO_LARGE = {
    "state": "larger rows stop the daemon",
    "windows": "larger windows stop the daemon",
}


@dataclass(frozen=True, slots=True)
class TopicPlan:
    """A topic as the daemon needs it.

    Attributes:
        name: of the topic.
        purpose: what it is for.
        partitions: how many; None leaves it to the broker.
        operations: what we do with it, in the words of Kafka's access control.
        configs: what is set when it is created.
        like: of a state topic, the input topic whose partitions it has.
        is_optional: whether the daemon works without it where it must not be created.
    """

    name: str
    purpose: Purpose
    partitions: int | None
    operations: frozenset[str]
    configs: Mapping[str, str] = field(default_factory=dict)
    like: str | None = None
    is_optional: bool = False


@dataclass(frozen=True, slots=True)
class TopicShape:
    """A topic as it is.

    Attributes:
        partitions: how many.
        replicas: of the partition that has the fewest.
        leaderless: partitions that nobody leads right now.
        operations: what we may do; None where the broker does not say.
        configs: effective values; empty where we may not read them.
    """

    partitions: int
    replicas: int
    leaderless: tuple[int, ...] = ()
    operations: frozenset[str] | None = None
    configs: Mapping[str, str] = field(default_factory=dict)

    @property
    def message_bytes_max(self) -> int:
        """Largest message that it takes."""
        return int(self.configs.get("max.message.bytes", _MESSAGE_BYTES))


def plan_topics(settings: Settings, there: Mapping[str, TopicShape]) -> list[TopicPlan]:
    """What the daemon needs: inputs first, because the others are shaped after them."""
    inputs = [there[topic] for topic in settings.ingest.topics if topic in there]
    widest = max((shape.partitions for shape in inputs), default=None)
    longest = max((shape.message_bytes_max for shape in inputs), default=_MESSAGE_BYTES)
    reads, writes = frozenset({"DESCRIBE", "READ"}), frozenset({"DESCRIBE", "WRITE"})
    dead = {"max.message.bytes": str(longest + DEAD_LETTER_ROOM)}
    return [
        *(TopicPlan(topic, "input", None, reads) for topic in settings.ingest.topics),
        TopicPlan(settings.publish.topic, "output", widest, writes),
        TopicPlan(settings.ingest.dead_letter_topic, "dead letters", None, writes, dead),
        *(
            TopicPlan(
                settings.state_topic(topic),
                "state",
                there[topic].partitions if topic in there else None,
                reads | writes,
                _STATE_CONFIGS,
                topic,
            )
            for topic in settings.ingest.topics
        ),
        *([_plan_windows(settings, widest)] if settings.learns else []),
        *([plan_models(settings)] if settings.follows_group_models else []),
    ]


def _plan_windows(settings: Settings, widest: int | None) -> TopicPlan:
    """The topic of finished windows. A series keeps to one partition, which may be any."""
    configs = {**_WINDOWS_CONFIGS, "retention.ms": str(settings.training.retention)}
    operations = frozenset({"DESCRIBE", "READ", "WRITE"})
    return TopicPlan(settings.windows_topic, "windows", widest, operations, configs)


def plan_models(settings: Settings) -> TopicPlan:
    """The topic of the group's models: one partition, because the order of pointers counts."""
    operations = {"DESCRIBE", "READ", "WRITE"} if settings.learns else {"DESCRIBE", "READ"}
    is_optional = not settings.training.enabled and settings.models.serve is None
    return TopicPlan(
        settings.models_topic,
        "models",
        1,
        frozenset(operations),
        _MODELS_CONFIGS,
        is_optional=is_optional,
    )


def faults_of(plan: TopicPlan, shape: TopicShape) -> Iterator[str]:
    """What keeps the daemon from working with this topic; one sentence each."""
    allowed = plan.operations if shape.operations is None else shape.operations
    denied = sorted(plan.operations - allowed)
    if denied:
        yield f"{plan.name}: no permission to {' and '.join(denied)}, wanted an ACL that allows it"
    policy = shape.configs.get("cleanup.policy")
    if plan.purpose == "state" and policy not in (None, "compact"):
        yield f"{plan.name}: cleanup.policy {policy}, wanted compact; rows would be lost"
    if plan.purpose == "models" and policy not in (None, "compact"):
        yield f"{plan.name}: cleanup.policy {policy}, wanted compact; models would be lost"
    if plan.purpose == "models" and "WRITE" in plan.operations and _is_too_small(plan, shape):
        # Told now, not hours later by the first model that is promoted.
        yield f"{_too_small(plan, shape)}; models could not be written"
    if plan.purpose == "windows" and policy not in (None, "delete"):
        effect = "of each series only the newest window would be kept"
        yield f"{plan.name}: cleanup.policy {policy}, wanted delete; {effect}"
    if plan.purpose == "dead letters" and policy is not None and "compact" in policy:
        effect = "it refuses records without a key"
        yield f"{plan.name}: cleanup.policy {policy}, wanted delete; {effect}"
    if plan.purpose == "state" and shape.partitions > (plan.partitions or shape.partitions):
        yield (
            f"{plan.name}: {counted(shape.partitions, 'partition')}, wanted {plan.partitions} like"
            f" {plan.like}; rows are kept by partition: delete it to let every series start anew"
        )


def hints_of(plan: TopicPlan, shape: TopicShape, brokers: int) -> Iterator[str]:
    """What works, and will be missed one day; one sentence each."""
    if shape.leaderless:
        partitions = ", ".join(f"{plan.name}[{number}]" for number in shape.leaderless)
        yield f"{partitions}: no leader right now, wanted one"
    if plan.purpose != "models" and _is_too_small(plan, shape):
        yield f"{_too_small(plan, shape)}; {_TOO_LARGE.get(plan.purpose, 'larger ones are cut')}"
    retention_ms = plan.configs.get("retention.ms")
    if retention_ms is not None and shape.configs.get("retention.ms", retention_ms) != retention_ms:
        found, effect = shape.configs["retention.ms"], "training.retention is what a new topic gets"
        yield f"{plan.name}: retention.ms {found}, wanted {retention_ms}; {effect}"
    if shape.replicas == 1 and brokers > 1:
        yield f"{plan.name}: 1 replica, wanted 3; with its broker it would be gone"
    if not shape.configs and plan.purpose != "output":
        denied = "no permission to DESCRIBE_CONFIGS"
        yield f"{plan.name}: {denied}, wanted it; the topic's settings could not be verified"


def _is_too_small(plan: TopicPlan, shape: TopicShape) -> bool:
    """Whether a topic takes less than we may write; settings we may not read accuse nobody."""
    return bool(shape.configs) and shape.message_bytes_max < _wanted_bytes(plan)


def _too_small(plan: TopicPlan, shape: TopicShape) -> str:
    found = f"{plan.name}: max.message.bytes {shape.message_bytes_max}"
    return f"{found}, wanted {_wanted_bytes(plan)}"


def _wanted_bytes(plan: TopicPlan) -> int:
    return int(plan.configs.get("max.message.bytes", 0))


def is_outgrown(plan: TopicPlan, shape: TopicShape) -> bool:
    """Whether a state topic has fewer partitions than its input topic: that has grown since."""
    return plan.purpose == "state" and shape.partitions < (plan.partitions or 0)


def outgrown_topic(plan: TopicPlan, shape: TopicShape, settings: Settings) -> str:
    """The sentence about a state topic that must not be grown, with the command that would."""
    arguments = ("--alter", "--topic", plan.name, "--partitions", str(plan.partitions))
    command = " ".join(map(shlex.quote, [*_topics_command(settings), *arguments]))
    return (
        f"{plan.name}: {counted(shape.partitions, 'partition')}, wanted {plan.partitions} like"
        f" {plan.like}, which has grown; grow it with: {command}"
    )


def missing_topic(plan: TopicPlan, settings: Settings) -> str:
    """The sentence about a missing topic that must not be created, with the command that would."""
    command = " ".join(map(shlex.quote, _create_command(plan, settings)))
    return (
        f"{plan.name}: no such topic, wanted it, as kafka.create_topics is false; create it with:"
        f" {command}"
    )


def counted(count: int, noun: str) -> str:
    """A count and its noun.

    >>> counted(1, "partition"), counted(4, "partition")
    ('1 partition', '4 partitions')
    """
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _topics_command(settings: Settings) -> Iterable[str]:
    kafka = settings.kafka
    yield from ("kafka-topics.sh", "--bootstrap-server", ",".join(kafka.bootstrap_servers))
    if kafka.security_protocol != "PLAINTEXT":
        yield from ("--command-config", "client.properties")


def _create_command(plan: TopicPlan, settings: Settings) -> Iterable[str]:
    kafka = settings.kafka
    yield from _topics_command(settings)
    yield from ("--create", "--topic", plan.name)
    if plan.partitions is not None:
        yield from ("--partitions", str(plan.partitions))
    elif plan.like is not None:
        yield from ("--partitions", f"PARTITIONS_OF_{plan.like}")
    if kafka.replication_factor > 0:
        yield from ("--replication-factor", str(kafka.replication_factor))
    for key, value in plan.configs.items():
        yield from ("--config", f"{key}={value}")
