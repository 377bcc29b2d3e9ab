"""What priming is worth: the first forecasts of new weights, by the state that they begin from.

    python -m tests.benchmarks.learning_priming [--seeds 3] [--out bench.json]

Series, windows and network are those of `long_memory.py`. Two networks are trained, with other
first weights each; in mid-stream the second takes over from the first. Its state is then

    all along           its own: it has read the series from the beginning
    primed              its own, from zero over the last `training.prime_windows` windows
    zero                nothing
    the old weights'    what the first network has left

Mean squared errors of the next windows, one by one, on series that nobody was trained on; the
floor is .250. Takes some minutes.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import numpy as np

from forecastd.keras_network import KeyedNetwork
from forecastd.records import Floats
from forecastd.train.keras_trainer import Weights
from tests.benchmarks.long_memory import (
    ARCHITECTURE,
    SETTINGS,
    WARM_WINDOWS,
    Tested,
    errors_of,
    stretches_of,
    tested,
    trained,
)
from tests.benchmarks.served_loop import write_figures

SWAP = 20
"""Windows before the swap."""

WINDOWS = 6
"""Windows after it that are looked at."""


def ways(seed: int) -> dict[str, Floats]:
    """(WINDOWS,) errors of each way, with one seed of series and weights."""
    stretches, test = stretches_of(seed), tested(seed)
    old, new = trained(stretches, seed), trained(stretches, 100 + seed)
    prime = SETTINGS.training.prime_windows
    return {
        "all along": after_swap(test, new, range(SWAP), new),
        "primed": after_swap(test, new, range(SWAP - prime, SWAP), new),
        "zero": after_swap(test, new, range(0), new),
        "the old weights'": after_swap(test, old, range(SWAP), new),
    }


def after_swap(test: Tested, first: Weights, read: range, then: Weights) -> Floats:
    """Errors of the windows after the swap; before it, weights `first` have read some windows."""
    network = KeyedNetwork(ARCHITECTURE, rows=len(test.windows))
    rows = np.arange(len(test.windows), dtype=np.int32)
    network.zero_rows(rows)
    network.set_weights(first)
    for at in read:
        network.predict(np.ascontiguousarray(test.windows[:, at]), rows)
    network.set_weights(then)
    outputs = [
        network.predict(np.ascontiguousarray(test.windows[:, at]), rows)[:, 0, :, 0, 0]
        for at in range(SWAP, SWAP + WINDOWS)
    ]
    errors: Floats = errors_of(np.stack(outputs, axis=1), test, SWAP).mean(axis=(0, 2))
    return errors


def main() -> None:
    """Print the figures, and write them to a file."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("bench.json"))
    arguments = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    assert SWAP >= WARM_WINDOWS, "the state is to know the series"
    print("alone: python -m tests.benchmarks.learning_priming", flush=True)
    found = [ways(seed) for seed in range(arguments.seeds)]
    figures = {way: np.mean([one[way] for one in found], axis=0).tolist() for way in found[0]}
    print(f"{'floor':>17}: .250 at every window; {arguments.seeds} seeds")
    for way, errors in figures.items():
        print(f"{way:>17}: {' '.join(f'{error:.3f}' for error in errors)}")
    print("aim: primed as all along, and better than the old weights' at the first windows")
    write_figures(arguments.out, "learning_priming", figures)


if __name__ == "__main__":
    main()
