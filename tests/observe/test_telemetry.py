from __future__ import annotations

from forecastd.observe.events import Event, StateReset
from forecastd.observe.telemetry import Fanout


class Heard:
    """A listener that keeps what it heard."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def emit(self, event: Event) -> None:
        self.events.append(event)


class TestFanout:
    def test_every_listener_hears_every_event_once(self) -> None:
        first, second = Heard(), Heard()
        fanout = Fanout([first, second])
        fanout.emit(StateReset(1))
        fanout.emit(StateReset(2))
        assert first.events == second.events == [StateReset(1), StateReset(2)]
