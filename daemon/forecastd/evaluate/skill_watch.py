"""Says when the model that an operator serves does worse than the naive forecast."""

from __future__ import annotations

from dataclasses import dataclass

from forecastd.observe.events import Event, ModelScored, SkillFell, Telemetry

LEADS_JUDGED = 500
"""Scored leads that one judgement is made of."""

RECOVERED = 0.1
"""Skill from which on the model counts as better again; between this and 0 nothing is said.

More than the noise of one judgement, else a model on the edge would be told of again and again."""


@dataclass(slots=True)
class SkillWatch:
    """Judges the model on every `LEADS_JUDGED` scored leads; says it once, until it recovers."""

    telemetry: Telemetry
    _leads: int = 0
    _error: float = 0.0
    _naive_error: float = 0.0
    _said: bool = False

    def emit(self, event: Event) -> None:
        """Take note of scores."""
        if not isinstance(event, ModelScored):
            return
        self._leads += event.leads
        self._error += event.error
        self._naive_error += event.naive_error
        if self._leads < LEADS_JUDGED:
            return
        skill = 1 - self._error / self._naive_error if self._naive_error > 0 else 0.0
        if skill < 0 and not self._said:
            self.telemetry.emit(SkillFell(skill, self._leads))
            self._said = True
        elif skill >= RECOVERED:
            self._said = False
        self._leads, self._error, self._naive_error = 0, 0.0, 0.0
