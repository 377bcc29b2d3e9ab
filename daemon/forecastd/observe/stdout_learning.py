"""Lines on learning while serving; a run whose model serves is one of them, not three."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from structlog.typing import FilteringBoundLogger

from forecastd.observe.events import Event, ModelServed, SeriesNotLearnt
from forecastd.observe.learning_events import (
    ModelCacheFailed,
    ModelPromoted,
    ModelRefused,
    RunBegan,
    RunEnded,
    RunGivenUp,
)

_ENDED = {
    "promoted": "training brought a better model",
    "rejected": "training brought nothing better; what serves goes on",
    "failed": "training failed; what serves goes on, and training is tried again",
}


class LearningLines:
    """Says what became of training runs and of the group's models."""

    def __init__(self, log: FilteringBoundLogger) -> None:
        self._log = log
        self._promoted: ModelPromoted | None = None

    def handlers(self) -> dict[type[Event], Callable[[Any], None]]:
        """What to say at which event."""
        return {
            RunBegan: lambda _: self._log.debug("training begins"),
            RunGivenUp: self._run_given_up,
            RunEnded: self._run_ended,
            ModelPromoted: self._model_promoted,
            ModelServed: self._model_served,
            ModelRefused: self._model_refused,
            ModelCacheFailed: self._cache_failed,
            SeriesNotLearnt: self._series_not_learnt,
        }

    def _run_given_up(self, _event: RunGivenUp) -> None:
        self._log.info("training was ended; the first partition is not served here any more")

    def _run_ended(self, event: RunEnded) -> None:
        say = self._log.warning if event.status == "failed" else self._log.info
        version = {"version": event.version} if event.version is not None else {}
        say(
            _ENDED[event.status],
            **version,
            reason=event.reason,
            windows=event.windows,
            seconds=round(event.seconds, 1),
            cpu_seconds=round(event.cpu_seconds, 1),
        )

    def _model_promoted(self, event: ModelPromoted) -> None:
        self._promoted = event

    def _model_served(self, event: ModelServed) -> None:
        promoted, self._promoted = self._promoted, None
        facts = {}
        if event.version is not None:
            facts = {"version": event.version, "architecture": event.architecture}
        is_served = "model is served" if event.version is not None else "no model is served"
        if promoted is not None and promoted.by == "rollback":
            told = "rolled back, because live skill fell with what was promoted; " + is_served
            self._log.warning(told, **facts, reason=promoted.reason)
        elif promoted is not None:
            self._log.info(is_served, **facts, by=promoted.by, reason=promoted.reason)
        elif event.version is None:
            self._log.info("no model is served; forecasts are the baseline's")
        else:
            self._log.info(is_served, **facts)

    def _model_refused(self, event: ModelRefused) -> None:
        self._log.error(
            "the group's model does not fit the settings here; what served before goes on",
            version=event.version,
            reason=event.sentence,
        )

    def _cache_failed(self, event: ModelCacheFailed) -> None:
        self._log.warning("models.dir holds no copy of what serves", reason=event.sentence)

    def _series_not_learnt(self, event: SeriesNotLearnt) -> None:
        self._log.info(
            "series are left out of what is learnt from, to keep training.sample_rate",
            partition=str(event.partition),
            left_out=event.left_out,
            kept=event.kept,
        )
