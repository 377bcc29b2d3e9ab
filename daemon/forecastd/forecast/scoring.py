"""Forecasts that wait for their actuals, and what they are worth when those arrive.

A series keeps its last ceil(H / stride) forecasts. Whenever one of its windows ends, `stride` new
steps have arrived: each pending forecast is scored on the leads that fall on them. So every lead of
every forecast is scored exactly once, when its window of actuals is full.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from forecastd.evaluate.running_error import learn
from forecastd.observe.events import ForecastsScored, Telemetry
from forecastd.ports import Table
from forecastd.records import Bools, Column, Floats, Ints, Slots
from forecastd.scaling import INPUT_LIMIT
from forecastd.series_tail import steps_back

MEDIAN, LOW, HIGH, NAIVE = range(4)
"""What is kept of a forecast: the median, the ends of its widest interval, the naive one beside."""

SEED_WINDOWS = 1
"""How many scored forecasts the differences within the first window count for."""

_FLOAT32_MAX = float(np.finfo(np.float32).max)


@dataclass(frozen=True, slots=True, eq=False)
class _Arrived:
    """The last steps of series whose window just ended, as `Scoring.score` describes them.

    `steps` has shape (B, stride, F), the oldest first.
    """

    slots: Slots
    windows: Ints
    steps: Floats
    spread: Floats
    is_silent: Bools

    def take(self, where: Bools) -> _Arrived:
        return _Arrived(
            self.slots[where],
            self.windows[where],
            self.steps[where],
            self.spread[where],
            self.is_silent[where],
        )


@dataclass(frozen=True, slots=True)
class Scoring:
    """Pending forecasts of a horizon of H leads, one every `stride` steps.

    `first_values`: how many of the observation's values are forecast (the first ones).
    """

    table: Table
    horizon: int
    stride: int
    first_values: int
    has_intervals: bool
    telemetry: Telemetry

    @staticmethod
    def columns(horizon: int, stride: int, values: int) -> list[Column]:
        """What the table must hold for scoring."""
        pending = -(-horizon // stride)
        return [
            Column("pending", "<f4", (pending, 4, horizon, values), fill=np.nan),  # from the anchor
            Column("pending_anchor", "<f8", (pending, values)),
            Column("pending_window", "<i8", (pending,), fill=-1),
            Column("pending_ms", "<i8", (pending,)),  # origin
            Column("pending_model", "|b1", (pending,)),
            Column("naive_error", "<f4", (horizon, values), fill=np.nan),
            Column("model_error", "<f4", (horizon, values), fill=np.nan),
            Column("model_scored", "<i8"),  # windows on which the model's error was learnt
        ]

    def score(self, slots: Slots, windows: Ints, spread: Floats, is_silent: Bools) -> None:
        """Score what is pending on the last `stride` steps of series whose window just ended.

        Args:
            slots: (B,).
            windows: (B,) number of the window that ended, from 0.
            spread: (B, F) of the tail; errors are reported in units of it, up to `INPUT_LIMIT`.
            is_silent: (B,) replayed: errors are learnt and not reported.
        """
        steps = steps_back(self.table, slots, range(self.stride - 1, -1, -1))
        arrived = _Arrived(slots, windows, steps, spread, is_silent)
        pending = self.table["pending_window"].shape[1]
        scored_model = np.zeros(len(slots), np.bool_)
        for age in range(1, pending + 1):
            waits = self._waits(slots, windows - age)
            if waits.any():
                scored_model[waits] |= self._score_leads(arrived.take(waits), age)
        self.table["model_scored"][slots[scored_model]] += 1

    def _waits(self, slots: Slots, windows: Ints) -> Bools:
        """Whether the forecasts of `windows` are still there to be scored.

        A row that was saved with another horizon says when its forecasts were made, and holds none.
        """
        place = windows % self.table["pending_window"].shape[1]
        is_known = ~np.isnan(self.table["pending"][slots, place, NAIVE, 0, 0])
        waits: Bools = is_known & (self.table["pending_window"][slots, place] == windows)
        return waits

    def remember(
        self, slots: Slots, windows: Ints, forecasts: Floats, naive: Floats, is_model: Bools
    ) -> None:
        """Keep the forecasts of windows that just ended until their actuals arrive.

        Args:
            slots: (B,).
            windows: (B,) window numbers.
            forecasts: (B, 3, H, V) median, low and high.
            naive: (B, H, V).
            is_model: (B,) whether the model made them.
        """
        place = windows % self.table["pending_window"].shape[1]
        anchor = steps_back(self.table, slots, range(1))[:, 0, : self.first_values]
        kept = np.concatenate([forecasts, naive[:, None]], axis=1) - anchor[:, None, None]
        self.table["pending"][slots, place] = np.clip(kept, -_FLOAT32_MAX, _FLOAT32_MAX)
        self.table["pending_anchor"][slots, place] = anchor
        self.table["pending_window"][slots, place] = windows
        self.table["pending_ms"][slots, place] = self.table["at_ms"][slots]
        self.table["pending_model"][slots, place] = is_model

    def _score_leads(self, arrived: _Arrived, age: int) -> Bools:
        """Score the forecasts made `age` windows ago on the leads that have arrived.

        Returns:
            (B,) True where the model made them.
        """
        slots, values, table = arrived.slots, self.first_values, self.table
        origins = arrived.windows - age
        place = origins % table["pending_window"].shape[1]
        first = (age - 1) * self.stride
        leads = slice(first, min(first + self.stride, self.horizon))
        anchor = table["pending_anchor"][slots, place][:, None]
        kept = table["pending"][slots, place][:, :, leads].astype(np.float64)
        moved = (arrived.steps[:, : leads.stop - first, :values] - anchor)[:, None]
        errors = np.abs(moved - kept)
        is_model: Bools = table["pending_model"][slots, place]
        table["naive_error"][slots, leads] = learn(
            table["naive_error"][slots, leads], errors[:, NAIVE], origins + SEED_WINDOWS
        )
        made = slots[is_model]
        table["model_error"][made, leads] = learn(
            table["model_error"][made, leads],
            errors[is_model, MEDIAN],
            table["model_scored"][made],
        )
        inside = (moved[:, 0] >= kept[:, LOW]) & (moved[:, 0] <= kept[:, HIGH])
        scaled = errors[:, (MEDIAN, NAIVE)] / arrived.spread[:, None, None, :values]
        # Or one burst of one series would drown what all others say.
        np.minimum(scaled, INPUT_LIMIT, out=scaled)
        of_model, of_baseline = is_model & ~arrived.is_silent, ~is_model & ~arrived.is_silent
        self._report("model", scaled[of_model], inside[of_model])
        self._report("baseline", scaled[of_baseline], inside[of_baseline])
        return is_model

    def _report(self, source: Literal["model", "baseline"], scaled: Floats, inside: Bools) -> None:
        if not len(scaled):
            return
        self.telemetry.emit(
            ForecastsScored(
                source=source,
                leads=inside.size,
                error=float(scaled[:, 0].sum()),
                naive_error=float(scaled[:, 1].sum()),
                covered=int(inside.sum()) if self.has_intervals else 0,
                intervals=inside.size if self.has_intervals else 0,
            )
        )
