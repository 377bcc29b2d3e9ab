"""Event times as emitters write them, to ms since the Unix epoch, UTC."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Literal

import numpy as np

from forecastd.records import Ints

TimeFormat = Literal["auto", "iso8601", "s", "ms", "us", "ns"]

TIME_WANTED: dict[TimeFormat, str] = {
    "auto": "ISO 8601 or a Unix time",
    "iso8601": "ISO 8601 text",
    "s": "a Unix time in seconds",
    "ms": "a Unix time in milliseconds",
    "us": "a Unix time in microseconds",
    "ns": "a Unix time in nanoseconds",
}
"""What a form of the event time asks for, in a sentence."""

_PER_MS = {"ms": 1, "us": 1_000, "ns": 1_000_000}

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DAY_MS = 86_400_000

# The end of a day in ISO 8601, which some versions of Python read and others do not. By what stands
# before it the minute 24, week 24 and an offset of 24 hours are told from it.
_MIDNIGHT = re.compile(r"(?<=[^\dW:.,+-])24(?=(:?00){0,2}([.,]0+)?(Z|[+-]|$))")

# From 1990 to 2286 (ten digits of seconds) the ranges of the four units do not overlap.
_AUTO = ((10**11, "s"), (10**14, "ms"), (10**17, "us"), (10**20, "ns"))


def to_ms(time: float | str, form: TimeFormat) -> int:
    """Whole milliseconds, rounded down.

    Args:
        time: a number, text that holds one, or ISO 8601 text (UTC where it names no offset).
        form: `auto` tells units by size, and text that is no number is ISO 8601.

    Raises:
        ValueError: it is no time of this form.

    >>> to_ms("2016-07-01 00:00:00", "auto"), to_ms(1467331200, "auto"), to_ms(1467331200.5, "s")
    (1467331200000, 1467331200000, 1467331200500)
    """
    if form == "iso8601":
        if not isinstance(time, str):
            raise ValueError("a number")
        return _iso_ms(time)
    number = _number(time) if isinstance(time, str) else time
    if number is None:
        if form != "auto":
            raise ValueError("no number")
        return _iso_ms(str(time))
    unit = _unit(number) if form == "auto" else form
    if unit == "s":
        return number * 1000 if isinstance(number, int) else int(round(number * 1e6) // 1000)
    return int(number // _PER_MS[unit])


def to_ms_or_zero(time: float | str, form: TimeFormat) -> int:
    """`to_ms`, or 0 (which is before any time that can be used) where there is no time.

    What an int64 cannot hold is no time either: far in the past 0, far ahead 2**62.
    """
    try:
        return max(min(to_ms(time, form), 2**62), 0)
    except (ValueError, OverflowError):
        return 0


def whole_numbers_to_ms(times: Ints, form: TimeFormat) -> Ints:
    """`to_ms_or_zero` of many whole numbers at once."""
    if form == "iso8601":
        return np.zeros_like(times)
    times = np.maximum(times, 0)
    seconds = np.minimum(times, 2**62 // 1_000) * 1_000
    if form == "s":
        return seconds
    if form != "auto":
        return times // _PER_MS[form]
    scaled = [seconds, times, times // 1_000, times // 1_000_000]
    return np.select([times < below for below, _ in _AUTO], scaled, 0)


def _number(text: str) -> float | None:
    """The number that a text holds, a whole one as an int."""
    if "_" in text:
        return None  # Python's own notation, nobody else's
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return None


def _unit(time: float) -> str:
    for below, unit in _AUTO:
        if abs(time) < below:
            return unit
    raise ValueError("no unit makes this a date")


def _iso_ms(text: str) -> int:
    text, midnights = _MIDNIGHT.subn("00", text.strip().upper())  # RFC 3339: a small t and z, too
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    since = moment - _EPOCH
    since_ms = since.days * _DAY_MS + since.seconds * 1000 + since.microseconds // 1000
    return since_ms + midnights * _DAY_MS
