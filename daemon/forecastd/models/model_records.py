"""What lies on the models topic: keys, values, and the messages that put them there.

    weights/<version>/<i>   part i of a model's packed weights, raw bytes
    entry/<version>         all that is known of a model, JSON; counts once its weights are there
    pointer/<sequence>-<by> which version serves from here on, JSON
    probation               the version that has to prove itself, JSON; gone once it has
    run                     the outcome of the last training run, JSON

The topic is compacted. Every key but these two is written once, so compaction removes nothing that
a tombstone has not given up: whoever reads the topic late sees what those saw who read along.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

import msgspec

from forecastd.architecture import Architecture
from forecastd.errors import ModelError
from forecastd.model_weights import Weights, pack_weights, version_hash
from forecastd.records import Message

SCHEMA = 1
"""Of every JSON value; raised when its meaning changes."""

CHUNK_BYTES = 900_000
"""With key and headers a part stays below Kafka's default limit of a message, 1 MiB."""

PARTITION = 0
"""The topic has one, because the order of pointers is what counts."""

PROBATION_KEY = b"probation"

RUN_KEY = b"run"

By = Literal["trainer", "rollback", "operator", "release"]
"""Who moves the pointer: the trainer, a drop of live skill, a person; or a person who lets go."""

_VERSION = re.compile(r"([0-9]{1,9})-[0-9a-f]{6}")


class PackedWeights(msgspec.Struct, frozen=True, kw_only=True):
    """What the parts of a model's weights must come to."""

    chunks: int
    bytes: int
    sha256: str


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """A model of the group, without its weights.

    Attributes:
        number: counts the group's models, from 1.
        version: `<number>-<hash>`; the hash is that of architecture and weights.
        made_by: the command or process that made it.
        parent: the version whose weights training began with; None where there was none.
        at_ms: when it was added, ms since the Unix epoch.
        software: versions of what made it.
        facts: whatever its maker knows: scores, data, settings, seconds, history.
    """

    number: int
    version: str
    architecture: Architecture
    made_by: str
    at_ms: int
    weights: PackedWeights
    parent: str | None = None
    software: dict[str, str] = {}
    facts: dict[str, Any] = {}
    schema: int = SCHEMA


class Pointer(msgspec.Struct, frozen=True, kw_only=True):
    """Which version serves.

    Attributes:
        sequence: counts the pointers; with `by` it is the key.
        version: what serves; None is the baseline.
        by: who says so.
        at_ms: when, ms since the Unix epoch.
        reason: why, in a few words for people.
        before: what served before it and would serve after a rollback; None is the baseline.
        is_held: whether only a person may move it again.
        barred: versions that were rolled back and are not promoted by themselves again.
    """

    sequence: int
    version: str | None
    by: By
    at_ms: int
    reason: str
    before: str | None = None
    is_held: bool = False
    barred: tuple[str, ...] = ()
    schema: int = SCHEMA

    @property
    def key(self) -> bytes:
        """Distinct from what others write at the same moment, so that neither is compacted away."""
        return f"pointer/{self.sequence}-{self.by}".encode()


class OnProbation(msgspec.Struct, frozen=True, kw_only=True):
    """A version that a trainer promoted, until its live skill has been judged.

    Attributes:
        version: that has to prove itself.
        skill_before: live skill of what served until then; 0 where the naive forecast did.
    """

    version: str
    skill_before: float
    schema: int = SCHEMA


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """How the last training run ended.

    Attributes:
        number: counts the group's runs.
        began_ms, ended_ms: ms since the Unix epoch.
        status: `rejected` by the gate; `failed` before it came there.
        reason: one sentence.
        version: what came of it, where that is a model of the group.
        failures: runs that failed one after the other, up to this one.
        figures: scores, windows, seconds and what else the trainer tells.
    """

    number: int
    began_ms: int
    ended_ms: int
    status: Literal["promoted", "rejected", "failed"]
    reason: str
    version: str | None = None
    failures: int = 0
    figures: dict[str, Any] = {}
    schema: int = SCHEMA


@dataclass(frozen=True, slots=True, eq=False)
class NewModel:
    """A model that is to be added; see `Entry`."""

    architecture: Architecture
    weights: Weights
    made_by: str
    parent: str | None = None
    software: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)


Record = TypeVar("Record", Entry, Pointer, OnProbation, Run)


def encode_entry(
    topic: str, model: NewModel, number: int, at_ms: int
) -> tuple[Entry, list[Message]]:
    """A model as an entry, and the messages that add it: weights first, the entry last."""
    packed = pack_weights(model.weights)
    chunks = [packed[at : at + CHUNK_BYTES] for at in range(0, len(packed), CHUNK_BYTES)]
    entry = Entry(
        number=number,
        version=f"{number}-{version_hash(model.architecture, model.weights)}",
        architecture=model.architecture,
        made_by=model.made_by,
        at_ms=at_ms,
        weights=PackedWeights(
            chunks=len(chunks), bytes=len(packed), sha256=hashlib.sha256(packed).hexdigest()
        ),
        parent=model.parent,
        software=dict(model.software),
        facts=dict(model.facts),
    )
    parts = [
        _message(topic, weights_key(entry.version, i), chunk) for i, chunk in enumerate(chunks)
    ]
    return entry, [*parts, _message(topic, entry_key(entry.version), msgspec.json.encode(entry))]


def encode_pointer(topic: str, pointer: Pointer) -> Message:
    """The message that moves the pointer; to be sent once the weights are acknowledged."""
    return _message(topic, pointer.key, msgspec.json.encode(pointer))


def encode_probation(topic: str, probation: OnProbation | None) -> Message:
    """The message that begins a probation, to be sent before its pointer; None ends it."""
    value = None if probation is None else msgspec.json.encode(probation)
    return _message(topic, PROBATION_KEY, value)


def encode_run(topic: str, run: Run) -> Message:
    """The message that says how a training run ended."""
    return _message(topic, RUN_KEY, msgspec.json.encode(run))


def tombstones(topic: str, keys: Iterable[bytes]) -> list[Message]:
    """The messages that give up keys."""
    return [_message(topic, key, None) for key in keys]


def entry_key(version: str) -> bytes:
    """The key of a model's entry."""
    return f"entry/{version}".encode()


def weights_key(version: str, part: int) -> bytes:
    """The key of a part of a model's weights."""
    return f"weights/{version}/{part}".encode()


def version_number(version: str) -> int | None:
    """The number in a version; None where that is none.

    >>> version_number("7-3fa9c1"), version_number("models/7")
    (7, None)
    """
    match = _VERSION.fullmatch(version)
    return int(match[1]) if match else None


def decode(value: bytes, kind: type[Record]) -> Record:
    """A JSON value of the topic.

    Raises:
        ModelError: it is something else, or of another schema.
    """
    try:
        schema = msgspec.json.decode(value, type=_Schema).schema
        if schema != SCHEMA:
            found = f"schema {schema}"
            raise ModelError(f"{found}, wanted {SCHEMA}; another version of forecastd wrote it")
        return msgspec.json.decode(value, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ModelError(f"{error}, wanted what forecastd wrote") from error


class _Schema(msgspec.Struct):
    schema: int


def _message(topic: str, key: bytes, value: bytes | None) -> Message:
    return Message(topic, key, value, PARTITION)
