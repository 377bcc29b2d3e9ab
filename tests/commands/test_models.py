from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from forecastd.__main__ import main
from forecastd.disk_models import load_model
from forecastd.keras_runtime import keras

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


class TestImport:
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


def test_wants_an_action(capsys: Out) -> None:
    with pytest.raises(SystemExit):
        main(["models"])
    assert "ACTION" in capsys.readouterr().err
