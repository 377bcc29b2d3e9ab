"""What a training run leaves on the models topic: its model, a pointer to it, and how it went."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from forecastd.evaluate.gate import Scores
from forecastd.models.group_models import GroupModels
from forecastd.models.model_records import (
    NewModel,
    OnProbation,
    Run,
    encode_entry,
    encode_pointer,
    encode_probation,
    encode_run,
)
from forecastd.observe.learning_events import Rival, RunEnded
from forecastd.train.run_outcome import Candidate, TrainingOutcome


@dataclass(frozen=True, slots=True)
class RunWriter:
    """Writes what came of a run: weights, then the pointer, then how it went.

    Attributes:
        models: of the group.
        software: versions of what trains.
        keep: `models.keep`.
    """

    models: GroupModels
    software: Mapping[str, str]
    keep: int

    def write(
        self, outcome: TrainingOutcome, began_ms: int, ended_ms: int, skill_before: float
    ) -> RunEnded:
        """End a run.

        Args:
            outcome: of the run; void where another model serves by now than then.
            began_ms, ended_ms: ms since the Unix epoch.
            skill_before: live skill of what serves; 0 where the naive forecast does.

        Raises:
            BrokerError: the broker did not take what was written.
        """
        # Whoever was frozen meanwhile must not act on what was true before.
        self.models.read_to_end()
        outcome = self._void_if_overtaken(outcome)
        version = None
        if outcome.candidate is not None:
            version = self._add(outcome.candidate, _took(outcome), ended_ms)
            self._promote(version, outcome.reason, ended_ms, skill_before)
        self._tell(outcome, version, began_ms, ended_ms)
        return RunEnded(
            outcome.status,
            outcome.reason,
            version,
            outcome.windows,
            outcome.seconds,
            outcome.cpu_seconds,
            _compared(outcome.scores),
        )

    def _void_if_overtaken(self, outcome: TrainingOutcome) -> TrainingOutcome:
        """A challenger that was compared with what no longer serves has won nothing."""
        log, then = self.models.log, outcome.champion
        now = log.champion.version if log.champion is not None else None
        if outcome.candidate is None or (now == then and not log.is_held):
            return outcome
        found = f"{now or 'the baseline'} serves by now, wanted {then or 'the baseline'} as then"
        if log.is_held:
            found = f"an operator holds {now or 'the baseline'}, wanted a release first"
        reason = f"{outcome.reason}; {found}"
        return msgspec.structs.replace(outcome, status="rejected", reason=reason, candidate=None)

    def _add(self, candidate: Candidate, took: Mapping[str, Any], at_ms: int) -> str:
        """Weights and entry; returns the version."""
        log = self.models.log
        new = NewModel(
            candidate.architecture,
            candidate.weights(),
            "training",
            candidate.parent,
            self.software,
            {**took, **candidate.facts},
        )
        entry, messages = encode_entry(log.topic, new, log.next_number(), at_ms)
        self.models.write(messages)
        for message in messages:  # the pointer is judged by what is there
            log.fold(message.key, message.value)
        return entry.version

    def _promote(self, version: str, reason: str, at_ms: int, skill_before: float) -> None:
        log = self.models.log
        watched = OnProbation(version=version, skill_before=skill_before)
        pointer = log.promote(version, "trainer", at_ms, reason)
        self.models.write(
            [encode_probation(log.topic, watched), encode_pointer(log.topic, pointer)]
        )

    def _tell(
        self, outcome: TrainingOutcome, version: str | None, began_ms: int, ended_ms: int
    ) -> None:
        log = self.models.log
        last = log.last_run
        failures = (last.failures if last is not None else 0) + 1
        run = Run(
            number=last.number + 1 if last is not None else 1,
            began_ms=began_ms,
            ended_ms=ended_ms,
            status=outcome.status,
            reason=outcome.reason,
            version=version,
            failures=failures if outcome.status == "failed" else 0,
            figures={**_took(outcome), **outcome.facts},
        )
        told = encode_run(log.topic, run)
        self.models.write([told, *log.tombstones_beyond(self.keep)])
        log.fold(told.key, told.value)  # the next run must not begin before this one is read back


def _took(outcome: TrainingOutcome) -> dict[str, Any]:
    """What a run read, and how long it took."""
    return {
        "windows": outcome.windows,
        "seconds": outcome.seconds,
        "cpu_seconds": outcome.cpu_seconds,
    }


def _compared(scores: Scores | None) -> dict[Rival, float]:
    """What the gate went by."""
    if scores is None:
        return {}
    errors: dict[Rival, float] = {"challenger": scores.challenger}
    if scores.champion is not None:
        errors["champion"] = scores.champion
    return {**errors, "naive": scores.naive[scores.best_naive]}
