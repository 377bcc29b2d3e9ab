"""Event times as emitters write them, to ms since the Unix epoch, UTC."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal

import numpy as np

from forecastd.records import Ints

TimeFormat = Literal["auto", "iso8601", "s", "ms", "us", "ns"]

_PER_MS = {"ms": 1, "us": 1_000, "ns": 1_000_000}

# From 1990 to 2286 (ten digits of seconds) the ranges of the four units do not overlap.
_AUTO = ((1e11, "s"), (1e14, "ms"), (1e17, "us"), (1e20, "ns"))


def to_ms(time: float | str, form: TimeFormat) -> int:
    """Whole milliseconds, rounded down.

    Args:
        time: a number, text that holds one, or ISO 8601 text (UTC where it names no offset).
        form: `auto` tells units by size.

    Raises:
        ValueError: it is no time of this form.

    >>> to_ms("2016-07-01 00:00:00", "auto"), to_ms(1467331200, "auto"), to_ms(1467331200.5, "s")
    (1467331200000, 1467331200000, 1467331200500)
    """
    if isinstance(time, str):
        try:
            time = int(time)
        except ValueError:
            if form in ("auto", "iso8601"):
                return _iso_ms(time)
            time = float(time)
    if form == "iso8601":
        raise ValueError("a number")
    unit = _unit(time) if form == "auto" else form
    if unit == "s":
        return int(time * 1000) if isinstance(time, int) else int(round(time * 1e6) // 1000)
    return int(time // _PER_MS[unit])


def to_ms_or_zero(time: float | str, form: TimeFormat) -> int:
    """`to_ms`, or 0 (which is before any time that can be used) where there is no time."""
    try:
        return min(to_ms(time, form), 2**62)
    except (ValueError, OverflowError):
        return 0


def whole_numbers_to_ms(times: Ints, form: TimeFormat) -> Ints:
    """`to_ms_or_zero` of many whole numbers at once."""
    if form == "iso8601":
        return np.zeros_like(times)
    if form == "s":
        return np.clip(times, -(2**52), 2**52) * 1000
    if form != "auto":
        return times // _PER_MS[form]
    size = np.abs(times)
    scaled = [np.clip(times, -(2**52), 2**52) * 1000, times, times // 1_000, times // 1_000_000]
    return np.select([size < below for below, _ in _AUTO], scaled, 0)


def _unit(time: float) -> str:
    for below, unit in _AUTO:
        if abs(time) < below:
            return unit
    raise ValueError("no unit makes this a date")


def _iso_ms(text: str) -> int:
    moment = datetime.fromisoformat(text.strip())
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    since = moment - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1000 + since.microseconds // 1000


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


