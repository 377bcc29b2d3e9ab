"""A model from its files, in a network that is ready to serve."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from forecastd import disk_models
from forecastd.forecast.bank_columns import Bank
from forecastd.forecast.forecaster import ServedModel
from forecastd.settings import Settings

_FIRST_SLOTS = 64


@dataclass(frozen=True, slots=True)
class Model:
    """A model in memory: how it forecasts, and where its state is kept.

    Attributes:
        architecture: in a few words.
        states: (layer, part, units) of every state part.
    """

    served: ServedModel
    architecture: str
    bank: Bank
    states: list[tuple[int, str, int]]


def load_model(settings: Settings, path: Path) -> Model:
    """Read a model and put it into a network, warmed up.

    Raises:
        ModelError: it cannot be read, or does not fit the settings.
    """
    stored = disk_models.load_model(path)
    architecture = stored.architecture.fit(settings)
    # TensorFlow takes seconds to load: who serves the baseline, or names a model that is none,
    # never waits for it.
    from forecastd.keras_network import KeyedNetwork

    network = KeyedNetwork(architecture, rows=_FIRST_SLOTS * settings.windows.phases)
    network.set_weights(stored.weights)
    network.warm_up()
    served = ServedModel(
        network,
        stored.version,
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
