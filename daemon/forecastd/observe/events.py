"""What happened, as frozen facts. `prometheus_telemetry.py` counts them, `stdout_log.py` says them.

An event is emitted once, where the fact is known; whether it becomes a metric, a line or both is
decided by its listeners. Label values come from closed lists, never from a series. Those of
learning while serving are in `learning_events.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

from forecastd.records import Stage, TopicPartition


class Event:
    """Base of all events, so that a listener can be typed."""

    __slots__ = ()


class Telemetry(Protocol):
    """Whatever listens to events."""

    def emit(self, event: Event) -> None:
        """Take note of one event. Cheap: it runs on the loop's thread."""
        ...


@dataclass(frozen=True, slots=True)
class StageTimed(Event):
    """One stage of one turn of the loop took so long, and so much CPU time of the process."""

    stage: Stage
    seconds: float
    cpu_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class LoopTurned(Event):
    """The loop has turned, with or without records: its heartbeat, also while it backs off.

    `at_s` is `Clock.monotonic_s()`; the broker is reachable if the source has heard of it lately.
    """

    at_s: float
    broker_reachable: bool


@dataclass(frozen=True, slots=True)
class TurnCompleted(Event):
    """A turn of the loop that carried records ended with a commit.

    Attributes:
        records: consumed, without the replayed ones.
        observations: decoded from them.
        late: observations skipped because their series had seen an equal or later time.
        tombstones: records without a value, skipped.
        replayed: records below the committed position, read again in silence.
        resets: series that began again from nothing because of a gap in their records.
        at_ms: wall clock at the commit, ms since the Unix epoch.
        delay_seconds: record timestamp to acknowledged forecast, one a forecast.
    """

    records: int
    observations: int
    late: int
    tombstones: int
    replayed: int
    resets: int
    at_ms: int
    delay_seconds: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class PartitionMoved(Event):
    """Where a partition stands after a turn.

    Lag in records is `end_offset - position`; lag in seconds is the age of the last record that
    was worked on (`record_ms`, its Kafka timestamp), 0 when none is waiting.
    """

    partition: TopicPartition
    position: int
    end_offset: int
    record_ms: int


@dataclass(frozen=True, slots=True)
class RecordsRejected(Event):
    """Records of one poll that went to the dead-letter topic, by reason."""

    reason: str
    count: int
    example: str


@dataclass(frozen=True, slots=True)
class ForecastsMade(Event):
    """Forecasts of one turn, acknowledged by the broker."""

    source: Literal["model", "baseline"]
    cold: bool
    count: int
    at_ms: int


@dataclass(frozen=True, slots=True)
class ModelCalled(Event):
    """One `predict_on_batch` over `windows` windows."""

    windows: int
    seconds: float


@dataclass(frozen=True, slots=True)
class ForecastsScored(Event):
    """Actuals arrived.

    Sums over `leads` (lead, target) pairs of absolute errors in units of the series' spread when
    the actuals came, so that no large series decides alone. `covered` counts actuals inside the
    outermost interval, of `intervals` that had one.
    """

    source: Literal["model", "baseline"]
    leads: int
    error: float
    naive_error: float
    covered: int
    intervals: int


@dataclass(frozen=True, slots=True)
class ModelScored(Event):
    """Actuals arrived for forecasts of the serving weights, whether they were published or not.

    Sums as in `ForecastsScored`, over `forecasts` (or as much of each as has arrived).
    """

    forecasts: int
    leads: int
    error: float
    naive_error: float


@dataclass(frozen=True, slots=True)
class SkillFell(Event):
    """The served model does worse than the naive forecast over the last scored leads."""

    skill: float
    leads: int


@dataclass(frozen=True, slots=True)
class SeriesCounted(Event):
    """Series in the table now, and bytes of memory the table takes."""

    active: int
    table_bytes: int


@dataclass(frozen=True, slots=True)
class SeriesEvicted(Event):
    """Series dropped because a partition held more than `windows.max_series`."""

    partition: TopicPartition
    count: int


@dataclass(frozen=True, slots=True)
class SeriesCollected(Event):
    """Series dropped, with their rows, because they were away for `state.series_ttl`."""

    partition: TopicPartition
    count: int


@dataclass(frozen=True, slots=True)
class SeriesLosesObservations(Event):
    """More than 1 % of a series' observations had an equal or older time. Said once a series."""

    partition: TopicPartition
    series: str
    late: int
    seen: int


@dataclass(frozen=True, slots=True)
class RowsSaved(Event):
    """Rows (and tombstones) acknowledged by the state topic in one turn."""

    rows: int
    tombstones: int
    bytes: int


@dataclass(frozen=True, slots=True)
class RowsUnreadable(Event):
    """Saved rows that could not be read; their series start cold."""

    partition: TopicPartition
    count: int
    example: str


@dataclass(frozen=True, slots=True)
class StateReset(Event):
    """A model output or state that was not finite: the series' state was zeroed."""

    count: int


@dataclass(frozen=True, slots=True)
class Rebalanced(Event):
    """Partitions given to or taken from this instance.

    `assigned` with no partitions means: a member of the group, and others hold them all.
    """

    kind: Literal["assigned", "revoked", "lost"]
    partitions: tuple[TopicPartition, ...]


@dataclass(frozen=True, slots=True)
class RestoreStarted(Event):
    """A partition's rows are about to be read."""

    partition: TopicPartition
    rows: int


@dataclass(frozen=True, slots=True)
class RestoreMoved(Event):
    """How much of a partition's rows has been read; `rows_read` grows to about `rows`."""

    partition: TopicPartition
    rows_read: int
    rows: int


@dataclass(frozen=True, slots=True)
class RestoreBlocked(Event):
    """A partition waits for an operator, the others being served; told at every attempt."""

    partition: TopicPartition
    reason: str


@dataclass(frozen=True, slots=True)
class PartitionRestored(Event):
    """A partition's rows are in the table; records up to `position` are replayed in silence."""

    partition: TopicPartition
    series: int
    resume_from: int
    position: int
    seconds: float


@dataclass(frozen=True, slots=True)
class PartitionReady(Event):
    """A partition is served."""

    partition: TopicPartition
    position: int


@dataclass(frozen=True, slots=True)
class OffsetsReset(Event):
    """The committed offsets are not ours, or lie below what is kept: series start cold."""

    partition: TopicPartition
    found: str
    series: int


@dataclass(frozen=True, slots=True)
class ModelServed(Event):
    """Which model serves from now on; None: the baseline."""

    version: str | None
    architecture: str


@dataclass(frozen=True, slots=True)
class WindowsBuffered(Event):
    """Finished windows were written to the windows topic, and acknowledged."""

    windows: int
    bytes: int


@dataclass(frozen=True, slots=True)
class SeriesNotLearnt(Event):
    """Windows of a partition came faster than `training.sample_rate`.

    `left_out` series are no longer written to the windows topic, and `kept` still are.
    """

    partition: TopicPartition
    left_out: int
    kept: int


@dataclass(frozen=True, slots=True)
class TopicCreated(Event):
    """A missing topic was created."""

    topic: str
    partitions: int


@dataclass(frozen=True, slots=True)
class TopicGrown(Event):
    """A state topic was given the partitions that its input topic `like` has got since."""

    topic: str
    like: str
    partitions_before: int
    partitions: int


@dataclass(frozen=True, slots=True)
class BrokerLost(Event):
    """A turn of the loop could not be finished.

    The client is given up, and its partitions with it; a new one starts from the last commit.
    """

    reason: str
    retry_seconds: float


@dataclass(frozen=True, slots=True)
class StableOffsetsSeen(Event):
    """For how long readers of committed messages have not got on, by partition, in seconds.

    0 where no message waits for a transaction, or where they get on.
    """

    standstill: Mapping[TopicPartition, float]


@dataclass(frozen=True, slots=True)
class ReadersHeldUp(Event):
    """Readers of committed messages wait for a transaction; the sentence says for which."""

    partition: TopicPartition
    transaction: str


@dataclass(frozen=True, slots=True)
class Started(Event):
    """The daemon has read its settings and listens."""

    version: str
    group_id: str
    topics: tuple[str, ...]
    address: str


@dataclass(frozen=True, slots=True)
class SettingWarned(Event):
    """A setting is allowed but has a consequence that the operator may not expect."""

    setting: str
    consequence: str


@dataclass(frozen=True, slots=True)
class Stopping(Event):
    """A signal asked for the end."""

    signal: str


@dataclass(frozen=True, slots=True)
class Stopped(Event):
    """The loop has ended, `seconds` after it was asked to.

    `is_complete`: everything that was read is committed, and the group is left.
    """

    seconds: float
    is_complete: bool


@dataclass(frozen=True, slots=True)
class FatalError(Event):
    """The daemon ends because of this."""

    error: str
