"""What the page and `/snapshot.json` show: one value, made by the loop's thread and never changed.

The HTTP thread only encodes it, so that no reader ever waits for the loop or sees half a turn.
"""

from __future__ import annotations

import msgspec


class SeriesView(msgspec.Struct, frozen=True, kw_only=True):
    """One series and one of its values, as a chart shows them.

    Attributes:
        name: of the series: untrusted text.
        topic, partition: where it is read.
        target: field path of the value.
        at_ms: event times of the recent steps, oldest first.
        actuals: their values, in the series' own unit; NaN (null in JSON) marks a gap.
        origin_ms: event time of the last step that the forecast had seen; None without a forecast.
        forecast_at_ms: event time of each lead.
        quantiles: ascending.
        forecast: of each lead, one number a quantile (horizon x quantiles).
        source: `model` or `baseline`.
        flags: of the latest forecast.
    """

    name: str
    topic: str
    partition: int
    target: str
    at_ms: list[int]
    actuals: list[float]
    origin_ms: int | None = None
    forecast_at_ms: list[int] = []
    quantiles: list[float] = []
    forecast: list[list[float]] = []
    source: str = "baseline"
    flags: tuple[str, ...] = ()


class Errors(msgspec.Struct, frozen=True, kw_only=True):
    """What went wrong since the start, as counts."""

    rejected: int = 0
    late: int = 0
    broker: int = 0
    rows_unreadable: int = 0
    series_evicted: int = 0
    state_resets: int = 0


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """The daemon at one moment.

    Rates cover the last 10 s, delays the last 60 s, skill and coverage the last 10 min; None means
    that nothing happened in that time.

    Attributes:
        at_ms: wall clock, ms since the Unix epoch; 0 before the loop's first report.
        records_total, forecasts_total: since the start.
        lag_records: over all assigned partitions.
        delay_p50_ms, delay_p99_ms: record timestamp to acknowledged forecast.
        skill: 1 - error / error of the naive forecast: 0 is no better, 1 is perfect.
        coverage: share of actuals inside the outermost interval.
        source: `model` once a model serves, else `baseline`.
        series: the busiest, by name, so that a chart stays in its place.
    """

    at_ms: int = 0
    uptime_s: float = 0.0
    records_total: int = 0
    forecasts_total: int = 0
    records_per_s: float = 0.0
    forecasts_per_s: float = 0.0
    lag_records: int = 0
    delay_p50_ms: float | None = None
    delay_p99_ms: float | None = None
    skill: float | None = None
    coverage: float | None = None
    errors: Errors = Errors()
    series_active: int = 0
    table_bytes: int = 0
    partitions: int = 0
    model_version: str | None = None
    architecture: str | None = None
    source: str = "baseline"
    series: tuple[SeriesView, ...] = ()


_ENCODER = msgspec.json.Encoder()


def encode(snapshot: Snapshot) -> bytes:
    """The snapshot as JSON; numbers that are not finite become null."""
    return _ENCODER.encode(snapshot)
