"""Every metric that forecastd exports: name, type, labels, meaning.

A label's values come from a closed list, and each combination exists from the start, so that
`rate()` sees the first event as a step from zero. Only `topic` and `partition` are open: they are
bounded by what is assigned and appear with the assignment. A series is never a label.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import get_args

from prometheus_client import CollectorRegistry, disable_created_metrics

from forecastd.observe.prometheus_declarer import Declarer, MetricDeclared
from forecastd.observe.prometheus_learning import LearningMetrics
from forecastd.records import REJECT_REASONS, Stage

PARTITION: Mapping[str, Sequence[str]] = {"topic": (), "partition": ()}
SOURCE = {"source": ("model", "baseline")}
SOURCE_COLD = {"source": ("model", "baseline"), "cold": ("false", "true")}
STAGE = {"stage": get_args(Stage)}

TURN_BUCKETS: Sequence[float] = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1, 2.5, 5, 10),
)
DELAY_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
RESTORE_BUCKETS = (0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 120, 300, 600)
BATCH_BUCKETS = tuple(2.0**power for power in range(15))


class IngestMetrics:
    """Records in."""

    def __init__(self, declare: Declarer) -> None:
        self.records = declare.counter(
            "forecastd_records_consumed_total", "Records consumed, without those replayed"
        )
        self.replayed = declare.counter(
            "forecastd_records_replayed_total",
            "Records below the committed position, read again in silence to rebuild state",
        )
        self.tombstones = declare.counter(
            "forecastd_tombstones_skipped_total", "Records without a value, skipped"
        )
        self.rejected = declare.counter(
            "forecastd_records_rejected_total",
            "Records that cannot be used, by what is wrong with them",
            {"reason": REJECT_REASONS},
        )
        self.dead_letters = declare.counter(
            "forecastd_dead_letters_total", "Records written to the dead-letter topic"
        )
        self.lag_records = declare.gauge(
            "forecastd_consumer_lag_records", "Records that wait in a partition", PARTITION
        )
        self.lag_seconds = declare.gauge(
            "forecastd_consumer_lag_seconds",
            "Age of the last record worked on while others wait, else 0; grows while none is read",
            PARTITION,
        )
        self.last_record = declare.gauge(
            "forecastd_last_record_timestamp_seconds",
            "Kafka timestamp of the last record worked on",
            PARTITION,
        )


class WindowsMetrics:
    """Observations into windows, and the table that holds them."""

    def __init__(self, declare: Declarer) -> None:
        self.observations = declare.counter(
            "forecastd_observations_decoded_total", "Observations decoded from records"
        )
        self.dropped = declare.counter(
            "forecastd_observations_dropped_total",
            "Observations not used; late: the series had seen an equal or later time",
            {"reason": ("late",)},
        )
        self.losing = declare.counter(
            "forecastd_series_losing_observations_total",
            "Series that lose more than 1 % of their observations to equal or older times",
        )
        self.windows = declare.counter(
            "forecastd_windows_forecast_total", "Windows that ended in a published forecast"
        )
        self.active = declare.gauge("forecastd_series_active", "Series in the table")
        self.evicted = declare.counter(
            "forecastd_series_evicted_total",
            "Series dropped because a partition held more than windows.max_series",
        )
        self.collected = declare.counter(
            "forecastd_series_collected_total",
            "Series removed, with their rows, after state.series_ttl without a record",
        )
        self.reset = declare.counter(
            "forecastd_series_reset_total",
            "Series that began again from nothing because of a gap in their records",
        )
        self.table_bytes = declare.gauge(
            "forecastd_table_bytes", "Memory that the table of series takes"
        )


class ForecastMetrics:
    """The model at work, and how good it is."""

    def __init__(self, declare: Declarer) -> None:
        self.model = declare.info(
            "forecastd_model_info",
            "Model that serves; version is none for the baseline",
            ("version", "architecture"),
        )
        self.batch = declare.histogram(
            "forecastd_model_batch_windows", "Windows in one call of the model", BATCH_BUCKETS
        )
        self.call = declare.histogram(
            "forecastd_model_call_seconds", "Duration of one call of the model", TURN_BUCKETS
        )
        self.state_resets = declare.counter(
            "forecastd_state_resets_total",
            "States zeroed because a model output or state was not finite",
        )
        self.leads = declare.counter(
            "forecastd_leads_scored_total", "Forecast leads whose actual has arrived", SOURCE
        )
        self.error = declare.counter(
            "forecastd_scaled_error_total",
            "Sum over scored leads of the absolute error in spreads of the series, each at most 10",
            SOURCE,
        )
        self.naive_error = declare.counter(
            "forecastd_naive_scaled_error_total",
            "The same sum, likewise limited, for the naive forecast of the same leads",
            SOURCE,
        )
        self.intervals = declare.counter(
            "forecastd_intervals_scored_total", "Scored leads that had an interval", SOURCE
        )
        self.covered = declare.counter(
            "forecastd_intervals_covered_total", "Those whose actual lay inside it", SOURCE
        )
        self.skill = declare.gauge(
            "forecastd_skill_ratio",
            "1 - error / naive error over the 10 min before the last score; NaN before the first",
            SOURCE,
        )
        self.coverage = declare.gauge(
            "forecastd_interval_coverage_ratio",
            "Share of actuals inside the outermost interval over the same time",
            SOURCE,
        )


class PublishMetrics:
    """Forecasts out."""

    def __init__(self, declare: Declarer) -> None:
        self.forecasts = declare.counter(
            "forecastd_forecasts_published_total",
            "Forecasts acknowledged by the broker; cold: made before the first window was full",
            SOURCE_COLD,
        )
        self.delay = declare.bulk_histogram(
            "forecastd_delay_seconds",
            "Kafka timestamp of a record to the acknowledgement of the forecast it completed",
            DELAY_BUCKETS,
        )
        self.last_forecast = declare.gauge(
            "forecastd_last_forecast_timestamp_seconds",
            "When a forecast was last acknowledged; 0 before the first",
        )


class StateMetrics:
    """Rows saved and restored."""

    def __init__(self, declare: Declarer) -> None:
        self.rows = declare.counter("forecastd_rows_saved_total", "Series rows saved")
        self.row_tombstones = declare.counter(
            "forecastd_row_tombstones_saved_total", "Tombstones that removed rows"
        )
        self.row_bytes = declare.counter(
            "forecastd_rows_saved_bytes_total", "Bytes sent to the state topics"
        )
        self.unreadable = declare.counter(
            "forecastd_rows_unreadable_total", "Saved rows that could not be read"
        )
        self.restores = declare.counter(
            "forecastd_restores_total", "Partitions whose rows were read back into the table"
        )
        self.restored_series = declare.counter(
            "forecastd_series_restored_total", "Series that these rows brought back"
        )
        self.restore_seconds = declare.histogram(
            "forecastd_restore_duration_seconds", "Time to read a partition's rows", RESTORE_BUCKETS
        )
        self.restore_read = declare.gauge(
            "forecastd_restore_read_rows",
            "Rows read of the partition that is being restored; 0 while none is",
        )
        self.restore_wanted = declare.gauge(
            "forecastd_restore_wanted_rows", "About how many rows it has"
        )
        self.restore_elapsed = declare.gauge(
            "forecastd_restore_elapsed_seconds", "Time since its first row was asked for"
        )
        self.offsets_resets = declare.counter(
            "forecastd_offsets_resets_total",
            "Partitions started cold: committed offsets not ours, below what is kept, or rows gone",
        )
        self.last_commit = declare.gauge(
            "forecastd_last_commit_timestamp_seconds",
            "When offsets were last committed; 0 before the first",
        )


class ProcessMetrics:
    """The loop, the group and the broker."""

    def __init__(self, declare: Declarer) -> None:
        self.build = declare.info("forecastd_build_info", "Version of forecastd", ("version",))
        self.ready = declare.gauge(
            "forecastd_ready", "1 when the loop last saw /readyz satisfied, else 0"
        )
        self.last_turn = declare.gauge(
            "forecastd_last_turn_timestamp_seconds", "When the loop last turned"
        )
        self.stages = declare.histogram(
            "forecastd_stage_duration_seconds",
            "Time that a stage took in one turn of the loop",
            TURN_BUCKETS,
            STAGE,
        )
        self.stages_cpu = declare.counter(
            "forecastd_stage_cpu_seconds_total",
            "Processor time that the process, all threads, used during a stage",
            STAGE,
        )
        self.partitions = declare.gauge(
            "forecastd_partitions_assigned", "Partitions assigned to this instance"
        )
        self.restoring = declare.gauge(
            "forecastd_partitions_restoring", "Those of them whose state is being restored"
        )
        self.rebalances = declare.counter(
            "forecastd_rebalances_total",
            "Changes of assignment",
            {"kind": ("assigned", "revoked", "lost")},
        )
        self.broker_errors = declare.counter(
            "forecastd_broker_errors_total",
            "Turns of the loop given up because the broker did not do what was asked",
        )
        self.standstill = declare.gauge(
            "forecastd_stable_offset_standstill_seconds",
            "How long one open transaction has kept readers of committed messages waiting, else 0",
            PARTITION,
        )


class Metrics:
    """All metrics, by stage of the data path."""

    def __init__(self, registry: CollectorRegistry) -> None:
        disable_created_metrics()  # one more series for each of ours, which nobody asks for
        declare = Declarer(registry)
        self.ingest = IngestMetrics(declare)
        self.windows = WindowsMetrics(declare)
        self.forecast = ForecastMetrics(declare)
        self.publish = PublishMetrics(declare)
        self.state = StateMetrics(declare)
        self.learning = LearningMetrics(declare)
        self.process = ProcessMetrics(declare)
        self.declared: tuple[MetricDeclared, ...] = tuple(declare.declared)


def metrics_table() -> str:
    """The README's table of metrics, in markdown."""
    lines = ["| Metric | Type | Labels | Meaning |", "| --- | --- | --- | --- |"]
    for metric in Metrics(CollectorRegistry()).declared:
        labels = "; ".join(
            f"`{name}`" + (f" ({', '.join(values)})" if values else "")
            for name, values in metric.labels.items()
        )
        lines.append(f"| `{metric.name}` | {metric.kind} | {labels} | {metric.meaning} |")
    lines.append(
        "| `process_*`, `python_gc_*` | various | `generation` | processor, memory, open files,"
        " start time and garbage collection, from prometheus-client |"
    )
    return "\n".join(lines) + "\n"
