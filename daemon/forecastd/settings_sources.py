"""Finds the value of every setting, and remembers where it came from.

Later wins: defaults, one TOML file, a secrets directory, the environment, the command line.
pydantic-settings reads the file. Its other sources are left out: they ignore names that they do not
know, stop at the first value that they cannot read, and forget where a value came from. Here an
operator is told of every fault at once, each with its setting, its source, and what was wanted.
"""

from __future__ import annotations

import difflib
import json
import re
import tomllib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from forecastd.errors import SettingsError
from forecastd.settings import RULES_LATER, Settings, all_settings, is_secret
from forecastd.settings_rules import broken_rules
from forecastd.settings_values import SourceText

DEFAULT_CONFIG = Path("config/forecastd.toml")
DEFAULT_SECRETS = Path("/run/secrets")
PREFIX = "forecastd_"
HIDDEN = "***"

_SETTINGS = all_settings()
_SECTIONS = {name.partition(".")[0] for name in _SETTINGS if "." in name}
_ROOT_NAMES = _SETTINGS.keys() - {name for name in _SETTINGS if "." in name}

_WANTED = {
    "bool_parsing": "true or false",
    "extra_forbidden": "a name that `forecastd settings` lists",
    "finite_number": "a finite number",
    "float_parsing": "a number",
    "greater_than": "more than {gt:.10g}",
    "greater_than_equal": "at least {ge:.10g}",
    "int_parsing": "a whole number",
    "int_parsing_size": "a whole number",
    "less_than": "less than {lt:.10g}",
    "less_than_equal": "at most {le:.10g}",
    "literal_error": "{expected}",
    "path_type": "a path",
    "string_too_short": "text",
    "string_type": "text",
    "too_short": "at least {min_length} of them",
    "tuple_type": "a list",
}
"""What pydantic's errors want, in our words; our own types say it themselves."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """The settings in effect.

    Attributes:
        settings: the whole tree.
        sources: for every dotted name, where its value came from: `default`, the TOML file's path,
            `secrets <path>`, `environment <variable>` or `command line`.
    """

    settings: Settings
    sources: dict[str, str]


def load_settings(
    config: Path | None,
    secrets: Path | None,
    environ: Mapping[str, str],
    overrides: Sequence[str],
    defaults: Mapping[str, object] | None = None,
) -> Loaded:
    """The settings in effect, from all sources.

    Args:
        config: TOML file; None: `config/forecastd.toml`, if it is there.
        secrets: directory of files, each a value; None: `/run/secrets`, if it is there.
        environ: environment variables; `FORECASTD_<SECTION>__<NAME>` and the three of the root.
        overrides: `--section.name=value` or `--section.name value`.
        defaults: by dotted name, what takes the place of our own defaults.

    Raises:
        SettingsError: with every fault there is.
    """
    found = _Found()
    for setting, known in (defaults or {}).items():
        found.take(setting, known, "default")
    _read_toml(found, config)
    _read_secrets(found, secrets)
    for variable, text in sorted(environ.items()):
        if (name := _prefixed_name(variable)) is not None:
            found.take(name, SourceText(text), f"environment {variable}")
    _read_command_line(found, overrides)
    settings = found.settings()
    if found.faults:
        raise SettingsError(found.faults)
    return Loaded(settings, {name: found.source(name) for name in _SETTINGS})


def split_overrides(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Part a command line into what a parser should see and the settings in it.

    Settings leave first, because a parser would take the value of an option that it does not know
    for an argument of the command.

    >>> split_overrides(["run", "--kafka.group-id", "a", "--config", "f", "--delivery=x"])
    (['run', '--config', 'f'], ['--kafka.group_id=a', '--delivery=x'])
    """
    rest: list[str] = []
    overrides: list[str] = []
    words = list(arguments)
    while words:
        word = words.pop(0)
        if word == "--":
            rest += [word, *words]
            break
        option, is_whole, value = word.partition("=")
        name = option.removeprefix("--").replace("-", "_").lower()
        if not word.startswith("--") or ("." not in name and name not in _ROOT_NAMES):
            rest.append(word)
        elif is_whole:
            overrides.append(f"--{name}={value}")
        elif words and not words[0].startswith("--"):
            overrides.append(f"--{name}={words.pop(0)}")
        else:
            overrides.append(f"--{name}")
    return rest, overrides


class _Found:
    """What the sources have said so far: a value replaces the earlier one, a fault stays.

    Attributes:
        faults: one sentence each.
    """

    def __init__(self) -> None:
        self.faults: list[str] = []
        self._values: dict[str, object] = {}
        self._sources: dict[str, str] = {}
        self._unreadable: set[str] = set()

    def take(self, name: str, value: object, source: str) -> None:
        """Take note of a value, or of a name that is no setting: its value is never shown."""
        if name in _SETTINGS:
            self._values[name], self._sources[name] = value, source
            return
        key = name.rpartition(".")[2]
        closest = [known for known in _SETTINGS if known.rpartition(".")[2] == key][:1]
        closest = closest or difflib.get_close_matches(name, [*_SETTINGS, *_SECTIONS], 1, 0.7)
        self._unreadable.update(closest)
        wanted = closest[0] if closest else _WANTED["extra_forbidden"]
        self.faults.append(f"{name}: no such setting ({source}), wanted {wanted}")

    def miss(self, where: str, found: str, wanted: str, *, of: Collection[str] = _SETTINGS) -> None:
        """Take note of what cannot be read; combinations with the settings `of` it are not judged.

        Where a whole source is missing, these are all settings.
        """
        self._unreadable.update(of)
        self.faults.append(f"{where}: {found}, wanted {wanted}")

    def source(self, name: str) -> str:
        """Where a value came from."""
        return self._sources.get(name, "default")

    def settings(self) -> Settings:
        """The settings, with defaults in the place of values that cannot be used."""
        try:
            settings = Settings.model_validate(_nested(self._values), context=RULES_LATER)
        except ValidationError as invalid:
            for error in invalid.errors(include_url=False):
                self.faults.append(self._sentence(error))
                self._unreadable.add(_name_of(error))
            usable = {k: v for k, v in self._values.items() if k not in self._unreadable}
            settings = Settings.model_validate(_nested(usable), context=RULES_LATER)
        for fault in broken_rules(settings.value_of, self._unreadable):
            self.faults.append(fault.sentence(self.source(fault.where)))
        return settings

    def _sentence(self, error: ErrorDetails) -> str:
        name = _name_of(error)
        inside = "".join(f"[{part}]" for part in error["loc"][name.count(".") + 1 :])
        shown = repr(HIDDEN) if is_secret(_SETTINGS[name]) else _shown(error["input"])
        template = _WANTED.get(error["type"])
        wanted = template.format_map(error.get("ctx", {})) if template else error["msg"]
        wanted = wanted.replace("'", "") if error["type"] == "literal_error" else wanted
        return f"{name}{inside}: {shown} ({self.source(name)}), wanted {wanted}"


def _read_toml(found: _Found, config: Path | None) -> None:
    if config is None and not DEFAULT_CONFIG.is_file():
        return
    path = config or DEFAULT_CONFIG
    try:
        tree = _toml(path)
    except OSError as error:
        found.miss("--config", f"{path} ({_reason(error)})", "a TOML file that can be read")
    except UnicodeDecodeError as error:
        found.miss(str(path), f"byte {error.start} is not UTF-8", "TOML")
    except tomllib.TOMLDecodeError as error:
        found.miss(*_toml_fault(path, str(error)), "TOML")
    else:
        for name, value in tree.items():
            if name not in _SECTIONS:
                found.take(name, value, str(path))
            elif isinstance(value, dict):
                for key, inner in value.items():
                    found.take(f"{name}.{key}", inner, str(path))
            else:
                wanted = f"a table, written [{name}]"
                found.miss(name, f"a single value ({path})", wanted, of={name})


def _toml(path: Path) -> dict[str, Any]:
    # Late: `--help` and a start without a file do without it.
    from pydantic_settings import BaseSettings, TomlConfigSettingsSource

    path.open("rb").close()  # the source takes a file that is not there for an empty one
    return TomlConfigSettingsSource(BaseSettings, path)()


def _toml_fault(path: Path, message: str) -> tuple[str, str]:
    """Where a TOML file breaks off, and on what."""
    matched = re.fullmatch(r"(.*) \(at (?:line (\d+), column (\d+)|end of document)\)", message)
    what, line, column = matched.groups() if matched else (message, None, None)
    where = f"line {line}, column {column}" if line else "the last line"
    return f"{path}, {where}", what[:1].lower() + what[1:]


def _read_secrets(found: _Found, secrets: Path | None) -> None:
    """Read the files that are ours; a shared directory holds those of others, too."""
    if secrets is None and not DEFAULT_SECRETS.is_dir():
        return
    directory = secrets or DEFAULT_SECRETS
    try:
        files = sorted(file for file in directory.iterdir() if not file.is_dir())
    except OSError as error:
        found.miss("--secrets", f"{directory} ({_reason(error)})", "a directory that can be read")
        return
    for file in files:
        has_prefix = file.name.lower().startswith(PREFIX)
        name = _prefixed_name(file.name if has_prefix else PREFIX + file.name)
        is_nested = name is not None and "." in name
        is_ours = has_prefix or (is_nested and (secrets is not None or name in _SETTINGS))
        if name is None or not is_ours:
            continue
        try:
            text = file.read_bytes().decode()
        except (OSError, UnicodeDecodeError) as error:
            what = f"a file that cannot be read: {_reason(error)} (secrets {file})"
            found.miss(name, what, "a text file", of={name})
        else:
            line = SourceText(text.removesuffix("\n").removesuffix("\r"))
            found.take(name, line, f"secrets {file}")


def _read_command_line(found: _Found, overrides: Sequence[str]) -> None:
    rest, named = split_overrides(overrides)
    for word in rest:
        found.miss("command line", repr(word), "--section.name=value")
    for word in named:
        name, has_value, value = word.removeprefix("--").partition("=")
        if has_value:
            found.take(name, SourceText(value), "command line")
        else:
            found.miss(name, "nothing (command line)", "a value", of={name})


def _prefixed_name(variable: str) -> str | None:
    """The dotted name that a variable means; None for one that is not ours.

    >>> _prefixed_name("FORECASTD_KAFKA__GROUP_ID"), _prefixed_name("FORECASTD_PORT")
    ('kafka.group_id', None)
    """
    lower = variable.lower()
    name = lower.removeprefix(PREFIX)
    is_ours = name in _ROOT_NAMES or "__" in lower
    return name.replace("__", ".") if lower.startswith(PREFIX) and is_ours else None


def _nested(values: Mapping[str, object]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for name, value in values.items():
        section, _, key = name.rpartition(".")
        (tree.setdefault(section, {}) if section else tree)[key] = value
    return tree


def _name_of(error: ErrorDetails) -> str:
    """The setting that an error is about; further parts of its place lie inside the value."""
    name = str(error["loc"][0])
    return name if name in _SETTINGS else f"{name}.{error['loc'][1]}"


def _shown(value: object) -> str:
    """A value as an operator might have typed it, in one line and not too long."""
    if value is None:
        return "none"
    if isinstance(value, dict):
        return "a table"
    text = repr(value) if isinstance(value, str) else json.dumps(value, default=str)
    return text if len(text) <= 120 else f"{text[:117]}..."


def _reason(error: OSError | UnicodeDecodeError) -> str:
    """Why a file cannot be read, in a few words."""
    return str(error.strerror).lower() if isinstance(error, OSError) else "not UTF-8"
