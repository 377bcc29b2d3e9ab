"""What msgspec says of JSON that has another form, in words of JSON instead of Python's."""

from __future__ import annotations

import re
from collections.abc import Sequence

from forecastd.errors import DecodeError

_KINDS = {
    "array": "an array",
    "bool": "true or false",
    "float": "a number",
    "int": "a whole number",
    "null": "null",
    "object": "an object",
    "str": "text",
}
"""What msgspec calls by Python's names, in words of JSON."""


def invalid(at: str, said: str) -> DecodeError:
    """What msgspec says of JSON that has another form, in our words and under our reason.

    Its sentences are `Object missing required field `x`` and `Expected `a`, got `b``, with the
    place behind them as a JSON path.
    """
    said, _, path = said.partition(" - at `")
    numbered = re.fullmatch(r"\$(\[\d*\])?\.?(.*)", path.rstrip("`") or "$")
    assert numbered is not None, path
    at, place = at + (numbered[1] or ""), numbered[2]
    missing = re.fullmatch(r"Object missing required field `(.*)`", said)
    if missing:
        name = f"{place}.{missing[1]}".lstrip(".")
        return DecodeError(at, "missing", f"no field '{name}'", "one")
    types = re.fullmatch(r"Expected `(.*)`, got `(.*)`", said)
    if types:
        wanted, found = _wanted(types[1].split(" | ")), _KINDS[types[2]]
        if not place:
            return DecodeError(at, "shape", found, wanted.replace("an object", "a JSON object"))
        return DecodeError(at, "type", f"field '{place}' is {found}", wanted)
    if "out of range" in said and not place:
        return DecodeError(at, "shape", "a number out of range", "an object")
    if "out of range" in said:
        found = f"field '{place}' is out of range"
        is_whole = said.startswith("Integer")
        wanted = "a number of fewer digits" if is_whole else "a finite number in float32's range"
        return DecodeError(at, "number", found, wanted)
    return DecodeError(at, "type", said[:1].lower() + said[1:], "an observation")


def _wanted(kinds: Sequence[str]) -> str:
    """What may stand in a place: a number, where there may be one, need not be whole."""
    named = [kind for kind in kinds if not (kind == "int" and "float" in kinds)]
    return " or ".join(_KINDS[kind] for kind in named)
