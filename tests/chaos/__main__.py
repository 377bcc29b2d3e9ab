"""The chaos suite: what must survive, survives; the figures of it, and `chaos.json`.

    python -m tests.chaos [SCENARIO...] [--delivery exactly_once] [--records 200000] [--seed 1]

Scenarios: crash, learning, group, broker, zombie; all, in both modes of delivery, where none is
named. Each prints its seed first. The exit status is 1 where anything was lost, invented or
changed.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, get_args

from forecastd.demo.kafka_broker import EmbeddedKafka
from tests.chaos.broker import broker
from tests.chaos.crash import crash
from tests.chaos.group import group
from tests.chaos.harness import Case, Delivery, Report
from tests.chaos.learning import SETTINGS, serve_group_model
from tests.chaos.stream import Stream
from tests.chaos.trained import small_model
from tests.chaos.zombie import zombie

SCENARIOS = ("crash", "learning", "group", "group-dynamic", "broker", "zombie")


def main() -> int:
    """Run what is asked for, print a table, write `chaos.json`."""
    arguments = _parser().parse_args()
    seed = arguments.seed or random.SystemRandom().randrange(1, 10**6)
    folder = arguments.logs or Path(tempfile.mkdtemp(prefix="forecastd-chaos-"))
    folder.mkdir(parents=True, exist_ok=True)
    print(f"seed {seed}; logs in {folder}", flush=True)
    stream, model = Stream(seed, arguments.records, arguments.series), small_model(folder)
    results = []
    for scenario in arguments.scenarios or SCENARIOS:
        for delivery in arguments.delivery or get_args(Delivery):
            result = _judged(scenario, delivery, stream, model, arguments, folder)
            results.append(result)
            _print(result)
            arguments.out.write_text(json.dumps(results, indent=1) + "\n")
    print(f"\n{'scenario':<14} {'delivery':<14} {'seconds':>8}  (seed {seed})")
    for result in results:
        verdict = f"{len(result['faults'])} FAULTS" if result["faults"] else "equal"
        head = f"{result['scenario']:<14} {result['delivery']:<14} {result['seconds']:>8}"
        print(f"{head}  {verdict}")
    return 1 if any(result["faults"] for result in results) else 0


def _judged(
    scenario: str,
    delivery: Delivery,
    stream: Stream,
    model: dict[str, str],
    arguments: argparse.Namespace,
    folder: Path,
) -> dict[str, Any]:
    """One scenario in one mode; one that does not get to its end is a fault like any other."""
    started_s = time.monotonic()
    is_static, ahead = scenario != "group-dynamic", min(stream.count // 10, 5_000)
    with _kafka(scenario, delivery, folder) as kafka:
        case = Case(kafka.bootstrap, folder, delivery, stream, model, is_static, ahead)
        try:
            report = _run(scenario, case, kafka, arguments)
        except AssertionError as error:
            report = Report([str(error)], {})
    seconds = round(time.monotonic() - started_s, 1)
    head = {"scenario": scenario, "delivery": delivery, "seed": stream.seed, "seconds": seconds}
    return head | asdict(report)


def _run(scenario: str, case: Case, kafka: EmbeddedKafka, arguments: argparse.Namespace) -> Report:
    if scenario == "crash":
        return crash(case, arguments.kills)
    if scenario == "learning":
        prepare = partial(serve_group_model, case.folder)
        return crash(replace(case, model=SETTINGS, prepare=prepare), arguments.kills)
    if scenario == "broker":
        return broker(case, kafka, arguments.broker_kills, arguments.broker_pauses)
    if scenario == "zombie":
        return zombie(case, arguments.zombies)
    return group(case, arguments.deeds)


@contextmanager
def _kafka(scenario: str, delivery: Delivery, folder: Path) -> Iterator[EmbeddedKafka]:
    """A broker of its own, whose log stays with the others."""
    nodes = 3 if scenario == "broker" and delivery == "exactly_once" else 1
    data = Path(tempfile.mkdtemp(prefix=f"kafka-{scenario}-{delivery}-", dir=folder))
    with EmbeddedKafka(data, nodes=nodes) as kafka:
        yield kafka


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "scenarios",
        nargs="*",
        metavar="SCENARIO",
        choices=[[], *SCENARIOS],
        help=" ".join(SCENARIOS),
    )
    parser.add_argument("--delivery", action="append", choices=get_args(Delivery))
    parser.add_argument("--seed", type=int, help="of stream and schedule; default: a new one")
    parser.add_argument("--records", type=int, default=200_000)
    parser.add_argument("--series", type=int, default=500)
    parser.add_argument(
        "--kills", type=int, default=20, help="of the daemon, in crash and learning"
    )
    parser.add_argument("--deeds", type=int, default=24, help="to three instances, in group")
    parser.add_argument("--broker-kills", type=int, default=3)
    parser.add_argument("--broker-pauses", type=int, default=1)
    parser.add_argument("--zombies", type=int, default=40)
    parser.add_argument("--logs", type=Path, help="folder for logs; default: a temporary one")
    parser.add_argument("--out", type=Path, default=Path("chaos.json"))
    return parser


def _print(result: dict[str, Any]) -> None:
    """One scenario: its figures, and what it found."""
    figures = ", ".join(f"{name} {figure}" for name, figure in result["figures"].items())
    print(f"{result['scenario']}, {result['delivery']}: {result['seconds']} s; {figures}")
    print("\n".join(f"  FAULT {fault}" for fault in result["faults"]) or "  equal", flush=True)


if __name__ == "__main__":
    sys.exit(main())
