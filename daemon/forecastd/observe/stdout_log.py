"""Says in one line each what an operator should know. What happens per record is only counted.

The level follows the consequence: ERROR where data is lost or someone must act, WARNING where the
daemon recovered, INFO where what was asked for is done.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TextIO

from forecastd.clock import Clock
from forecastd.observe.events import (
    BrokerLost,
    Event,
    FatalError,
    LoopTurned,
    OffsetsReset,
    PartitionReady,
    PartitionRestored,
    ReadersHeldUp,
    Rebalanced,
    RecordsRejected,
    RestoreBlocked,
    RestoreStarted,
    RowsUnreadable,
    SeriesEvicted,
    SeriesLosesObservations,
    SettingWarned,
    SkillFell,
    Started,
    StateReset,
    Stopped,
    Stopping,
    TopicCreated,
    TopicGrown,
)
from forecastd.observe.rate_limit import OncePer
from forecastd.observe.stdout_learning import LearningLines
from forecastd.observe.stdout_lines import LogFormat, make_logger

PERIOD_S = 60.0
"""A fact that repeats is said at most once in this time, with its count."""

SERIES_NAMED_MAX = 20
"""Series that lose observations are named up to this many; further ones are only counted."""


class StdoutLog:
    """Writes a line for each event that has a consequence for someone.

    Args:
        log_format: `json`, `console`, or `auto`: console on a terminal, JSON elsewhere.
        level: the least consequence that is written.
        clock: for the time stamps, and for saying repeated facts once a minute.
        stream: where lines go; stdout by default.
    """

    def __init__(
        self, log_format: LogFormat, level: str, clock: Clock, stream: TextIO | None = None
    ) -> None:
        self._log = make_logger(log_format, level, clock, stream)
        self._clock = clock
        self._repeated = OncePer[tuple[type[Event], str]](PERIOD_S)
        self._series_named = 0
        self._was_reachable = False
        self._lost_broker_at_s: float | None = None
        self._handlers: dict[type[Event], Callable[[Any], None]] = {
            LoopTurned: self._loop_turned,
            RecordsRejected: lambda e: self._repeat(e, e.reason, e.count, e.example),
            SeriesEvicted: lambda e: self._repeat(e, str(e.partition), e.count, ""),
            StateReset: lambda e: self._repeat(e, "", e.count, ""),
            RowsUnreadable: lambda e: self._repeat(e, str(e.partition), e.count, e.example),
            SeriesLosesObservations: self._series_loses_observations,
            SkillFell: self._skill_fell,
            BrokerLost: self._broker_lost,
            ReadersHeldUp: lambda e: self._repeat(e, str(e.partition), 1, e.transaction),
            Rebalanced: self._rebalanced,
            RestoreStarted: self._restore_started,
            RestoreBlocked: lambda e: self._repeat(e, e.reason, 1, e.reason),
            PartitionRestored: self._partition_restored,
            PartitionReady: self._partition_ready,
            OffsetsReset: self._offsets_reset,
            TopicCreated: self._topic_created,
            TopicGrown: self._topic_grown,
            SettingWarned: self._setting_warned,
            Started: self._started,
            Stopping: self._stopping,
            Stopped: self._stopped,
            FatalError: self._fatal_error,
            **LearningLines(self._log).handlers(),
        }

    def emit(self, event: Event) -> None:
        """Write a line if the event is worth one."""
        handler = self._handlers.get(type(event))
        if handler is not None:
            handler(event)

    def _repeat(self, event: Event, what: str, count: int, example: str) -> None:
        key = (type(event), what)
        said = self._repeated.admit(key, count, example, self._clock.monotonic_s())
        if said is not None:
            self._say_repeated(key, said, example)

    def _say_repeated(self, key: tuple[type[Event], str], count: int, example: str) -> None:
        kind, what = key
        if kind is RecordsRejected:
            self._log.warning(
                "records went to the dead-letter topic",
                reason=what,
                count=count,
                example=example,
            )
        elif kind is SeriesEvicted:
            self._log.error(
                "the longest idle series were dropped with their state; raise windows.max_series",
                partition=what,
                count=count,
            )
        elif kind is RowsUnreadable:
            self._log.error(
                "saved rows cannot be read; their series start cold",
                partition=what,
                count=count,
                example=example,
            )
        elif kind is ReadersHeldUp:
            self._log.error(
                "readers of committed messages wait for a transaction",
                partition=what,
                count=count,
                transaction=example,
            )
        elif kind is RestoreBlocked:
            self._log.error(f"restore waits; {what}")
        elif kind is BrokerLost:
            self._log.warning(
                "the broker did not do what was asked; going on from the last commit",
                count=count,
                reason=example,
            )
        elif kind is LoopTurned:
            self._log.warning(
                "the broker stopped answering; /readyz says 503 until it answers", count=count
            )
        else:
            self._log.warning("states that were not finite were zeroed", count=count)

    def _loop_turned(self, event: LoopTurned) -> None:
        now_s = self._clock.monotonic_s()
        for key, count, example in self._repeated.due(now_s):
            self._say_repeated(key, count, example)
        if event.broker_reachable and self._lost_broker_at_s is not None:
            seconds = round(now_s - self._lost_broker_at_s, 1)
            self._log.info("the broker answers again", seconds=seconds)
            self._lost_broker_at_s = None
        elif self._was_reachable and not event.broker_reachable and self._lost_broker_at_s is None:
            # An idle loop asks nothing of the broker, so that nothing fails and nothing else tells.
            self._lost_broker_at_s = now_s
            self._repeat(event, "", 1, "")
        self._was_reachable = event.broker_reachable

    def _series_loses_observations(self, event: SeriesLosesObservations) -> None:
        self._series_named += 1
        if self._series_named <= SERIES_NAMED_MAX:
            self._log.warning(
                "a series loses observations because their times do not increase; check that"
                " ingest.time is the time of the observation and that ingest.series tells every"
                " emitter apart",
                partition=str(event.partition),
                series=event.series,
                lost=event.late,
                seen=event.seen,
            )
        elif self._series_named == SERIES_NAMED_MAX + 1:
            self._log.warning(
                "more series lose observations; they are only counted from here on, in"
                " forecastd_series_losing_observations_total",
                series_named=SERIES_NAMED_MAX,
            )

    def _skill_fell(self, event: SkillFell) -> None:
        self._log.warning(
            "the served model does worse than the naive forecast; unless models.serve names it,"
            " series on which it loses get the naive one",
            skill=round(event.skill, 4),
            leads=event.leads,
        )

    def _broker_lost(self, event: BrokerLost) -> None:
        if self._lost_broker_at_s is None:
            self._lost_broker_at_s = self._clock.monotonic_s()
        again = f"{event.reason}; trying again in {event.retry_seconds:.1f} s"
        self._repeat(event, "", 1, again)

    def _rebalanced(self, event: Rebalanced) -> None:
        say = self._log.warning if event.kind == "lost" else self._log.info
        names = ", ".join(str(partition) for partition in event.partitions)
        say(f"partitions {event.kind}", partitions=names, count=len(event.partitions))

    def _restore_started(self, event: RestoreStarted) -> None:
        self._log.debug("restore begins", partition=str(event.partition), rows=event.rows)

    def _partition_restored(self, event: PartitionRestored) -> None:
        if event.series or event.position > event.resume_from:
            self._log.info(
                "series restored",
                partition=str(event.partition),
                series=event.series,
                seconds=round(event.seconds, 3),
                replay=max(event.position - event.resume_from, 0),
            )

    def _partition_ready(self, event: PartitionReady) -> None:
        self._log.info(
            "partition is served", partition=str(event.partition), position=event.position
        )

    def _offsets_reset(self, event: OffsetsReset) -> None:
        self._log.error(
            "the committed offset does not continue the saved state; the series of this"
            " partition start cold",
            partition=str(event.partition),
            found=event.found,
            series=event.series,
        )

    def _topic_created(self, event: TopicCreated) -> None:
        self._log.info("topic created", topic=event.topic, partitions=event.partitions)

    def _topic_grown(self, event: TopicGrown) -> None:
        self._log.warning(
            "an input topic has grown, and its state topic with it; a series whose records now come"
            " in another partition is a new series there and starts cold",
            topic=event.like,
            state_topic=event.topic,
            partitions_before=event.partitions_before,
            partitions=event.partitions,
        )

    def _setting_warned(self, event: SettingWarned) -> None:
        self._log.warning(event.consequence, setting=event.setting)

    def _started(self, event: Started) -> None:
        self._log.info(
            "forecastd listens",
            version=event.version,
            address=event.address,
            group=event.group_id,
            topics=", ".join(event.topics),
        )

    def _stopping(self, event: Stopping) -> None:
        self._log.info("stopping after this turn of the loop", signal=event.signal)

    def _stopped(self, event: Stopped) -> None:
        self._flush()
        seconds = round(event.seconds, 3)
        if event.is_complete:
            self._log.info("stopped; everything read is committed", seconds=seconds)
        else:
            told = "stopped; the next start goes on from the last commit"
            self._log.warning(told, seconds=seconds)

    def _fatal_error(self, event: FatalError) -> None:
        self._flush()
        self._log.error(event.error)

    def _flush(self) -> None:
        """Say what was only counted so far: there will be no later turn to say it."""
        for key, count, example in self._repeated.due(float("inf")):
            self._say_repeated(key, count, example)
