"""The model's recurrent state as columns of the series table.

The numbers stay in the model's bank, one bank row a (slot, phase); the table reads and writes them
through these stores, so that they are saved and restored like every other column.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from forecastd.ports import ColumnStore
from forecastd.records import Column, Float32s, Slots


class Bank(Protocol):
    """The part of the network that holds state. `part` is `h` or `c`."""

    def read_state(self, layer: int, part: str, rows: Slots) -> Float32s:
        """(B, units) of bank rows."""
        ...

    def write_state(self, layer: int, part: str, rows: Slots, values: Float32s) -> None:
        """Set (B, units) of bank rows, which are distinct."""
        ...

    def grow(self, rows: int) -> None:
        """Make room for bank rows below `rows`; never shrinks."""
        ...


@dataclass(frozen=True, slots=True)
class BankColumn:
    """One state part of one layer, cell shape (phases, units)."""

    bank: Bank
    layer: int
    part: str
    column: Column

    def read(self, slots: Slots) -> NDArray[Any]:
        """Cells of `slots`, (B, phases, units)."""
        flat = self.bank.read_state(self.layer, self.part, self._rows(slots))
        return flat.reshape(len(slots), *self.column.shape)

    def write(self, slots: Slots, cells: NDArray[Any]) -> None:
        """Set the cells of `slots`."""
        flat = np.ascontiguousarray(cells, np.float32).reshape(-1, self.column.shape[1])
        self.bank.write_state(self.layer, self.part, self._rows(slots), flat)

    def grow(self, capacity: int) -> None:
        """Make room for slots below `capacity`."""
        self.bank.grow(capacity * self.column.shape[0])

    def _rows(self, slots: Slots) -> Slots:
        phases = self.column.shape[0]
        rows: Slots = (slots[:, None] * phases + np.arange(phases)).ravel().astype(np.int32)
        return rows


def bank_columns(bank: Bank, states: list[tuple[int, str, int]], phases: int) -> list[ColumnStore]:
    """Stores for every (layer, part, units) of a network."""
    return [
        BankColumn(bank, layer, part, Column(f"{part}{layer}", "<f4", (phases, units)))
        for layer, part, units in states
    ]
