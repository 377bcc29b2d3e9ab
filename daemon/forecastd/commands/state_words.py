"""A saved series in words: what an operator wants to know of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from forecastd.commands.state_facts import SeriesFacts
from forecastd.observe.stdout_lines import escape_controls
from forecastd.settings import format_duration
from forecastd.topic_plan import counted

plain = escape_controls
"""Names are untrusted: what would move a cursor or break a line is written as an escape."""

_LABEL = 16


def iso(at_ms: int | None) -> str:
    """An event time as people read it.

    >>> iso(1_700_000_000_250), iso(None)
    ('2023-11-14T22:13:20.250Z', 'none')
    """
    if at_ms is None:
        return "none"
    try:
        at = datetime.fromtimestamp(at_ms / 1000, UTC)
    except (OverflowError, ValueError, OSError):
        return f"{at_ms}ms"
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def facts_in_words(facts: SeriesFacts) -> Iterator[str]:
    """One fact a line, under the name of the series."""
    yield f"series {plain(facts.series)} in {plain(facts.topic)}[{facts.partition}]"
    lines = _row_in_words(facts) if facts.fault is None else _fault_in_words(facts)
    for label, text in lines:
        yield f"  {label:<{_LABEL}}{plain(text)}"


def _fault_in_words(facts: SeriesFacts) -> Iterator[tuple[str, str]]:
    yield "cannot be read", f"{facts.fault}; state.on_mismatch says what a start does about it"
    yield "writer", facts.writer
    if facts.older_rows:
        yield "older rows", _older_in_words(facts)


def _row_in_words(facts: SeriesFacts) -> Iterator[tuple[str, str]]:
    if facts.steps:
        yield from _steps_in_words(facts)
    else:
        yield "steps", "none: it starts cold with the first record behind its offset"
    if facts.reset:
        yield "reset", "its next window is flagged reset"
    if facts.seen:
        yield "observations", f"{facts.seen:,} seen, {facts.late or 0:,} of them late and skipped"
    yield "offset", f"{facts.offset}, the last record applied to it"
    held = sorted(facts.bytes_by_column.items(), key=lambda item: -item[1])
    largest = ", ".join(f"{name} {size:,}" for name, size in held[:4])
    yield "row", f"{facts.row_bytes:,} bytes ({largest}), saved with {facts.meaning}"
    yield "writer", facts.writer
    if facts.older_rows:
        yield "older rows", _older_in_words(facts)


def _older_in_words(facts: SeriesFacts) -> str:
    writers = "writer" if len(facts.older_rows) == 1 else "writers"
    found = f"{len(facts.older_rows)}, of {writers} {', '.join(facts.older_rows)}"
    return f"{found}; they do not count, and the next start removes them"


def _steps_in_words(facts: SeriesFacts) -> Iterator[tuple[str, str]]:
    apart = f", one every {format_duration(facts.step_ms)} (median)" if facts.step_ms else ""
    yield "steps", f"{facts.steps:,}, the last at {iso(facts.at_ms)}{apart}"
    if facts.windows is not None:
        yield "windows", f"{facts.windows:,} ended, {facts.open_steps} steps in the open one"
    by_value = zip(facts.values, zip(*facts.last_values, strict=True), strict=False)
    for name, last in by_value:
        yield "last values", f"{name}: {'  '.join(map(_figure, last))}  (the newest last)"
    if facts.median is not None and facts.spread is not None:
        for name, median, spread in zip(facts.values, facts.median, facts.spread, strict=False):
            yield "scale", f"{name}: median {_figure(median)}, spread {_figure(spread)}"
    yield "model", _model_in_words(facts)
    yield from _errors_in_words(facts)
    for pending in facts.pending:
        leads = [pending.median[0], pending.median[-1]]
        for name, first, last in zip(facts.values, *leads, strict=False):
            path = f"{name} {_figure(first)} to {_figure(last)} over {len(pending.median)} leads"
            yield "pending", f"from {iso(pending.origin_ms)} by the {pending.source}: {path}"


def _model_in_words(facts: SeriesFacts) -> str:
    if not facts.state_arrays:
        return "none: the row holds no state of a network"
    shapes = (f"{name} {' x '.join(map(str, shape))}" for name, shape in facts.state_arrays.items())
    made_by = dict.fromkeys(facts.model_versions or [])
    versions = ", ".join(version or "no model yet" for version in made_by)
    return f"{versions} (state {', '.join(shapes)})"


def _errors_in_words(facts: SeriesFacts) -> Iterator[tuple[str, str]]:
    if facts.naive_error is None:
        return
    leads = len(facts.naive_error)
    for at, name in enumerate(facts.values[: len(facts.naive_error[0])]):
        told = [f"naive {_ends(facts.naive_error, at)}"]
        if facts.model_error is not None:
            scored = counted(facts.model_scored or 0, "window")
            told.insert(0, f"model {_ends(facts.model_error, at)} after {scored}")
        yield "error", f"{name}: {', '.join(told)} (mean absolute, lead 1 to {leads})"


def _ends(errors: Sequence[Sequence[float | None]], at: int) -> str:
    return f"{_figure(errors[0][at])} to {_figure(errors[-1][at])}"


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.6g}"
