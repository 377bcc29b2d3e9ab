"""One training run: what it is asked to do, and what came of it.

Both cross a process border: the job as one line of JSON, the outcome as MessagePack.
"""

from __future__ import annotations

from typing import Any, Literal, Self

import msgspec

from forecastd.architecture import Architecture
from forecastd.errors import ModelError
from forecastd.evaluate.gate import Scores
from forecastd.model_weights import Weights, unpack_weights
from forecastd.settings import Settings, all_settings, is_secret

Status = Literal["promoted", "rejected", "failed"]


class TrainingJob(msgspec.Struct, frozen=True, kw_only=True):
    """What a training process is told; everything else it reads from the broker.

    Attributes:
        settings: the daemon's, secrets in clear: only to be handed to a process of our own.
    """

    settings: dict[str, Any]

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """The job under these settings."""
        values = settings.model_dump(mode="json")
        for name, setting in all_settings().items():
            value = settings.value_of(name)
            if is_secret(setting) and value is not None:
                section, _, key = name.partition(".")
                values[section][key] = value.get_secret_value()
        return cls(settings=values)

    def read_settings(self) -> Settings:
        """The daemon's settings."""
        return Settings.model_validate(self.settings)

    def to_line(self) -> bytes:
        """UTF-8 JSON that ends with the only line feed in it."""
        return msgspec.json.encode(self) + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> Self:
        """What `to_line` wrote.

        Raises:
            msgspec.MsgspecError: it is something else.
        """
        return msgspec.json.decode(line, type=cls)


class Champion(msgspec.Struct, frozen=True):
    """What serves, as a challenger starts from it and is compared with it."""

    version: str
    architecture: Architecture
    weights: list[Any]  # float32 arrays, in the order of `KeyedNetwork.weights`


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """A network that earned promotion.

    Attributes:
        packed: its weights, as `model_weights.pack_weights` makes them.
        parent: version whose weights training began with; None where it began from its seed.
        facts: for its metadata: history, scores, gate, settings, data.
    """

    architecture: Architecture
    packed: bytes
    parent: str | None
    facts: dict[str, Any]

    def weights(self) -> Weights:
        """Its arrays, of the shapes that its architecture has.

        Raises:
            ModelError: they are something else, or not finite.
        """
        return unpack_weights("training", self.architecture, self.packed)


class TrainingOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a run, for people and for whoever promotes.

    Attributes:
        status: `promoted` says that the gate let it through: it has yet to be written.
        reason: one sentence with the figures, or with what went wrong.
        candidate: the network; only where it is to be promoted.
        champion: version that served; None where none did. It was compared with it, unless the
            settings cannot serve it. Where another serves by now, the comparison is void.
        scores: what the gate compared; None where it did not come to that.
        windows: windows read from the group's windows topic.
        seconds, cpu_seconds: that the run took, start and reading included.
        facts: for people: history, settings, data.
    """

    status: Status
    reason: str
    candidate: Candidate | None = None
    champion: str | None = None
    scores: Scores | None = None
    windows: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    facts: dict[str, Any] = {}

    def to_bytes(self) -> bytes:
        """MessagePack."""
        return msgspec.msgpack.encode(self)

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """What `to_bytes` wrote; its candidate's weights are whole.

        Raises:
            ModelError: it is something else.
        """
        try:
            outcome = msgspec.msgpack.decode(data, type=cls)
        except msgspec.MsgspecError as error:
            raise ModelError(f"training: a result that cannot be read: {error}") from error
        if (outcome.status == "promoted") != (outcome.candidate is not None):
            raise ModelError(f"training: {outcome.status}, and the network does not agree with it")
        if outcome.candidate is not None:
            outcome.candidate.weights()
        return outcome
