"""One telemetry that is several."""

from __future__ import annotations

from collections.abc import Sequence

from forecastd.observe.events import Event, Telemetry


class Fanout:
    """Passes every event to several listeners, in the order in which they were given."""

    def __init__(self, listeners: Sequence[Telemetry]) -> None:
        self._emits = tuple(listener.emit for listener in listeners)

    def emit(self, event: Event) -> None:
        """Pass one event on."""
        for emit in self._emits:
            emit(event)
