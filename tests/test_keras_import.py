"""Files as Keras writes them, against what the keyed network makes of them."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from forecastd.errors import ModelError
from forecastd.keras_import import import_model
from forecastd.keras_network import KeyedNetwork
from forecastd.keras_runtime import keras
from forecastd.settings import Settings

layers = keras.layers

MODELS: dict[str, tuple[tuple[int | None, ...], list[Any]]] = {
    "the tutorial's": ((None, 10, 1), [layers.LSTM(32), layers.Dense(1)]),
    "three LSTM of different widths": (
        (None, 6, 1),
        [
            layers.LSTM(9, return_sequences=True),
            layers.LSTM(4, return_sequences=True),
            layers.LSTM(7),
            layers.Dense(5),
        ],
    ),
    "GRU on LSTM, stateful": (
        (4, 6, 2),
        [
            layers.LSTM(5, return_sequences=True, stateful=True),
            layers.GRU(6, stateful=True),
            layers.Dense(4),
        ],
    ),
    "GRU with its old gate": ((None, 6, 1), [layers.GRU(5, reset_after=False), layers.Dense(2)]),
    "no bias, other activations": (
        (None, 6, 3),
        [
            layers.LSTM(
                5, activation="relu", recurrent_activation="hard_sigmoid", use_bias=False
            ),
            layers.Dense(3, activation="tanh", use_bias=False),
        ],
    ),
    "any length, dropout": (
        (None, None, 2),
        [layers.LSTM(5, dropout=0.5, recurrent_dropout=0.5), layers.Dense(8)],
    ),
}  # fmt: skip


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "model.keras"


def written(file: Path, shape: tuple[int | None, ...], inner: list[Any]) -> Any:
    """A model with weights that a mistake would show in."""
    model = keras.Sequential([keras.Input(batch_shape=shape), *inner])
    random = np.random.default_rng(0)
    model.set_weights([0.4 * random.normal(size=weight.shape) for weight in model.get_weights()])
    model.save(file)
    return model


class TestImport:
    @pytest.mark.parametrize("name", MODELS)
    def test_forecasts_as_the_plain_model_does(self, file: Path, name: str) -> None:
        shape, inner = MODELS[name]
        model = written(file, shape, inner)
        imported, weights = import_model(file, "none")
        architecture = imported.architecture
        assert (architecture.timesteps, architecture.features) == shape[1:]
        network = KeyedNetwork(architecture, 4)
        network.set_weights(weights)
        read = np.random.default_rng(1).normal(size=(4, shape[1] or 6, architecture.features))
        windows = read.astype(np.float32)
        found = network.predict(windows, np.arange(4, dtype=np.int32)).reshape(4, -1)
        np.testing.assert_allclose(found, model.predict_on_batch(windows), rtol=1e-5, atol=1e-6)

    def test_carries_state_where_the_plain_model_was_stateless(self, file: Path) -> None:
        """It is served as `stateful=True` would serve it, whatever it was trained as."""
        model = written(file, (None, 4, 1), [layers.LSTM(5), layers.Dense(1)])
        imported, weights = import_model(file, "none")
        network = KeyedNetwork(imported.architecture, 2)
        network.set_weights(weights)
        stateful = keras.Sequential(
            [keras.Input(batch_shape=(2, 4, 1)), layers.LSTM(5, stateful=True), layers.Dense(1)]
        )
        stateful.set_weights(model.get_weights())
        for seed in range(3):
            read = np.random.default_rng(seed).normal(size=(2, 4, 1)).astype(np.float32)
            found = network.predict(read, np.arange(2, dtype=np.int32)).reshape(2, 1)
            np.testing.assert_array_equal(found, stateful.predict_on_batch(read))

    def test_takes_a_functional_model(self, file: Path) -> None:
        steps = keras.Input((6, 2))
        inner = layers.LSTM(3, return_sequences=True, name="low")(steps)
        keras.Model(steps, layers.Dense(2)(layers.GRU(4, name="high")(inner))).save(file)
        imported, weights = import_model(file, "series")
        assert imported.layers[:2] == ("low", "high")
        assert [weight.shape for weight in weights] == imported.architecture.weight_shapes

    @pytest.mark.parametrize("name", ["my layer", "λ"])
    def test_takes_layers_of_any_name_that_keras_allows(self, file: Path, name: str) -> None:
        """The graph that TensorFlow makes of a model refuses such names for its scopes."""
        written(file, (None, 4, 1), [layers.LSTM(3, name=name), layers.Dense(1)])
        imported, _ = import_model(file, "none")
        assert imported.layers[0] == name

    def test_puts_outputs_in_the_order_lead_then_value(self, file: Path) -> None:
        """Output k * F + f is lead k + 1 of value f; as many outputs as leads are the first's."""
        model = written(file, (None, 6, 2), [layers.LSTM(3), layers.Dense(4)])
        imported, weights = import_model(file, "none")
        read = np.ones((1, 6, 2), np.float32)
        expected = model.predict_on_batch(read)
        for horizon, shape in ((2, (1, 1, 2, 1, 2)), (4, (1, 1, 4, 1, 1))):
            settings = Settings.model_validate(
                {
                    "windows": {"timesteps": 6},
                    "forecast": {"horizon": horizon},
                    "ingest": {"values": ["a", "b"]},
                }
            )
            network = KeyedNetwork(imported.architecture.fit(settings), 1)
            network.set_weights(weights)
            found = network.predict(read, np.zeros(1, np.int32))
            np.testing.assert_allclose(found, expected.reshape(shape), rtol=1e-5)

    @pytest.mark.parametrize("is_functional", [False, True])
    def test_takes_what_keras_2_wrote(self, file: Path, *, is_functional: bool) -> None:
        """Its configs have options that Keras 3 does not know."""
        if is_functional:
            steps = keras.Input((6, 1), name="steps")
            model = keras.Model(steps, layers.Dense(2)(layers.LSTM(3)(steps)))
        else:
            model = keras.Sequential([keras.Input((6, 1)), layers.LSTM(3), layers.Dense(2)])
        model.save(file)
        config = _read(file)
        if is_functional:
            config["module"] = "keras.src.engine.functional"
        (cell,) = [one for one in config["config"]["layers"] if one["class_name"] == "LSTM"]
        cell["config"] |= {"time_major": False, "batch_input_shape": [None, 6, 1]}
        _rewrite(file, config)
        _, weights = import_model(file, "none")
        for ours, theirs in zip(weights, model.get_weights(), strict=True):
            np.testing.assert_array_equal(ours, theirs)


class TestRefusal:
    def test_of_a_file_that_is_not_there(self, file: Path) -> None:
        with pytest.raises(ModelError, match=r"model.keras: not there, wanted a .keras file"):
            import_model(file, "none")

    @pytest.mark.parametrize(
        ("name", "said"),
        [
            ("model.h5", r"an HDF5 file, wanted a file that .*; load it in Keras and save it that"),
            ("model.keras", "no Keras archive, wanted a file that model.save"),
            ("model.txt", "no Keras archive, wanted a file that model.save"),
        ],
    )
    def test_of_a_file_that_is_something_else(self, tmp_path: Path, name: str, said: str) -> None:
        (tmp_path / name).write_bytes(b"\x89HDF" if name == "model.h5" else b"something else")
        with pytest.raises(ModelError, match=said):
            import_model(tmp_path / name, "none")

    def test_of_a_folder(self, tmp_path: Path) -> None:
        with pytest.raises(ModelError, match=r"a folder, wanted a file that model\.save"):
            import_model(tmp_path, "none")

    def test_of_an_archive_without_a_model(self, file: Path) -> None:
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("notes", "nothing")
        with pytest.raises(ModelError, match=r"config.json.*, wanted a .keras file"):
            import_model(file, "none")

    @pytest.mark.parametrize(
        ("inner", "said"),
        [
            (
                [layers.Bidirectional(layers.LSTM(3)), layers.Dense(1)],
                "'.*' has class Bidirectional",
            ),
            ([layers.LSTM(3), layers.Dropout(0.1), layers.Dense(1)], "'.*' has class Dropout"),
            ([layers.Masking(), layers.LSTM(3), layers.Dense(1)], "'.*' has class Masking"),
            ([layers.Conv1D(3, 2), layers.LSTM(3), layers.Dense(1)], "'.*' has class Conv1D"),
            (
                [
                    layers.LSTM(3, return_sequences=True),
                    layers.TimeDistributed(layers.Dense(1)),
                ],
                "'.*' has class TimeDistributed",
            ),
            ([layers.LSTM(3, go_backwards=True), layers.Dense(1)], "'.*' has go_backwards=True"),
            (
                [layers.LSTM(3, activation=layers.LeakyReLU()), layers.Dense(1)],
                "'.*' has activation an object",
            ),
            (
                [layers.LSTM(3), layers.Dense(2), layers.Dense(1)],
                "'.*' of class Dense comes before the end",
            ),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )  # fmt: skip
    def test_of_a_model_with_more_in_it(self, file: Path, inner: list[Any], said: str) -> None:
        keras.Sequential([keras.Input((6, 1)), *inner]).save(file)
        with pytest.raises(ModelError, match=rf"model.keras: layer {said}.*, wanted"):
            import_model(file, "none")

    def test_of_an_activation_that_keras_does_not_know(self, file: Path) -> None:
        written(file, (None, 6, 1), [layers.LSTM(3), layers.Dense(1)])
        config = _read(file)
        config["config"]["layers"][1]["config"]["activation"] = "swoosh"
        _rewrite(file, config)
        with pytest.raises(ModelError, match=r"'.*' has activation swoosh, wanted one that Keras"):
            import_model(file, "none")

    def test_of_weights_that_do_not_fit(self, file: Path) -> None:
        written(file, (None, 6, 1), [layers.LSTM(3), layers.Dense(1)])
        config = _read(file)
        config["config"]["layers"][1]["config"]["units"] = 4
        _rewrite(file, config)
        with pytest.raises(ModelError, match=r"wanted a model that Keras 3\.\S+ can load"):
            import_model(file, "none")

    def test_of_a_model_whose_training_diverged(self, file: Path) -> None:
        """Its forecasts would differ by nan from ours, whoever computed them."""
        inner = [layers.LSTM(3, name="lstm"), layers.Dense(1, name="dense")]
        model = written(file, (None, 6, 1), inner)
        kernel, *others = model.get_weights()
        kernel[0, 0] = np.nan
        model.set_weights([kernel, *others])
        model.save(file)
        with pytest.raises(ModelError) as raised:
            import_model(file, "none")
        assert str(raised.value) == (
            f"{file}: layer 'lstm' has weights that are not finite, wanted a model whose training "
            "did not diverge"
        )

    def test_of_a_model_that_the_keyed_network_cannot_follow(self, file: Path) -> None:
        """Reading its layers finds no fault; running it does: it is chaotic in more digits."""
        model = keras.Sequential(
            [
                keras.Input((200, 1)),
                layers.GRU(16, dtype="float64"),
                layers.Dense(1, dtype="float64"),
            ]
        )
        random = np.random.default_rng(0)
        model.set_weights([5 * random.normal(size=one.shape) for one in model.get_weights()])
        model.save(file)
        with pytest.raises(ModelError, match=r"its forecasts differ by .* from those of the keyed"):
            import_model(file, "none")


def _read(file: Path) -> Any:
    with zipfile.ZipFile(file) as archive:
        return json.loads(archive.read("config.json"))


def _rewrite(file: Path, config: Any) -> None:
    with zipfile.ZipFile(file) as archive:
        held = {name: archive.read(name) for name in archive.namelist()}
    held["config.json"] = json.dumps(config).encode()
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in held.items():
            archive.writestr(name, data)
