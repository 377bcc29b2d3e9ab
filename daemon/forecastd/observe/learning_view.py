"""What the page shows of learning, folded from its events.

Pure and of bounded size; it belongs to the loop's thread.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from forecastd.observe.events import Event
from forecastd.observe.learning_events import (
    FallbackCounted,
    ModelPromoted,
    ModelsRead,
    RunBegan,
    RunEnded,
    RunGivenUp,
)
from forecastd.observe.snapshot import Learning, Promotion

PROMOTIONS_SHOWN = 20
"""The newest promotions that are kept."""


class LearningFold:
    """Listens to events; `view` says what they add up to."""

    def __init__(self) -> None:
        self._promotions: tuple[Promotion, ...] = ()
        self._running_since_ms: int | None = None
        self._read = ModelsRead(version=None)
        self._in_fallback = 0
        self._handlers: dict[type[Event], Callable[[Any], None]] = {
            ModelPromoted: self._model_promoted,
            ModelsRead: self._models_read,
            RunBegan: self._run_began,
            RunEnded: lambda _: self._run_over(),
            RunGivenUp: lambda _: self._run_over(),
            FallbackCounted: self._fallback_counted,
        }

    def emit(self, event: Event) -> None:
        """Take note of one event; those that are not of learning are ignored."""
        handler = self._handlers.get(type(event))
        if handler is not None:
            handler(event)

    @property
    def view(self) -> Learning:
        """What there is to see."""
        run = self._read.run
        return Learning(
            promotions=self._promotions,
            is_held=self._read.is_held,
            series_in_fallback=self._in_fallback,
            running_since_ms=self._running_since_ms,
            last_outcome=run.status if run is not None else None,
            last_reason=run.reason if run is not None else "",
            last_ended_ms=run.ended_ms if run is not None else None,
        )

    def _models_read(self, event: ModelsRead) -> None:
        self._read = event
        if event.by is not None and not self._promotions:
            # Whoever starts now has not seen what serves being promoted; the topic knows of it.
            self._add(Promotion(event.version, event.by, event.at_ms, event.reason))

    def _model_promoted(self, event: ModelPromoted) -> None:
        self._add(Promotion(event.version, event.by, event.at_ms, event.reason))

    def _add(self, promotion: Promotion) -> None:
        if promotion not in self._promotions[-1:]:
            self._promotions = (*self._promotions, promotion)[-PROMOTIONS_SHOWN:]

    def _run_began(self, event: RunBegan) -> None:
        self._running_since_ms = event.at_ms

    def _run_over(self) -> None:
        self._running_since_ms = None

    def _fallback_counted(self, event: FallbackCounted) -> None:
        self._in_fallback = event.series
