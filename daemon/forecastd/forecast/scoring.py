"""Forecasts that wait for their actuals, and what they are worth when those arrive.

A series keeps its last ceil(H / stride) forecasts. Whenever one of its windows ends, `stride` new
steps have arrived: each pending forecast is scored on the leads that fall on them. So every lead of
every forecast is scored exactly once, when its window of actuals is full.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from forecastd.evaluate.running_error import learn
from forecastd.observe.events import ForecastsScored, Telemetry
from forecastd.ports import Table
from forecastd.records import Bools, Column, Floats, Ints, Slots
from forecastd.series_tail import steps_back

MEDIAN, LOW, HIGH, NAIVE = range(4)
"""What is kept of a forecast: the median, the ends of its widest interval, the naive one beside."""

SEED_WINDOWS = 1
"""How many scored forecasts the differences within the first window count for."""


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
            Column("pending", "<f4", (pending, 4, horizon, values)),  # relative to the anchor
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
            spread: (B, F) of the tail; errors are reported in units of it.
            is_silent: (B,) replayed: errors are learnt and not reported.
        """
        actual = steps_back(self.table, slots, range(self.stride - 1, -1, -1))
        pending = self.table["pending_window"].shape[1]
        scored_model = np.zeros(len(slots), np.bool_)
        for age in range(1, pending + 1):
            place = (windows - age) % pending
            waits = self.table["pending_window"][slots, place] == windows - age
            first = (age - 1) * self.stride
            leads = slice(first, min(first + self.stride, self.horizon))
            if waits.any() and leads.start < leads.stop:
                at = np.flatnonzero(waits)
                scored_model[at] |= self._score_leads(
                    slots[at],
                    windows[at] - age,
                    place[at],
                    leads,
                    actual[at],
                    spread[at],
                    is_silent[at],
                )
        self.table["model_scored"][slots[scored_model]] += 1

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
        self.table["pending"][slots, place] = kept
        self.table["pending_anchor"][slots, place] = anchor
        self.table["pending_window"][slots, place] = windows
        self.table["pending_ms"][slots, place] = self.table["at_ms"][slots]
        self.table["pending_model"][slots, place] = is_model

    def _score_leads(
        self,
        slots: Slots,
        origins: Ints,
        place: Ints,
        leads: slice,
        actual: Floats,
        spread: Floats,
        is_silent: Bools,
    ) -> Bools:
        """Score `leads` of one pending forecast of each series; True where the model made it."""
        values, table = self.first_values, self.table
        actual = actual[:, : leads.stop - leads.start, :values]
        anchor = table["pending_anchor"][slots, place][:, None]
        kept = table["pending"][slots, place][:, :, leads].astype(np.float64)
        moved = (actual - anchor)[:, None]
        errors = np.abs(moved - kept)
        is_model = table["pending_model"][slots, place]
        table["naive_error"][slots, leads] = learn(
            table["naive_error"][slots, leads], errors[:, NAIVE], origins + SEED_WINDOWS
        )
        of_model = slots[is_model]
        table["model_error"][of_model, leads] = learn(
            table["model_error"][of_model, leads],
            errors[is_model, MEDIAN],
            table["model_scored"][of_model],
        )
        inside = (moved[:, 0] >= kept[:, LOW]) & (moved[:, 0] <= kept[:, HIGH])
        scaled = errors[:, (MEDIAN, NAIVE)] / spread[:, None, None, :values]
        for source, where in (("model", is_model), ("baseline", ~is_model)):
            self._report(source, scaled[where & ~is_silent], inside[where & ~is_silent])
        return is_model

    def _report(self, source: str, scaled: Floats, inside: Bools) -> None:
        if not len(scaled):
            return
        self.telemetry.emit(
            ForecastsScored(
                source="model" if source == "model" else "baseline",
                leads=inside.size,
                error=float(scaled[:, 0].sum()),
                naive_error=float(scaled[:, 1].sum()),
                covered=int(inside.sum()) if self.has_intervals else 0,
                intervals=inside.size if self.has_intervals else 0,
            )
        )
