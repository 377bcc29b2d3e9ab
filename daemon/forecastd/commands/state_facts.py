"""What a saved row says of its series, as facts.

A row describes itself, so it can be told whatever daemon saved it: what it does not hold is left
out, and every column that it does hold is among the facts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, cast

import msgspec
import numpy as np
from numpy.typing import NDArray

from forecastd.forecast.scoring import MEDIAN, NAIVE
from forecastd.ports import Table
from forecastd.records import Slots, TopicPartition
from forecastd.series_tail import median_step_ms, steps_back, steps_kept
from forecastd.state.row_codec import Row
from forecastd.state.row_key import decode_key
from forecastd.state.saved_rows import SavedSeries

_STEPS_SHOWN = 8
_ONE: Slots = np.zeros(1, np.int32)

Numbers = list[float | None]
"""Floats as JSON has them: what is not finite is null."""


class Pending(msgspec.Struct, frozen=True):
    """A forecast that waits for its actuals.

    Attributes:
        origin_ms: event time of its window's last step.
        source: `model` or `baseline`.
        median: (H, V), in the unit of the series.
    """

    origin_ms: int
    source: str
    median: list[Numbers]


class SeriesFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What is saved of one series. F values a step, T steps a window, H leads, V forecast values.

    Attributes:
        fault: why a restart cannot read the row; what is told of its content is None then.
        offset: the last record applied to it.
        older_rows: writers of further rows, which do not count.
        at_ms, step_ms: event time of the last step, median time between two of them.
        windows, open_steps: windows that have ended, and steps since.
        last_values: (N, F) the last steps, the oldest first.
        median, spread: (F,) the scale that the last window was fed with.
        model_versions: of the weights that made the state, one a phase; None where none did.
        naive_error, model_error: (H, V) running absolute errors; None before the first.
        columns: every cell of the row.
    """

    series: str
    topic: str
    partition: int
    writer: str
    older_rows: list[str]
    fault: str | None = None
    offset: int | None = None
    row_bytes: int | None = None
    meaning: str | None = None
    values: list[str] = []
    steps: int = 0
    at_ms: int | None = None
    step_ms: int | None = None
    windows: int | None = None
    open_steps: int | None = None
    last_values: list[Numbers] = []
    median: Numbers | None = None
    spread: Numbers | None = None
    model_versions: list[str | None] | None = None
    state_arrays: dict[str, list[int]] = {}
    naive_error: list[Numbers] | None = None
    model_error: list[Numbers] | None = None
    model_scored: int | None = None
    pending: list[Pending] = []
    seen: int | None = None
    late: int | None = None
    reset: bool = False
    bytes_by_column: dict[str, int] = {}
    columns: dict[str, Any] = {}

    def as_json(self) -> dict[str, Any]:
        """For `json.dumps`."""
        told: dict[str, Any] = msgspec.to_builtins(self)
        return told


def facts_of(
    place: TopicPartition,
    series: str,
    saved: SavedSeries[tuple[bytes, Row]],
    versions: Mapping[int, str],
) -> SeriesFacts:
    """What a row says of its series.

    Args:
        place: partition of its input topic.
        series: its name.
        saved: its rows, and of the one that counts bytes and content.
        versions: names of the models that are known here, by what a row holds of them.
    """
    bare = SeriesFacts(
        series=series,
        topic=place.topic,
        partition=place.partition,
        writer=decode_key(saved.key)[1],
        older_rows=sorted(decode_key(key)[1] for key in saved.older_keys),
        fault=saved.fault,
    )
    if saved.kept is None:
        return bare
    row, content = saved.kept
    steps = int(content.columns["steps"])
    told = {
        "offset": saved.offset,
        "row_bytes": len(row),
        "meaning": content.meaning,
        "values": _value_names(content),
        "steps": steps,
        "at_ms": event_time(content),
        "model_versions": _model_versions(content, versions),
        "state_arrays": {
            name: list(cell.shape)
            for name, cell in content.columns.items()
            if re.fullmatch(r"[hc]\d+", name)
        },
        "naive_error": _known(content.columns.get("naive_error")),
        "model_error": _known(content.columns.get("model_error")),
        "pending": _pending(content),
        "reset": bool(content.columns.get("reset", False)),
        "bytes_by_column": {name: cell.nbytes for name, cell in content.columns.items()},
        "columns": {name: numbers(cell) for name, cell in content.columns.items()},
        **{name: content.number(name) for name in ("model_scored", "seen", "late")},
        **(_of_tail(content, steps) if steps else {}),
    }
    return msgspec.structs.replace(bare, **told)


def event_time(content: Row) -> int | None:
    """Event time of the last step; None where the series has none."""
    return content.number("at_ms") if int(content.columns["steps"]) > 0 else None


def numbers(cells: NDArray[Any]) -> Any:
    """Cells as JSON has them, which knows no NaN and no infinity: those are null."""
    if cells.dtype.kind != "f":
        return cells.tolist()
    known = cells.astype(object)
    known[~np.isfinite(cells)] = None
    return known.tolist()


def _of_tail(content: Row, steps: int) -> dict[str, Any]:
    """What only a series with steps has."""
    columns = content.columns
    if not {"tail", "gap_ms"} <= columns.keys():
        return {}
    # The functions of the tail read arrays by slot and nothing else of a table.
    table = cast(Table, {name: cell[None] for name, cell in columns.items()})
    shown = min(_STEPS_SHOWN, int(steps_kept(table, _ONE)[0]))
    told: dict[str, Any] = {
        "last_values": numbers(steps_back(table, _ONE, range(shown - 1, -1, -1))[0]),
        "step_ms": int(median_step_ms(table, _ONE)[0]),
    }
    timesteps = _timesteps(content)
    if timesteps and "opened" in columns and "fed" in columns:
        stride = timesteps // len(columns["opened"])
        windows = max((steps - timesteps) // stride + 1, 0)
        ended_at = (windows - 1) * stride + timesteps if windows else 0
        told |= {"windows": windows, "open_steps": steps - ended_at}
        if windows:
            median, spread = columns["fed"][(windows - 1) % len(columns["fed"])]
            told |= {"median": numbers(median), "spread": numbers(spread)}
    return told


def _pending(content: Row) -> list[Pending]:
    """Forecasts that wait, the oldest first; one that was saved with another horizon is lost."""
    columns = content.columns
    kept = ("anchor", "window", "ms", "model", "shadow")
    names = ("pending", *(f"pending_{name}" for name in kept))
    if not set(names) <= columns.keys():
        return []
    paths, anchors, windows, origins, is_model, in_shadow = (columns[name] for name in names)
    medians = np.where(in_shadow[:, None, None], paths[:, NAIVE], paths[:, MEDIAN])
    medians = medians.astype(np.float64) + anchors[:, None]
    by_model = is_model & ~in_shadow
    there = [
        at for at in np.argsort(windows) if windows[at] >= 0 and np.isfinite(medians[at]).all()
    ]
    return [
        Pending(int(origins[at]), "model" if by_model[at] else "baseline", numbers(medians[at]))
        for at in there
    ]


def _model_versions(content: Row, versions: Mapping[int, str]) -> list[str | None] | None:
    found = content.columns.get("version")
    if found is None:
        return None
    return [(versions.get(key) or f"weights {key:016x}") if key else None for key in found.tolist()]


def _known(cells: NDArray[Any] | None) -> list[Numbers] | None:
    """Errors, where there is one."""
    if cells is None or np.isnan(cells).all():
        return None
    known: list[Numbers] = numbers(cells)
    return known


def _timesteps(content: Row) -> int | None:
    found = re.match(r"timesteps=(\d+) ", content.meaning)
    return int(found[1]) if found else None


def _value_names(content: Row) -> list[str]:
    _, is_there, names = content.meaning.partition(" values=")
    return names.split(",") if is_there else []
