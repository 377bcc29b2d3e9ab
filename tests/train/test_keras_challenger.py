from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from forecastd.__main__ import main
from forecastd.architecture import Architecture
from forecastd.disk_models import load_model
from forecastd.errors import ModelError
from forecastd.keras_network import KeyedNetwork
from forecastd.model_weights import version_hash
from forecastd.settings import Settings
from forecastd.train.buffered_series import Wanted, buffered_series
from forecastd.train.held_out import held_out
from forecastd.train.keras_challenger import challenge, median_forecasts
from forecastd.train.recorded_series import holdout_start_ms
from forecastd.train.run_outcome import Champion, TrainingOutcome
from forecastd.train.stretches import Layout, spread_at
from forecastd.train.window_record import decode, encode
from tests.train.waves import (
    ARCHITECTURE,
    SETTINGS,
    SIZES,
    STEPS,
    WAVES,
    T,
    recording,
    wave,
    window_records,
)


def settings_with(**training: object) -> Settings:
    return Settings.model_validate({**SIZES, "training": {**SIZES["training"], **training}})


def serving(seed: int = 0, architecture: Architecture = ARCHITECTURE) -> Champion:
    """A network that was never trained."""
    network = KeyedNetwork(architecture, rows=1, seed=seed)
    weights = network.weights()
    return Champion(f"7-{version_hash(architecture, weights)}", architecture, weights)


@pytest.fixture(scope="module")
def first() -> TrainingOutcome:
    return challenge(WAVES, SETTINGS)


class TestSameAsOffline:
    def test_comes_to_the_same_weights_bit_for_bit(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: TrainingOutcome
    ) -> None:
        """`forecastd train` on a file of what the windows topic holds, under the same settings."""
        monkeypatch.chdir(tmp_path)
        rows = zip(range(STEPS), wave(3).tolist(), wave(5).tolist(), strict=True)
        lines = [f"{1_600_000_000 + row},{a!r},{b!r}" for row, a, b in rows]
        Path("waves.csv").write_text("\n".join(["date,a,b", *lines]) + "\n")
        words = [
            f"--windows.timesteps={T}", "--forecast.units=8", "--forecast.horizon=4",
            "--training.epochs=5", "--training.prime_windows=3",
        ]  # fmt: skip
        assert main(["train", "waves.csv", "--out", "model", *words]) == 0
        offline = load_model(Path("model"))

        records = [decode(encode(one)) for series in WAVES for one in window_records(series)]
        wanted = Wanted(T, 1, (), 10_000)
        outcome = challenge(buffered_series(records, wanted).pieces, SETTINGS)
        assert outcome.candidate is not None
        assert outcome.candidate.architecture == offline.architecture
        for mine, theirs in zip(outcome.candidate.weights(), offline.weights, strict=True):
            np.testing.assert_array_equal(mine, theirs)


class TestFirstModel:
    def test_is_promoted_where_it_beats_the_naive_forecasts(self, first: TrainingOutcome) -> None:
        assert (first.status, first.champion) == ("promoted", None)
        assert first.scores is not None
        assert first.scores.champion is None
        assert first.scores.challenger < 0.9 * min(first.scores.naive.values())
        assert first.scores.series == 2

    def test_says_how_it_came_about(self, first: TrainingOutcome) -> None:
        assert first.candidate is not None
        assert first.candidate.parent is None
        facts = first.candidate.facts
        assert [epoch["number"] for epoch in facts["history"]] == [1, 2, 3, 4, 5]
        assert facts["gate"]["challenger"] == first.scores.challenger if first.scores else None
        assert facts["data"] == {
            "series": 2,
            "steps": 1_920,
            "from_ms": 1_600_000_000_000,
            "to_ms": 1_600_000_959_000,
        }
        assert facts["settings"]["training"]["epochs"] == 5

    def test_is_rejected_on_noise(self) -> None:
        noise = np.random.default_rng(0).normal(size=(2, STEPS))
        recorded = [recording(str(n), values) for n, values in enumerate(noise)]
        outcome = challenge(recorded, settings_with(learning_rate=1e-9))
        assert (outcome.status, outcome.candidate) == ("rejected", None)
        assert outcome.scores is not None
        assert outcome.scores.best_naive in ("running mean", "running median")
        assert outcome.scores.best_naive in outcome.reason

    def test_is_rejected_where_nothing_is_held_out(self) -> None:
        outcome = challenge(WAVES, settings_with(holdout=0))
        assert outcome.status == "rejected"
        assert "wanted training.holdout above 0" in outcome.reason

    def test_is_refused_where_there_is_too_little(self) -> None:
        with pytest.raises(ModelError, match="windows to learn from and"):
            challenge([recording("a", wave(3, 20))], SETTINGS)

    def test_is_refused_where_its_loss_is_no_number(self) -> None:
        """Squares of such values are beyond float32."""
        settings = Settings.model_validate({
            "windows": {"timesteps": T},
            "forecast": {"units": 2, "horizon": 4, "scaling": "none", "anchor": "none"},
            "training": {"loss": "mse", "epochs": 1},
        })  # fmt: skip
        with pytest.raises(ModelError, match="the loss of epoch 1 is not a number"):
            challenge([recording("a", 1e30 * wave(3))], settings)


class TestChampion:
    def test_is_what_training_begins_with(self) -> None:
        """With steps of nothing, the challenger is the champion, and is not better than it."""
        settings = settings_with(learning_rate=1e-12)
        outcome = challenge(WAVES, settings, serving(seed=5))
        assert outcome.status == "rejected"
        assert outcome.scores is not None
        assert outcome.scores.challenger == pytest.approx(outcome.scores.champion, rel=1e-5)

    def test_is_the_parent_of_what_beats_it(self) -> None:
        champion = serving(seed=5)
        outcome = challenge(WAVES, SETTINGS, champion)
        assert (outcome.status, outcome.champion) == ("promoted", champion.version)
        assert outcome.candidate is not None
        assert outcome.candidate.parent == champion.version

    def test_stays_where_the_challenger_is_not_better(self, first: TrainingOutcome) -> None:
        assert first.candidate is not None
        best = Champion("1-abcdef", ARCHITECTURE, list(first.candidate.weights()))
        outcome = challenge(WAVES, settings_with(epochs=1, warm_start=False, seed=3), best)
        assert outcome.status == "rejected"
        assert outcome.scores is not None
        assert first.scores is not None
        assert outcome.scores.champion == pytest.approx(first.scores.challenger)

    def test_of_another_network_is_compared_and_not_begun_with(
        self, first: TrainingOutcome
    ) -> None:
        """Its own scaling, anchor and quantiles read it back: what it publishes is compared."""
        other = Settings.model_validate({
            "windows": {"timesteps": T},
            "forecast": {
                "units": 4, "horizon": 4, "scaling": "none", "anchor": "none", "segment": 1,
            },
            "training": {"loss": "mse"},
        })  # fmt: skip
        champion = serving(architecture=Architecture.from_settings(other))
        outcome = challenge(WAVES, SETTINGS, champion)
        assert outcome.candidate is not None
        assert outcome.candidate.parent is None
        assert outcome.candidate.packed == first.candidate.packed if first.candidate else None
        assert outcome.scores is not None
        assert outcome.scores.champion == 3.0  # zero where the series are at 50: the cap

    def test_that_these_settings_cannot_serve_is_replaced_without_a_comparison(self) -> None:
        """Told all the same: else its successor would look like one that was overtaken."""
        longer = Architecture.from_settings(Settings.model_validate({"windows": {"timesteps": 16}}))
        champion = serving(architecture=longer)
        outcome = challenge(WAVES, SETTINGS, champion)
        assert (outcome.status, outcome.champion) == ("promoted", champion.version)
        assert outcome.scores is not None
        assert outcome.scores.champion is None

    def test_that_was_rolled_back_is_not_promoted_again(self, first: TrainingOutcome) -> None:
        assert first.candidate is not None
        hashed = version_hash(ARCHITECTURE, first.candidate.weights())
        outcome = challenge(WAVES, SETTINGS, barred=[f"3-{hashed}"])
        assert (outcome.status, outcome.candidate) == ("rejected", None)
        assert outcome.reason == f"weights {hashed} were rolled back before, wanted others"


def test_forecasts_are_those_of_a_state_that_was_carried() -> None:
    """Windows fed one by one, as serving does, from the first warm one on."""
    settings = SETTINGS
    cut_ms = holdout_start_ms(WAVES, settings.training.holdout)
    assert cut_ms is not None
    layout = Layout.of(ARCHITECTURE, settings)
    stretches = held_out(WAVES, layout, cut_ms, settings.training.prime_windows)
    network = KeyedNetwork(ARCHITECTURE, rows=1, seed=2)
    weights = [weight + 0.05 for weight in network.weights()]
    network.set_weights(weights)
    found = median_forecasts(ARCHITECTURE, weights, stretches, settings)
    one, values = stretches[1], stretches[1].recorded.values
    spread = spread_at(one.recorded, one.ends, layout)[1]
    expected = []
    for at, end in enumerate(one.ends.tolist()):
        before, anchor = values[end - T], values[end]
        window = (values[end + 1 - T : end + 1] - before) / spread[at]
        output = network.predict(window[None].astype(np.float32), np.zeros(1, np.int32))
        expected.append(anchor + spread[at] * output[0, 0, :, 1])
    np.testing.assert_allclose(found[1], np.array(expected)[one.warm :], rtol=1e-6)
