"""Models in networks that are ready to serve."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from forecastd import disk_models
from forecastd.architecture import Architecture
from forecastd.forecast.forecaster import ServedModel
from forecastd.forecast.model import Model
from forecastd.settings import Settings

_FIRST_SLOTS = 64


def load_model(settings: Settings, path: Path) -> Model:
    """Read a model and put it into a network, warmed up.

    Raises:
        ModelError: it cannot be read, or does not fit the settings.
    """
    stored = disk_models.load_model(path)
    architecture = stored.architecture.fit(settings)
    return build_model(architecture, settings, stored.version, stored.weights)


def build_model(
    architecture: Architecture,
    settings: Settings,
    version: str = "",
    weights: Sequence[NDArray[Any]] | None = None,
) -> Model:
    """Put weights into a new network, warmed up.

    Args:
        architecture: one that fits the settings.
        settings: they say how many states a series has.
        version: of the weights; "" while there are none to serve with.
        weights: None: those that the network is born with.
    """
    # TensorFlow takes seconds to load: who serves the baseline, or names a model that is none,
    # never waits for it.
    from forecastd.keras_network import KeyedNetwork

    network = KeyedNetwork(architecture, rows=_FIRST_SLOTS * settings.windows.phases)
    if weights is not None:
        network.set_weights(weights)
    network.warm_up()
    served = ServedModel(
        network,
        version,
        architecture.quantiles,
        architecture.targets(settings.forecast.horizon),
        architecture.scaling,
        architecture.anchor,
    )
    states = [
        (layer, part, cell.units)
        for layer, cell in enumerate(architecture.cells)
        for part in cell.state_parts
    ]
    return Model(served, architecture.describe(), network, states)
