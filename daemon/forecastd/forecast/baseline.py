"""The forecast that needs no model: what every model must beat, and what is published without one."""

from __future__ import annotations

import numpy as np

from forecastd.ports import Table
from forecastd.records import Floats, Slots
from forecastd.series_tail import steps_back


def naive_forecast(table: Table, slots: Slots, horizon: int, season: int | None) -> Floats:
    """The value one season before each lead; the last value without a season, or before one is full.

    Returns:
        (B, horizon, F), in the series' own unit.
    """
    last = steps_back(table, slots, range(1))
    naive = np.repeat(last, horizon, axis=1)
    if season is not None:
        leads = np.arange(1, horizon + 1)
        back = season * -(-leads // season) - leads
        full = table["steps"][slots] >= season
        naive[full] = steps_back(table, slots[full], back)
    return naive
