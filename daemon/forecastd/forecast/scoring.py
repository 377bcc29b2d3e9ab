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
from forecastd.forecast.fallback import fallback_columns, falls_back, remember
from forecastd.observe.events import ForecastsScored, ModelScored, Telemetry
from forecastd.ports import Table
from forecastd.records import Bools, Column, Floats, Ints, Slots
from forecastd.scaling import INPUT_LIMIT
from forecastd.series_tail import steps_back

MEDIAN, LOW, HIGH, NAIVE = range(4)
"""What is kept of a forecast: the model's median (without a model what was published), the ends of
the widest interval that was published, the naive forecast beside."""

SEED_WINDOWS = 1
"""How many scored forecasts the differences within the first window count for."""

_FLOAT32_MAX = float(np.finfo(np.float32).max)


@dataclass(frozen=True, slots=True, eq=False)
class _Arrived:
    """The last steps of series whose window just ended, as `Scoring.score` describes them.

    `steps` has shape (B, stride, F), the oldest first. `is_serving`: the weights that the series'
    errors are about serve still.
    """

    slots: Slots
    windows: Ints
    steps: Floats
    spread: Floats
    is_silent: Bools
    is_serving: Bools

    def take(self, where: Bools) -> _Arrived:
        return _Arrived(
            self.slots[where],
            self.windows[where],
            self.steps[where],
            self.spread[where],
            self.is_silent[where],
            self.is_serving[where],
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
            Column("pending_shadow", "|b1", (pending,)),  # the naive one was published instead
            Column("naive_error", "<f4", (horizon, values), fill=np.nan),
            Column("model_error", "<f4", (horizon, values), fill=np.nan),
            Column("model_scored", "<i8"),  # windows on which the model's error was learnt
            Column("judged", "<u8"),  # version of the weights that it is about
            Column("judged_from", "<i8"),  # their first window
            *fallback_columns(),
        ]

    def score(
        self,
        slots: Slots,
        windows: Ints,
        spread: Floats,
        is_silent: Bools,
        weights: int | None = None,
    ) -> None:
        """Score what is pending on the last `stride` steps of series whose window just ended.

        Args:
            slots: (B,).
            windows: (B,) number of the window that ended, from 0.
            spread: (B, F) of the tail; errors count up to `INPUT_LIMIT` of it.
            is_silent: (B,) replayed: errors are learnt and not reported.
            weights: version key of those that serve; forecasts that others have left behind do not
                speak for these. None: whatever was judged last serves.
        """
        steps = steps_back(self.table, slots, range(self.stride - 1, -1, -1))
        judged = self.table["judged"][slots]
        is_serving = judged == (judged if weights is None else weights)
        arrived = _Arrived(slots, windows, steps, spread, is_silent, is_serving)
        pending = self.table["pending_window"].shape[1]
        is_judged = np.zeros(len(slots), np.bool_)
        errors = np.zeros((len(slots), 2))
        for age in range(1, pending + 1):
            waits = self._waits(slots, windows - age)
            if waits.any():
                by_model, of_age = self._score_leads(arrived.take(waits), age)
                is_judged[waits] |= by_model
                errors[waits] += of_age * by_model[:, None]
        if is_judged.any():
            self._judge(slots[is_judged], errors[is_judged])

    def _judge(self, slots: Slots, errors: Floats) -> None:
        """Take note of one more scored window of the model, and of what the series gets for it."""
        table = self.table
        table["model_scored"][slots] += 1
        rivals = remember(table["rivals"][slots].astype(np.float64), errors)
        table["rivals"][slots] = rivals
        was = table["fallback"][slots]
        table["fallback"][slots] = falls_back(rivals, table["model_scored"][slots], was)

    def begin(self, slots: Slots, windows: Ints, version_key: int) -> None:
        """The model forecasts `windows`; what is known of other weights does not speak of these."""
        table = self.table
        other = table["judged"][slots] != version_key
        if other.any():
            new = slots[other]
            table["judged"][new], table["judged_from"][new] = version_key, windows[other]
            table["model_error"][new], table["model_scored"][new] = np.nan, 0
            table["rivals"][new] = 0

    def _waits(self, slots: Slots, windows: Ints) -> Bools:
        """Whether the forecasts of `windows` are still there to be scored.

        A row that was saved with another horizon says when its forecasts were made, and holds none.
        """
        place = windows % self.table["pending_window"].shape[1]
        is_known = ~np.isnan(self.table["pending"][slots, place, NAIVE, 0, 0])
        waits: Bools = is_known & (self.table["pending_window"][slots, place] == windows)
        return waits

    def remember(  # noqa: PLR0913  # what is to be known of a forecast
        self,
        slots: Slots,
        windows: Ints,
        forecasts: Floats,
        naive: Floats,
        is_model: Bools,
        in_shadow: Bools,
    ) -> None:
        """Keep the forecasts of windows that just ended until their actuals arrive.

        Args:
            slots: (B,).
            windows: (B,) window numbers.
            forecasts: (B, 3, H, V) median, low and high.
            naive: (B, H, V).
            is_model: (B,) whether the model made the median.
            in_shadow: (B,) whether the naive forecast was published instead.
        """
        place = windows % self.table["pending_window"].shape[1]
        anchor = steps_back(self.table, slots, range(1))[:, 0, : self.first_values]
        kept = np.concatenate([forecasts, naive[:, None]], axis=1) - anchor[:, None, None]
        self.table["pending"][slots, place] = np.clip(kept, -_FLOAT32_MAX, _FLOAT32_MAX)
        self.table["pending_anchor"][slots, place] = anchor
        self.table["pending_window"][slots, place] = windows
        self.table["pending_ms"][slots, place] = self.table["at_ms"][slots]
        self.table["pending_model"][slots, place] = is_model
        self.table["pending_shadow"][slots, place] = in_shadow

    def _score_leads(self, arrived: _Arrived, age: int) -> tuple[Bools, Floats]:
        """Score the forecasts made `age` windows ago on the leads that have arrived.

        Returns:
            (B,) True where the present weights made them, and (B, 2) sums of the scaled errors of
            the model and of the naive forecast.
        """
        slots, values, table = arrived.slots, self.first_values, self.table
        origins = arrived.windows - age
        place = origins % table["pending_window"].shape[1]
        first = (age - 1) * self.stride
        leads = slice(first, min(first + self.stride, self.horizon))
        anchor = table["pending_anchor"][slots, place][:, None]
        kept = table["pending"][slots, place][:, :, leads].astype(np.float64)
        moved = (arrived.steps[:, : leads.stop - first, :values] - anchor)[:, None]
        spread = arrived.spread[:, None, None, :values]
        # Or one burst would drown what all others say, and stay in a band for hundreds of windows.
        errors = np.minimum(np.abs(moved - kept), INPUT_LIMIT * spread)
        is_model: Bools = table["pending_model"][slots, place]
        table["naive_error"][slots, leads] = learn(
            table["naive_error"][slots, leads], errors[:, NAIVE], origins + SEED_WINDOWS
        )
        is_judged: Bools = is_model & (origins >= table["judged_from"][slots])
        of_model = slots[is_judged]
        table["model_error"][of_model, leads] = learn(
            table["model_error"][of_model, leads],
            errors[is_judged, MEDIAN],
            table["model_scored"][of_model],
        )
        inside = (moved[:, 0] >= kept[:, LOW]) & (moved[:, 0] <= kept[:, HIGH])
        scaled = errors[:, (MEDIAN, NAIVE)] / spread
        in_shadow = table["pending_shadow"][slots, place]
        self._report_model(scaled[is_judged & arrived.is_serving & ~arrived.is_silent])
        published = np.where(in_shadow[:, None, None, None], scaled[:, [1, 1]], scaled)
        by_model = is_model & ~in_shadow
        of_model, of_baseline = by_model & ~arrived.is_silent, ~by_model & ~arrived.is_silent
        self._report("model", published[of_model], inside[of_model])
        self._report("baseline", published[of_baseline], inside[of_baseline])
        return is_judged, scaled.sum(axis=(2, 3))

    def _report_model(self, scaled: Floats) -> None:
        if len(scaled):
            error, naive_error = scaled.sum(axis=(0, 2, 3)).tolist()
            leads = scaled[:, 0].size
            self.telemetry.emit(ModelScored(len(scaled), leads, error, naive_error))

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
