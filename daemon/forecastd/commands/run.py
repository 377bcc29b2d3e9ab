"""`forecastd run`: the daemon."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from forecastd.commands import LoadSettings, add_settings_arguments

NAME = "run"
HELP = "read records, publish forecasts, until SIGTERM"


def add_arguments(parser: ArgumentParser) -> None:
    """Only settings."""
    add_settings_arguments(parser)


def main(_args: Namespace, load: LoadSettings) -> int:
    """Run until a signal asks for the end."""
    settings = load().settings  # before TensorFlow: a fault in them is told at once
    from forecastd import wiring

    return wiring.run(settings)
