"""`forecastd forecast`: what a model would have said about a recorded series, window by window.

The observations of a file go through the daemon's own stages, so that offline and online are one
code path; only the broker at both ends is missing.
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from forecastd.commands import LoadSettings, add_settings_arguments

if TYPE_CHECKING:
    from forecastd.loop import Loop
    from forecastd.records import Observations, TopicPartition
    from forecastd.settings import Settings

NAME = "forecast"
HELP = "forecast recorded series with a model, one line of JSON a window"


def add_arguments(parser: ArgumentParser) -> None:
    """What to forecast, with what, and where to."""
    parser.add_argument("file", type=Path, metavar="FILE", help="CSV or JSON lines, as in train")
    parser.add_argument("--model", type=Path, required=True, metavar="MODEL", help="its folder")
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="file to write (default: standard output)"
    )
    add_settings_arguments(parser)


def main(args: Namespace, load: LoadSettings) -> int:
    """Forecast every window; say on standard error what was left over."""
    _check_apart(args.file, args.out)
    settings = load(_defaults_of(args.model)).settings
    from forecastd.commands.recordings import read_recording

    recording = read_recording(args.file, settings)
    loop = _stages(settings, args.model)
    with _opened(args.out) as out:
        count = 0
        for line in _forecasts(loop, recording, settings.ingest.poll_records):
            out.write(line + b"\n")
            count += 1
    sys.stderr.write(
        f"forecastd: {args.file}: {count} forecasts, {_left_over(loop, recording.partition)}\n"
    )
    return 0


def _check_apart(file: Path, out: Path | None) -> None:
    """Refuse to write over the recording, by whatever name it is given."""
    from forecastd.errors import FileError

    with suppress(OSError):  # said where the file is opened
        if out is not None and file.is_file() and out.is_file() and out.samefile(file):
            raise FileError(f"{out}: the file that is read, wanted another one to write to")


def _defaults_of(model: Path) -> dict[str, object]:
    """What is where nobody has set it: T and H as the model was made for, and that it serves."""
    from forecastd.disk_models import load_model

    architecture = load_model(model).architecture
    # One that is named speaks for itself, also where the naive forecast has done better.
    defaults: dict[str, object] = {"models.serve": str(model)}
    if architecture.timesteps is not None:
        defaults["windows.timesteps"] = architecture.timesteps
    if len(architecture.horizons) == 1:
        defaults["forecast.horizon"] = architecture.horizons[0]
    return defaults


def _stages(settings: Settings, model: Path) -> Loop:
    """The daemon's stages between two ends that nothing passes."""
    from forecastd.clock import SystemClock
    from forecastd.forecast.keras_model import load_model
    from forecastd.memory.log import MemoryBroker, MemoryRowReader, MemorySink, MemorySource
    from forecastd.observe.telemetry import Fanout
    from forecastd.publish.at_least_once import AtLeastOnce
    from forecastd.wiring import Ends, build_loop

    broker = MemoryBroker()
    source = MemorySource(broker, settings.ingest.poll_records)
    ends = Ends(source, AtLeastOnce(source, MemorySink(broker)), MemoryRowReader(broker, "{}"), 0)
    return build_loop(settings, ends, load_model(settings, model), Fanout([]), SystemClock())


def _forecasts(loop: Loop, recording: Observations, chunk: int) -> Iterator[bytes]:
    """The message of every window, those of a series in order."""
    from forecastd.publish.message import encode_forecasts

    for start in range(0, len(recording.series), chunk):
        part = _part(recording, slice(start, start + chunk))
        for origins in loop.windower.rounds([part], {}):
            for made in loop.forecaster.forecast(origins.take(origins.phases >= 0)):
                for message in encode_forecasts(made, loop.output_topic, loop.targets):
                    assert message.value is not None, "a forecast without a message"
                    yield message.value
        loop.windower.touched.clear()  # whose rows would be saved


def _part(recording: Observations, at: slice) -> Observations:
    return replace(
        recording,
        series=recording.series[at],
        at_ms=recording.at_ms[at],
        values=recording.values[at],
        offsets=recording.offsets[at],
        recorded_ms=recording.recorded_ms[at],
    )


def _left_over(loop: Loop, partition: TopicPartition) -> str:
    """What no window holds, and what no series took."""
    import numpy as np

    windower = loop.windower
    steps = loop.table["steps"][loop.table.slots(partition)]
    after = (steps - windower.timesteps) % windower.stride
    rest = np.where(steps < windower.timesteps, steps, after)
    told = f"{rest.sum()} rows at the end of {np.count_nonzero(rest)} series fill no window"
    if windower.late:
        told += f", {windower.late} observations with an equal or older time skipped"
    return told


@contextmanager
def _opened(path: Path | None) -> Iterator[BinaryIO]:
    from forecastd.errors import FileError

    if path is None:
        yield sys.stdout.buffer
        return
    try:
        with path.open("wb") as out:
            yield out
    except OSError as error:
        raise FileError(f"{path}: {error.strerror}, wanted a file to write to") from error
