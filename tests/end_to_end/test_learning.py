"""The daemon trains its own models, as processes on a real broker see it."""

from __future__ import annotations

import json
import signal
from collections import defaultdict
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from tests.deadline import until
from tests.end_to_end.daemons import Daemon, World
from tests.end_to_end.learning import (
    LEARNS,
    SERIES,
    SHAPE,
    GroupModels,
    add_model,
    has_ended,
    operate,
    settings_of,
    trainers_of,
    untrained,
    waves,
)

pytestmark = pytest.mark.kafka

HISTORY = 600
"""Steps of each series before the start: 75 windows."""

LIVE = 48
"""Steps of each series after the promotion: 6 windows."""

FOLLOWED_S = 10.0
"""After which every instance must serve the champion; about a second on an idle machine."""


@dataclass(frozen=True)
class Learnt:
    """What came of a daemon that was started on history and trained by itself."""

    world: World
    folder: Path
    messages: list[dict[str, Any]]
    version: str


@pytest.fixture(scope="module")
def learnt(kafka: str, tmp_path_factory: pytest.TempPathFactory) -> Learnt:
    """One daemon: history, a promotion, and live records after it."""
    world, folder = World(kafka).create(), tmp_path_factory.mktemp("learnt")
    world.produce(waves(0, HISTORY))
    with (
        Daemon(world, folder / "log", **LEARNS) as daemon,
        GroupModels(settings_of(world, LEARNS)) as models,
    ):
        daemon.until_ready()
        daemon.until(lambda: models.log.last_run is not None, "training run")
        run = models.log.last_run
        assert run is not None
        assert run.status == "promoted", run.reason
        daemon.until(lambda: served(daemon) == run.version, "served model")
        world.produce(waves(HISTORY, HISTORY + LIVE))
        daemon.until_caught_up()
        assert daemon.stop() == 0
    assert run.version is not None
    return Learnt(world, folder, world.messages(), run.version)


def served(daemon: Daemon) -> str | None:
    """The version that a daemon says it serves."""
    found: str | None = json.loads(daemon.get("snapshot.json")[1])["model_version"]
    return found


def serves(daemon: Daemon, version: str) -> bool:
    """Whether a daemon says that it serves a version."""
    return served(daemon) == version


class TestADaemonThatIsStartedOnHistory:
    def test_serves_what_it_trained_itself(self, learnt: Learnt) -> None:
        made = [message for message in learnt.messages if message["source"] == "model"]
        assert learnt.version.startswith("1-")
        assert {message["model_version"] for message in made} == {learnt.version}
        assert {message["series"] for message in made} == {f"s{at}" for at in range(SERIES)}

    def test_flags_the_first_forecast_of_each_series_as_primed(self, learnt: Learnt) -> None:
        flags: dict[str, list[bool]] = defaultdict(list)
        for message in learnt.messages:
            if message["source"] == "model":
                flags[message["series"]].append("primed" in message["flags"])
        for of_series in flags.values():
            assert of_series == [True] + [False] * (len(of_series) - 1)

    def test_publishes_until_then_what_it_would_without_training(self, learnt: Learnt) -> None:
        """Every message, and its numbers within 1e-6 of their spread."""
        world = replace(learnt.world, name=f"{learnt.world.name}-off", reads=learnt.world.records)
        with Daemon(world, learnt.folder / "off", TRAINING__ENABLED="false", **SHAPE) as daemon:
            daemon.until_ready().until_caught_up()
            assert daemon.stop() == 0
        wanted = {message["id"]: message for message in world.messages()}
        assert {message["id"] for message in learnt.messages} == set(wanted)
        history = [message for message in learnt.messages if is_of_history(message)]
        assert len(history) >= SERIES * HISTORY // 8
        for message in history:
            assert_same(message, wanted[message["id"]])

    def test_writes_no_file_but_copies_of_its_models(self, learnt: Learnt) -> None:
        files = {path.relative_to(learnt.folder) for path in learnt.folder.rglob("*")}
        assert {path.parts[0] for path in files} <= {"log", "off", "models"}
        assert {path.parts[1] for path in files if len(path.parts) > 1} == {learnt.version}


def is_of_history(message: dict[str, Any]) -> bool:
    """Whether it was made before anything was learnt."""
    return bool(message["input"]["last_offset"] < HISTORY * SERIES // 4)


def assert_same(message: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Two forecasts, to the letter; their numbers within 1e-6 of their spread."""
    (made,), (other,) = message["forecasts"].values(), wanted["forecasts"].values()
    tolerance = 1e-6 * max(float(np.ptp(other)), 1e-6)
    np.testing.assert_allclose(made, other, rtol=0, atol=tolerance)
    assert message | {"forecasts": {}} == wanted | {"forecasts": {}}


class TestAGroup:
    @pytest.mark.slow
    def test_goes_on_learning_when_the_owner_is_killed_in_mid_training(
        self, kafka: str, tmp_path: Path
    ) -> None:
        """Its training process ends with it, another instance trains, and all three follow."""
        world = World(kafka).create()
        world.produce(waves(0, HISTORY))
        settings = settings_of(world, LEARNS)
        with ExitStack() as ended, GroupModels(settings) as models:

            def start(name: str) -> Daemon:
                return ended.enter_context(Daemon(world, tmp_path / name, **LEARNS))

            daemons = [start(f"log-{at}") for at in range(3)]
            ((owner, trainer),) = until(lambda: training(daemons), "training process")
            owner.kill()
            until(lambda: has_ended(trainer), "end of the training process of a dead daemon")
            assert models.log.last_run is None, "it was in mid-training"
            others = [daemon for daemon in daemons if daemon is not owner]
            others.append(start("log-again"))
            until(lambda: training(others), "training process of another owner")
            until(lambda: models.champion is not None, "promotion")
            champion = models.champion
            assert champion is not None
            for daemon in others:
                daemon.until_ready()
                until(partial(serves, daemon, champion), "champion", within_s=FOLLOWED_S)
            assert [daemon.stop() for daemon in others] == [0, 0, 0]

    @pytest.mark.slow
    def test_keeps_one_champion_when_a_frozen_owner_comes_back_with_another(
        self, kafka: str, tmp_path: Path
    ) -> None:
        """Its training process ends meanwhile: what it brings was compared with what is past."""
        world = World(kafka).create()
        world.produce(waves(0, HISTORY))
        with ExitStack() as ended, GroupModels(settings_of(world, LEARNS)) as models:
            daemons = [
                ended.enter_context(Daemon(world, tmp_path / f"log-{at}", **LEARNS))
                for at in range(2)
            ]
            ((owner, trainer),) = until(lambda: training(daemons), "training process")
            owner.process.send_signal(signal.SIGSTOP)
            (other,) = (daemon for daemon in daemons if daemon is not owner)
            until(lambda: models.champion is not None, "promotion by another owner")
            until(lambda: has_ended(trainer), "end of the first owner's run")
            champion = models.champion
            assert champion is not None
            owner.process.send_signal(signal.SIGCONT)
            for daemon in (owner, other):
                daemon.until_ready()
                until(partial(serves, daemon, champion), "champion", within_s=FOLLOWED_S)
            assert [entry.version for entry in models.log.versions] == [champion]
            assert models.log.faults == []
            assert [daemon.stop() for daemon in (owner, other)] == [0, 0]

    def test_follows_an_operator(self, kafka: str, tmp_path: Path) -> None:
        """Promote, promote another, roll back, release: both instances, within seconds."""
        world, settings = World(kafka).create(), LEARNS | {"TRAINING__MIN_WINDOWS": "1000000"}
        with ExitStack() as ended:
            daemons = [
                ended.enter_context(Daemon(world, tmp_path / f"log-{at}", **settings))
                for at in range(2)
            ]
            for daemon in daemons:
                daemon.until_ready()
            assert [served(daemon) for daemon in daemons] == [None, None]
            shape = settings_of(world, settings)
            first, second = (
                add_model(world, settings, untrained(tmp_path, shape, seed)) for seed in (1, 2)
            )
            assert [served(daemon) for daemon in daemons] == [None, None]

            def assert_followed(version: str, *words: str) -> None:
                operate(world, settings, *words)
                for daemon in daemons:
                    follows = partial(serves, daemon, version)
                    until(follows, f"{version} after {words[0]}", within_s=FOLLOWED_S)

            assert_followed(first, "promote", first)
            assert_followed(second, "promote", second)
            assert_followed(first, "rollback")
            assert_followed(first, "release")
            for daemon in daemons:
                assert daemon.stop() == 0


def training(daemons: list[Daemon]) -> list[tuple[Daemon, psutil.Process]]:
    """The daemon that trains, and its training process."""
    return [(daemon, one) for daemon in daemons for one in trainers_of(daemon.process.pid)]
