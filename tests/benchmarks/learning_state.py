"""Does a carried state pay: errors and CPU of four ways to serve series of long memory.

    python -m tests.benchmarks.learning_state [--seeds 3] [--out bench.json]

Series work for 20 steps and rest for 20, windows have 8 steps; what the ways have in common is in
`long_memory.py`: network, windows, steps of Adam. Served are

    carried    each window is read once, into the state that the one before it left: the daemon
    (a)        trained and served on single windows, from a zero state each
    (b)        trained and served on 8 windows that are read anew from a zero state at each window
    (c)        trained as carried, the state reset before every window

Mean squared errors on series that nobody was trained on, of three seeds; CPU is that of calls with
256 series each. Takes about three minutes.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

import numpy as np

from tests.benchmarks.long_memory import (
    Served,
    carried,
    pieces,
    reread,
    served,
    stretches_of,
    tested,
    trained,
)
from tests.benchmarks.served_loop import write_figures

AGAIN = 8


def ways(seed: int) -> dict[str, Served]:
    """Every way, with one seed of series and weights."""
    stretches, test = stretches_of(seed), tested(seed)
    right = trained(stretches, seed)
    single = trained(pieces(stretches, 1, seed), seed, row_windows=1)
    several = trained(pieces(stretches, AGAIN, seed), seed)
    return {
        "carried": served(right, test, carried),
        "(a) from zero on T rows": served(single, test, reread(1)),
        "(b) 8 T rows read anew": served(several, test, reread(AGAIN)),
        "(c) carried, reset each window": served(right, test, reread(1)),
    }


def main() -> None:
    """Print the figures, and write them to a file."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("bench.json"))
    arguments = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    print("alone: python -m tests.benchmarks.learning_state", flush=True)
    found = [ways(seed) for seed in range(arguments.seeds)]
    figures: dict[str, dict[str, Any]] = {}
    print(f"{'floor':>32}: .250")
    for way in found[0]:
        errors = [one[way].error for one in found]
        cpu_us = float(np.mean([one[way].cpu_us for one in found]))
        figures[way] = {"error": errors, "cpu_us_per_forecast": cpu_us}
        told = " ".join(f"{error:.3f}" for error in errors)
        print(f"{way:>32}: {np.mean(errors):.3f} ({told}), {cpu_us:.1f} us CPU a forecast")
    print("aim: carried below (a) and (c), as good as (b), at a fraction of its CPU")
    write_figures(arguments.out, "learning_state", figures)


if __name__ == "__main__":
    main()
