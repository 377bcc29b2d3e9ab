"""`forecastd feed`: records to try things out with."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from contextlib import suppress

from forecastd.commands import LoadSettings, duration_s

NAME = "feed"
HELP = "send this machine's live metrics, and made-up series, to a topic"


def add_arguments(parser: ArgumentParser) -> None:
    """Where to."""
    parser.add_argument(
        "--broker", required=True, metavar="HOST:PORT", help="waited for until it answers"
    )
    parser.add_argument(
        "--topic", default="records", metavar="NAME", help="created if missing (default: records)"
    )
    parser.add_argument(
        "--partitions",
        type=_count,
        default=4,
        metavar="N",
        help="of the topic, if it is created (default: 4)",
    )
    parser.add_argument(
        "--history",
        dest="history_s",
        type=duration_s,
        default=0.0,
        metavar="TIME",
        help="send so much of the past of the made-up series first, such as 30m (default: none)",
    )


def main(args: Namespace, _load: LoadSettings) -> int:
    """Feed in the foreground until SIGTERM or Ctrl-C."""
    from forecastd.demo.kafka_feed import feed_main

    return feed_main(args.broker, args.topic, args.partitions, args.history_s)


def _count(text: str) -> int:
    with suppress(ValueError):
        if (value := int(text)) >= 1:
            return value
    raise ArgumentTypeError(f"{text!r}, wanted a whole number, at least 1")
