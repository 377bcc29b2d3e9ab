from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pytest

from forecastd.__main__ import main
from forecastd.architecture import Architecture
from forecastd.commands.state_views import known_versions
from forecastd.disk_models import load_model, save_model
from forecastd.forecast.forecaster import version_key
from forecastd.keras_runtime import keras
from forecastd.models.kafka_models import KafkaModels
from forecastd.models.model_records import (
    OnProbation,
    Run,
    encode_pointer,
    encode_probation,
    encode_run,
)
from forecastd.settings import Settings
from tests.secured_kafka import SOCKETS_LEFT, swept

__all__ = ["swept"]

pytestmark = SOCKETS_LEFT

Out = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def saved(units: int = 1, features: int = 1) -> list[np.ndarray]:
    """The tutorial's model as a file; its weights."""
    layers = keras.layers
    model = keras.Sequential([keras.Input((10, features)), layers.LSTM(32), layers.Dense(units)])
    model.save("tutorial.keras")
    return list(model.get_weights())


class TestConversion:
    def test_makes_a_model_of_the_tutorials_shape(self, capsys: Out) -> None:
        weights = saved()
        assert main(["models", "import", "tutorial.keras", "--out", "m"]) == 0
        stored = load_model(Path("m"))
        assert stored.metadata.made_by == "forecastd models import"
        assert stored.metadata.facts["file"] == "tutorial.keras"
        assert (stored.architecture.scaling, stored.architecture.anchor) == ("none", "none")
        for found, given in zip(stored.weights, weights, strict=True):
            np.testing.assert_array_equal(found, given)
        assert capsys.readouterr().out.splitlines() == [
            f"m: version {stored.version}, lstm 32, dense 1; 10 steps; scaling none, anchor none",
            "it fits windows.timesteps 10, forecast.horizon 1, 1 of ingest.values",
        ]

    def test_says_both_horizons_that_several_values_can_mean(self, capsys: Out) -> None:
        saved(units=6, features=3)
        assert main(["models", "import", "tutorial.keras", "--out", "m"]) == 0
        assert "forecast.horizon 2 or 6, 3 of ingest.values" in capsys.readouterr().out

    def test_can_read_scaled_windows(self) -> None:
        saved()
        assert main(["models", "import", "tutorial.keras", "--out", "m", "--scaling=series"]) == 0
        assert load_model(Path("m")).architecture.scaling == "series"

    def test_refuses_with_a_sentence(self, capsys: Out) -> None:
        assert main(["models", "import", "nothing.keras", "--out", "m"]) == 1
        assert capsys.readouterr().err == (
            "forecastd: nothing.keras: not there, wanted a .keras file\n"
        )
        assert not Path("m").exists()

    def test_replaces_no_folder_that_is_not_a_model(self, capsys: Out) -> None:
        Path("m").mkdir()
        Path("m/notes").write_text("")
        assert main(["models", "import", "nothing.keras", "--out", "m"]) == 1
        assert "holds no model" in capsys.readouterr().err


@dataclass
class Group:
    """A group on a real broker that never ran, and the command that looks at its models."""

    bootstrap: str
    capsys: Out

    def __post_init__(self) -> None:
        self.name = f"g-{uuid4().hex[:8]}"
        self.words: tuple[str, ...] = (
            f"--kafka.bootstrap_servers={self.bootstrap}",
            f"--kafka.group_id={self.name}",
        )
        kafka = {"bootstrap_servers": self.bootstrap, "group_id": self.name}
        self.settings = Settings.model_validate({"kafka": kafka})

    def run(self, *words: str) -> tuple[int, str, str]:
        """Exit status and what was said."""
        status = main(["models", *words, *self.words])
        said = self.capsys.readouterr()
        return status, said.out, said.err

    def out(self, *words: str) -> list[str]:
        status, out, err = self.run(*words)
        assert (status, err) == (0, "")
        return out.splitlines()

    def objects(self, *words: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out(*words, "--json")]

    def fault(self, *words: str) -> str:
        """The one sentence of a command that could not do what was asked."""
        status, out, err = self.run(*words)
        assert (status, out) == (1, "")
        (line,) = err.splitlines()
        return line.removeprefix("forecastd: ")

    def add(self, seed: int = 0, **facts: Any) -> str:
        """Import what `forecastd train` would have made; its version."""
        architecture = Architecture.from_settings(self.settings)
        random = np.random.default_rng(seed)
        shapes = architecture.weight_shapes
        weights = [random.normal(size=shape).astype(np.float32) for shape in shapes]
        save_model(Path("trained"), architecture, weights, "forecastd train", facts)
        first, second = self.out("import", "trained")
        version = second.split()[3]
        assert first == f"trained: added as version {version}, {architecture.describe()}"
        return version

    def serves(self) -> str | None:
        (told,) = self.objects("show")
        return None if told["pointer"] is None else told["pointer"]["version"]


def checked(group: Group, verdict: str = "ok") -> list[str]:
    """What `forecastd check` says of the group's models."""
    main(["check", *group.words])
    lines = group.capsys.readouterr().out.splitlines()
    return [line[6:] for line in lines if line.startswith(f"{verdict:<5} models: ")]


@pytest.fixture
def group(kafka: str, capsys: Out) -> Group:
    return Group(kafka, capsys)


@pytest.fixture
def daemon(group: Group) -> Iterator[KafkaModels]:
    """The models topic as a running instance follows it; to be opened after the first import."""
    models = KafkaModels(group.settings)
    yield models
    models.close()


@pytest.mark.kafka
class TestGroup:
    def test_without_models_says_so(self, group: Group) -> None:
        for words in (["list"], ["show"], ["release"], ["promote", "7-3fa9c1"]):
            assert group.fault(*words) == (
                f"{group.name}-models: no such topic, wanted the models of group {group.name}; it "
                "has none yet, or it has another name"
            )

    def test_gets_a_model_that_does_not_serve_yet(self, group: Group) -> None:
        version = group.add(seconds=2.0)
        assert version.startswith("1-")
        assert group.serves() is None
        (told,) = group.objects("list")
        assert (told["version"], told["serves"], told["barred"]) == (version, False, False)
        assert (told["made_by"], told["facts"]) == ("forecastd train", {"seconds": 2.0})
        head, line = group.out("list")
        assert head.split() == ["VERSION", "MADE", "ROLE", "MADE", "BY,", "NETWORK"]
        assert line.startswith(f"{version}  ")
        assert "-               forecastd train: lstm 64, dense 48" in line

    def test_is_followed_by_who_reads_along(self, group: Group, daemon: KafkaModels) -> None:
        version = group.add()
        daemon.read_to_end()
        assert daemon.poll(), "the model is news"
        (said,) = group.out("promote", version, "--reason=it looks better")
        assert said.startswith(f"group {group.name} serves {version} since 2")
        assert said.endswith("Z by operator, held until forecastd models release")
        for _ in range(1_000_000):
            if daemon.poll():
                break
        assert daemon.log.champion is not None
        assert (daemon.log.champion.version, daemon.log.is_held) == (version, True)
        assert daemon.log.pointer is not None
        assert daemon.log.pointer.reason == "it looks better"

    def test_goes_back_and_lets_go(self, group: Group) -> None:
        first, second = group.add(1), group.add(2)
        group.out("promote", first)
        group.out("promote", second)
        (said,) = group.out("rollback")
        assert f"serves {first} since" in said
        (said,) = group.out("release")
        assert said.endswith(" by release")
        roles = {
            told["version"]: (told["serves"], told["barred"]) for told in group.objects("list")
        }
        assert roles == {first: (True, False), second: (False, True)}
        group.out("rollback")
        assert group.serves() is None
        assert group.fault("rollback") == (
            f"{group.name}-models: the baseline serves, wanted a model to roll back"
        )

    def test_takes_the_same_model_once(self, group: Group) -> None:
        version = group.add()
        (said,) = group.out("import", "trained")
        assert said == f"trained: it is version {version} of the group's models already"

    def test_takes_a_keras_file_that_fits(self, group: Group) -> None:
        saved()
        group.words += ("--windows.timesteps=10", "--forecast.horizon=1")
        first, _ = group.out("import", "tutorial.keras")
        assert first.startswith("tutorial.keras: added as version 1-")
        assert group.objects("list")[0]["facts"]["file"] == "tutorial.keras"

    def test_refuses_what_does_not_fit_the_settings(self, group: Group) -> None:
        version = group.add()
        sentence = "model: windows of 16 steps, wanted windows.timesteps (8)"
        group.words += ("--windows.timesteps=8",)
        assert group.fault("promote", version) == sentence
        assert group.fault("import", "trained") == sentence
        assert f"  fits            not these settings: {sentence}" in group.out("show", version)

    def test_refuses_to_go_back_to_what_does_not_fit(self, group: Group) -> None:
        first, second = group.add(1), group.add(2)
        group.out("promote", first)
        group.out("promote", second)
        words, group.words = group.words, (*group.words, "--windows.timesteps=8")
        sentence = "model: windows of 16 steps, wanted windows.timesteps (8)"
        assert group.fault("rollback") == sentence
        group.words = words
        assert group.serves() == second

    def test_that_does_not_fit_keeps_no_daemon_from_starting(self, group: Group) -> None:
        """It forecasts with the baseline, and trains another."""
        version = group.add()
        group.out("promote", version)
        group.words += ("--windows.timesteps=8",)
        (hint,) = checked(group, "hint")
        assert hint == (
            f"models: {version} does not serve here, the baseline does: "
            "model: windows of 16 steps, wanted windows.timesteps (8)"
        )
        group.words += (f"--models.serve={version}",)
        assert checked(group, "hint") == []

    def test_refuses_a_version_that_is_not_there(self, group: Group) -> None:
        version = group.add()
        for action in ("promote", "show"):
            assert group.fault(action, "9-abcdef") == (
                f"{group.name}-models 9-abcdef: no such model, wanted one of {version}"
            )

    def test_gives_a_model_back_as_a_folder(self, group: Group) -> None:
        version = group.add(seconds=2.0)
        (said,) = group.out("export", version, "--out", "copy")
        assert said.startswith(f"copy: version {version}, lstm 64")
        found, given = load_model(Path("copy")), load_model(Path("trained"))
        for one, other in zip(found.weights, given.weights, strict=True):
            np.testing.assert_array_equal(one, other)
        assert found.metadata.facts["seconds"] == 2.0

    def test_shows_all_of_a_model(self, group: Group) -> None:
        version = group.add(scores={"skill": 0.25}, history=[{"number": 1}])
        group.out("promote", version)
        lines = group.out("show", version)
        assert lines[0] == f"model {version}"
        assert "  role            serves, held" in lines
        assert "  scores.skill    0.25" in lines
        assert "  fits            these settings" in lines
        assert not [line for line in lines if "history" in line]
        (told,) = group.objects("show", version)
        assert told["facts"]["history"] == [{"number": 1}]

    def test_is_known_by_version_to_who_looks_at_rows(self, group: Group) -> None:
        version = group.add()
        assert known_versions(group.settings) == {version_key(version): version}
        (line,) = checked(group)
        assert line == "models: none was promoted yet, the baseline forecasts"
        group.out("promote", version)
        (line,) = checked(group)
        assert line.startswith(f"models: {version} serves, lstm 64")

    def test_shows_how_training_went(self, group: Group, daemon: KafkaModels) -> None:
        """A run that was rejected leaves no model, and its figures all the same."""
        version = group.add()
        daemon.read_to_end()
        log = daemon.log
        run = Run(
            number=3,
            began_ms=1_700_000_000_000,
            ended_ms=1_700_000_089_700,
            status="rejected",
            reason="0.31 against the champion's 0.3",
            figures={"challenger": 0.31, "champion": 0.3, "settings": {}, "history": [{"a": 1}]},
        )
        probation = encode_probation(log.topic, OnProbation(version=version, skill_before=0.25))
        pointer = log.promote(version, "trainer", 1_700_000_000_000, "0.3 against 0.5")
        daemon.write([probation, encode_pointer(log.topic, pointer), encode_run(log.topic, run)])
        assert group.out("show") == [
            f"models of group {group.name}",
            f"  serves          {version} since 2023-11-14T22:13:20.000Z by trainer",
            "  reason          0.3 against 0.5",
            "  before          the baseline",
            "  probation       live skill was +0.250 before it; a drop rolls it back",
            f"  models          1, the newest {version}",
            "  last run        rejected at 2023-11-14T22:14:49.700Z after 90s",
            "  why             0.31 against the champion's 0.3",
            "  challenger      0.31",
            "  champion        0.3",
        ]
        (told,) = group.objects("show")
        assert told["last_run"]["figures"] == run.figures
        assert told["on_probation"]["version"] == version
        assert told["ignored"] == []

    def test_has_no_topic_made_where_that_is_forbidden(self, group: Group) -> None:
        group.add()
        group.words += ("--kafka.create_topics=false", f"--kafka.group_id={group.name}-2")
        sentence = group.fault("import", "trained")
        assert sentence.startswith(f"{group.name}-2-models: no such topic, wanted it, as kafka.cr")
        assert "--config cleanup.policy=compact" in sentence


def test_wants_an_action(capsys: Out) -> None:
    with pytest.raises(SystemExit):
        main(["models"])
    assert "ACTION" in capsys.readouterr().err
