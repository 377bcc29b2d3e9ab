"""Settings as an operator reads them: the values in effect, and the file that ships."""

from __future__ import annotations

import inspect
import json
import textwrap
from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from forecastd.settings import Section, Settings, all_settings, is_secret
from forecastd.settings_sources import HIDDEN, Loaded

_HEADER = """\
# Settings of forecastd, in the order of the data path: every one with its default and its meaning.
# Take the # off a line to change it. The environment (FORECASTD_<SECTION>__<NAME>) and the command
# line (--section.name=value) win over this file; `forecastd settings` shows what is in effect and
# where it came from. Written by `forecastd settings --template`.
"""

_LEFT_OUT = {
    "kafka.instance_id": "Replicas may share this file: set FORECASTD_KAFKA__INSTANCE_ID for each."
}
"""Settings that are explained, and have no line to take the # off."""

_BOUNDS = {
    "ge": "minimum",
    "gt": "exclusiveMinimum",
    "le": "maximum",
    "lt": "exclusiveMaximum",
}

_COLUMNS = 100


def as_toml(loaded: Loaded) -> str:
    """Every value in effect, one a line, each with its source; TOML, too."""
    lines: list[str] = []
    section = ""
    for name, value in _shown_values(loaded.settings).items():
        parent, _, key = name.rpartition(".")
        if parent != section:
            lines += ["", f"[{parent}]"]
            section = parent
        lines.append(f"{key} = {_toml(value)}  # from {loaded.sources[name]}")
    return "\n".join(lines) + "\n"


def as_json(loaded: Loaded) -> dict[str, dict[str, Any]]:
    """Value and source of every setting by its dotted name."""
    values = _shown_values(loaded.settings)
    return {name: {"value": values[name], "source": loaded.sources[name]} for name in values}


def json_schema() -> dict[str, Any]:
    """JSON Schema of the tree as an operator types it.

    Pydantic gives types and meanings; it would give defaults as the core gets them.
    """
    schema = Settings.model_json_schema()
    defaults = Settings().model_dump(mode="json")
    for name, place in schema["properties"].items():
        reference = place.get("$ref", "").rpartition("/")[2]
        if not reference:
            place["default"] = defaults[name]
            continue
        del place["default"]
        for key, inner in schema["$defs"][reference]["properties"].items():
            inner["default"] = defaults[name][key]
            if {"type": "null"} in inner.get("anyOf", ()):
                # What a file writes that knows no null.
                inner["anyOf"].append({"enum": ["none", ""]})
            if inner.get("type") == "array":
                # Text is a list too: JSON, or parts between commas.
                several = {"type": inner.pop("type"), "items": inner.pop("items")}
                least = inner.pop("minLength", 0)  # pydantic's word for it behind a validator
                inner["anyOf"] = [several | {"minItems": least}, {"type": "string"}]
            _word_bounds(inner)
    return schema


def _word_bounds(schema: dict[str, Any]) -> None:
    """Say bounds in the words of JSON Schema; pydantic leaves its own behind a validator."""
    for own, word in _BOUNDS.items():
        if own in schema:
            # The narrower bound of a single setting is worded already.
            schema.setdefault(word, schema.pop(own))
    for part in schema.get("anyOf", ()):
        _word_bounds(part)
    if "items" in schema:
        _word_bounds(schema["items"])


def template() -> str:
    """The file that ships as `config/forecastd.toml`."""
    defaults = _shown_values(Settings())
    lines = [_HEADER]
    section = ""
    for name, field in all_settings().items():
        parent, _, key = name.rpartition(".")
        if parent != section:
            lines += ["", *_comment(_about(parent)), f"[{parent}]", ""]
            section = parent
        lines += _comment(f"{field.description} {_LEFT_OUT.get(name) or _choices(field)}")
        lines += ["" if name in _LEFT_OUT else f"#{key} = {_toml(defaults[name])}\n"]
    return "\n".join(lines).replace("\n\n\n", "\n\n").rstrip("\n") + "\n"


def _about(section: str) -> str:
    model = Settings.model_fields[section].annotation
    assert isinstance(model, type), "a section is a model"
    assert issubclass(model, Section), "a section is a model"
    return inspect.getdoc(model) or ""


def _choices(field: FieldInfo) -> str:
    """What a setting may be, where that is a closed list."""
    options = [field.annotation, *get_args(field.annotation)]
    words = [
        word for option in options if get_origin(option) is Literal for word in get_args(option)
    ]
    return f"One of: {', '.join(words)}." if words else ""


def _comment(text: str) -> Iterator[str]:
    words = " ".join(text.split())
    return (f"# {line}" for line in textwrap.wrap(words, _COLUMNS - 2, break_on_hyphens=False))


def _shown_values(settings: Settings) -> dict[str, Any]:
    values = settings.model_dump(mode="json")
    flat: dict[str, Any] = {}
    for name, field in all_settings().items():
        section, _, key = name.rpartition(".")
        value = values[section][key] if section else values[key]
        flat[name] = HIDDEN if is_secret(field) and value is not None else value
    return flat


def _toml(value: Any) -> str:
    """A value as TOML writes it, which has no null: `none` reads back as one."""
    return json.dumps("none" if value is None else value, ensure_ascii=False)
