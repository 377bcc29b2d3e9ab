"""What can go wrong with the embedded broker, the demo and its feed, worded like all others."""

from __future__ import annotations

from forecastd.errors import ForecastdError


class EmbeddedKafkaError(ForecastdError):
    """The embedded broker cannot be fetched, started or kept running; the caller must act.

    Attributes:
        where: the jar, file, folder, port or node that is meant.
        found: what was there.
        wanted: what should have been there.
        then: what to do about it, or empty.
    """

    def __init__(self, where: str, found: str, wanted: str, then: str = "") -> None:
        self.where, self.found, self.wanted, self.then = where, found, wanted, then
        super().__init__(f"{where}: {found}, wanted {wanted}" + (f"; {then}" if then else ""))


class DemoError(ForecastdError):
    """A part of the demo cannot start or did not go on; the person who started it must act."""
