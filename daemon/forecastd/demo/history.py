"""What the demo's model learns from: the seasonal series as they were, and noise like a machine's.

One CSV as `forecastd train` reads it. Every column is a stretch of its own that begins with the
first row: the daemon will meet its series cold, so most of what is learnt here begins cold too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from forecastd.demo.machine_like_series import machine_like_series
from forecastd.demo.seasonal_series import SeasonalSeries
from forecastd.records import Floats

_SHIFT_MS = 389
"""Between two stretches of a series, on top of their length, which many a season divides: each
stretch shall begin in another phase."""


def history_csv(
    series: Sequence[SeasonalSeries], end_ms: int, step_ms: int, steps: int, copies: int
) -> str:
    """Time in the first column, one column a stretch.

    Args:
        series: whose past is made.
        end_ms: event time at which that past ends.
        step_ms: from one row to the next.
        steps: rows.
        copies: stretches of each series: copy k lies k times the length of the table further back
            than its time says, so that no two show the same part of a season or the same noise.
    """
    at_ms = end_ms + step_ms * np.arange(1 - steps, 1)
    columns: list[tuple[str, Floats]] = []
    for copy in range(copies):
        # In turn, because an epoch reads columns as they come: all noise at its end would be all
        # that the model remembers.
        past_ms = at_ms - copy * (steps * step_ms + _SHIFT_MS)
        columns += [(f"{one.name}/{copy}", one.values(past_ms)) for one in series]
        columns += machine_like_series(steps, copy)
    names = ",".join(["timestamp", *(name for name, _ in columns)])
    rows = np.column_stack([values for _, values in columns]).tolist()
    return "\n".join([names, *_lines(at_ms.tolist(), rows)]) + "\n"


def _lines(at_ms: Sequence[int], rows: Sequence[Sequence[float]]) -> Iterator[str]:
    for time, row in zip(at_ms, rows, strict=True):
        yield ",".join([str(time), *map(repr, row)])
