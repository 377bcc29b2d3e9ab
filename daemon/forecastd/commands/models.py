"""`forecastd models`: the group's models, and models as files.

`models_views.py` looks, `models_changes.py` changes something.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

from forecastd.commands import LoadSettings, add_settings_arguments

NAME = "models"
HELP = "look at the group's models, choose the one that serves, or take one over"

_RUNNING = "Works beside a stopped or a running group; every instance follows within seconds."


def add_arguments(parser: ArgumentParser) -> None:
    """An action, and the group whose models it is about."""
    actions = parser.add_subparsers(
        title="actions", metavar="ACTION", required=True, dest="models_action"
    )
    listed = _action(actions, "list", "name the group's models, the newest first")
    listed.add_argument("--json", action="store_true", help="for programs: one JSON object a line")
    show = _action(actions, "show", "say what serves and how training went, or all of one model")
    show.add_argument("version", metavar="VERSION", nargs="?", help="such as 7-3fa9c1")
    show.add_argument("--json", action="store_true", help="for programs: one JSON object")
    promote = _action(actions, "promote", "let a version serve, until release", _RUNNING)
    promote.add_argument("version", metavar="VERSION", help="such as 7-3fa9c1")
    promote.add_argument("--reason", metavar="WORDS", default="", help="kept beside it")
    rollback = _action(
        actions,
        "rollback",
        "let serve what served before, until release",
        f"The version that is left is not promoted by itself again. {_RUNNING}",
    )
    rollback.add_argument("--reason", metavar="WORDS", default="", help="kept beside it")
    release = _action(actions, "release", "let training choose what serves again", _RUNNING)
    release.add_argument("--reason", metavar="WORDS", default="", help="kept beside it")
    export = _action(actions, "export", "write a version to a folder, as forecastd train does")
    export.add_argument("version", metavar="VERSION", help="such as 7-3fa9c1")
    _add_out(export, is_required=True)
    _add_import(actions)


def main(args: Namespace, load: LoadSettings) -> int:
    """Do what is asked."""
    from forecastd.commands import models_changes, models_views

    if args.models_action == "import" and args.out is not None:
        return models_changes.convert(args)
    settings = load().settings
    actions = {
        "list": models_views.list_models,
        "show": models_views.show,
        "export": models_views.export_model,
        "promote": models_changes.promote,
        "rollback": models_changes.rollback,
        "release": models_changes.release,
        "import": models_changes.import_model,
    }
    return actions[args.models_action](args, settings)


def _add_import(actions: Any) -> None:
    imports = _action(
        actions,
        "import",
        "take over a plain Keras model, or add a model to the group's",
        "Without --out it is added to the group's models, and forecastd models promote lets it"
        " serve. With --out a .keras file becomes a folder for models.serve.",
    )
    imports.add_argument(
        "file",
        type=Path,
        metavar="FILE",
        help="what model.save wrote (.keras: Input, LSTM or GRU layers, one Dense), or a folder"
        " of forecastd train or models export",
    )
    _add_out(imports, is_required=False)
    imports.add_argument(
        "--scaling",
        choices=("none", "series"),
        default="none",
        help="what a .keras file reads: values in their own unit (none, the default), or divided by"
        " the running spread of their series and measured from its median (series)",
    )


def _add_out(parser: ArgumentParser, *, is_required: bool) -> None:
    parser.add_argument(
        "--out", type=Path, required=is_required, metavar="MODEL", help="folder to write"
    )


def _action(actions: Any, name: str, does: str, more: str = "") -> ArgumentParser:
    """An action's parser, with what all of them understand."""
    description = f"{does[:1].upper()}{does[1:]}. {more}".strip()
    parser: ArgumentParser = actions.add_parser(
        name, help=does, description=description, allow_abbrev=False
    )
    add_settings_arguments(parser)
    return parser
