"""Does each rule of stateful training pay: the error of a network whose training broke one.

    python -m tests.benchmarks.learning_rules [--seeds 3] [--out bench.json]

Series, windows, network and steps of Adam are those of `long_memory.py`; all are served as the
daemon serves, with the state carried from window to window. Trained were they

    right               slot j of a batch goes on where slot j of the last one ended, from zeroed
                        states at every epoch
    shuffled            the windows of each series in no order
    i to i + B          slot j of batch k reads window j + B k: it sees every B-th window
    no reset            each epoch begins with the states that the last one ended with
    without state       each window from a zero state, but served with it

Mean squared errors on series that nobody was trained on; the floor is .250. Takes some minutes.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

import numpy as np

from forecastd.records import Ints
from forecastd.train.keras_trainer import Trainer
from forecastd.train.stretches import Stretch
from tests.benchmarks.long_memory import (
    Stretches,
    carried,
    pieces,
    served,
    stretches_of,
    tested,
    trained,
)
from tests.benchmarks.served_loop import write_figures

SLOTS = 16


class NoReset(Trainer):
    """Zeroes its rows before the first epoch and never again."""

    def _pass(self, *arguments: Any) -> Any:
        found = super()._pass(*arguments)
        self.network.zero_rows = lambda rows: None  # type: ignore[method-assign]  # the rule it breaks
        return found


def ways(seed: int) -> dict[str, float]:
    """The error of each, with one seed of series and weights."""
    stretches, test = stretches_of(seed), tested(seed)
    weights = {
        "right": trained(stretches, seed),
        "windows shuffled": trained(shuffled(stretches, seed), seed),
        "batches of windows i to i + B": trained(sliced(stretches), seed),
        "no reset between epochs": trained(stretches, seed, NoReset),
        "trained without state": trained(pieces(stretches, 1, seed), seed, row_windows=1),
    }
    return {way: served(of_way, test, carried).error for way, of_way in weights.items()}


def shuffled(stretches: Stretches, seed: int) -> Stretches:
    """The windows of each stretch in no order."""
    rng = np.random.default_rng(seed)
    return [_picked(one, rng.permutation(len(one))) for one in stretches]


def sliced(stretches: Stretches) -> Stretches:
    """As if batches were windows i to i + B of a series: a slot for each place in a batch."""
    return [
        _picked(one, np.arange(first, len(one), SLOTS))
        for one in stretches
        for first in range(SLOTS)
    ]


def _picked(one: Stretch, order: Ints) -> Stretch:
    return Stretch(one.windows[order], one.actuals[order], one.naive[order], one.end_ms[order])


def main() -> None:
    """Print the figures, and write them to a file."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("bench.json"))
    arguments = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    print("alone: python -m tests.benchmarks.learning_rules", flush=True)
    found = [ways(seed) for seed in range(arguments.seeds)]
    figures = {way: [one[way] for one in found] for way in found[0]}
    print(f"{'floor':>30}: .250")
    for way, errors in figures.items():
        told = " ".join(f"{error:.3f}" for error in errors)
        print(f"{way:>30}: {np.mean(errors):.3f} ({told})")
    print("aim: the right way is the best")
    write_figures(arguments.out, "learning_rules", figures)


if __name__ == "__main__":
    main()
