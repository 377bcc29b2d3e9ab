"""`forecastd run`: the daemon."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from forecastd.commands import LoadSettings, add_settings_arguments
from forecastd.glibc_malloc import give_back_large_blocks

NAME = "run"
HELP = "read records, publish forecasts, until SIGTERM"


def add_arguments(parser: ArgumentParser) -> None:
    """Only settings."""
    add_settings_arguments(parser)


def main(_args: Namespace, load: LoadSettings) -> int:
    """Run until a signal asks for the end."""
    settings = load().settings  # before TensorFlow: a fault in them is told at once
    from forecastd import wiring

    give_back_large_blocks()
    return wiring.run(settings)
