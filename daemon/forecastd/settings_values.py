"""How single values look where an operator types them, and what the core gets instead.

Every type here says what it wants in the words of a fault: `settings_sources.py` puts the setting's
name, its source and what was found before it.
"""

from __future__ import annotations

import json
import math
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainSerializer,
    SecretStr,
    WithJsonSchema,
)
from pydantic_core import PydanticCustomError

_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
_BYTES = {"B": 1, "kB": 1_000, "MB": 1_000_000, "KiB": 1_024, "MiB": 1_048_576}
_DURATION = r"(\d{1,12}(?:\.\d{1,6})?)\s*(ms|s|m|h|d|w)"
_SIZE = r"(\d{1,12})\s*(B|kB|MB|KiB|MiB)"
_TOPIC = re.compile(r"[a-zA-Z0-9._-]{1,249}")
_IPV6_SERVER = re.compile(r"\s*\[[0-9a-fA-F:.]+\]:\d")
_SERVER = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^\s:\[\]/,]+):(\d{1,5})")
_INT32_MAX = 2**31 - 1
_DURATION_MAX_MS = 520 * _MS["w"]

Value = TypeVar("Value")


class SourceText(str):
    """What came as text because its source knows nothing else; only this is read as a number.

    Such are the environment, a secrets directory and the command line. A TOML file, in which
    `16` and `"16"` differ, must say what it means.
    """

    __slots__ = ()


def parse_duration_ms(text: object) -> int:
    """Milliseconds of a duration such as `"250ms"`, `"15s"`, `"5m"`, `"2h"`, `"7d"`.

    Raises:
        PydanticCustomError: the text is not a number with one of these units.

    >>> parse_duration_ms("1.5s")
    1500
    """
    matched = re.fullmatch(_DURATION, text) if isinstance(text, str) else None
    if matched is None:
        raise PydanticCustomError("duration", "a duration with a unit, such as 15s, 5m or 2h")
    ms = round(float(matched[1]) * _MS[matched[2]])
    if ms > _DURATION_MAX_MS:
        raise PydanticCustomError("duration", "a duration of at most 520w")
    return ms


def format_duration(ms: int) -> str:
    """The shortest text that `parse_duration_ms` reads back.

    >>> format_duration(90_000), format_duration(7_200_000), format_duration(250)
    ('90s', '2h', '250ms')
    >>> format_duration(0)
    '0s'
    """
    units = ("w", "d", "h", "m", "s", "ms") if ms else ("s",)
    unit = next(unit for unit in units if ms % _MS[unit] == 0)
    return f"{ms // _MS[unit]}{unit}"


def parse_bytes(text: object) -> int:
    """Bytes of a size such as `"900kB"` or `"8MB"`; a whole number is taken as bytes.

    >>> parse_bytes("64KiB"), parse_bytes(512)
    (65536, 512)
    """
    if isinstance(text, int) and not isinstance(text, bool):
        text = f"{text}B"
    matched = re.fullmatch(_SIZE, text) if isinstance(text, str) else None
    if matched is None or int(matched[1]) == 0:
        raise PydanticCustomError("bytes", "a size above 0 with a unit, such as 900kB or 8MB")
    return int(matched[1]) * _BYTES[matched[2]]


def format_bytes(size: int) -> str:
    """The shortest text that `parse_bytes` reads back.

    >>> format_bytes(32_000_000), format_bytes(65_536), format_bytes(1_001)
    ('32MB', '64KiB', '1001B')
    """
    unit = next(unit for unit in ("MB", "MiB", "kB", "KiB", "B") if size % _BYTES[unit] == 0)
    return f"{size // _BYTES[unit]}{unit}"


def _parse_timeout_ms(text: object) -> int:
    """A duration that Kafka's 32 bits hold and that is long enough to wait for anything."""
    ms = parse_duration_ms(text)
    if not 0 < ms <= _INT32_MAX:
        raise PydanticCustomError("duration", "a duration above 0 and of at most 24d")
    return ms


def none_if_empty(value: object) -> object:
    """None where an environment or TOML file, which know no null, leave a value out."""
    return None if isinstance(value, str) and value.lower() in ("", "none") else value


def _parse_list(value: object) -> object:
    """A list from text: JSON where it looks like it, else parts between commas."""
    if not isinstance(value, str):
        return value
    if none_if_empty(value) is None:
        return []
    if not value.lstrip().startswith("[") or _IPV6_SERVER.match(value):
        return [SourceText(part.strip()) for part in value.split(",")]
    try:
        return json.loads(value)
    except ValueError:
        wanted = 'a JSON list such as ["a", "b"], or parts between commas'
        raise PydanticCustomError("list", wanted) from None


def _number(value: object) -> object:
    """Pydantic would read true as 1, and any text that holds a number."""
    if not isinstance(value, int | float | SourceText) or isinstance(value, bool):
        raise PydanticCustomError("number", "a number")
    return value


def _whole_number(value: object) -> object:
    """Pydantic would take 16.0, too."""
    if not isinstance(value, int | SourceText) or isinstance(value, bool):
        raise PydanticCustomError("whole_number", "a whole number")
    return value


def _yes_or_no(value: object) -> object:
    """Pydantic would read 1 and "yes" as true."""
    if not isinstance(value, bool | SourceText):
        raise PydanticCustomError("yes_or_no", "true or false")
    return value


def _no_infinity(value: object) -> object:
    """Pydantic would say of nan that it is not above 0."""
    try:
        is_finite = not isinstance(value, float | str) or math.isfinite(float(value))
    except ValueError:
        return value
    if not is_finite:
        raise PydanticCustomError("finite", "a finite number")
    return value


def _check_topic(name: str) -> str:
    if not _TOPIC.fullmatch(name) or name in (".", ".."):
        raise PydanticCustomError("topic", "a name of up to 249 letters, digits, '.', '_' or '-'")
    return name


def _check_field_path(path: str) -> str:
    if not all(path.split(".")):
        raise PydanticCustomError("field_path", "a field path such as value or fields.value")
    return path


def _check_server(server: str) -> str:
    matched = _SERVER.fullmatch(server)
    if matched is None or not 0 < int(matched[2]) <= 65_535:
        raise PydanticCustomError("server", "host:port, such as localhost:9092")
    return server


def _check_url(url: str) -> str:
    if not re.fullmatch(r"https?://[^\s/]+\S*", url):
        raise PydanticCustomError("url", "a URL that begins with https:// or http://")
    return url


def _check_start(text: str) -> str:
    if text not in ("earliest", "latest"):
        try:
            parse_duration_ms(text)
        except PydanticCustomError:
            wanted = "earliest, latest or a duration back, such as 6h"
            raise PydanticCustomError("start", wanted) from None
    return text


def _parse_season(value: object) -> object:
    value = none_if_empty(value)
    if isinstance(value, SourceText) and value.isdecimal():
        return int(value)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
        wanted = "a count of steps (a duration needs windows.step, which is not built yet)"
        raise PydanticCustomError("season", wanted)
    return value


def _check_replicas(count: int) -> int:
    if count == 0:
        raise PydanticCustomError("replicas", "at least 1, or -1 for the broker's default")
    return count


def is_model_version(text: str) -> bool:
    """Whether `models.serve` names a version of the group's models, rather than a path.

    >>> is_model_version("7-3fa9c1"), is_model_version("./7-3fa9c1"), is_model_version("models/7")
    (True, False, False)
    """
    return re.fullmatch(r"\d+-[0-9a-f]+", text) is not None


def _parse_time_range(text: object) -> tuple[int, int]:
    """Two times in ms, the second not included, of an ISO 8601 interval."""
    ends = text.split("/") if isinstance(text, str) else []
    try:
        start, end = (_time_ms(end) for end in ends)
    except ValueError:
        start = end = 0
    if start >= end:
        wanted = "ISO 8601 intervals, such as 2026-01-31T00:00Z/2026-02-01T00:00Z"
        raise PydanticCustomError("time_range", wanted)
    return start, end


def _time_ms(text: str) -> int:
    at = datetime.fromisoformat(text)
    return round((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000)


def _format_time_range(times: tuple[int, int]) -> str:
    return "/".join(datetime.fromtimestamp(ms / 1000, UTC).isoformat() for ms in times)


def not_built(what: str, built: bool | str | None) -> AfterValidator:  # noqa: FBT001
    """Refuses every value but `built`, because what the others ask for is not built yet."""
    words: dict[object, str] = {False: "false", None: "none"}
    context = {"wanted": words.get(built, str(built)), "what": what}

    def check(value: Value) -> Value:
        if value != built:
            raise PydanticCustomError("not_built", "{wanted} ({what} is not built yet)", context)
        return value

    return AfterValidator(check)


Duration = Annotated[
    int,
    BeforeValidator(parse_duration_ms),
    PlainSerializer(format_duration, return_type=str),
    WithJsonSchema({"type": "string", "pattern": f"^{_DURATION}$"}),
]
"""Whole milliseconds; text with a unit wherever an operator sees it."""

Timeout = Annotated[
    int,
    BeforeValidator(_parse_timeout_ms),
    PlainSerializer(format_duration, return_type=str),
    WithJsonSchema({"type": "string", "pattern": f"^{_DURATION}$"}),
]
"""A duration above 0 that the Kafka protocol can carry."""

Size = Annotated[
    int,
    BeforeValidator(parse_bytes),
    PlainSerializer(format_bytes, return_type=str),
    WithJsonSchema({"type": ["string", "integer"], "pattern": f"^{_SIZE}$"}),
]
"""Bytes; text with a unit wherever an operator sees it."""

Flag = Annotated[bool, BeforeValidator(_yes_or_no)]
Whole = Annotated[int, BeforeValidator(_whole_number), Field(ge=0, le=_INT32_MAX)]
Count = Annotated[int, BeforeValidator(_whole_number), Field(ge=1, le=_INT32_MAX)]
Replicas = Annotated[
    int, BeforeValidator(_whole_number), Field(ge=-1, le=32_767), AfterValidator(_check_replicas)
]
OptionalCount = Annotated[Count | None, BeforeValidator(none_if_empty)]
Season = Annotated[Count | None, BeforeValidator(_parse_season)]
Number = Annotated[float, BeforeValidator(_number), BeforeValidator(_no_infinity)]
Text = Annotated[str, Field(min_length=1)]
OptionalText = Annotated[Text | None, BeforeValidator(none_if_empty)]
OptionalDuration = Annotated[Duration | None, BeforeValidator(none_if_empty)]
OptionalFile = Annotated[Path | None, BeforeValidator(none_if_empty)]
OptionalSecret = Annotated[SecretStr | None, BeforeValidator(none_if_empty)]
OptionalUrl = Annotated[
    Annotated[str, AfterValidator(_check_url)] | None, BeforeValidator(none_if_empty)
]
Topic = Annotated[str, AfterValidator(_check_topic)]
Start = Annotated[str, AfterValidator(_check_start)]
FieldPath = Annotated[str, AfterValidator(_check_field_path)]
OptionalPath = Annotated[FieldPath | None, BeforeValidator(none_if_empty)]
FieldPaths = Annotated[tuple[FieldPath, ...], BeforeValidator(_parse_list)]
Topics = Annotated[tuple[Topic, ...], BeforeValidator(_parse_list), Field(min_length=1)]
Quantiles = Annotated[
    tuple[Annotated[Number, Field(gt=0, lt=1)], ...], BeforeValidator(_parse_list)
]
Servers = Annotated[
    tuple[Annotated[str, AfterValidator(_check_server)], ...],
    BeforeValidator(_parse_list),
    Field(min_length=1),
]
TimeRange = Annotated[
    tuple[int, int],
    BeforeValidator(_parse_time_range),
    PlainSerializer(_format_time_range, return_type=str),
    WithJsonSchema({"type": "string", "pattern": "^[^/]+/[^/]+$"}),
]
"""Two times, ms since the Unix epoch, the second not included; text wherever one is seen."""
TimeRanges = Annotated[tuple[TimeRange, ...], BeforeValidator(_parse_list)]
