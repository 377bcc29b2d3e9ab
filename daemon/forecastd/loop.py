"""The main loop: poll, decode, window, forecast, publish, save, commit.

One turn carries one poll from the input topics to committed offsets. Whatever a broker fails to do
raises `BrokerError`, and whoever runs the loop starts it over from the last commit: there is no
other way back.
"""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

import numpy as np

from forecastd.clock import Clock
from forecastd.forecast.forecaster import Forecaster
from forecastd.ingest.json_decoder import JsonDecoder
from forecastd.observe.events import (
    ForecastsMade,
    PartitionMoved,
    PartitionReady,
    RecordsRejected,
    RowsSaved,
    SeriesCounted,
    Telemetry,
    TurnCompleted,
    WindowsBuffered,
)
from forecastd.ports import Delivery, Learner, Source
from forecastd.publish.dead_letter import dead_letter
from forecastd.publish.message import encode_forecasts
from forecastd.records import (
    Committed,
    Decoded,
    Forecasts,
    Message,
    Observations,
    Polled,
    Record,
    Round,
    Slots,
    Stage,
    TopicPartition,
    Turn,
)
from forecastd.state.collector import Collector
from forecastd.state.restorer import Restorer
from forecastd.state.row_saver import RowBatch, RowSaver
from forecastd.state.starting_point import StartingPoint
from forecastd.state.table import SeriesTable
from forecastd.stopwatch import Stopwatch
from forecastd.windows.windower import Windower

_POLL_S = 0.5
_AMONG_SERVED_S = 0.01
"""For rows while other partitions are served: long enough not to spin when none come."""


@dataclass(slots=True)
class Served:
    """One partition that is read.

    Attributes:
        position: the offset after the last record that was applied.
        silent_below: records below it are replayed: they move state and nothing else.
        committed: the last commit of ours that the broker has acknowledged; None before the first.
        recorded_ms: timestamp of the last record that was applied.
        told: the position that telemetry was told last.
    """

    position: int
    silent_below: int
    committed: Committed | None = None
    recorded_ms: int = 0
    told: int | None = None

    @property
    def is_ready(self) -> bool:
        """Whether the replay is over."""
        return self.position >= self.silent_below


@dataclass(slots=True)
class Loop:
    """The stages, in the order of the data path, and the partitions they serve.

    Attributes:
        dead_letters: their topic, and the bytes of the largest message that it takes.
        targets: names of the values that are forecast.
        served: partitions whose rows are in the table.
        delays: of this turn's forecasts, from record to acknowledgement, in seconds.
        heard: records carried to a commit, without those that were replayed.
    """

    source: Source
    decoder: JsonDecoder
    windower: Windower
    forecaster: Forecaster
    delivery: Delivery
    saver: RowSaver
    collector: Collector
    learner: Learner
    restorer: Restorer
    starting_point: StartingPoint
    table: SeriesTable
    telemetry: Telemetry
    clock: Clock
    output_topic: str
    dead_letters: tuple[str, int]
    targets: Sequence[str]
    stopwatch: Stopwatch
    served: dict[TopicPartition, Served] = field(default_factory=dict)
    delays: list[float] = field(default_factory=list)
    heard: int = 0

    @property
    def is_ready(self) -> bool:
        """Whether every partition that we were given is restored and replayed."""
        return not self.restorer.waiting and all(at.is_ready for at in self.served.values())

    def close(self, timeout_s: float) -> None:
        """Leave the group, and give up what is not acknowledged; after a turn that is nothing.

        Raises:
            BrokerError: the broker did not hear of it.
        """
        with ExitStack() as last_first:
            last_first.callback(self.restorer.reader.close)
            last_first.callback(self.delivery.close, timeout_s)
            last_first.callback(self.source.close, timeout_s)

    def run_once(self) -> bool:
        """Carry one poll from the input topics to committed offsets; False if there was nothing."""
        with self.stopwatch.timed("poll"):
            polled = self.source.poll(0.0 if self._is_restoring else _POLL_S)
        self._follow_assignment()
        polled = self._still_ours(polled)
        self._restore()
        with self.stopwatch.timed("decode"):
            decoded = [self._decode(*item) for item in polled.records.items()]
        forecasts, windowed, learnt = self._forecast([part.observations for part in decoded])
        with self.stopwatch.timed("publish"):
            published = self._messages(forecasts, decoded)
        self._note_positions(polled)
        with self.stopwatch.timed("save"):
            batch = self._due_rows(windowed)
            self._collect(polled)
        turn = Turn(published, [*batch.tombstones, *batch.rows], learnt, self._moved())
        if turn:
            self.delivery.deliver(turn, self.stopwatch)
            self._note_delivered(turn, batch)
            self._report_published(forecasts, decoded)
        if polled.records:
            self._report(polled, decoded)
        self._report_positions()
        self.stopwatch.report()
        self.learner.step([partition for partition, at in self.served.items() if at.is_ready])
        return bool(polled.records)

    def _decode(self, partition: TopicPartition, records: Sequence[Record]) -> Decoded:
        """Decode; what was rejected or skipped before the last commit is not told again."""
        decoded = self.decoder.decode(partition, records)
        below = self.served[partition].silent_below
        if not records or records[0].offset >= below:
            return decoded
        heard = [reject for reject in decoded.rejects if reject.record.offset >= below]
        tombstones = sum(record.value is None and record.offset >= below for record in records)
        return Decoded(decoded.observations, heard, tombstones)

    def _forecast(
        self, observations: list[Observations]
    ) -> tuple[list[Forecasts], list[Slots], list[Message]]:
        """Apply the observations, and forecast at every origin among them.

        Returns:
            Forecasts, the series of which a window ended, and the windows to learn from.
        """
        silent_below = {partition: at.silent_below for partition, at in self.served.items()}
        forecasts: list[Forecasts] = []
        windowed: list[Slots] = []
        learnt: list[Message] = []
        for origins in self._timed_each("window", self.windower.rounds(observations, silent_below)):
            with self.stopwatch.timed("forecast"):
                forecasts.extend(self.forecaster.forecast(origins))
                learnt.extend(self.learner.finished(origins))
            windowed.append(origins.slots[(origins.phases >= 0) & ~origins.is_silent])
        return forecasts, windowed, learnt

    def _messages(self, forecasts: list[Forecasts], decoded: list[Decoded]) -> list[Message]:
        """What the world sees of this turn."""
        messages = [
            message
            for made in forecasts
            for message in encode_forecasts(made, self.output_topic, self.targets)
        ]
        topic, bytes_max = self.dead_letters
        for part in decoded:
            messages.extend(dead_letter(reject, topic, bytes_max) for reject in part.rejects)
        return messages

    def _due_rows(self, windowed: list[Slots]) -> RowBatch:
        """The rows to save with this turn, taken for saved: a failure forgets the table.

        Tombstones go first: a series that lost its place and came back within the turn has both.
        """
        for partition, name, slot in self.windower.admission.evicted:
            self.saver.evict(partition, name, slot)
        self.windower.admission.evicted.clear()
        if self.windower.touched:
            self.saver.touched(np.concatenate(self.windower.touched))
            self.windower.touched.clear()
        for slots in windowed:
            self.saver.windowed(slots)
        ready = {at: state.position for at, state in self.served.items() if state.is_ready}
        batch = self.saver.batch(ready)
        self.saver.saved(batch)
        return batch

    def _collect(self, polled: Polled) -> None:
        """Give up series that are away for too long, before this turn's commit speaks of rows."""
        self.collector.note_time(polled)
        commits = {at: served.committed for at, served in self.served.items() if served.is_ready}
        self.collector.collect({at: found for at, found in commits.items() if found is not None})

    def _moved(self) -> dict[TopicPartition, Committed]:
        """Offsets to commit; a partition that is replayed stays where it was."""
        moved = {}
        for partition, at in self.served.items():
            if at.is_ready:
                resume_from = self.saver.resume_from(partition, at.position)
                has_rows = self.saver.has_rows(partition)
                committed = Committed(at.position, resume_from, has_rows)
                if committed != at.committed:
                    moved[partition] = committed
        return moved

    def _note_delivered(self, turn: Turn, batch: RowBatch) -> None:
        for partition, committed in turn.commits.items():
            self.served[partition].committed = committed
        if turn.rows:
            size = sum(len(row.value or b"") for row in batch.rows)
            self.telemetry.emit(RowsSaved(len(batch.rows), len(batch.tombstones), size))
        if turn.windows:
            size = sum(len(window.value or b"") for window in turn.windows)
            self.telemetry.emit(WindowsBuffered(len(turn.windows), size))

    def _follow_assignment(self) -> None:
        changes = self.source.take_assignment()
        for partition in changes.removed:
            self.restorer.remove(partition)
            self.saver.close(partition)
            self.table.drop_partition(partition)
            self.served.pop(partition, None)
        if changes.removed:
            self._count_series()
        for partition in changes.added:
            self.saver.open(partition, secrets.token_hex(4))
            self.restorer.add(partition)

    def _still_ours(self, polled: Polled) -> Polled:
        """What was polled, without partitions that were taken from us during the poll.

        One that was given back at once is among them: it is restored, and read again.
        """
        if polled.records.keys() <= self.served.keys():
            return polled
        ours = {at: found for at, found in polled.records.items() if at in self.served}
        return Polled(ours, {at: polled.positions[at] for at in ours})

    @property
    def _is_restoring(self) -> bool:
        """Whether rows are read on: behind them a first offset may have to be committed."""
        return self.restorer.is_busy and not self.source.is_joining

    def _restore(self) -> None:
        """Read on in the rows of a partition that was given to us; serve it when they are read."""
        if not self._is_restoring:
            return
        restored = self.restorer.step(_POLL_S if not self.served else _AMONG_SERVED_S)
        if restored is None:
            return
        committed = self.starting_point.find(restored)
        assert committed.resume_from is not None, "a starting point says where to resume"
        at = Served(committed.resume_from, committed.position)
        self.served[restored.partition] = at
        self.source.serve_from(restored.partition, at.position)
        self._count_series()
        if at.is_ready:
            self.telemetry.emit(PartitionReady(restored.partition, at.position))

    def _note_positions(self, polled: Polled) -> None:
        for partition, records in polled.records.items():
            self.served[partition].recorded_ms = records[-1].timestamp
        for partition, at in self.served.items():
            was_ready = at.is_ready
            at.position = polled.positions.get(partition, at.position)
            if partition not in polled.positions and at.position < self._end_offset(partition):
                # Markers of transactions, which are never polled, may be all that is left.
                at.position = max(self.source.position(partition) or 0, at.position)
            if at.is_ready and not was_ready:
                self.telemetry.emit(PartitionReady(partition, at.position))

    def _report_published(self, forecasts: list[Forecasts], decoded: list[Decoded]) -> None:
        now_ms = self.clock.now_ms()
        for made in forecasts:
            models = int(np.count_nonzero(made.is_model))
            if models:
                self.telemetry.emit(ForecastsMade("model", made.is_cold, models, now_ms))
            if models < len(made.series):
                count = len(made.series) - models
                self.telemetry.emit(ForecastsMade("baseline", made.is_cold, count, now_ms))
        recorded = [made.recorded_ms[made.recorded_ms >= 0] for made in forecasts]  # -1: unknown
        self.delays = [delay for ms in recorded for delay in ((now_ms - ms) / 1000).tolist()]
        rejects = [reject for part in decoded for reject in part.rejects]
        for reason, count in Counter(reject.reason for reject in rejects).items():
            example = next(reject.error for reject in rejects if reject.reason == reason)
            self.telemetry.emit(RecordsRejected(reason, count, example))

    def _report(self, polled: Polled, decoded: list[Decoded]) -> None:
        heard = replayed = 0
        for partition, records in polled.records.items():
            at = self.served[partition]
            silent = 0
            if records[0].offset < at.silent_below:
                silent = sum(record.offset < at.silent_below for record in records)
            replayed += silent
            heard += len(records) - silent
        self.heard += heard
        self.telemetry.emit(
            TurnCompleted(
                records=heard,
                observations=self.windower.accepted + self.windower.late,
                late=self.windower.late,
                tombstones=sum(part.tombstones for part in decoded),
                replayed=replayed,
                resets=self.windower.expired,
                at_ms=self.clock.now_ms(),
                delay_seconds=tuple(self.delays),
            )
        )
        self.windower.accepted = self.windower.late = self.windower.expired = 0
        self.delays = []
        self._count_series()

    def _report_positions(self) -> None:
        for partition, at in self.served.items():
            if at.told not in (None, at.position):
                end = max(self._end_offset(partition), at.position)
                self.telemetry.emit(PartitionMoved(partition, at.position, end, at.recorded_ms))
            at.told = at.position

    def _end_offset(self, partition: TopicPartition) -> int:
        return self.source.end_offset(partition) or 0

    def _count_series(self) -> None:
        self.telemetry.emit(SeriesCounted(len(self.table), self.table.total_bytes))

    def _timed_each(self, stage: Stage, items: Iterator[Round]) -> Iterator[Round]:
        """Time what an iterator does between its items, not what is done with them."""
        while True:
            with self.stopwatch.timed(stage):
                item = next(items, None)
            if item is None:
                return
            yield item
