"""A network that serves, as the parts around it see it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from numpy.typing import NDArray

from forecastd.forecast.bank_columns import Bank
from forecastd.forecast.forecaster import ServedModel


class Network(Bank, Protocol):
    """A network in memory."""

    def set_weights(self, weights: Sequence[NDArray[Any]]) -> None:
        """Take other weights; the states stay."""
        ...


@dataclass(frozen=True, slots=True)
class Model:
    """A network that serves: how it forecasts, and where its state is kept.

    Attributes:
        architecture: of the network, in a few words.
        states: (layer, part, units) of every state part.
    """

    served: ServedModel
    architecture: str
    bank: Network
    states: list[tuple[int, str, int]]
