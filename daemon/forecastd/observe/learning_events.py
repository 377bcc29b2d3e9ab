"""What happened of learning while serving, as frozen facts; see `events.py`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from forecastd.observe.events import Event

Outcome = Literal["promoted", "rejected", "failed"]
"""Of a training run: let through by the gate, held back by it, or without a network to judge."""

By = Literal["trainer", "rollback", "operator", "release"]
"""Who moves the pointer: the trainer, a drop of live skill, a person; or a person who lets go."""


Rival = Literal["challenger", "champion", "naive"]
"""What the gate compares: the new model, the serving one, and the best naive forecast."""


@dataclass(frozen=True, slots=True)
class ModelPromoted(Event):
    """Another version of the group's models serves here; None is the baseline."""

    version: str | None
    by: By
    reason: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class ModelRefused(Event):
    """The group's champion does not fit these settings; what served before goes on."""

    version: str
    sentence: str


@dataclass(frozen=True, slots=True)
class ModelCacheFailed(Event):
    """The copies in `models.dir` could not be brought up to date; nothing depends on them."""

    sentence: str


@dataclass(frozen=True, slots=True)
class RunBegan(Event):
    """A training process was started; `at_ms` since the Unix epoch."""

    at_ms: int


@dataclass(frozen=True, slots=True)
class RunGivenUp(Event):
    """A training run was ended without an outcome: whoever serves the first partition trains.

    That is another instance by now, or this one again once it has joined the group anew.
    """


@dataclass(frozen=True, slots=True)
class RunEnded(Event):
    """A training run is over; `version` is what it promoted.

    `errors` are what the gate compared: scaled errors on the held-out windows, as far as there are.
    """

    status: Outcome
    reason: str
    version: str | None
    windows: int
    seconds: float
    cpu_seconds: float
    errors: Mapping[Rival, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PastRun:
    """How the group's last training run ended, whichever instance it ran on.

    `failures` counts the runs that failed one after the other, up to this one.
    """

    status: Outcome
    reason: str
    ended_ms: int
    failures: int


@dataclass(frozen=True, slots=True)
class ModelsRead(Event):
    """What the group's models topic says, at the start and whenever it has changed.

    Attributes:
        version: that is to serve; None is the baseline.
        by: who moved the pointer last; None where nobody ever did.
        reason, at_ms: why and when; ms since the Unix epoch.
        is_held: whether an operator holds it, so that nothing is trained.
        run: the last one; None before the first.
    """

    version: str | None
    by: By | None = None
    reason: str = ""
    at_ms: int = 0
    is_held: bool = False
    run: PastRun | None = None


@dataclass(frozen=True, slots=True)
class FallbackCounted(Event):
    """Series that get the naive forecast now, because the serving model loses to it there."""

    series: int
