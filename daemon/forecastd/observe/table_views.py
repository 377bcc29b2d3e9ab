"""What the page shows of the busiest series, read from the series table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from forecastd.forecast.scoring import HIGH, LOW, MEDIAN, NAIVE
from forecastd.observe.snapshot import SeriesView
from forecastd.ports import Table
from forecastd.records import Ints, TopicPartition
from forecastd.series_tail import median_step_ms, steps_back

SERIES_SHOWN = 24
"""Series on the page."""

STEPS_SHOWN = 120
"""Recent steps of each."""


@dataclass(frozen=True, slots=True)
class ServedWeights:
    """The weights that serve: their version, as columns hold it too, and steps between windows."""

    version: str
    version_key: int
    stride: int


def busiest_series(
    table: Table,
    partitions: Sequence[TopicPartition],
    targets: Sequence[str],
    quantiles: Sequence[float],
    served: ServedWeights | None = None,
) -> tuple[SeriesView, ...]:
    """The series with the most observations, their last steps and their latest forecast.

    Args:
        table: the series table.
        partitions: those that are served.
        targets: names of the values that are forecast; the first is shown.
        quantiles: of the forecasts; the middle and the two ends are shown.
        served: None where no model serves.
    """
    slots = np.concatenate([np.zeros(0, np.int32), *map(table.slots, partitions)])
    if len(slots) > SERIES_SHOWN:
        busiest = np.argpartition(-table["seen"][slots], SERIES_SHOWN)[:SERIES_SHOWN]
        slots = slots[busiest]
    slots = slots[np.argsort([table.name(slot) for slot in slots.tolist()])]
    if not len(slots):
        return ()
    shown = min(STEPS_SHOWN, table["tail"].shape[1])
    values = steps_back(table, slots, range(shown - 1, -1, -1))[..., 0]
    gaps = _gaps_back(table, slots, shown)
    times = table["at_ms"][slots, None] - np.cumsum(gaps[:, ::-1], axis=1)[:, ::-1]
    return tuple(
        msgspec.structs.replace(
            _latest_forecast(table, slot, step_ms, quantiles),
            **_weights_of(table, slot, at_ms, served),
            target=targets[0],
            at_ms=at_ms[np.isfinite(actuals)].tolist(),
            actuals=actuals[np.isfinite(actuals)].tolist(),
        )
        for slot, step_ms, at_ms, actuals in zip(
            slots.tolist(), median_step_ms(table, slots).tolist(), times, values, strict=True
        )
    )


def _gaps_back(table: Table, slots: np.ndarray, shown: int) -> np.ndarray:
    length = table["gap_ms"].shape[1]
    places = (table["steps"][slots, None] - np.arange(shown, 0, -1)) % length
    gaps: np.ndarray = table["gap_ms"][slots[:, None], places].astype(np.int64)
    # The time of a step is the last one's less the gaps of all that follow it: each gap is
    # needed one step earlier than it is kept.
    return np.concatenate([gaps[:, 1:], np.zeros((len(slots), 1), np.int64)], axis=1)


def _weights_of(
    table: Table, slot: int, at_ms: Ints, served: ServedWeights | None
) -> dict[str, Any]:
    """Whose the latest forecast is, and since when; nothing where others made it.

    Args:
        table, slot: the series.
        at_ms: event times of its last steps.
        served: the weights that serve.
    """
    newest = int(table["pending_window"][slot].argmax())
    if served is None or int(table["judged"][slot]) != served.version_key:
        return {}
    if not table["pending_model"][slot, newest]:
        return {}
    if table["pending_shadow"][slot, newest]:
        return {"in_fallback": True}
    told: dict[str, Any] = {"model_version": served.version}
    first = int(table["judged_from"][slot])
    windows = int(table["pending_window"][slot, newest]) - first
    (origin,) = np.nonzero(at_ms == table["pending_ms"][slot, newest])
    if first > 0 and len(origin) and origin[-1] >= windows * served.stride:
        told["model_from_ms"] = int(at_ms[origin[-1] - windows * served.stride])
    return told


def _latest_forecast(
    table: Table, slot: int, step_ms: int, quantiles: Sequence[float]
) -> SeriesView:
    """A series with its latest forecast and without its past."""
    partition = table.partition(slot)
    view = SeriesView(
        name=table.name(slot),
        topic=partition.topic,
        partition=partition.partition,
        target="",
        at_ms=[],
        actuals=[],
    )
    newest = int(table["pending_window"][slot].argmax())
    if table["pending_window"][slot, newest] < 0:
        return view
    kept = table["pending"][slot, newest, :, :, 0].astype(np.float64)
    kept += table["pending_anchor"][slot, newest, 0]
    origin_ms = int(table["pending_ms"][slot, newest])
    has_band = len(quantiles) > 1
    in_shadow = bool(table["pending_shadow"][slot, newest])
    by_model = bool(table["pending_model"][slot, newest]) and not in_shadow
    middle = NAIVE if in_shadow else MEDIAN
    return msgspec.structs.replace(
        view,
        origin_ms=origin_ms,
        forecast_at_ms=[origin_ms + (k + 1) * step_ms for k in range(kept.shape[1])],
        quantiles=[quantiles[0], 0.5, quantiles[-1]] if has_band else [0.5],
        forecast=kept[[LOW, middle, HIGH] if has_band else [middle]].T.tolist(),
        source="model" if by_model else "baseline",
    )
