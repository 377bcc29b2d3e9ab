"""Decisions on a model's JSON alone; `test_keras_import.py` has the files that Keras writes."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from forecastd.errors import ModelError
from forecastd.imported_layers import imported_architecture

Config = dict[str, Any]


def layer(kind: str, name: str = "", **config: Any) -> Config:
    return {
        "module": "keras.layers",
        "class_name": kind,
        "config": {"name": name or kind.lower(), "dtype": "float32", **config},
        "registered_name": None,
    }


INPUT = layer("InputLayer", batch_shape=[None, 10, 1])
DENSE = layer("Dense", units=3, activation="linear", use_bias=True)


def lstm(name: str = "lstm", **config: Any) -> Config:
    known = {"units": 8, "activation": "tanh", "recurrent_activation": "sigmoid"}
    return layer("LSTM", name, **{**known, **config})


def gru(**config: Any) -> Config:
    return {**lstm("gru", **config), "class_name": "GRU"}


def sequential(*layers: Config) -> Config:
    return {"module": "keras", "class_name": "Sequential", "config": {"layers": list(layers)}}


def functional(*layers: Config, outputs: Any = None, **inbound: list[str]) -> Config:
    """Each layer reads the one before, unless `inbound` says otherwise."""
    linked = []
    for at, one in enumerate(layers):
        name = one["config"]["name"]
        parents = inbound.get(name, [layers[at - 1]["config"]["name"]] if at else [])
        tensors = [
            {"class_name": "__keras_tensor__", "config": {"keras_history": [parent, 0, 0]}}
            for parent in parents
        ]
        nodes = [{"args": tensors, "kwargs": {"mask": None}}] if parents else []
        linked.append({**one, "name": name, "inbound_nodes": nodes})
    last = [layers[-1]["config"]["name"], 0, 0]
    config = {"layers": linked, "output_layers": outputs or last, "input_layers": [["in", 0, 0]]}
    return {"module": "keras.src", "class_name": "Functional", "config": config}


def fault(model: Config) -> str:
    with pytest.raises(ModelError) as raised:
        imported_architecture("m.keras", model, "none")
    return str(raised.value)


class TestTaken:
    def test_is_a_sequential_model(self) -> None:
        found = imported_architecture("m", sequential(INPUT, lstm(), DENSE), "none")
        assert found.layers == ("lstm", "dense")
        network = found.architecture
        assert (network.timesteps, network.features, network.outputs) == (10, 1, 3)
        assert (network.scaling, network.anchor, network.segment) == ("none", "none", 1)
        assert (network.quantiles, network.values, network.horizon) == ((), (), 3)

    def test_is_a_functional_model_in_whatever_order_its_layers_lie(self) -> None:
        model = functional(INPUT, lstm("low", return_sequences=True), gru(), DENSE)
        model["config"]["layers"].reverse()
        found = imported_architecture("m", model, "series")
        assert found.layers == ("low", "gru", "dense")
        assert [cell.cell for cell in found.architecture.cells] == ["lstm", "gru"]
        assert found.architecture.scaling == "series"

    def test_is_a_functional_model_as_keras_2_wrote_it(self) -> None:
        model = functional(INPUT, lstm(), DENSE, outputs=[["dense", 0, 0]])
        for one, parent in zip(model["config"]["layers"][1:], ("inputlayer", "lstm"), strict=True):
            one["inbound_nodes"] = [[[parent, 0, 0, {}]]]
        assert imported_architecture("m", model, "none").layers == ("lstm", "dense")

    def test_carries_what_a_cell_computes(self) -> None:
        cell = gru(units=5, activation="relu", use_bias=False, reset_after=False)
        ended = layer("Dense", units=2, activation="sigmoid", use_bias=False)
        network = imported_architecture("m", sequential(INPUT, cell, ended), "none").architecture
        (found,) = network.cells
        assert (found.cell, found.units, found.activation) == ("gru", 5, "relu")
        assert (found.use_bias, found.reset_after) == (False, False)
        assert (network.output_activation, network.output_bias) == ("sigmoid", False)

    @pytest.mark.parametrize(
        "options",
        [
            {"stateful": True}, {"unroll": True}, {"dropout": 0.2, "recurrent_dropout": 0.1},
            {"implementation": 2}, {"time_major": False}, {"kernel_regularizer": {"l2": 0.1}},
            {"activation": None}, {"go_backwards": False, "return_state": False},
        ],
        ids=str,
    )  # fmt: skip
    def test_has_options_that_change_no_forecast(self, options: Config) -> None:
        imported_architecture("m", sequential(INPUT, lstm(**options), DENSE), "none")

    @pytest.mark.parametrize(
        "model",
        [
            sequential(lstm(batch_input_shape=[4, None, 2]), DENSE),
            sequential(layer("InputLayer", batch_input_shape=[4, None, 2]), lstm(), DENSE),
            {**sequential(lstm(), DENSE), "build_config": {"input_shape": [4, None, 2]}},
        ],
        ids=["at the first layer", "as Keras 2", "as built"],
    )
    def test_says_its_input_shape_somewhere(self, model: Config) -> None:
        network = imported_architecture("m", model, "none").architecture
        assert (network.timesteps, network.features) == (None, 2)
        assert network.horizon is None

    def test_leaves_the_json_as_it_was(self) -> None:
        model = functional(INPUT, lstm(), DENSE)
        before = copy.deepcopy(model)
        imported_architecture("m", model, "none")
        assert model == before


WANTED = "wanted Input, LSTM or GRU layers, and one Dense at the end"


class TestRefused:
    """By the name of the layer, with what was found and what was wanted."""

    @pytest.mark.parametrize(
        ("found", "advice"),
        [
            ("Bidirectional", ""), ("Embedding", ""), ("Conv1D", ""), ("Lambda", ""),
            ("BatchNormalization", ""), ("Activation", ""), ("SimpleRNN", ""), ("Sequential", ""),
            ("Dropout", "; take it out, it does nothing in a forecast"),
            ("Masking", "; forecastd never feeds padded steps"),
            ("TimeDistributed", "; let the last recurrent layer have return_sequences=False"),
            ("RNN", "; build it from keras.layers.LSTM or keras.layers.GRU"),
        ],
    )  # fmt: skip
    @pytest.mark.parametrize("form", [sequential, functional])
    def test_is_any_other_layer(self, form: Any, found: str, advice: str) -> None:
        model = form(INPUT, layer(found, "odd"), lstm(), DENSE)
        assert fault(model) == f"m.keras: layer 'odd' has class {found}, {WANTED}{advice}"

    def test_is_a_layer_of_someones_own(self) -> None:
        own = {**lstm("mine"), "module": "package", "registered_name": "package>LSTM"}
        assert fault(sequential(INPUT, own, DENSE)) == (
            f"m.keras: layer 'mine' has custom class LSTM, {WANTED}"
        )

    @pytest.mark.parametrize(
        ("model", "said"),
        [
            (sequential(INPUT, DENSE), f"no recurrent layer, {WANTED}"),
            (sequential(INPUT, lstm()), f"the last layer 'lstm' has class LSTM, {WANTED}"),
            (sequential(), f"no layers, {WANTED}"),
            (
                sequential(INPUT, lstm(), layer("Dense", "hidden", units=4), DENSE),
                f"layer 'hidden' of class Dense comes before the end, {WANTED}",
            ),
            (
                sequential(INPUT, lstm("one"), lstm("two"), DENSE),
                ("layer 'one' has return_sequences=False, wanted True on all recurrent layers but "
                "the last"),
            ),
            (
                sequential(INPUT, lstm(return_sequences=True), DENSE),
                "layer 'lstm' has return_sequences=True, wanted False on the last recurrent layer",
            ),
            (
                sequential(INPUT, lstm(go_backwards=True), DENSE),
                "layer 'lstm' has go_backwards=True, wanted False",
            ),
            (
                sequential(INPUT, lstm(return_state=True), DENSE),
                "layer 'lstm' has return_state=True, wanted False",
            ),
            (
                sequential(INPUT, lstm(time_major=True), DENSE),
                "layer 'lstm' has time_major=True, wanted False",
            ),
            (
                sequential(INPUT, lstm(activation={"config": "swoosh"}), DENSE),
                "layer 'lstm' has activation swoosh, wanted one that Keras has a name for",
            ),
            (
                sequential(INPUT, lstm(activation={"config": {"alpha": 1}}), DENSE),
                "layer 'lstm' has activation an object, wanted one that Keras has a name for",
            ),
            (
                sequential(INPUT, lstm(dtype={"config": {"name": "mixed_float16"}}), DENSE),
                "layer 'lstm' computes in mixed_float16, wanted float32",
            ),
            (
                sequential(layer("InputLayer", batch_shape=[None, 10]), lstm(), DENSE),
                "input shape (None, 10), wanted (batch, timesteps, values)",
            ),
            (
                sequential(lstm(), DENSE),
                "input shape unknown, wanted (batch, timesteps, values)",
            ),
            (
                sequential(
                    layer("InputLayer", batch_shape=[None, 10, 1], ragged=True), lstm(), DENSE
                ),
                "a sparse or ragged input, wanted a dense one",
            ),
            (
                functional(
                    INPUT, lstm("a", return_sequences=True), lstm("b"), DENSE,
                    b=["a", "inputlayer"],
                ),
                "layer 'b' has 2 inputs, wanted one",
            ),
            (
                functional(INPUT, lstm("a"), lstm("b"), DENSE, b=["inputlayer"]),
                f"layer 'a' is not between input and output, {WANTED}",
            ),
            (
                functional(INPUT, lstm(), DENSE, outputs=[["dense", 0, 0], ["lstm", 0, 0]]),
                "2 outputs, wanted one Dense",
            ),
            (
                {"class_name": "MyModel", "config": {}},
                "a model of class MyModel, wanted Sequential or functional",
            ),
        ],
        ids=lambda value: value[:40] if isinstance(value, str) else "",
    )  # fmt: skip
    def test_with_a_sentence(self, model: Config, said: str) -> None:
        assert fault(model) == f"m.keras: {said}"
