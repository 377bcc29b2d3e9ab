"""One file a command; what a larger one consists of lies in files that begin with its name.

A command is a module with `NAME`, `HELP`, `add_arguments` and `main`; `__main__.py` lists them.
Modules are imported for every `--help`, so whatever takes long to import is imported in `main`.
"""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from forecastd.settings_sources import Loaded


class LoadSettings(Protocol):
    """Finds the settings in effect when a command wants them."""

    def __call__(self, defaults: Mapping[str, object] | None = None) -> Loaded:
        """The settings, with `defaults` (by dotted name) where no source has a value.

        Raises:
            SettingsError: they cannot be used.
        """


class Command(Protocol):
    """What a command's module holds."""

    NAME: str
    """What an operator types."""

    HELP: str
    """What it does, in one line."""

    def add_arguments(self, parser: ArgumentParser, /) -> None:
        """Declare its arguments; one that reads settings calls `add_settings_arguments`."""

    def main(self, args: Namespace, load: LoadSettings, /) -> int:
        """Do it; returns the exit status. A `ForecastdError` may be let through."""


def add_settings_arguments(parser: ArgumentParser) -> None:
    """Let a command read settings: their files, and `--section.name=value` for any of them."""
    parser.set_defaults(reads_settings=True)
    group = parser.add_argument_group(
        "settings", "Any setting can be given as --section.name=value; it wins over all others."
    )
    group.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="TOML file (default: config/forecastd.toml, if it is there)",
    )
    group.add_argument(
        "--secrets",
        type=Path,
        metavar="DIR",
        help="directory with a file for each value, named FORECASTD_<SECTION>__<NAME>"
        " (default: /run/secrets, if it is there)",
    )


def duration_s(text: str) -> float:
    """Seconds of an argument that is a duration, such as `40s`.

    Raises:
        ArgumentTypeError: it is none.
    """
    from pydantic_core import PydanticCustomError

    from forecastd.settings import parse_duration_ms

    try:
        return parse_duration_ms(text) / 1000
    except PydanticCustomError as error:
        raise ArgumentTypeError(f"{text!r}, wanted {error.message()}") from error
