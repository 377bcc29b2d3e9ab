"""`forecastd models`: models as files."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path

from forecastd.commands import LoadSettings

NAME = "models"
HELP = "take over a model that was made elsewhere"


def add_arguments(parser: ArgumentParser) -> None:
    """One subcommand each."""
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    imports = actions.add_parser(
        "import",
        help="take over a plain Keras model: Input, LSTM or GRU layers, one Dense",
        allow_abbrev=False,
    )
    imports.set_defaults(action=_import)
    imports.add_argument("file", type=Path, metavar="FILE.keras", help="what model.save wrote")
    imports.add_argument("--out", type=Path, required=True, metavar="MODEL", help="folder to write")
    imports.add_argument(
        "--scaling",
        choices=("none", "series"),
        default="none",
        help="what it reads: values in their own unit (none, the default), or divided by the"
        " running spread of their series and measured from its median (series)",
    )


def main(args: Namespace, _load: LoadSettings) -> int:
    """Do what was asked."""
    status: int = args.action(args)
    return status


def _import(args: Namespace) -> int:
    """Take over, and say how it is served."""
    from forecastd.disk_models import check_replaceable, save_model

    check_replaceable(args.out)
    from forecastd.keras_import import import_model

    imported, weights = import_model(args.file, args.scaling)
    architecture = imported.architecture
    facts = {"file": args.file.name, "layers": list(imported.layers)}
    metadata = save_model(args.out, architecture, weights, "forecastd models import", facts)
    sys.stdout.write(
        f"{args.out}: version 0-{metadata.version_hash}, {architecture.describe()}\n"
        f"it fits windows.timesteps {architecture.timesteps or 'of any number'}, "
        f"forecast.horizon {' or '.join(map(str, architecture.horizons))}, "
        f"{architecture.features} of ingest.values\n"
    )
    return 0
