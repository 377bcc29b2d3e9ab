"""Models on disk: a folder that holds one network's weights and all that is known about it.

    MODEL/
      metadata.json            architecture, version, checksum, history, scores, settings, ...
      weights-<version>.npz    arrays in Keras's order; no pickle

A folder appears whole or not at all, and is replaced in one step: new weights lie under a name of
their own until the metadata that names them takes the place of the old.
"""

from __future__ import annotations

import hashlib
import io
import os
import platform
import secrets
import shutil
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from forecastd import __version__
from forecastd.architecture import Architecture
from forecastd.errors import ModelError
from forecastd.model_weights import Weights, check_weights, version_hash

SCHEMA = 1
"""Of `metadata.json`: raised when its meaning changes."""

_METADATA = "metadata.json"


class WeightsFile(msgspec.Struct, frozen=True, kw_only=True):
    """Where the weights are, and what they must be."""

    file: str
    sha256: str


class Metadata(msgspec.Struct, frozen=True, kw_only=True):
    """What `metadata.json` holds.

    Attributes:
        version_hash: of architecture and weights, whatever wrote them and when.
        made_by: how it came about, such as `forecastd train`.
        software: versions of what made it.
        facts: whatever its maker knows: history, scores, settings, data, seconds.
    """

    schema: int
    architecture: Architecture
    version_hash: str
    weights: WeightsFile
    made_by: str
    software: dict[str, str] = {}
    facts: dict[str, Any] = {}


@dataclass(frozen=True, slots=True, eq=False)
class StoredModel:
    """A model as it was read.

    Attributes:
        weights: float32 arrays, as `KeyedNetwork.set_weights` takes them.
        version: `0-<hash>`: a model served from a path has no number.
    """

    architecture: Architecture
    weights: list[NDArray[np.float32]]
    metadata: Metadata
    version: str


class _Schema(msgspec.Struct):
    schema: int


def save_model(
    path: Path,
    architecture: Architecture,
    weights: Weights,
    made_by: str,
    facts: Mapping[str, Any],
) -> Metadata:
    """Write a model; one that is there is replaced.

    Raises:
        ModelError: something else is there, or the disk refuses.
    """
    hashed = version_hash(architecture, weights)
    packed = io.BytesIO()
    np.savez(packed, *[np.asarray(array, np.float32) for array in weights], allow_pickle=False)
    data = packed.getvalue()
    # The name is not the content's alone, so that a model is never overwritten while it is read.
    name = f"weights-{hashed}-{secrets.token_hex(3)}.npz"
    metadata = Metadata(
        schema=SCHEMA,
        architecture=architecture,
        version_hash=hashed,
        weights=WeightsFile(file=name, sha256=hashlib.sha256(data).hexdigest()),
        made_by=made_by,
        software=software_versions(),
        facts=dict(facts),
    )
    check_replaceable(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            _write(path, metadata, data)
            _remove_others(path, name)
        else:
            _create(path, metadata, data)
    except OSError as error:
        raise _unwritable(path, error) from error
    return metadata


def check_replaceable(path: Path) -> None:
    """Whether a model may be written to `path`: to be asked before the hours that make it.

    Raises:
        ModelError: something is there that is not a model, or the disk would refuse.
    """
    try:
        is_usable = (path / _METADATA).is_file() or (path.is_dir() and not any(path.iterdir()))
    except OSError as error:
        raise _unwritable(path, error) from error
    if os.path.lexists(path) and not is_usable:
        raise ModelError(
            f"{path}: it is there and holds no model, wanted a path that is free or a model's"
        )
    nearest = next(place for place in (path, *path.parents) if os.path.lexists(place))
    if not nearest.is_dir():
        raise ModelError(f"{path}: {nearest} is no folder, wanted a path in one")
    try:
        # Asked by trying: what permissions say is not what a mount or a server does.
        with TemporaryDirectory(prefix=".forecastd-", dir=nearest):
            pass
    except OSError as error:
        raise _unwritable(path, error) from error


def load_model(path: Path) -> StoredModel:
    """Read a model and check that it is whole.

    Raises:
        ModelError: there is none, or it cannot be used.
    """
    metadata = _read_metadata(path)
    try:
        data = (path / metadata.weights.file).read_bytes()
    except FileNotFoundError:
        metadata = _read_metadata(path)  # it was replaced between the two
        data = _read(path / metadata.weights.file)
    if hashlib.sha256(data).hexdigest() != metadata.weights.sha256:
        raise ModelError(
            f"{path}: {metadata.weights.file} differs from its checksum, wanted it as it was "
            "written; copy or train the model again"
        )
    weights = _unpack(path, data)
    check_weights(str(path), metadata.architecture, weights)
    return StoredModel(metadata.architecture, weights, metadata, f"0-{metadata.version_hash}")


def _unwritable(path: Path, error: OSError) -> ModelError:
    return ModelError(f"{path}: {error.strerror}, wanted to write a model there")


def software_versions() -> dict[str, str]:
    """What makes a model here: ours, and what it stands on."""
    versions = {"forecastd": __version__, "python": platform.python_version()}
    for name in ("keras", "tensorflow", "tensorflow-cpu", "numpy"):
        with suppress(PackageNotFoundError):
            versions[name] = version(name)
    return versions


def _create(path: Path, metadata: Metadata, data: bytes) -> None:
    """Make the whole folder beside its place, then move it there."""
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    beside.mkdir()
    try:
        _write(beside, metadata, data)
        beside.rename(path)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise
    _sync_folder(path.parent)


def _write(folder: Path, metadata: Metadata, data: bytes) -> None:
    """Weights first; the metadata that names them appears in one step."""
    weights = folder / metadata.weights.file
    part = folder / f".{_METADATA}.{secrets.token_hex(4)}.part"
    text = msgspec.json.format(msgspec.json.encode(metadata), indent=2)
    try:
        _write_synced(weights, data)
        _write_synced(part, text + b"\n")
        part.replace(folder / _METADATA)
    except BaseException:
        weights.unlink(missing_ok=True)
        part.unlink(missing_ok=True)
        raise
    _sync_folder(folder)


def _write_synced(file: Path, data: bytes) -> None:
    with file.open("wb") as out:
        out.write(data)
        out.flush()
        os.fsync(out.fileno())


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _remove_others(folder: Path, kept: str) -> None:
    """Weights that no metadata names any more."""
    for file in folder.glob("weights-*.npz"):
        if file.name != kept:
            file.unlink(missing_ok=True)


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise ModelError(f"{file}: {error.strerror}, wanted a model's file") from error


def _read_metadata(path: Path) -> Metadata:
    if not path.exists():
        raise ModelError(
            f"{path}: not there, wanted a model; forecastd train and forecastd models import "
            "make one"
        )
    if not (path / _METADATA).is_file():
        raise ModelError(
            f"{path}: no {_METADATA} in it, wanted a model's folder; forecastd models import takes "
            "over a .keras file"
        )
    text = _read(path / _METADATA)
    try:
        schema = msgspec.json.decode(text, type=_Schema).schema
        if schema != SCHEMA:
            raise ModelError(
                f"{path}: {_METADATA} of schema {schema}, wanted {SCHEMA}; another version of "
                "forecastd wrote it"
            )
        metadata = msgspec.json.decode(text, type=Metadata)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ModelError(f"{path}: {_METADATA}: {error}, wanted what forecastd wrote") from error
    if Path(metadata.weights.file).name != metadata.weights.file:
        raise ModelError(f"{path}: weights at {metadata.weights.file}, wanted a file beside it")
    return metadata


def _unpack(path: Path, data: bytes) -> list[NDArray[np.float32]]:
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            return [arrays[name] for name in arrays.files]
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise ModelError(f"{path}: weights: {error}, wanted an .npz file") from error
