"""What a plain Keras model must be to be taken over, decided from the JSON that it was saved with.

Input, one or more LSTM or GRU layers, one Dense: in a Sequential or a functional model, stateful or
not, of any widths. Whatever else is found is refused with the layer's name and what was wanted.
Pure: nothing of the model is loaded, let alone run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from forecastd.architecture import STATE_PARTS, Architecture, Cell, Recurrent
from forecastd.errors import ModelError
from forecastd.scaling import Scaling

Config = Mapping[str, Any]

_CELLS: dict[str, Cell] = {"LSTM": "lstm", "GRU": "gru"}
_DTYPES = ("float32", "float64")
_WANTED = "Input, LSTM or GRU layers, and one Dense at the end"

_ADVICE = {
    "AlphaDropout": "take it out, it does nothing in a forecast",
    "Dropout": "take it out, it does nothing in a forecast",
    "GaussianNoise": "take it out, it does nothing in a forecast",
    "Masking": "forecastd never feeds padded steps",
    "RNN": "build it from keras.layers.LSTM or keras.layers.GRU",
    "Reshape": "an output row is read as lead by lead, value by value",
    "SpatialDropout1D": "take it out, it does nothing in a forecast",
    "TimeDistributed": "let the last recurrent layer have return_sequences=False",
}
"""What helps whoever has such a layer."""

_MUST_BE_FALSE = ("go_backwards", "return_state", "time_major")


@dataclass(frozen=True, slots=True)
class Imported:
    """A model that can be taken over.

    Attributes:
        layers: names of its recurrent layers and of the Dense, from input to output.
    """

    architecture: Architecture
    layers: tuple[str, ...]


def imported_architecture(where: str, model: Config, scaling: Scaling) -> Imported:
    """The keyed network that forecasts as a saved Keras model does.

    Args:
        where: what errors begin with.
        model: `config.json` of a `.keras` file.
        scaling: what windows are divided by before the network reads them.

    Raises:
        ModelError: it is another kind of model.
    """
    layers = _chain(where, model)
    for layer in layers:
        _check_kind(where, layer)
    shape = _input_shape(where, model, layers)
    layers = [layer for layer in layers if layer["class_name"] != "InputLayer"]
    recurrent = [layer for layer in layers if layer["class_name"] in _CELLS]
    _check_order(where, layers, recurrent)
    head = layers[-1]
    config = head["config"]
    architecture = Architecture(
        cells=tuple(_recurrent(where, layer, recurrent[-1]) for layer in recurrent),
        timesteps=shape[0],
        features=shape[1],
        outputs=config["units"],
        scaling=scaling,
        anchor="none",
        output_activation=_activation(where, head, "activation"),
        output_bias=config.get("use_bias", True),
        horizon=config["units"] if shape[1] == 1 else None,
    )
    return Imported(architecture, tuple(_name(layer) for layer in layers))


def _chain(where: str, model: Config) -> list[Config]:
    """Layers from input to output, each of which feeds the next and nothing else."""
    kind = model.get("class_name")
    config = model.get("config")
    if kind not in ("Sequential", "Functional", "Model") or not isinstance(config, Mapping):
        raise ModelError(f"{where}: a model of class {kind}, wanted Sequential or functional")
    layers = config.get("layers")
    if not isinstance(layers, Sequence) or not layers:
        raise ModelError(f"{where}: no layers, wanted {_WANTED}")
    if kind == "Sequential":
        return list(layers)
    for layer in layers:
        _check_kind(where, layer)
    outputs = _tensors(config.get("output_layers"))
    if len(outputs) != 1:
        raise ModelError(f"{where}: {len(outputs)} outputs, wanted one Dense")
    by_name = {layer.get("name") or _name(layer): layer for layer in layers}
    chain = [by_name[outputs[0]]]
    while parents := _tensors(chain[0].get("inbound_nodes")):
        if len(parents) > 1:
            raise ModelError(
                f"{where}: layer '{_name(chain[0])}' has {len(parents)} inputs, wanted one"
            )
        chain.insert(0, by_name[parents[0]])
    for layer in layers:
        if layer not in chain:
            raise ModelError(
                f"{where}: layer '{_name(layer)}' is not between input and output, wanted {_WANTED}"
            )
    return chain


def _tensors(node: object) -> list[str]:
    """Names of the layers whose outputs a part of a functional model's config names.

    Every version of Keras writes them as [name, node, tensor], nested in its own way.
    """
    if isinstance(node, Mapping):
        return [name for value in node.values() for name in _tensors(value)]
    if not isinstance(node, list):
        return []
    if len(node) >= 3 and isinstance(node[0], str) and all(isinstance(n, int) for n in node[1:3]):
        return [node[0]]
    return [name for value in node for name in _tensors(value)]


def _check_kind(where: str, layer: Config) -> None:
    kind, name = layer.get("class_name", "?"), _name(layer)
    is_own = layer.get("registered_name") in (None, kind)
    is_own &= str(layer.get("module", "keras.layers")).partition(".")[0] == "keras"
    if kind not in (*_CELLS, "InputLayer", "Dense") or not is_own:
        custom = "" if is_own else "custom "
        advice = f"; {_ADVICE[kind]}" if kind in _ADVICE else ""
        raise ModelError(
            f"{where}: layer '{name}' has {custom}class {kind}, wanted {_WANTED}{advice}"
        )
    dtype = layer["config"].get("dtype", "float32")
    if isinstance(dtype, Mapping):
        dtype = dtype.get("config", {}).get("name")
    if dtype not in _DTYPES:
        raise ModelError(f"{where}: layer '{name}' computes in {dtype}, wanted float32")


def _check_order(where: str, layers: Sequence[Config], recurrent: Sequence[Config]) -> None:
    if not recurrent:
        raise ModelError(f"{where}: no recurrent layer, wanted {_WANTED}")
    last = layers[-1]
    if last["class_name"] != "Dense":
        raise ModelError(
            f"{where}: the last layer '{_name(last)}' has class {last['class_name']}, "
            f"wanted {_WANTED}"
        )
    for layer in layers[:-1]:
        if layer["class_name"] == "Dense":
            raise ModelError(
                f"{where}: layer '{_name(layer)}' of class Dense comes before the end, "
                f"wanted {_WANTED}"
            )


def _input_shape(where: str, model: Config, layers: Sequence[Config]) -> tuple[int | None, int]:
    """(T, F) of the input; T may be None."""
    first = layers[0]["config"]
    inputs = [layer for layer in layers if layer["class_name"] == "InputLayer"]
    if len(inputs) > 1 or inputs != list(layers[: len(inputs)]):
        raise ModelError(f"{where}: {len(inputs)} inputs, wanted one, at the beginning")
    found = (
        first.get("batch_shape")
        or first.get("batch_input_shape")
        or model["config"].get("build_input_shape")
        or model.get("build_config", {}).get("input_shape")
    )
    if not isinstance(found, Sequence) or len(found) != 3 or not isinstance(found[2], int):
        shape = "unknown" if found is None else f"{tuple(found)}"
        raise ModelError(f"{where}: input shape {shape}, wanted (batch, timesteps, values)")
    if first.get("sparse") or first.get("ragged"):
        raise ModelError(f"{where}: a sparse or ragged input, wanted a dense one")
    return found[1], found[2]


def _recurrent(where: str, layer: Config, last: Config) -> Recurrent:
    config, name = layer["config"], _name(layer)
    for option in _MUST_BE_FALSE:
        if config.get(option):
            raise ModelError(f"{where}: layer '{name}' has {option}=True, wanted False")
    wanted = layer is not last
    if bool(config.get("return_sequences")) != wanted:
        which = "all recurrent layers but the last" if wanted else "the last recurrent layer"
        raise ModelError(
            f"{where}: layer '{name}' has return_sequences={not wanted}, wanted {wanted} on {which}"
        )
    cell = _CELLS[layer["class_name"]]
    assert cell in STATE_PARTS, cell
    return Recurrent(
        cell=cell,
        units=config["units"],
        activation=_activation(where, layer, "activation"),
        recurrent_activation=_activation(where, layer, "recurrent_activation"),
        use_bias=config.get("use_bias", True),
        reset_after=config.get("reset_after", True),
    )


def _activation(where: str, layer: Config, option: str) -> str:
    """Keras's name of an activation; `None` in a config is the linear one."""
    found = layer["config"].get(option)
    if found is None:
        return "linear"
    if not isinstance(found, str):
        kind = found.get("config") if isinstance(found, Mapping) else found
        kind = kind if isinstance(kind, str) else "an object"
        raise ModelError(
            f"{where}: layer '{_name(layer)}' has {option} {kind}, wanted one that Keras has a "
            "name for"
        )
    return found


def _name(layer: Config) -> str:
    return str(layer.get("config", {}).get("name") or layer.get("name") or "?")
