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
        model_version: whose forecast it is; None for the baseline's, and for what weights made
            that have been replaced since.
        in_fallback: whether the baseline is published because the serving model loses to it here.
        model_from_ms: event time of the last step of the first window that the serving weights
            forecast, where other forecasts came before it.
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
    model_version: str | None = None
    in_fallback: bool = False
    model_from_ms: int | None = None
    flags: tuple[str, ...] = ()


class Promotion(msgspec.Struct, frozen=True):
    """A version that came to serve; None is the baseline.

    Attributes:
        by: `trainer`, `rollback`, `operator` or `release`.
        at_ms: wall clock, ms since the Unix epoch.
        reason: one sentence, with figures.
    """

    version: str | None
    by: str
    at_ms: int
    reason: str


class Learning(msgspec.Struct, frozen=True, kw_only=True):
    """Learning while serving.

    Attributes:
        promotions: that this instance saw, oldest first; the first may be older than itself.
        is_held: whether an operator holds the version that serves, so that nothing is trained.
        series_in_fallback: on which the serving model loses to the naive forecast, so that this is
            published.
        running_since_ms: when the training run began that is under way here; None without one.
        last_outcome: of the group's last run: `promoted`, `rejected` or `failed`; None before one.
        last_reason: one sentence on it.
        last_ended_ms: when it ended.
    """

    promotions: tuple[Promotion, ...] = ()
    is_held: bool = False
    series_in_fallback: int = 0
    running_since_ms: int | None = None
    last_outcome: str | None = None
    last_reason: str = ""
    last_ended_ms: int | None = None


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
    learning: Learning = Learning()
    series: tuple[SeriesView, ...] = ()


_ENCODER = msgspec.json.Encoder()


def encode(snapshot: Snapshot) -> bytes:
    """The snapshot as JSON; numbers that are not finite become null."""
    return _ENCODER.encode(snapshot)
