"""A network's weights as bytes, and the hash that tells two models apart. Pure; no pickle."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from forecastd.architecture import Architecture
from forecastd.errors import ModelError

Weights = Sequence[NDArray[np.float32]]
"""Arrays in Keras's order, of the shapes of `Architecture.weight_shapes`."""

_VERSION_DIGITS = 6
_LITTLE_ENDIAN = np.dtype("<f4")


def version_hash(architecture: Architecture, weights: Weights) -> str:
    """Six hex digits that tell models apart by what they forecast."""
    digest = hashlib.sha256(architecture.to_json())
    for array in weights:
        digest.update(str(array.shape).encode())
        digest.update(np.ascontiguousarray(array, np.float32).tobytes())
    return digest.hexdigest()[:_VERSION_DIGITS]


def pack_weights(weights: Weights) -> bytes:
    """The numbers of all arrays behind each other, float32, little-endian.

    Shapes are not told: the architecture has them.
    """
    return b"".join(np.ascontiguousarray(array, _LITTLE_ENDIAN).tobytes() for array in weights)


def unpack_weights(
    where: str, architecture: Architecture, packed: bytes
) -> list[NDArray[np.float32]]:
    """What `pack_weights` wrote.

    Raises:
        ModelError: these are not the weights of such a network.
    """
    shapes = architecture.weight_shapes
    sizes = [math.prod(shape) for shape in shapes]
    wanted = sum(sizes) * _LITTLE_ENDIAN.itemsize
    if len(packed) != wanted:
        found = f"{where}: {len(packed)} bytes of weights"
        raise ModelError(f"{found}, wanted {wanted} for {architecture.describe()}")
    numbers = np.frombuffer(packed, _LITTLE_ENDIAN).astype(np.float32)
    parts = np.split(numbers, np.cumsum(sizes)[:-1])
    weights = [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]
    check_weights(where, architecture, weights)
    return weights


def check_weights(where: str, architecture: Architecture, weights: Weights) -> None:
    """Whether weights fit their network.

    Raises:
        ModelError: another shape or type, or a number that is not finite.
    """
    found = [array.shape for array in weights]
    wanted = architecture.weight_shapes
    if found != wanted:
        raise ModelError(
            f"{where}: weights of shapes {found}, wanted {wanted} for {architecture.describe()}"
        )
    if not all(array.dtype == np.float32 and np.isfinite(array).all() for array in weights):
        raise ModelError(f"{where}: weights that are not finite float32 numbers, wanted such")
