"""`forecastd state`: the saved rows of the series, from outside of the daemon.

`state_views.py` looks: `state_facts.py` and `state_figures.py` find out, `state_words.py` says it.
`state_reset.py` changes something.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import Any

from forecastd.commands import LoadSettings, add_settings_arguments

NAME = "state"
HELP = "look at the saved state of the series, or reset it"

_LOOKS = "Works beside a stopped or a running group: joins nothing, changes nothing."


def add_arguments(parser: ArgumentParser) -> None:
    """An action, and where it looks."""
    actions = parser.add_subparsers(
        title="actions", metavar="ACTION", required=True, dest="state_action"
    )
    show = _action(actions, "show", "say what is saved of one series", _LOOKS)
    show.add_argument("series", metavar="SERIES", help="its name")
    _add_json(show, "one JSON object for each row found, every column in it")
    listed = _action(actions, "list", "name the series that are saved, one a line", _LOOKS)
    listed.add_argument("--limit", type=_count, metavar="N", help="stop after N series")
    _add_json(listed, "one JSON object a line")
    stats = _action(
        actions, "stats", "count rows and bytes, and say what a restart would replay", _LOOKS
    )
    _add_json(stats, "one JSON object")
    reset = _action(
        actions,
        "reset",
        "let series start cold at the next start",
        "Needs a stopped group. Saved rows are removed; the group goes on where it is.",
    )
    which = reset.add_mutually_exclusive_group(required=True)
    which.add_argument("series", metavar="SERIES", nargs="?", help="name of the one to reset")
    which.add_argument("--all", action="store_true", help="reset every series of the group")
    reset.add_argument("--yes", action="store_true", help="do not ask")


def main(args: Namespace, load: LoadSettings) -> int:
    """Do what is asked; 1 where there is no such series, or where somebody says no."""
    settings = load().settings
    from forecastd.commands import state_reset, state_views

    actions = {
        "show": state_views.show,
        "list": state_views.list_series,
        "stats": state_views.stats,
        "reset": state_reset.reset,
    }
    return actions[args.state_action](args, settings)


def _action(actions: Any, name: str, does: str, more: str) -> ArgumentParser:
    """An action's parser, with what all of them understand."""
    parser: ArgumentParser = actions.add_parser(
        name, help=does, description=f"{does[:1].upper()}{does[1:]}. {more}", allow_abbrev=False
    )
    parser.add_argument("--topic", metavar="T", help="only series of this input topic")
    parser.add_argument(
        "--partition", type=_whole, metavar="P", help="only series of this partition"
    )
    add_settings_arguments(parser)
    return parser


def _add_json(parser: ArgumentParser, what: str) -> None:
    parser.add_argument("--json", action="store_true", help=f"for programs: {what}")


def _whole(text: str) -> int:
    number = int(text)
    if number < 0:
        raise ValueError
    return number


def _count(text: str) -> int:
    number = _whole(text)
    if not number:
        raise ValueError
    return number


# What argparse calls them when a value is none.
_whole.__name__, _count.__name__ = "whole number", "positive number"
