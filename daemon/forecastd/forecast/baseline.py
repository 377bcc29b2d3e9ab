"""The forecast that needs no model: what is published without one, and what every one must beat."""

from __future__ import annotations

import numpy as np

from forecastd.ports import Table
from forecastd.records import Floats, Slots
from forecastd.series_tail import steps_back, steps_kept


def naive_forecast(table: Table, slots: Slots, horizon: int, season: int | None) -> Floats:
    """The value a season before each lead; without a season, or before one is full, the last value.

    Returns:
        (B, horizon, F), in the series' own unit.
    """
    last = steps_back(table, slots, range(1))
    naive = np.repeat(last, horizon, axis=1)
    if season is not None:
        leads = np.arange(1, horizon + 1)
        back = season * -(-leads // season) - leads
        full = steps_kept(table, slots) >= season
        naive[full] = steps_back(table, slots[full], back)
    return naive
