"""`forecastd demo`: everything at once, to look at."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from contextlib import suppress

from forecastd.commands import LoadSettings, duration_s

NAME = "demo"
HELP = "run a broker, a feed of live metrics and the daemon, which learns them as one looks on"

_PORT_MAX = 65_535


def add_arguments(parser: ArgumentParser) -> None:
    """Where, for how long, and what is printed."""
    parser.add_argument(
        "--broker",
        metavar="HOST:PORT",
        help="use this one, with topics and a group of the demo's own, which it deletes at its end"
        " (default: start one)",
    )
    parser.add_argument(
        "--for",
        dest="for_s",
        type=duration_s,
        metavar="TIME",
        help="end this long after the daemon is ready, such as 40s (default: run until Ctrl-C)",
    )
    parser.add_argument(
        "--json", action="store_true", help="print the summary as JSON, all else to stderr"
    )
    parser.add_argument("--port", type=_port, metavar="N", help="of the page (default: a free one)")


def main(args: Namespace, _load: LoadSettings) -> int:
    """Run in the foreground."""
    from forecastd.demo.subprocess_demo import Wishes, demo_main

    return demo_main(Wishes(args.broker, args.for_s, args.json, args.port))


def _port(text: str) -> int:
    with suppress(ValueError):
        if 0 <= (value := int(text)) <= _PORT_MAX:
            return value
    raise ArgumentTypeError(f"{text!r}, wanted a port from 0 (a free one) to {_PORT_MAX}")
