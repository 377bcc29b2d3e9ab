"""Learning while serving: follows the group's champion, and trains its successors in its turn.

One object for the life of the process, on the loop's thread: loops come and go with the broker's
failures, a training run goes on. Nothing here waits for a run; what came of it is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from operator import attrgetter
from typing import Protocol

from forecastd.architecture import Architecture
from forecastd.clock import Clock
from forecastd.errors import ModelError
from forecastd.evaluate.live_skill import LiveSkill, Probation
from forecastd.forecast.forecaster import Forecaster
from forecastd.forecast.model import Model
from forecastd.learning_run import RunWriter
from forecastd.models.group_models import GroupModels
from forecastd.models.model_log import ModelLog
from forecastd.models.model_records import (
    Entry,
    encode_pointer,
    encode_probation,
)
from forecastd.observe.events import Event, ModelScored, ModelServed, Telemetry
from forecastd.observe.learning_events import (
    FallbackCounted,
    ModelPromoted,
    ModelRefused,
    ModelsRead,
    PastRun,
    RunBegan,
    RunGivenUp,
)
from forecastd.records import Message, Round, TopicPartition
from forecastd.settings import Settings
from forecastd.train.run_outcome import TrainingJob, TrainingOutcome
from forecastd.train.schedule import LastRun, Schedule
from forecastd.train.window_buffer import WindowBuffer

STEP_MS = 1_000
"""Time between two looks at the models topic: a promotion is followed within about this."""

COUNT_MS = 10_000
"""Time between two looks at how many windows there are."""


class Trainer(Protocol):
    """Training runs, one at a time, each in a process of its own."""

    @property
    def is_running(self) -> bool:
        """Whether a run has begun whose outcome nobody has got yet."""
        ...

    def start(self, job: TrainingJob) -> None:
        """Begin a run."""
        ...

    def poll(self) -> TrainingOutcome | None:
        """The outcome, once; None while there is none."""
        ...

    def kill(self) -> None:
        """End a run, if there is one, without an outcome."""
        ...


@dataclass(frozen=True, slots=True)
class Serving:
    """What one loop serves with: a network for its whole life, and what it writes to learn from.

    Attributes:
        model: the network; None: there is none, because nothing was ever promoted.
        architecture: of the network.
    """

    forecaster: Forecaster
    buffer: WindowBuffer | None
    model: Model | None = None
    architecture: Architecture | None = None


class FixedModel:
    """No learning: what serves was settled at the start."""

    needs_network = False

    def finished(self, origins: Round) -> list[Message]:  # noqa: ARG002
        """Nothing is learnt from."""
        return []

    def step(self, served: Collection[TopicPartition]) -> None:
        """Nothing is due."""


@dataclass(slots=True)
class Learning:
    """Follows the pointer; where the first partition of the input is ours, moves it.

    Attributes:
        windows: how many there are to learn from, about.
        cache: told of the models at the start, and whenever they change.
        software: versions of what trains.
        needs_network: the champion needs another network than the loop has: it is to be built anew.
    """

    models: GroupModels
    trainer: Trainer
    windows: Callable[[], int]
    cache: Callable[[ModelLog], object]
    software: Mapping[str, str]
    settings: Settings
    telemetry: Telemetry
    clock: Clock
    needs_network: bool = False
    _serving: Serving | None = None
    _version: str | None = None
    _is_started: bool = False
    _refused: str | None = None
    _skill: LiveSkill = field(default_factory=LiveSkill)
    _probation: Probation | None = None
    _untold: LastRun | None = None  # what the broker has not taken
    _attached_ms: int = 0
    _run_began_ms: int = 0
    _looked_ms: int = 0
    _counted_ms: int = 0

    @property
    def first_partition(self) -> TopicPartition:
        """Whoever serves it trains for the group."""
        return TopicPartition(self.settings.ingest.topics[0], 0)

    def attach(self, serving: Serving) -> None:
        """Serve with a new loop, which has the champion's network if there is a champion."""
        self._serving, self.needs_network, self._refused = serving, False, None
        self._attached_ms = self.clock.now_ms()
        self._follow()

    def finished(self, origins: Round) -> list[Message]:
        """The windows of a round that are to be learnt from."""
        serving = self._serving
        return serving.buffer.finished(origins) if serving is not None and serving.buffer else []

    def emit(self, event: Event) -> None:
        """Take note of scores."""
        if isinstance(event, ModelScored):
            self._skill.add(event.forecasts, event.error, event.naive_error)
            if self._probation is not None:
                self._probation.add(event.forecasts, event.error, event.naive_error)

    def step(self, served: Collection[TopicPartition]) -> None:
        """Follow the champion, and do what is due of training. Between two turns of the loop.

        Raises:
            BrokerError: the broker did not take what was written.
        """
        now_ms = self.clock.now_ms()
        if abs(now_ms - self._looked_ms) < STEP_MS:
            return
        self._looked_ms = now_ms
        if self.models.poll():
            self._follow()
            self.cache(self.models.log)
        if self._serving is not None:
            fallen = self._serving.forecaster.count_fallback(served)
            self.telemetry.emit(FallbackCounted(fallen))
        if not self.settings.learns:
            return
        if self.first_partition in served:
            self._train(now_ms)
        elif self.trainer.is_running and self._has_lost_the_first(now_ms):
            self.trainer.kill()  # the new owner trains
            self.telemetry.emit(RunGivenUp())

    def close(self) -> None:
        """End a run, if there is one."""
        self.trainer.kill()

    def _has_lost_the_first(self, now_ms: int) -> bool:
        """Whether somebody else may own the first partition, which is not served here.

        A loop that has only just come waits for it, and until its session is over it is nobody's.
        """
        return abs(now_ms - self._attached_ms) >= self.settings.kafka.session_timeout

    def _follow(self) -> None:
        """Serve with the champion's weights; where they do not fit, go on with what there is."""
        champion, serving = self.models.log.champion, self._serving
        if serving is None:
            return
        self._tell()
        if champion is None:
            serving.forecaster.model = None
            self._note_champion(None, "")
        elif champion.version not in (self._served_version, self._refused):
            self._serve(champion, serving)
        self._watch()

    def _watch(self) -> None:
        """Judge what serves while it is on probation, also one that began before this process."""
        watched = self.models.log.on_probation
        if watched is None or watched.version != self._served_version:
            self._probation = None
        elif self._probation is None:
            training = self.settings.training
            self._probation = Probation(
                watched.skill_before, training.rollback_drop, training.rollback_windows
            )

    def _tell(self) -> None:
        """Say what the topic holds, which other instances and earlier processes wrote, too."""
        pointer, run = self.models.log.pointer, self.models.log.last_run
        past = None
        if run is not None and self.settings.learns:  # else nobody waits for the next one
            past = PastRun(run.status, run.reason, run.ended_ms, run.failures)
        if pointer is None:
            self.telemetry.emit(ModelsRead(None, run=past))
            return
        told = (pointer.version, pointer.by, pointer.reason, pointer.at_ms, pointer.is_held, past)
        self.telemetry.emit(ModelsRead(*told))

    def _fits(self, architecture: Architecture) -> bool:
        return architecture.fits(self.settings)

    def _serve(self, champion: Entry, serving: Serving) -> None:
        try:
            architecture = champion.architecture.fit(self.settings)
        except ModelError as error:
            if not self._is_started:
                self._note_champion(None, "")
            self._refused = champion.version
            self.telemetry.emit(ModelRefused(champion.version, str(error)))
            return
        model = serving.model
        if model is None or architecture != serving.architecture:
            self.needs_network = True
            return
        model.bank.set_weights(self.models.log.models.weights(champion.version))
        serving.forecaster.model = replace(model.served, version=champion.version)
        self._note_champion(champion.version, model.architecture)

    @property
    def _served_version(self) -> str | None:
        model = self._serving.forecaster.model if self._serving is not None else None
        return model.version if model is not None else None

    def _note_champion(self, version: str | None, architecture: str) -> None:
        """Tell of another champion, and judge it on what it forecasts from here on.

        What served when the process started is no news.
        """
        was, is_news = self._version, self._is_started
        self._version, self._is_started, self._refused = version, True, None
        if version == was and is_news:
            return
        self._skill, self._probation = LiveSkill(), None
        pointer = self.models.log.pointer
        if pointer is not None and is_news:
            self.telemetry.emit(ModelPromoted(version, pointer.by, pointer.reason, pointer.at_ms))
        self.telemetry.emit(ModelServed(version, architecture))

    def _train(self, now_ms: int) -> None:
        outcome = self.trainer.poll()
        if outcome is not None:
            writer = RunWriter(self.models, self.software, self.settings.models.keep)
            skill = self._skill.mean or 0.0
            # A broker that does not take it costs this run; the next one comes as after a failure.
            failures = self._untold.failures if self._untold is not None else 0
            self._untold = LastRun(failures, now_ms, failures + 1)
            ended = writer.write(outcome, self._run_began_ms, now_ms, skill)
            self._untold = None
            self.telemetry.emit(ended)
        elif self._probation is not None and self._probation.is_over:
            self._end_probation(self._probation, now_ms)
        elif not self.trainer.is_running and self._is_due(now_ms):
            self._run_began_ms = now_ms
            self.trainer.start(TrainingJob.of(self.settings))
            self.telemetry.emit(RunBegan(now_ms))

    def _is_due(self, now_ms: int) -> bool:
        """Whether a run should begin; while an operator holds the pointer none does."""
        if self.models.log.is_held or abs(now_ms - self._counted_ms) < COUNT_MS:
            return False
        self._counted_ms = now_ms
        run, training = self.models.log.last_run, self.settings.training
        runs = [self._untold] if self._untold is not None else []
        if run is not None:
            runs.append(LastRun(run.number, run.ended_ms, run.failures))
        last = max(runs, key=attrgetter("ended_ms"), default=None)
        schedule = Schedule(training.every, training.min_windows, self.settings.kafka.group_id)
        is_urgent = self._skill.has_dropped or self._refused is not None
        return schedule.is_due(now_ms, self.windows, last, is_urgent=is_urgent)

    def _end_probation(self, probation: Probation, now_ms: int) -> None:
        """Roll back what has failed; what has passed is judged no more."""
        # Whoever was frozen meanwhile must not act on what was true before.
        self.models.read_to_end()
        log = self.models.log
        watched = log.on_probation
        if watched is not None and watched.version == self._version:
            told = encode_probation(log.topic, None)
            if probation.has_failed:
                reason = (
                    f"live skill {probation.skill:+.3f} over {probation.forecasts} forecasts, "
                    f"wanted at least {probation.before - probation.drop:+.3f}"
                )
                back = log.rollback("rollback", now_ms, reason, self._fits)
                told = encode_pointer(log.topic, back)
            self.models.write([told])
        self._probation = None
