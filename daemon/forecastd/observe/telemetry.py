"""One telemetry that is several."""

from __future__ import annotations

from collections.abc import Sequence

from forecastd.observe.events import Event, Telemetry


class Fanout:
    """Passes every event to several listeners, in the order in which they were given."""

    def __init__(self, listeners: Sequence[Telemetry]) -> None:
        self._emits = [listener.emit for listener in listeners]

    def add(self, listener: Telemetry) -> None:
        """Pass events on to one more listener, last."""
        self._emits.append(listener.emit)

    def emit(self, event: Event) -> None:
        """Pass one event on."""
        for emit in self._emits:
            emit(event)
