"""Does a daemon that starts from nothing learn: live error by and by, against what could be known.

    python -m tests.benchmarks.learning_quality [--series 12] [--out bench.json]

A daemon in memory reads seasonal series, then another one autoregressive ones, of known generators.
It begins without a model, trains itself by its own schedule (every 480 steps, earlier where its
live skill drops) and publishes what it publishes. Errors are absolute ones of the published
medians in standard deviations of each series' noise, means over the series, a block of 160 steps a
line. Beside them: the best naive forecast on the same actuals, and the floor, which is the error of
the generator's own conditional mean. At step 2,560 the level of all series moves by 5 swings; at
step 3,200 the season is another one (36 steps for 24). Before the first of these, the live error is
held against that of a network of the same size which was trained offline, with default epochs, on
all that had come before the last two blocks. Takes some minutes on two cores.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from forecastd.architecture import Architecture
from forecastd.records import Floats
from forecastd.settings import Settings
from forecastd.train.held_out import held_out, naive_candidates
from forecastd.train.keras_challenger import median_forecasts
from forecastd.train.keras_trainer import Trainer
from forecastd.train.stretches import Layout
from forecastd.train.training_set import training_set
from tests.benchmarks.known_series import KnownSeries, autoregressive, recordings, seasonal
from tests.benchmarks.served_loop import write_figures
from tests.in_memory import P0, START_MS

STEP_MS = 60_000
BLOCK, JUDGED = 160, 320
SHIFT, OTHER_SEASON, END = 2_560, 3_200, 5_120
SEASON, SEASON_THEN = 24, 36
HISTORY = 2_560
"""Newest steps that a run learns from, which is what `training.retention` bounds at work."""

T, H = 16, 16
ABOVE = 0.02
"""Skill that is none of rounding."""

GENERATORS: dict[str, Callable[..., KnownSeries]] = {
    "seasonal": seasonal,
    "autoregressive": autoregressive,
}


def settings_of(kind: str, series: int) -> Settings:
    """32 units; a season where there is one, a run every 480 steps, on the newest 2,560 of them."""
    return Settings.model_validate({
        "windows": {"timesteps": T, "season": SEASON if kind == "seasonal" else None},
        "forecast": {"horizon": H, "units": 32},
        "training": {"every": "8h", "min_windows": 500, "max_windows": series * HISTORY // T},
        "state": {"row_every": 10**9, "max_replay": 10**9},
    })  # fmt: skip


@dataclass(frozen=True, slots=True)
class Block:
    """Errors of the forecasts made in one block, in standard deviations of the noise."""

    end: int
    live: float
    naive: float
    floor: float
    by_model: float
    version: str | None

    @property
    def skill(self) -> float:
        """Against the best naive forecast."""
        return 1 - self.live / self.naive


def origins_of(first: int, last: int) -> Any:
    """Steps that end a window, from `first` on and below `last`."""
    return slice(first + T - 1, last, T)


def errors_of(known: KnownSeries, medians: Floats, origins: slice) -> float:
    """Mean absolute error of (S, n, H) medians made at `origins`, in units of the noise."""
    error = np.abs(known.actuals(origins) - medians).mean(axis=(1, 2))
    return float((error / known.noise).mean())


def naive_errors(known: KnownSeries, settings: Settings, origins: slice) -> dict[str, float]:
    """Of the gate's naive candidates."""
    layout = Layout.of(Architecture.from_settings(settings), settings)
    recorded = recordings(known)
    cut_ms = START_MS + STEP_MS * (origins.start - T)
    until_ms = START_MS + STEP_MS * (origins.stop + H)
    stretches = held_out([one.until(until_ms) for one in recorded], layout, cut_ms, 0)
    count = len(range(*origins.indices(known.values.shape[1])))
    return {
        name: errors_of(known, np.stack([median[:count, :, 0] for median in medians]), origins)
        for name, medians in naive_candidates(stretches, layout).items()
    }


def serve(known: KnownSeries, settings: Settings, say: Callable[[str], None]) -> list[Block]:
    """Let a daemon read all of it, block by block."""
    from forecastd.memory.log import MemoryBroker
    from tests.learning_in_memory import LearningDaemon, append_steps

    broker, blocks = MemoryBroker(), []
    broker.records[P0] = []
    daemon, told = LearningDaemon(broker, settings), 0
    for first in range(0, END, BLOCK):
        sent, by_model = len(broker.sent), 0
        for step in range(first, min(first + BLOCK, END), T):
            append_steps(broker, known.values[:, step : step + T], step, STEP_MS)
            daemon.work(seconds=T * STEP_MS / 1000 - 3)
        medians = np.full((len(known.values), END // T, H), np.nan)
        for message in broker.sent[sent:]:
            if message.topic == settings.publish.topic:
                made = json.loads(message.value or b"")
                if "cold" not in made["flags"]:
                    window = (made["origin_ms"] - START_MS) // STEP_MS // T
                    median = np.array(made["forecasts"]["value"])[:, 1]
                    medians[int(made["series"][1:]), window] = median
                    by_model += made["source"] == "model"
        origins = origins_of(first, min(first + BLOCK, END))
        blocks.append(_block(known, settings, origins, medians[:, first // T :], by_model, daemon))
        for run in daemon.runs[told:]:
            say(f"{'':>6}  run {run.status}: {run.reason}")
        told = len(daemon.runs)
        say(line(blocks[-1]))
    return blocks


def _block(  # what a line is made of
    known: KnownSeries,
    settings: Settings,
    origins: slice,
    medians: Floats,
    by_model: int,
    daemon: Any,
) -> Block:
    naive = naive_errors(known, settings, origins)
    count = len(range(*origins.indices(END)))
    return Block(
        end=origins.stop,
        live=errors_of(known, medians[:, :count], origins),
        naive=min(naive.values()),
        floor=errors_of(known, known.expected[:, origins], origins),
        by_model=by_model / (count * len(known.values)),
        version=daemon.version,
    )


def line(block: Block) -> str:
    """One line of the table."""
    return (
        f"{block.end:>6}  {block.live:.3f}  {block.naive:.3f}  {block.floor:.3f}  "
        f"{block.skill:+.3f}  {block.live / block.floor:.2f}  {block.by_model:>4.0%}  "
        f"{block.version or 'baseline'}"
    )


def offline(known: KnownSeries, settings: Settings) -> float:
    """Error on the judged steps of a network that was trained on all before them."""
    architecture = Architecture.from_settings(settings)
    first = SHIFT - JUDGED
    data = training_set(recordings(known, first), architecture, settings)
    trained = Trainer(architecture, data, settings.training).train(lambda _: None)
    layout = Layout.of(architecture, settings)
    stretches = held_out(
        recordings(known, SHIFT + H), layout, START_MS + STEP_MS * (first - 1), first // T
    )
    medians = median_forecasts(architecture, trained.weights, stretches, settings)
    count = JUDGED // T
    made = np.stack([median[:count, :, 0] for median in medians])
    return errors_of(known, made, origins_of(first, SHIFT))


def summary(blocks: list[Block], offline_error: float) -> dict[str, Any]:
    """What the promises are about."""
    settled = [block for block in blocks if SHIFT - JUDGED < block.end <= SHIFT]
    live, floor = (
        float(np.mean([getattr(block, name) for block in settled])) for name in ("live", "floor")
    )
    above = [block.end for block in blocks if block.skill > ABOVE]

    def recovered(after: int, until: int) -> int | None:
        """Steps until the skill is above nothing for good."""
        later = [block for block in blocks if after < block.end <= until]
        last_bad = max((block.end for block in later if block.skill < ABOVE), default=after)
        return last_bad - after if last_bad < later[-1].end else None

    return {
        "skill_above_0_by_step": above[0] if above else None,
        "live_to_offline": live / offline_error,
        "live_to_floor": live / floor,
        "offline_to_floor": offline_error / floor,
        "steps_to_recover_from_shift": recovered(SHIFT, OTHER_SEASON),
        "steps_to_recover_from_season": recovered(OTHER_SEASON, END),
        "end_to_floor": blocks[-1].live / blocks[-1].floor,
        "end_skill": blocks[-1].skill,
    }


def measure_kind(kind: str, series: int) -> dict[str, Any]:
    """Everything about one kind of series."""
    # What was forecast until then shall not be judged by what comes after.
    events = {"shift_at": SHIFT + H, "season_then": (OTHER_SEASON + H, SEASON_THEN)}
    known = GENERATORS[kind](series, END + H, H, 1, season=SEASON, **events)
    settings = settings_of(kind, series)
    started = time.monotonic()
    print(
        f"{kind}: {series} series\n  step   live  naive  floor   skill  live/floor  by model",
        flush=True,
    )
    blocks = serve(known, settings, lambda text: print(text, flush=True))
    figures = summary(blocks, offline(known, settings))
    figures["seconds"] = time.monotonic() - started
    print(
        f"{kind}: skill above 0 by step {figures['skill_above_0_by_step']}; before the shift live "
        f"to offline {figures['live_to_offline']:.2f} (aim 1.10), to the floor "
        f"{figures['live_to_floor']:.2f} (aim 1.25; offline {figures['offline_to_floor']:.2f}); "
        f"recovered {figures['steps_to_recover_from_shift']} steps after the shift and "
        f"{figures['steps_to_recover_from_season']} after the change of season; at the end "
        f"{figures['end_to_floor']:.2f} floors, skill {figures['end_skill']:+.3f}; "
        f"{figures['seconds']:.0f} s",
        flush=True,
    )
    return figures


def main() -> None:
    """Print the figures, and write them to a file."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--series", type=int, default=12)
    parser.add_argument("--kinds", nargs="+", choices=list(GENERATORS), default=list(GENERATORS))
    parser.add_argument("--out", type=Path, default=Path("bench.json"))
    arguments = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    print("alone: python -m tests.benchmarks.learning_quality", flush=True)
    figures = {kind: measure_kind(kind, arguments.series) for kind in arguments.kinds}
    write_figures(arguments.out, "learning_quality", figures)


if __name__ == "__main__":
    main()
