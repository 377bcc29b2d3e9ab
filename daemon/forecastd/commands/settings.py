"""`forecastd settings`: what is in effect, where it came from, and what could be set."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser, Namespace

from forecastd.commands import LoadSettings, add_settings_arguments

NAME = "settings"
HELP = "print every setting, its value and where that came from"


def add_arguments(parser: ArgumentParser) -> None:
    """What to print."""
    add_settings_arguments(parser)
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="values and sources, for programs")
    form.add_argument("--schema", action="store_true", help="JSON Schema of the whole tree")
    form.add_argument(
        "--template", action="store_true", help="config/forecastd.toml with every default"
    )


def main(args: Namespace, load: LoadSettings) -> int:
    """Print; secrets are never shown."""
    from forecastd.settings_text import as_json, as_toml, json_schema, template

    if args.schema:
        text = json.dumps(json_schema(), indent=2)
    elif args.template:
        text = template()
    elif args.json:
        text = json.dumps(as_json(load()), indent=2)
    else:
        text = as_toml(load())
    sys.stdout.write(text.rstrip("\n") + "\n")
    return 0
