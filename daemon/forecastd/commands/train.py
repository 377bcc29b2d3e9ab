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
    from forecastd.train.excluded_times import without_times
    from forecastd.train.stretches import Layout
    from forecastd.train.training_set import training_set

    check_replaceable(args.out)
    recorded = _read(args.files, settings)
    architecture = Architecture.from_settings(settings)
    layout, excluded = Layout.of(architecture, settings), settings.training.exclude
    pieces = [piece for one in recorded for piece in without_times(one, excluded, layout)]
    data = training_set(pieces, architecture, settings)
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

    from forecastd.train.training_set import training_facts

    facts = training_facts(recorded, settings)
    # Series of one name in two files are two.
    of_files = {
        "files": [file.name for file in files],
        "series": sum(len(one) > 0 for one in recorded),
    }
    return {
        **facts,
        "history": msgspec.to_builtins(trained.history),
        "scores": msgspec.to_builtins(trained.best),
        "data": {**facts["data"], **of_files},
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
