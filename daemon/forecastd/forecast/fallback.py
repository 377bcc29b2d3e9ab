"""Which forecast a series gets where a model serves: the model's, or the naive one that beats it.

A closed-form function of the series' own scored forecasts: no clock, no gradient, nothing of other
series. The model goes on forecasting and is scored in shadow, so that it can win again.
"""

from __future__ import annotations

import numpy as np

from forecastd.records import Bools, Column, Floats, Ints

MEMORY_WINDOWS = 20
"""Scored windows that the comparison remembers, on average."""

EVIDENCE_WINDOWS = 3
"""Scored windows below which it says nothing: a new series trusts the champion."""

MARGIN = 0.05
"""Share by which one must be better than the other before the series changes sides."""


def fallback_columns() -> list[Column]:
    """What the table must hold: discounted errors of (model, naive), and the side it is on."""
    return [Column("rivals", "<f4", (2,)), Column("fallback", "|b1")]


def remember(rivals: Floats, errors: Floats) -> Floats:
    """Discounted sums of the scaled errors of (model, naive), (B, 2), after one more window."""
    return rivals * (1 - 1 / MEMORY_WINDOWS) + errors


def falls_back(rivals: Floats, windows: Ints, fallback: Bools) -> Bools:
    """Whether the naive forecast is published.

    Args:
        rivals: (B, 2) discounted errors of (model, naive).
        windows: (B,) scored windows of the model.
        fallback: (B,) whether it was published before.

    >>> rivals = np.array([[1.06, 1.0], [0.96, 1.0], [0.94, 1.0], [0.1, 0.0]])
    >>> falls_back(rivals, np.full(4, 3), np.array([False, True, True, False]))
    array([ True,  True, False,  True])
    """
    model, naive = rivals[:, 0], rivals[:, 1]
    loses, wins = model > (1 + MARGIN) * naive, model < (1 - MARGIN) * naive
    judged = np.where(fallback, ~wins, loses)
    decided: Bools = np.where(windows >= EVIDENCE_WINDOWS, judged, fallback)
    return decided
