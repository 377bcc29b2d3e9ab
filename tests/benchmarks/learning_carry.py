"""Months of carry: a million steps of one series without a reset, and an outlier among them.

    python -m tests.benchmarks.learning_carry [--steps 1000000] [--out bench.json]

A network that was trained on a few series of one generator (`known_series.seasonal`) serves another
one in the daemon's own loop, in memory, its state carried from the first step to the last. Printed
are the errors of each tenth as multiples of the floor, which is the error of the generator's own
mean on the same steps. Then two daemons read the same short series; in one of them a single step is
10^6 standard deviations off, once in the first, once in a middle and once in the last step of its
window: how far apart medians and intervals are by windows since, in standard deviations of the
noise. Takes about six minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from forecastd.architecture import Architecture
from forecastd.forecast.keras_model import build_model
from forecastd.forecast.model import Model
from forecastd.loop import Loop
from forecastd.memory.log import MemoryBroker
from forecastd.records import Floats, Ints
from forecastd.settings import Settings
from forecastd.train.keras_trainer import Trainer
from forecastd.train.training_set import training_set
from tests.benchmarks.known_series import recordings, seasonal
from tests.benchmarks.served_loop import write_figures
from tests.in_memory import P0, START_MS, drain, start
from tests.learning_in_memory import append_steps

T, H, SEASON, STEP_MS = 16, 16, 24, 60_000
CHUNK = 20_000
SETTINGS = Settings.model_validate({
    "windows": {"timesteps": T},
    "forecast": {"horizon": H, "units": 32},
    "training": {"enabled": False, "epochs": 10},
    "state": {"row_every": 10**9, "max_replay": 10**9, "row_age": "900d"},
})  # fmt: skip
OUTLIER, OUTLIER_WINDOW, AFTER = 1e6, 60, 60


class Nothing:
    """Hears of nothing."""

    def emit(self, event: Any) -> None:
        pass


def trained() -> Model:
    """A network that knows the generator."""
    architecture = Architecture.from_settings(SETTINGS)
    known = seasonal(12, 1_200, H, 7, season=SEASON)
    data = training_set(recordings(known), architecture, SETTINGS)
    weights = Trainer(architecture, data, SETTINGS.training).train(lambda _: None).weights
    return build_model(architecture, SETTINGS, "1-carry", weights)


def forecasts(broker: MemoryBroker, loop: Loop) -> tuple[Ints, Floats]:
    """Let it read all there is: last steps of the windows, and what was published, (n, H, Q)."""
    broker.sent.clear()
    drain(loop)
    found = [json.loads(m.value or b"") for m in broker.messages(SETTINGS.publish.topic)]
    made = [message for message in found if "cold" not in message["flags"]]
    steps: Ints = np.array([(one["origin_ms"] - START_MS) // STEP_MS for one in made], np.int64)
    return steps, np.array([one["forecasts"]["value"] for one in made])


def by_tenth(model: Model, steps: int) -> dict[str, Any]:
    """Errors of each tenth in floors, and how long that took."""
    known = seasonal(1, steps, H, 8, season=SEASON)
    broker = MemoryBroker()
    broker.records[P0] = []
    loop, started = start(broker, SETTINGS, model, telemetry=Nothing()), time.monotonic()
    errors, floors = np.zeros(10), np.zeros(10)
    for first in range(0, steps, CHUNK):
        append_steps(broker, known.values[:, first : first + CHUNK], first, STEP_MS)
        ends, made = forecasts(broker, loop)
        broker.delete_below(P0, broker.end(P0))
        scored = ends < steps - H
        ends, made = ends[scored], made[scored]
        actuals = known.values[0][ends[:, None] + np.arange(1, H + 1)]
        tenths = ends * 10 // steps
        np.add.at(errors, tenths, np.abs(actuals - made[:, :, 1]).mean(axis=1))
        np.add.at(floors, tenths, np.abs(actuals - known.expected[0, ends]).mean(axis=1))
    ratios = errors / floors
    return {
        "steps": steps,
        "error_to_floor_by_tenth": ratios.tolist(),
        "last_to_first": float(ratios[-1] / ratios[0]),
        "seconds": time.monotonic() - started,
    }


def outlier(model: Model, place: int) -> dict[str, list[float]]:
    """How far an outlier at a place of its window moves the forecasts, by windows since."""
    steps = T * (OUTLIER_WINDOW + AFTER)
    known = seasonal(1, steps, H, 9, season=SEASON)
    values = known.values.copy()
    values[0, T * OUTLIER_WINDOW + place] += OUTLIER * known.noise[0]
    seen = []
    for some in (known, replace(known, values=values)):
        broker = MemoryBroker()
        broker.records[P0] = []
        loop = start(broker, SETTINGS, model, telemetry=Nothing())
        append_steps(broker, some.values, 0, STEP_MS)
        seen.append(forecasts(broker, loop)[1][OUTLIER_WINDOW:])
    apart = np.abs(seen[0] - seen[1]).max(axis=1) / known.noise[0]
    return {"median": apart[:, 1].tolist(), "interval": apart[:, [0, 2]].max(axis=1).tolist()}


def main() -> None:
    """Print the figures, and write them to a file."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--out", type=Path, default=Path("bench.json"))
    arguments = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    print("alone: python -m tests.benchmarks.learning_carry", flush=True)
    model = trained()
    found: dict[str, Any] = {"outlier": {}}
    print("an outlier of 10^6 standard deviations: windows since, forecasts moved by", flush=True)
    for place in (0, T // 2, T - 1):
        moved = found["outlier"][place] = outlier(model, place)
        for kind, by_window in moved.items():
            told = " ".join(f"{one:.3g}" for one in by_window[:10])
            print(f"  step {place:>2}, {kind:>8}: {told} ... {by_window[-1]:.3g}", flush=True)
    found["carry"] = carry = by_tenth(model, arguments.steps)
    told = " ".join(f"{ratio:.4f}" for ratio in carry["error_to_floor_by_tenth"])
    print(f"error of each tenth of {arguments.steps} steps, in floors: {told}")
    print(
        f"last to first: {carry['last_to_first']:.4f}, aim at most 1.02; {carry['seconds']:.0f} s"
    )
    write_figures(arguments.out, "learning_carry", found)


if __name__ == "__main__":
    main()
