"""What came out of a demo so far, for people and for programs."""

from __future__ import annotations

import msgspec


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """The daemon's own figures at one moment, and how long the demo took to get there.

    Attributes:
        seconds: since the daemon was ready.
        records: read by the daemon.
        forecasts: acknowledged by the broker; `model_forecasts` are those that the model made.
        delay_p50_ms, delay_p99_ms: record to acknowledged forecast, over the last minute.
        skill: 1 - error / error of the naive forecast; None before anything was scored.
        coverage: share of actuals inside the outermost interval.
        source: `model` where one serves, else `baseline`.
        model_version: None for the baseline.
        promotions: of models that the daemon trained itself.
        seconds_to_broker: from the start of the demo, as the next two.
        seconds_to_ready: to the daemon's /readyz.
        seconds_to_first_forecast, seconds_to_first_promotion: None before it.
        page: address for a browser.
    """

    seconds: float
    records: int
    forecasts: int
    model_forecasts: int
    delay_p50_ms: float | None
    delay_p99_ms: float | None
    skill: float | None
    coverage: float | None
    series: int
    source: str
    model_version: str | None
    promotions: int
    seconds_to_broker: float
    seconds_to_ready: float
    seconds_to_first_forecast: float | None
    seconds_to_first_promotion: float | None
    page: str

    def to_json(self) -> str:
        """One line, every field present, numbers as exact as anybody wants them."""
        rounded = {
            name: round(value, 4) if isinstance(value, float) else value
            for name, value in msgspec.structs.asdict(self).items()
        }
        return msgspec.json.encode(rounded).decode()

    def to_text(self) -> str:
        """One line for a person."""
        parts = [
            f"{self.records:,} records",
            f"{self.forecasts:,} forecasts ({self.model_forecasts:,} by the model)",
            f"delay {_delay(self.delay_p50_ms)}, 99 % within {_delay(self.delay_p99_ms)}",
            error_text(self.skill),
            f"{self.serves} serves",
            _after("the first forecast", self.seconds_to_first_forecast),
            _after("the first promotion", self.seconds_to_first_promotion),
        ]
        return f"{self.seconds:.0f} s: {', '.join(filter(None, parts))}"

    def progress(self) -> str:
        """The same while it goes on, in columns."""
        return (
            f"{self.records:>7,} records  {self.forecasts:>6,} forecasts  "
            f"delay {_delay(self.delay_p50_ms):>7}  {self.serves}: {error_text(self.skill)}"
        )

    @property
    def serves(self) -> str:
        """What makes the forecasts now."""
        return "baseline" if self.model_version is None else f"model {self.model_version}"


def _after(what: str, seconds: float | None) -> str:
    return "" if seconds is None else f"{what} {seconds:.1f} s after the start"


def error_text(skill: float | None) -> str:
    """Skill in words.

    >>> error_text(0.412), error_text(-0.05), error_text(None)
    ('error 41 % below naive', 'error 5 % above naive', 'error not known yet')
    """
    if skill is None:
        return "error not known yet"
    return f"error {abs(skill):.0%} {'below' if skill >= 0 else 'above'} naive".replace("%", " %")


def _delay(ms: float | None) -> str:
    if ms is None:
        return "unknown"
    return f"{ms:.0f} ms" if ms < 1_000 else f"{ms / 1_000:.1f} s"
