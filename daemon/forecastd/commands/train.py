"""`forecastd train`: learn a model from recorded series."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forecastd.commands import LoadSettings, add_settings_arguments

if TYPE_CHECKING:
    from forecastd.architecture import Architecture
    from forecastd.settings import Settings
    from forecastd.train.keras_trainer import Trained
    from forecastd.train.recorded_series import RecordedSeries
    from forecastd.train.sequences import TrainingData

NAME = "train"
HELP = "learn a model from recorded series, in CSV or JSON lines"


def add_arguments(parser: ArgumentParser) -> None:
    """What to learn from, where to put it, and the two settings that one tries most."""
    parser.add_argument(
        "files",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="CSV (first column date or timestamp, then one column a series; an empty cell is a"
        " gap), or JSON lines that are read as ingest.* says",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="MODEL", help="folder to write")
    parser.add_argument(
        "--holdout",
        type=_share,
        metavar="SHARE",
        help="newest share, kept for validation (training.holdout)",
    )
    parser.add_argument(
        "--epochs", type=_count, metavar="N", help="passes at most (training.epochs)"
    )
    add_settings_arguments(parser)


def main(args: Namespace, load: LoadSettings) -> int:
    """Read, train, write; a line an epoch."""
    settings = _with_shortcuts(load().settings, args)
    from forecastd.architecture import Architecture
    from forecastd.disk_models import check_replaceable

    check_replaceable(args.out)
    recorded = _read(args.files, settings)
    architecture = Architecture.from_settings(settings)
    data = _training_data(recorded, architecture, settings)
    trained = _train(architecture, data, settings)
    _save(args, architecture, trained, recorded, settings)
    return 0


def _with_shortcuts(settings: Settings, args: Namespace) -> Settings:
    given = {"holdout": args.holdout, "epochs": args.epochs}
    changed = {name: value for name, value in given.items() if value is not None}
    training = settings.training.model_copy(update=changed)
    return settings.model_copy(update={"training": training})


def _read(files: Sequence[Path], settings: Settings) -> list[RecordedSeries]:
    from forecastd.commands.recordings import read_recording
    from forecastd.train.recorded_series import recorded_series

    recorded = []
    for file in files:
        series, dropped = recorded_series(read_recording(file, settings))
        if dropped:
            sys.stderr.write(
                f"forecastd: {file}: {dropped} observations with an equal or older time than one "
                "before, skipped\n"
            )
        recorded += series
    return recorded


def _training_data(
    recorded: Sequence[RecordedSeries], architecture: Architecture, settings: Settings
) -> TrainingData:
    from forecastd.errors import FileError
    from forecastd.train.recorded_series import holdout_start_ms
    from forecastd.train.sequences import training_data
    from forecastd.train.stretches import Layout

    training = settings.training
    data = training_data(
        recorded,
        Layout.of(architecture, settings),
        holdout_start_ms(recorded, training.holdout),
        training.prime_windows,
    )
    wanted, wanted_held = training.bptt_windows, int(training.holdout > 0)
    found, found_held = data.learnable, data.judged
    if found < wanted or found_held < wanted_held:
        timesteps, horizon = settings.windows.timesteps, settings.forecast.horizon
        raise FileError(
            f"training: {found} windows to learn from and {found_held} held out, wanted at least "
            f"{wanted} and {wanted_held}; a window is {timesteps} steps of one series "
            f"(windows.timesteps) and at least one of the {horizon} after it (forecast.horizon)"
        )
    return data


def _train(architecture: Architecture, data: TrainingData, settings: Settings) -> Trained:
    from forecastd.train.keras_trainer import Trainer
    from forecastd.train.stdout_progress import TrainingProgress

    trainer = Trainer(architecture, data, settings.training)
    with TrainingProgress(settings.training.epochs, trainer.windows) as progress:
        return trainer.train(progress.epoch, progress.advance)


def _save(
    args: Namespace,
    architecture: Architecture,
    trained: Trained,
    recorded: Sequence[RecordedSeries],
    settings: Settings,
) -> None:
    from forecastd.disk_models import save_model

    facts = _facts(args.files, trained, recorded, settings)
    metadata = save_model(args.out, architecture, trained.weights, "forecastd train", facts)
    best, naive = trained.best, "seasonal" if settings.windows.season else "last value"
    told = [f"epoch {best.number} of {len(trained.history)}", architecture.describe()]
    if best.skill is not None:
        told.insert(0, f"skill {best.skill:+.3f} against the naive forecast ({naive})")
    sys.stdout.write(f"{args.out}: version 0-{metadata.version_hash}, {', '.join(told)}\n")
    if best.skill is not None and best.skill <= 0:
        sys.stderr.write(
            f"forecastd: {args.out}: skill {best.skill:+.3f}, wanted more than 0; the naive "
            "forecast is as good, more data or another windows.season may help\n"
        )


def _facts(
    files: Sequence[Path],
    trained: Trained,
    recorded: Sequence[RecordedSeries],
    settings: Settings,
) -> dict[str, Any]:
    """What the metadata says beyond the network itself."""
    import msgspec

    known = [series for series in recorded if len(series)]
    sections = ("windows", "forecast", "training")
    return {
        "history": msgspec.to_builtins(trained.history),
        "scores": msgspec.to_builtins(trained.best),
        "settings": {name: getattr(settings, name).model_dump(mode="json") for name in sections},
        "data": {
            "files": [file.name for file in files],
            "series": len(known),
            "steps": sum(map(len, known)),
            "from_ms": min(int(series.at_ms[0]) for series in known),
            "to_ms": max(int(series.at_ms[-1]) for series in known),
        },
        "seconds": sum(epoch.seconds for epoch in trained.history),
    }


def _share(text: str) -> float:
    with suppress(ValueError):
        if 0 <= (value := float(text)) < 1:
            return value
    raise ArgumentTypeError(f"'{text}', wanted a share from 0 to below 1")


def _count(text: str) -> int:
    with suppress(ValueError):
        if (value := int(text)) >= 1:
            return value
    raise ArgumentTypeError(f"'{text}', wanted a whole number, at least 1")
