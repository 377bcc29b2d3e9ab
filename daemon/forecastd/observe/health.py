"""Whether the daemon lives and whether it serves, as a pure fold over events.

Two questions with two answers: an orchestrator restarts what does not live and sends no one to
what is not ready. An unreachable broker makes the daemon unready, never dead, because a restart
would cost the state in memory and cure nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from forecastd.observe.events import (
    BrokerLost,
    Event,
    LoopTurned,
    PartitionReady,
    Rebalanced,
    RestoreStarted,
    Stopping,
    TurnCompleted,
)
from forecastd.records import TopicPartition

STARTUP_S = 600.0
"""How long the loop may take to its first turn."""

NAMED_MAX = 5
"""Partitions named in a sentence; further ones are only counted."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """One answer for a probe: whether all is well, and the sentences that say what is not."""

    ok: bool
    waiting_for: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Health:
    """What is known after the events so far.

    Attributes:
        started_s: monotonic time of the start.
        turned_s: monotonic time of the loop's last turn; None before the first.
        broker_fault: what is wrong with the broker; None when it answers.
        is_member: whether the group has let us in.
        assigned: partitions that are ours.
        restoring: those of them whose state is not restored yet.
        is_stopping: whether a signal asked for the end.
    """

    started_s: float
    turned_s: float | None = None
    broker_fault: str | None = "no broker has answered yet"
    is_member: bool = False
    assigned: frozenset[TopicPartition] = field(default=frozenset())
    restoring: frozenset[TopicPartition] = field(default=frozenset())
    is_stopping: bool = False

    def after(self, event: Event) -> Health:
        """What is known once `event` has happened as well."""
        known = self
        match event:
            case LoopTurned(at_s, broker_reachable):
                silent = None if broker_reachable else "the broker does not answer"
                fault = silent and (self.broker_fault or silent)
                known = replace(self, turned_s=at_s, broker_fault=fault)
            case TurnCompleted() if self.broker_fault is not None:
                known = replace(self, broker_fault=None)
            case BrokerLost(reason, _):
                known = Health(self.started_s, self.turned_s, reason, is_stopping=self.is_stopping)
            case Rebalanced():
                known = self._rebalanced(event)
            case RestoreStarted(partition, _):
                known = replace(self, restoring=self.restoring | {partition})
            case PartitionReady(partition, _):
                known = replace(self, restoring=self.restoring - {partition})
            case Stopping():
                known = replace(self, is_stopping=True)
        return known

    def _rebalanced(self, event: Rebalanced) -> Health:
        partitions = frozenset(event.partitions)
        if event.kind == "assigned":
            return replace(
                self,
                is_member=True,
                assigned=self.assigned | partitions,
                restoring=self.restoring | partitions,
            )
        return replace(
            self,
            is_member=event.kind == "revoked",
            assigned=self.assigned - partitions,
            restoring=self.restoring - partitions,
        )


def liveness(health: Health, now_s: float, stall_s: float) -> Verdict:
    """Whether the loop turns: its last turn is at most `stall_s` old.

    Before the first turn the start may take `STARTUP_S`: reading a model and finding the broker
    have bounds of their own, and a restart in the middle of it would only begin it anew.
    """
    if health.turned_s is None:
        age_s, bound_s, what = now_s - health.started_s, STARTUP_S, "the start"
    else:
        age_s, bound_s, what = now_s - health.turned_s, stall_s, "the last turn"
    if age_s <= bound_s:
        return Verdict(ok=True, waiting_for=())
    sentence = f"loop: {what} is {age_s:.0f} s ago, wanted a turn within {bound_s:g} s"
    return Verdict(ok=False, waiting_for=(sentence,))


def readiness(health: Health) -> Verdict:
    """Whether records become forecasts: the broker answers, the group let us in, state is there."""
    waiting = []
    if health.is_stopping:
        waiting.append("loop: stopping")
    if health.broker_fault is not None:
        waiting.append(f"broker: {health.broker_fault}")
    if not health.is_member:
        waiting.append("group: not a member yet, so no partition is assigned")
    if health.restoring:
        waiting.append(f"state: restoring {_name_some(health.restoring)}")
    return Verdict(ok=not waiting, waiting_for=tuple(waiting))


def _name_some(partitions: frozenset[TopicPartition]) -> str:
    names = [str(partition) for partition in sorted(partitions)]
    rest = len(names) - NAMED_MAX
    return ", ".join(names[:NAMED_MAX]) + (f" and {rest} more" if rest > 0 else "")
