"""`forecastd broker`: a real Kafka for trying things out."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from forecastd.commands import LoadSettings

NAME = "broker"
HELP = "run a real Apache Kafka on this machine, for trying things out"


def add_arguments(parser: ArgumentParser) -> None:
    """Where its data is, where it listens, how many nodes it has."""
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help="keep the data there (default: temporary)"
    )
    parser.add_argument(
        "--port", type=int, metavar="N", help="port of the first node (default: a free one)"
    )
    parser.add_argument("--nodes", type=int, choices=(1, 3), default=1, help="default: 1")


def main(args: Namespace, _load: LoadSettings) -> int:
    """Serve in the foreground until SIGTERM or Ctrl-C."""
    from forecastd.demo.kafka_broker import broker_main

    return broker_main(args.data, args.port, args.nodes)
