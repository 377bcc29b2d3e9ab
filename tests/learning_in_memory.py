"""A daemon in memory that trains itself: its own loop and the real network, runs in this process.

Nothing of what is learnt is made up: windows go from the loop to a topic, from the topic to
`challenge`, and what that promotes goes through the models topic back to the loop.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from forecastd.architecture import Architecture
from forecastd.clock import ManualClock
from forecastd.errors import ModelError, WindowError
from forecastd.forecast.keras_model import build_model
from forecastd.forecast.model import Model
from forecastd.learning import COUNT_MS, Learning, Serving
from forecastd.memory.log import MemoryBroker
from forecastd.memory.models import MemoryModels
from forecastd.observe.learning_events import RunEnded
from forecastd.observe.telemetry import Fanout
from forecastd.settings import Settings
from forecastd.train.buffered_series import Wanted, buffered_series
from forecastd.train.keras_challenger import challenge
from forecastd.train.run_outcome import Champion, TrainingJob, TrainingOutcome
from forecastd.train.window_record import WindowRecord, decode
from forecastd.wiring import window_buffer
from tests.in_memory import P0, START_MS, Obs, Telemetry, drain, encode, start


class InProcessTrainer:
    """Does a whole run when it is started, as the training process does it."""

    def __init__(self, broker: MemoryBroker, models: MemoryModels) -> None:
        self._broker, self._models = broker, models
        self._outcome: TrainingOutcome | None = None

    @property
    def is_running(self) -> bool:
        """Whether there is an outcome that nobody has got yet."""
        return self._outcome is not None

    def start(self, job: TrainingJob) -> None:
        """Train and judge; what cannot be learnt from is a failed run."""
        settings = job.read_settings()
        values = [m.value or b"" for m in self._broker.messages(settings.windows_topic)]
        try:
            self._outcome = self._run(settings, values)
        except ModelError as error:
            self._outcome = TrainingOutcome(status="failed", reason=str(error))

    def poll(self) -> TrainingOutcome | None:
        """The outcome, once."""
        outcome, self._outcome = self._outcome, None
        return outcome

    def kill(self) -> None:
        """End a run without an outcome."""
        self._outcome = None

    def _run(self, settings: Settings, values: Iterable[bytes]) -> TrainingOutcome:
        training, features = settings.training, len(settings.ingest.values)
        wanted = Wanted(
            settings.windows.timesteps, features, training.exclude, training.max_windows
        )
        buffered = buffered_series(readable(values), wanted)
        log, champion = self._models.log, None
        entry = log.champion
        if entry is not None:
            weights = log.models.weights(entry.version)
            champion = Champion(entry.version, entry.architecture, weights)
        return challenge(buffered.pieces, settings, champion, log.barred)


def readable(values: Iterable[bytes]) -> list[WindowRecord]:
    """The windows of a topic, as `train/kafka_windows.py` reads them."""
    records = []
    for value in values:
        try:
            records.append(decode(value))
        except WindowError:
            continue
    return records


class LearningDaemon:
    """One daemon with a network of its own, unless it is given one.

    Attributes:
        heard: everything that it told of.
        is_learning: whether it may begin runs.
    """

    def __init__(
        self, broker: MemoryBroker, settings: Settings, model: Model | None = None
    ) -> None:
        architecture = Architecture.from_settings(settings).fit(settings)
        self.broker, self.settings = broker, settings
        self.model = model or build_model(architecture, settings)
        self.heard, self.clock = Telemetry(), ManualClock()
        self.is_learning = True
        models = MemoryModels(broker, settings.models_topic)
        self.learning = Learning(
            models=models,
            trainer=InProcessTrainer(broker, models),
            windows=self._windows,
            cache=lambda _log: None,
            software={},
            settings=settings,
            telemetry=self.heard,
            clock=self.clock,
        )
        telemetry = Fanout([self.heard, self.learning])
        self.loop = start(broker, settings, self.model, telemetry=telemetry, learner=self.learning)
        buffer = window_buffer(settings, self.loop.table, self.heard)
        models.read_to_end()
        self.learning.attach(Serving(self.loop.forecaster, buffer, self.model, architecture))

    @property
    def version(self) -> str | None:
        """Of the weights that serve."""
        served = self.loop.forecaster.model
        return served.version if served is not None else None

    @property
    def runs(self) -> list[RunEnded]:
        """Training runs that have ended."""
        return self.heard.heard(RunEnded)

    def work(self, seconds: float = COUNT_MS / 1000) -> None:
        """All there is to do; then time passes, and what is due of training is done."""
        drain(self.loop)
        self.clock.advance(seconds)
        for _ in range(3):  # begin a run, take what came of it, follow
            self.loop.run_once()
            self.clock.advance(1)

    def _windows(self) -> int:
        count = len(self.broker.messages(self.settings.windows_topic))
        return count if self.is_learning else 0


def append_steps(
    broker: MemoryBroker, values: np.ndarray, first: int, step_ms: int, start_ms: int = START_MS
) -> None:
    """Steps of S series, (S, N): a record a step, which holds all of them.

    Args:
        first: number of the first step, from the beginning of the series.
    """
    for number, step in enumerate(values.T.tolist(), first):
        at_ms = start_ms + number * step_ms
        one = [Obs(f"s{name}", at_ms, (value,)) for name, value in enumerate(step)]
        broker.append(P0, encode(one), at_ms)
