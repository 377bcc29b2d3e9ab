"""Following the champion and training its successors, over an in-memory broker."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from forecastd.architecture import Architecture, Recurrent
from forecastd.clock import ManualClock
from forecastd.errors import BrokerError
from forecastd.evaluate.gate import Scores
from forecastd.forecast.model import Model
from forecastd.learning import COUNT_MS, STEP_MS, Learning, Serving
from forecastd.loop import Loop
from forecastd.memory.log import MemoryBroker, Request
from forecastd.memory.models import MemoryModels
from forecastd.memory.trainer import MemoryTrainer
from forecastd.model_weights import Weights, pack_weights
from forecastd.models.model_records import NewModel, encode_entry, encode_pointer
from forecastd.observe.events import ModelScored, ModelServed
from forecastd.observe.learning_events import (
    FallbackCounted,
    ModelPromoted,
    ModelRefused,
    ModelsRead,
    RunEnded,
    RunGivenUp,
)
from forecastd.records import Message
from forecastd.settings import Settings
from forecastd.train.run_outcome import Candidate, TrainingOutcome
from forecastd.train.schedule import RETRY_MS
from forecastd.wiring import window_buffer
from tests.in_memory import (
    STATE_TOPIC,
    Telemetry,
    assert_same,
    by_id,
    copy_input,
    drain,
    feed,
    feed_more,
    make_model,
    make_settings,
    published,
    start,
)

TOPIC = "forecastd-models"
UNITS = 3


def architecture(settings: Settings, units: int = UNITS) -> Architecture:
    """What the networks of these tests are; `MemoryNetwork` reads a step at a time."""
    return Architecture(
        cells=(Recurrent(cell="lstm", units=units),),
        timesteps=settings.windows.timesteps,
        features=1,
        outputs=settings.forecast.horizon * len(settings.forecast.quantiles),
        quantiles=settings.forecast.quantiles,
        segment=1,
        scaling="series",
        anchor="last",
    )


def weights(of: Architecture, seed: int) -> Weights:
    rng = np.random.default_rng(seed)
    return [rng.normal(0, 0.7, shape).astype(np.float32) for shape in of.weight_shapes]


class RefusedError(Exception):
    """The broker does not take it."""


class LateModels(MemoryModels):
    """A topic on which nothing new has arrived when one looks without waiting."""

    def poll(self) -> bool:
        """Whether there was something when one waited."""
        news, self._has_news = self._has_news, False
        return news


class Daemon:
    """One daemon that learns; several may share a broker."""

    def __init__(self, broker: MemoryBroker, settings: Settings, windows: int = 0) -> None:
        self.broker, self.settings, self.windows = broker, settings, windows
        self.heard, self.clock, self.trainer = Telemetry(), ManualClock(), MemoryTrainer()
        self.models = MemoryModels(broker, TOPIC)
        self.copied: list[str] = []
        self.learning = Learning(
            models=self.models,
            trainer=self.trainer,
            windows=lambda: self.windows,
            cache=lambda log: self.copied.extend(entry.version for entry in log.versions),
            software={"forecastd": "1"},
            settings=settings,
            telemetry=self.heard,
            clock=self.clock,
        )
        self.loop = self.connect(make_model(settings, version="", seed=99, units=UNITS))

    def connect(self, model: Model) -> Loop:
        loop = start(self.broker, self.settings, model, telemetry=self.heard, learner=self.learning)
        buffer = window_buffer(self.settings, loop.table, self.heard)
        self.models.read_to_end()
        self.learning.attach(
            Serving(loop.forecaster, buffer, model, architecture(self.settings).fit(self.settings))
        )
        return loop

    def step(self, ms: int = STEP_MS) -> None:
        self.clock.advance(ms / 1000)
        self.loop.run_once()

    def work(self) -> None:
        """All there is to do, and a look at the models topic."""
        drain(self.loop)
        self.step()

    def begin_run(self) -> None:
        self.windows = 10_000
        self.step(COUNT_MS)
        assert self.trainer.is_running

    def end_run(self, outcome: TrainingOutcome) -> None:
        self.trainer.end(outcome)
        self.step()
        self.step()

    @property
    def version(self) -> str | None:
        model = self.loop.forecaster.model
        return model.version if model is not None else None


def candidate(settings: Settings, seed: int) -> Candidate:
    of = architecture(settings)
    return Candidate(
        architecture=of, packed=pack_weights(weights(of, seed)), parent=None, facts={"a": 1}
    )


def promoted(settings: Settings, seed: int, champion: str | None = None) -> TrainingOutcome:
    return TrainingOutcome(
        status="promoted",
        reason="better",
        candidate=candidate(settings, seed),
        champion=champion,
        windows=1_000,
        seconds=2.0,
    )


def operate(broker: MemoryBroker, settings: Settings, seed: int, units: int = UNITS) -> str:
    """An operator adds a model and promotes it; returns its version."""
    topic = MemoryModels(broker, TOPIC)
    topic.read_to_end()
    of = architecture(settings, units)
    new = NewModel(of, weights(of, seed), "an operator")
    entry, messages = encode_entry(TOPIC, new, topic.log.next_number(), 1)
    topic.write(messages)
    topic.read_to_end()
    topic.write([encode_pointer(TOPIC, topic.log.promote(entry.version, "operator", 2, "mine"))])
    return entry.version


def learner(**sections: Any) -> tuple[Daemon, MemoryBroker]:
    settings = make_settings(training={"prime_windows": 100}, **sections)
    broker = feed(120, seed=1, broken=0.0, late=0.0)
    return Daemon(broker, settings), broker


class TestBeforeAnyPromotion:
    def test_the_baseline_is_said_to_serve(self) -> None:
        daemon, _ = learner()
        assert daemon.heard.heard(ModelServed) == [ModelServed(None, "")]

    def test_what_is_published_is_what_it_is_without_training(self) -> None:
        """Bit for bit: no contamination by a network that has earned nothing."""
        daemon, broker = learner()
        plain = copy_input(broker)
        daemon.work()
        daemon.begin_run()
        drain(start(plain, make_settings(training={"enabled": False, "prime_windows": 100})))
        assert published(broker) == published(plain)
        assert {message["source"] for message in published(broker)} == {"baseline"}

    def test_windows_are_written_for_the_trainer(self) -> None:
        daemon, broker = learner()
        daemon.work()
        made = [m for m in published(broker) if "cold" not in m["flags"]]
        assert len(broker.messages("forecastd-windows")) == len(made) > 0

    def test_no_row_leaves_before_its_windows(self) -> None:
        """A restart would skip them: a hole in what is learnt from."""
        daemon, broker = learner(state={"row_every": 1})

        def refuse(request: Request, message: Message | None) -> None:
            if message is not None and message.topic == daemon.settings.windows_topic:
                raise RefusedError

        broker.before = refuse
        with pytest.raises(RefusedError):
            drain(daemon.loop)
        assert broker.messages("forecasts")
        assert not broker.messages(STATE_TOPIC)

    def test_no_series_is_in_fallback(self) -> None:
        daemon, _ = learner()
        daemon.work()
        assert {event.series for event in daemon.heard.heard(FallbackCounted)} == {0}


class TestRun:
    def test_begins_when_there_are_enough_windows(self) -> None:
        daemon, _ = learner()
        daemon.work()
        started = []
        for windows in (daemon.settings.training.min_windows - 1, 1_000):
            daemon.windows = windows
            daemon.step(COUNT_MS)
            started.append(daemon.trainer.started)
        assert started == [0, 1]

    def test_that_is_promoted_serves_and_primes_each_series(self) -> None:
        daemon, broker = learner()
        daemon.work()
        daemon.begin_run()
        daemon.end_run(promoted(daemon.settings, seed=5))
        assert daemon.version is not None
        assert daemon.version.startswith("1-")
        (told,) = daemon.heard.heard(ModelPromoted)
        assert (told.version, told.by) == (daemon.version, "trainer")
        assert daemon.heard.heard(RunEnded)[0].version == daemon.version
        assert daemon.copied == [daemon.version]
        sent = len(broker.sent)
        feed_more(broker, 90, seed=2, broken=0.0, late=0.0)
        daemon.work()
        made = [m for m in published(MemoryBroker(sent=broker.sent[sent:])) if not_cold(m)]
        assert {m["model_version"] for m in made if m["source"] == "model"} == {daemon.version}
        firsts: dict[tuple[int, str], Any] = {}
        for message in made:
            firsts.setdefault((message["input"]["partition"], message["series"]), message)
        primed = [message for message in made if "primed" in message["flags"]]
        assert primed == list(firsts.values())

    def test_that_is_promoted_leaves_how_its_model_was_made(self) -> None:
        daemon, _ = learner()
        daemon.work()
        daemon.begin_run()
        daemon.end_run(promoted(daemon.settings, seed=5))
        (entry,) = daemon.models.log.versions
        made = {"windows": 1_000, "seconds": 2.0, "cpu_seconds": 0.0}
        assert entry.facts == {"a": 1} | made
        assert entry.software == {"forecastd": "1"}

    def test_that_is_promoted_forecasts_as_if_it_had_served_all_along(self) -> None:
        """Priming, where the tail covers the whole history."""
        daemon, broker = learner()
        other = copy_input(broker)
        daemon.work()
        version = operate(broker, daemon.settings, seed=5)
        operate(other, daemon.settings, seed=5)
        before = Daemon(other, daemon.settings)
        daemon.work()
        assert daemon.version == before.version == version
        sent = len(broker.sent)
        for one in (broker, other):
            feed_more(one, 90, seed=2, broken=0.0, late=0.0)
        daemon.work()
        before.work()
        after = [m for m in published(MemoryBroker(sent=broker.sent[sent:])) if not_cold(m)]
        all_along = by_id(other)
        compared = 0
        for message in after:
            wanted = all_along[message["id"]]
            if message["source"] == wanted["source"] == "model":
                assert_same(message, wanted, rtol=1e-5, flags={"primed"})
                compared += 1
        assert compared > 10

    def test_that_fails_costs_nothing_and_is_tried_again(self) -> None:
        daemon, _ = learner()
        daemon.work()
        daemon.begin_run()
        daemon.end_run(TrainingOutcome(status="failed", reason="out of memory"))
        assert daemon.version is None
        run = daemon.models.log.last_run
        assert run is not None
        assert (run.status, run.failures, run.reason) == ("failed", 1, "out of memory")
        daemon.step(COUNT_MS)
        assert daemon.trainer.started == 1
        daemon.step(120_000)
        assert daemon.trainer.started == 2

    def test_that_is_rejected_tells_what_the_gate_compared(self) -> None:
        daemon, _ = learner()
        daemon.work()
        daemon.begin_run()
        naive = {"last value": 1.0, "seasonal": 0.5}
        scores = Scores(
            challenger=0.6, champion=None, naive=naive, best_naive="seasonal", series=4, windows=80
        )
        daemon.end_run(TrainingOutcome(status="rejected", reason="no better", scores=scores))
        (told,) = daemon.heard.heard(RunEnded)
        assert told.errors == {"challenger": 0.6, "naive": 0.5}

    def test_that_has_ended_is_known_before_it_is_read_back(self) -> None:
        """A broker takes a while, in which nothing may look as if no run had ever been."""
        daemon, broker = learner()
        daemon.work()
        daemon.begin_run()
        daemon.learning.models = LateModels(broker, TOPIC)
        daemon.step(COUNT_MS)
        daemon.trainer.end(TrainingOutcome(status="rejected", reason="no better"))
        daemon.step()
        daemon.step(COUNT_MS)
        assert daemon.heard.heard(RunEnded)
        assert daemon.trainer.started == 1

    def test_that_a_broker_refuses_to_hear_of_is_lost_and_the_next_one_waits(self) -> None:
        """As after a failure: a minute, then two, or it would train without end."""
        daemon, broker = learner()
        daemon.work()
        daemon.windows = 10_000

        def refuse(request: Request, message: Message | None) -> None:
            if request == "send" and message is not None and message.topic == TOPIC:
                raise BrokerError("it may not be written")

        broker.before = refuse
        started = []
        for wait_ms in (COUNT_MS, RETRY_MS - COUNT_MS, COUNT_MS, RETRY_MS, RETRY_MS + COUNT_MS):
            daemon.step(wait_ms)
            started.append(daemon.trainer.started)
            if daemon.trainer.is_running:
                daemon.trainer.end(promoted(daemon.settings, seed=5))
                with pytest.raises(BrokerError):
                    daemon.step()
                daemon.loop = daemon.connect(make_model(daemon.settings, version="", units=UNITS))
                drain(daemon.loop)
        assert started == [1, 1, 2, 2, 3]
        broker.before = lambda *_: None
        daemon.step(4 * RETRY_MS + COUNT_MS)
        daemon.end_run(promoted(daemon.settings, seed=6))
        assert daemon.version is not None

    def test_is_void_while_an_operator_holds_what_serves(self) -> None:
        """Although it is what the challenger was compared with."""
        daemon, _ = learner()
        daemon.work()
        daemon.begin_run()
        daemon.end_run(promoted(daemon.settings, seed=5))
        daemon.step(2 * daemon.settings.training.every)
        version, models = daemon.version, daemon.models
        assert version is not None
        models.write([encode_pointer(TOPIC, models.log.promote(version, "operator", 3, "good"))])
        daemon.end_run(promoted(daemon.settings, seed=6, champion=version))
        (_, told) = daemon.heard.heard(RunEnded)
        assert told.status == "rejected"
        assert told.reason == f"better; an operator holds {version}, wanted a release first"

    def test_is_void_where_another_model_serves_by_now(self) -> None:
        daemon, broker = learner()
        daemon.work()
        daemon.begin_run()
        version = operate(broker, daemon.settings, seed=8)
        daemon.step()
        daemon.end_run(promoted(daemon.settings, seed=5))
        assert daemon.version == version
        assert daemon.heard.heard(RunEnded)[0].status == "rejected"

    def test_is_ended_where_another_owns_the_first_partition(self) -> None:
        daemon, _ = learner()
        daemon.work()
        daemon.begin_run()
        daemon.clock.advance(10)
        daemon.learning.step([])
        assert (daemon.trainer.killed, daemon.trainer.is_running) == (1, False)
        assert daemon.heard.heard(RunGivenUp)

    def test_goes_on_while_the_loop_is_built_anew(self) -> None:
        """After a broker's failure it is a while until the partition is served again."""
        daemon, _ = learner()
        daemon.work()
        daemon.begin_run()
        daemon.clock.advance(60)
        daemon.loop = daemon.connect(make_model(daemon.settings, version="", units=UNITS))
        daemon.clock.advance(5)
        daemon.learning.step([])
        running = [daemon.trainer.is_running]
        daemon.clock.advance(5)
        daemon.learning.step([])
        assert [*running, daemon.trainer.is_running] == [True, False]


class TestOperator:
    def test_holds_until_it_is_released(self) -> None:
        daemon, broker = learner()
        daemon.work()
        operate(broker, daemon.settings, seed=8)
        daemon.step()
        daemon.windows = 10_000
        daemon.step(COUNT_MS)
        started = [daemon.trainer.started]
        models = daemon.models
        models.write([encode_pointer(TOPIC, models.log.release(3, "done"))])
        daemon.step()
        daemon.step(COUNT_MS)
        assert [*started, daemon.trainer.started] == [0, 1]

    def test_who_goes_back_to_the_baseline_gets_it(self) -> None:
        daemon, broker = learner()
        daemon.work()
        operate(broker, daemon.settings, seed=8)
        daemon.step()
        models = daemon.models
        models.write([encode_pointer(TOPIC, models.log.rollback("operator", 4, "no good"))])
        daemon.step()
        assert daemon.version is None
        assert [event.version for event in daemon.heard.heard(ModelServed)][-1] is None

    def test_who_promotes_another_kind_of_network_has_the_loop_built_anew(self) -> None:
        daemon, broker = learner()
        daemon.work()
        operate(broker, daemon.settings, seed=8, units=UNITS + 1)
        daemon.step()
        assert daemon.loop.learner.needs_network
        assert daemon.version is None

    def test_who_promotes_what_does_not_fit_is_refused_once(self) -> None:
        daemon, broker = learner()
        daemon.work()
        operate(broker, make_settings(windows={"timesteps": 8}), seed=8)
        for _ in range(3):
            daemon.step()
        (refused,) = daemon.heard.heard(ModelRefused)
        assert "timesteps" in refused.sentence
        assert daemon.version is None
        again = Daemon(broker, daemon.settings)
        of_interest = (ModelServed, ModelRefused)
        told = [type(event) for event in again.heard.events if isinstance(event, of_interest)]
        assert told == [ModelServed, ModelRefused], "the baseline serves, and why"

    def test_who_changes_the_settings_need_not_wait_for_the_next_regular_run(self) -> None:
        """What served does not fit any more: another is trained soon."""
        daemon, broker = learner()
        daemon.work()
        daemon.begin_run()
        daemon.end_run(promoted(daemon.settings, seed=5))
        again = Daemon(broker, make_settings(windows={"timesteps": 8}), windows=10_000)
        again.step()
        assert (again.version, again.trainer.started) == (None, 0)
        again.step(again.settings.training.every // 5)
        assert again.trainer.started == 1


class TestRollback:
    def test_follows_a_drop_of_live_skill_and_bars_the_version(self) -> None:
        daemon, _ = learner()
        daemon.work()
        daemon.begin_run()
        daemon.end_run(promoted(daemon.settings, seed=5))
        bad = daemon.version
        daemon.learning.emit(ModelScored(10_000, 10_000, error=2.0, naive_error=1.0))
        daemon.step()
        daemon.step()
        assert daemon.version is None
        assert daemon.models.log.barred == (bad,)
        assert daemon.heard.heard(ModelPromoted)[-1].by == "rollback"

    def test_does_not_follow_a_good_start(self) -> None:
        daemon, _ = learner()
        daemon.work()
        daemon.begin_run()
        daemon.end_run(promoted(daemon.settings, seed=5))
        daemon.learning.emit(ModelScored(10_000, 10_000, error=0.8, naive_error=1.0))
        daemon.step()
        daemon.step()
        assert daemon.version is not None

    @pytest.mark.parametrize("more", [{"rollback_drop": 1.5}, {"rollback_windows": 20_000}])
    def test_follows_no_smaller_drop_and_none_over_fewer_windows(self, more: Any) -> None:
        settings = make_settings(training={"prime_windows": 100, **more})
        daemon = Daemon(feed(120, seed=1, broken=0.0, late=0.0), settings)
        daemon.work()
        daemon.begin_run()
        daemon.end_run(promoted(settings, seed=5))
        daemon.learning.emit(ModelScored(10_000, 10_000, error=2.0, naive_error=1.0))
        daemon.step()
        daemon.step()
        assert daemon.version is not None

    def test_follows_a_drop_that_only_shows_after_a_restart(self) -> None:
        """Also of another instance, should it own the first partition by then."""
        daemon, broker = learner()
        daemon.work()
        daemon.begin_run()
        daemon.end_run(promoted(daemon.settings, seed=5))
        again = Daemon(broker, daemon.settings)
        again.work()
        again.learning.emit(ModelScored(10_000, 10_000, error=2.0, naive_error=1.0))
        again.step()
        again.step()
        assert (again.version, again.models.log.barred) == (None, (daemon.version,))

    def test_does_not_follow_a_drop_after_a_good_start_and_a_restart(self) -> None:
        """A later drop is for the next training run."""
        daemon, broker = learner()
        daemon.work()
        daemon.begin_run()
        daemon.end_run(promoted(daemon.settings, seed=5))
        daemon.learning.emit(ModelScored(10_000, 10_000, error=0.8, naive_error=1.0))
        daemon.step()
        again = Daemon(broker, daemon.settings)
        again.work()
        again.learning.emit(ModelScored(10_000, 10_000, error=2.0, naive_error=1.0))
        again.step()
        again.step()
        assert again.version == daemon.version is not None

    def test_passes_over_what_the_settings_refuse(self) -> None:
        """Else what has failed would serve on."""
        daemon, broker = learner()
        daemon.work()
        daemon.begin_run()
        daemon.end_run(promoted(daemon.settings, seed=5))
        settings = make_settings(windows={"timesteps": 8}, training={"prime_windows": 100})
        again = Daemon(broker, settings)
        again.step()
        again.clock.advance(settings.training.every / 1000)
        again.begin_run()
        again.end_run(promoted(settings, seed=6, champion=daemon.version))
        assert again.version is not None
        again.learning.emit(ModelScored(10_000, 10_000, error=2.0, naive_error=1.0))
        again.step()
        again.step()
        assert again.models.log.champion is None
        assert again.version is None

    def test_does_not_follow_what_another_instance_has_replaced(self) -> None:
        """Whoever was frozen in a probation judges what serves by then, or nothing."""
        daemon, broker = learner()
        daemon.work()
        daemon.begin_run()
        daemon.end_run(promoted(daemon.settings, seed=5))
        frozen = LateModels(broker, TOPIC)
        frozen.read_to_end()
        daemon.learning.models = frozen
        version = operate(broker, daemon.settings, seed=8)
        daemon.learning.emit(ModelScored(10_000, 10_000, error=2.0, naive_error=1.0))
        daemon.step()
        daemon.step()
        assert frozen.log.champion is not None
        assert (frozen.log.champion.version, frozen.log.barred) == (version, ())
        assert daemon.version == version, "read while the probation was to be ended, and followed"


class TestRestart:
    def test_without_training_tells_of_no_run(self) -> None:
        """It would grow old, and an alert would ask where the next one is."""
        daemon, broker = learner()
        daemon.work()
        daemon.begin_run()
        daemon.end_run(promoted(daemon.settings, seed=5))
        settings = make_settings(training={"prime_windows": 100, "enabled": False})
        again = Daemon(broker, settings)
        assert again.version == daemon.version
        assert again.heard.heard(ModelsRead)[-1].run is None

    def test_serves_the_champion_from_the_start_and_tells_no_promotion(self) -> None:
        daemon, broker = learner()
        daemon.work()
        daemon.begin_run()
        daemon.end_run(promoted(daemon.settings, seed=5))
        again = Daemon(broker, daemon.settings)
        assert again.version == daemon.version
        assert not again.heard.heard(ModelPromoted)
        told = again.heard.heard(ModelsRead)[-1]
        assert (told.version, told.by, told.is_held) == (daemon.version, "trainer", False)
        assert told.run is not None
        assert (told.run.status, told.run.reason) == ("promoted", "better")
        assert [event.version for event in again.heard.heard(ModelServed)] == [daemon.version]

    def test_brings_the_copies_up_to_date(self) -> None:
        """They may be removed at any time, and another machine has none."""
        daemon, broker = learner()
        daemon.work()
        daemon.begin_run()
        daemon.end_run(promoted(daemon.settings, seed=5))
        again = Daemon(broker, daemon.settings)
        again.step()
        assert again.copied == [daemon.version]

    def test_goes_on_with_the_schedule(self) -> None:
        daemon, broker = learner()
        daemon.work()
        daemon.begin_run()
        daemon.end_run(TrainingOutcome(status="rejected", reason="no better"))
        again = Daemon(broker, daemon.settings, windows=10_000)
        again.work()
        again.step(COUNT_MS)
        assert not again.trainer.started


def not_cold(message: dict[str, Any]) -> bool:
    return "cold" not in message["flags"]
