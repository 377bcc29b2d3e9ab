"""Takes over a plain Keras model into the keyed network, and proves that it forecasts alike."""

from __future__ import annotations

import copy
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forecastd.errors import ModelError
from forecastd.imported_layers import Imported, imported_architecture
from forecastd.keras_network import KeyedNetwork
from forecastd.keras_runtime import keras
from forecastd.scaling import Scaling

TOLERANCE = 1e-5
"""How far the two may differ, relative or absolute: another batch size moves the last bits."""

_HDF5 = b"\x89HDF"
_WINDOWS, _ROWS, _STEPS = 3, 3, 8

Weights = list[NDArray[np.float32]]


def import_model(path: Path, scaling: Scaling) -> tuple[Imported, Weights]:
    """Read a `.keras` file; the weights are in the order of `KeyedNetwork.weights`.

    Raises:
        ModelError: it is none, or holds what the keyed network cannot do.
    """
    where = str(path)
    config = _read_config(path)
    imported = imported_architecture(where, config, scaling)
    _check_activations(where, imported)
    model = _load(path, config)
    layers = [model.get_layer(name) for name in imported.layers]
    _check_finite(where, layers)
    weights = [np.asarray(weight, np.float32) for layer in layers for weight in layer.get_weights()]
    _check_alike(where, imported, layers, model, weights)
    return imported, weights


def _read_config(path: Path) -> Mapping[str, Any]:
    """`config.json` of the archive."""
    _check_kind(path)
    try:
        with zipfile.ZipFile(path) as archive:
            config = json.loads(archive.read("config.json"))
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise ModelError(f"{path}: {error}, wanted a .keras file") from error
    if not isinstance(config, Mapping):
        raise ModelError(f"{path}: config.json is no object, wanted a model's")
    return config


def _check_kind(path: Path) -> None:
    wanted = "wanted a file that model.save('model.keras') wrote"
    if not path.exists():
        raise ModelError(f"{path}: not there, wanted a .keras file")
    if path.is_dir():
        raise ModelError(f"{path}: a folder, {wanted}")
    try:
        with path.open("rb") as file:
            start = file.read(len(_HDF5))
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror}, {wanted}") from error
    if start == _HDF5:
        raise ModelError(f"{path}: an HDF5 file, {wanted}; load it in Keras and save it that way")
    if path.suffix != ".keras" or not zipfile.is_zipfile(path):
        raise ModelError(f"{path}: no Keras archive, {wanted}")


def _load(path: Path, config: Mapping[str, Any]) -> Any:
    """The model itself: no code of its own is run, and nothing is compiled."""
    with TemporaryDirectory() as folder:
        known = _in_words_of_keras_3(config)
        file = path if known == config else _with_config(path, known, Path(folder) / path.name)
        try:
            return keras.saving.load_model(file, compile=False, safe_mode=True)
        except (ValueError, TypeError, KeyError, OSError) as error:
            said = str(error).strip().splitlines() or [type(error).__name__]
            raise ModelError(
                f"{path}: {said[0][:200]}, wanted a model that Keras {keras.__version__} can load"
            ) from error


def _in_words_of_keras_3(config: Mapping[str, Any]) -> dict[str, Any]:
    """The same config without what Keras 2 wrote and Keras 3 does not read."""
    known: dict[str, Any] = copy.deepcopy(dict(config))
    if known["class_name"] == "Functional":
        known["module"] = "keras.src.models.functional"
    for layer in known["config"]["layers"]:
        if layer["class_name"] != "InputLayer":
            for option in ("time_major", "batch_input_shape"):
                layer["config"].pop(option, None)
    return known


def _with_config(path: Path, config: Mapping[str, Any], changed: Path) -> Path:
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(changed, "w") as new:
        for name in old.namelist():
            text = json.dumps(config).encode() if name == "config.json" else old.read(name)
            new.writestr(name, text)
    return changed


def _check_activations(where: str, imported: Imported) -> None:
    architecture = imported.architecture
    for name, layer in zip(imported.layers, architecture.cells, strict=False):
        for activation in (layer.activation, layer.recurrent_activation):
            _check_activation(where, name, activation)
    _check_activation(where, imported.layers[-1], architecture.output_activation)


def _check_activation(where: str, layer: str, activation: str) -> None:
    try:
        keras.activations.get(activation)
    except ValueError as error:
        raise ModelError(
            f"{where}: layer '{layer}' has activation {activation}, wanted one that Keras has a "
            "name for"
        ) from error


def _check_finite(where: str, layers: list[Any]) -> None:
    """Refuse NaN, and what float32 cannot hold."""
    for layer in layers:
        if any(not np.isfinite(weight.astype(np.float32)).all() for weight in layer.get_weights()):
            raise ModelError(
                f"{where}: layer '{layer.name}' has weights that are not finite, wanted a model "
                "whose training did not diverge"
            )


def _check_alike(
    where: str, imported: Imported, layers: list[Any], model: Any, weights: Weights
) -> None:
    """Run a few windows through both, each from a state of zero."""
    architecture = imported.architecture
    batch = model.inputs[0].shape[0] or _ROWS
    network = KeyedNetwork(architecture, batch)
    network.set_weights(weights)
    rows = np.arange(batch, dtype=np.int32)
    shape = (batch, architecture.timesteps or _STEPS, architecture.features)
    random = np.random.default_rng(0)
    for _ in range(_WINDOWS):
        windows = random.standard_normal(shape).astype(np.float32)
        network.zero_rows(rows)
        for layer in layers:
            if getattr(layer, "stateful", False):
                layer.reset_state()
        # Not `predict_on_batch`: its graph refuses names of layers that Keras allows, "my layer".
        expected = np.asarray(model(windows, training=False), np.float32)
        found = network.predict(windows, rows).reshape(batch, -1)
        if not np.allclose(found, expected, rtol=TOLERANCE, atol=TOLERANCE):
            raise ModelError(
                f"{where}: its forecasts differ by {np.abs(found - expected).max():.2g} from those "
                f"of the keyed network, wanted at most {TOLERANCE:g}; this is a defect of ours, or "
                "the model does more than its layers say"
            )
