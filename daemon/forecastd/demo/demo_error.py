"""The one error of the demo and its feed."""

from __future__ import annotations

from forecastd.errors import ForecastdError


class DemoError(ForecastdError):
    """A part of the demo cannot start or did not go on; the person who started it must act."""
