"""The last steps of every series: how the table keeps them, and how any stage reads them.

Steps lie in a ring: step number n (1 is the first of the series) is in place (n - 1) % L. What was
never written is NaN.
"""

from __future__ import annotations

import numpy as np

from forecastd.ports import Table
from forecastd.records import Column, Floats, Ints, Slots


def tail_columns(steps: int, features: int) -> list[Column]:
    """Columns that hold the last `steps` steps of each series.

    Values are float64: the change of a large counter would drown in float32's rounding. `gap_ms`
    is the time since the step before, capped at 2**32 - 1 ms (49 days).
    """
    return [
        Column("steps", "<i8"),  # steps of the series so far
        Column("at_ms", "<i8", fill=-(2**62)),  # event time of the last step
        Column("tail", "<f8", (steps, features), fill=np.nan, is_ring=True),
        Column("gap_ms", "<u4", (steps,), is_ring=True),
    ]


def append_steps(  # noqa: PLR0913  # what a step consists of
    table: Table, slots: Slots, numbers: Ints, at_ms: Ints, gap_ms: Ints, values: Floats
) -> None:
    """Write steps, in the order of each series; a slot may occur more than once.

    Args:
        table: with the columns of `tail_columns`.
        slots: (N,).
        numbers: (N,) step numbers.
        at_ms: (N,) event times.
        gap_ms: (N,) time since the step before; 0 for a first step.
        values: (N, F).
    """
    places = (numbers - 1) % table["tail"].shape[1]
    table["tail"][slots, places] = values
    table["gap_ms"][slots, places] = np.minimum(gap_ms, 2**32 - 1)
    table["steps"][slots] = numbers  # of a repeated slot the last one stays
    table["at_ms"][slots] = at_ms


def steps_back(table: Table, slots: Slots, back: Ints | range) -> Floats:
    """Values of the steps `back` before the last one (0 is the last): (B, len(back), F).

    NaN where the series has no such step. `back` must be below the tail's length.
    """
    tail = table["tail"]
    places = (table["steps"][slots, None] - 1 - np.asarray(back)) % tail.shape[1]
    values: Floats = tail[slots[:, None], places]
    return values


def steps_kept(table: Table, slots: Slots) -> Ints:
    """How many steps each tail holds: all of a young series, at most the tail's length.

    Fewer than that where a row was saved when the tail was shorter.
    """
    counts: Ints = np.count_nonzero(~np.isnan(table["tail"][slots, :, 0]), axis=1)
    return counts


def median_step_ms(table: Table, slots: Slots) -> Ints:
    """Median of the differences between the event times in each tail, ms; 0 for a single step.

    The oldest step's difference is to a step that the tail has lost, so it does not count.
    """
    gaps = table["gap_ms"][slots].astype(np.float64)
    length = gaps.shape[1]
    ages = (table["steps"][slots, None] - 1 - np.arange(length)) % length  # 0: the last step
    counts = steps_kept(table, slots) - 1
    gaps[ages >= counts[:, None]] = np.inf  # sorts last
    gaps.sort(axis=1)
    rows = np.arange(len(slots))
    high = gaps[rows, np.maximum(counts, 1) // 2]
    low = gaps[rows, (np.maximum(counts, 1) - 1) // 2]
    middle = np.where(counts > 0, (low + high) / 2, 0)
    return np.rint(middle).astype(np.int64)
