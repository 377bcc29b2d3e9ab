"""`forecastd schema`: the JSON Schema of what leaves the daemon."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser, Namespace

from forecastd.commands import LoadSettings

NAME = "schema"
HELP = "print the JSON Schema of a message (of the settings: forecastd settings --schema)"


def add_arguments(parser: ArgumentParser) -> None:
    """Which message."""
    parser.add_argument("message", choices=("forecast",), help="what is described")


def main(_args: Namespace, _load: LoadSettings) -> int:
    """Print it."""
    from forecastd.publish.message import forecast_schema

    sys.stdout.write(json.dumps(forecast_schema(), indent=2) + "\n")
    return 0
