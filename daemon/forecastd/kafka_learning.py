"""Learning on a real group: its topics, the training process, and the networks that serve."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import closing

from forecastd.architecture import Architecture
from forecastd.clock import Clock
from forecastd.disk_models import software_versions
from forecastd.errors import BrokerError, ModelError
from forecastd.forecast.keras_model import build_model
from forecastd.forecast.model import Model
from forecastd.learning import Learning
from forecastd.models.disk_cache import CacheThread, DiskCache
from forecastd.models.kafka_models import KafkaModels
from forecastd.models.model_log import ModelLog
from forecastd.observe.events import Telemetry
from forecastd.observe.learning_events import ModelCacheFailed
from forecastd.records import TopicPartition
from forecastd.settings import Settings
from forecastd.train.kafka_windows import WindowCounter
from forecastd.train.subprocess_trainer import TrainerProcess

_CLOSE_S = 1.0
"""For a copy of a model that is being written."""


def pinned_version(settings: Settings, version: str) -> Model:
    """The version of the group's models that `models.serve` names.

    Raises:
        ModelError: there is none, or it does not fit the settings.
        BrokerError: the broker does not answer.
    """
    with closing(KafkaModels(settings)) as models:
        models.read_to_end()
        architecture = models.log.models.entry(version).architecture.fit(settings)
        return build_model(architecture, settings, version, models.log.models.weights(version))


class Networks:
    """One network of each kind that has served: a new one costs seconds, and memory for good."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._built: dict[bytes, Model] = {}

    def of(self, log: ModelLog) -> tuple[Model, Architecture] | None:
        """The network of the champion; before there is one, that of the model to be trained.

        None where nothing serves and nothing is trained. A champion that does not fit the settings
        does not serve.
        """
        architecture = self._wanted(log)
        if architecture is None:
            return None
        kind = architecture.to_json()
        if kind not in self._built:
            self._built[kind] = build_model(architecture, self._settings)
        return self._built[kind], architecture

    def _wanted(self, log: ModelLog) -> Architecture | None:
        if log.champion is not None:
            try:
                return log.champion.architecture.fit(self._settings)
            except ModelError:
                pass  # whoever follows the champion tells of it
        if not self._settings.learns:
            return None
        return Architecture.from_settings(self._settings).fit(self._settings)


class KafkaLearning(Learning):
    """`Learning` on the group's topics."""

    def __init__(self, settings: Settings, telemetry: Telemetry, clock: Clock) -> None:
        """Connect later."""
        self._topic = KafkaModels(settings, clock)
        self._count = WindowCounter(settings)
        self._copies = CacheThread(DiskCache(settings.models.dir, settings.models.keep))
        self._telemetry = telemetry
        super().__init__(
            models=self._topic,
            trainer=TrainerProcess(settings.training.timeout, clock),
            windows=self._count,
            cache=self._copies.update,
            software=software_versions(),
            settings=settings,
            telemetry=telemetry,
            clock=clock,
        )

    def step(self, served: Collection[TopicPartition]) -> None:
        """And tell of copies that could not be written."""
        super().step(served)
        for sentence in self._copies.take_faults():
            self._telemetry.emit(ModelCacheFailed(sentence))

    def close(self) -> None:
        """End a run, if there is one, and disconnect."""
        super().close()
        self._copies.wait(_CLOSE_S)
        try:
            self._count.close()
            self._topic.close()
        except BrokerError:
            pass  # the process ends, and so do its connections
