"""The training process: reads windows and champion from the broker, trains, judges, answers.

Started by `subprocess_trainer.py`. It takes what the daemon leaves it: the lowest urgency, no more
memory than `training.memory`, and the first place where the machine runs out of memory. It ends
when its stdin does, so that it never outlives the daemon, however that ended.
"""

from __future__ import annotations

import os
import resource
import sys
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from threading import Thread
from types import TracebackType
from typing import TYPE_CHECKING

import msgspec

from forecastd.errors import ForecastdError, ModelError
from forecastd.models.model_log import ModelLog
from forecastd.settings import Settings
from forecastd.train.run_outcome import Champion, TrainingJob, TrainingOutcome

if TYPE_CHECKING:
    from forecastd.train.buffered_series import Buffered
    from forecastd.train.kafka_windows import WindowsReport

_STDIN, _STDOUT, _STDERR = range(3)
_NICENESS = 19
_NEARLY = 0.9


def main() -> int:
    """One run; its exit status is 0 where stdout holds an outcome, else stderr says why not."""
    started_s = time.monotonic()
    job = _read_job()
    Thread(target=_end_with_stdin, name="stdin", daemon=True).start()
    answer = _take_stdout()
    settings = job.read_settings()
    _yield_to_others(settings.training.memory)
    sys.excepthook = partial(_explain, settings.training.memory)
    try:
        outcome = _run(settings)
    except ForecastdError as error:
        _say("; ".join(str(error).splitlines()))
        return 1
    took = {"seconds": time.monotonic() - started_s, "cpu_seconds": time.process_time()}
    with os.fdopen(answer, "wb") as out:
        out.write(msgspec.structs.replace(outcome, **took).to_bytes())
    return 0


def _run(settings: Settings) -> TrainingOutcome:
    """Read, train, judge. What takes long to import, and much memory, is imported under limits."""
    from forecastd.models.kafka_models import KafkaModels
    from forecastd.train.buffered_series import Wanted, buffered_series
    from forecastd.train.kafka_windows import read_windows

    models = KafkaModels(settings)
    try:
        models.read_to_end()
    finally:
        models.close()
    records, report = read_windows(settings)
    training = settings.training
    wanted = Wanted(
        settings.windows.timesteps,
        len(settings.ingest.values),
        training.exclude,
        training.max_windows,
    )
    buffered = buffered_series(records, wanted)
    # Last: that a broker does not answer is told without the seconds that TensorFlow takes.
    from forecastd.train.keras_challenger import challenge

    left_out = _left_out(report, buffered)
    ranges = msgspec.to_builtins(buffered.ranges)
    source = {"windows": buffered.windows, "left_out": left_out, "ranges": ranges}
    champion, barred = _champion(models.log), models.log.barred
    try:
        outcome = challenge(buffered.pieces, settings, champion, barred, source)
    except ModelError as error:
        told = ", ".join(f"{count} {why}" for why, count in left_out.items())
        raise ModelError(f"{error}; left out: {told or 'none'}") from error
    return msgspec.structs.replace(outcome, windows=buffered.windows)


def _left_out(report: WindowsReport, buffered: Buffered) -> dict[str, int]:
    """Windows on the topic from which nothing is learnt, by the reason."""
    counts = {
        "unreadable": sum(report.unusable.values()),
        "of another shape": buffered.misfits,
        "repeated": buffered.repeats,
        "excluded": buffered.excluded,
        "older than the newest": report.older + buffered.older,
    }
    return {why: count for why, count in counts.items() if count}


def _champion(log: ModelLog) -> Champion | None:
    entry = log.champion
    if entry is None:
        return None
    return Champion(entry.version, entry.architecture, log.models.weights(entry.version))


def _read_job() -> TrainingJob:
    """The one line on stdin. Read without a buffer: no lock is held when this process ends."""
    line = b""
    while not line.endswith(b"\n"):
        part = os.read(_STDIN, 65_536)
        if not part:
            os._exit(1)  # the daemon is gone
        line += part
    return TrainingJob.from_line(line)


def _end_with_stdin() -> None:
    """The daemon keeps the pipe open and writes no more: it ends with the daemon."""
    while os.read(_STDIN, 1):
        pass
    os._exit(1)


def _take_stdout() -> int:
    """Stdout for the answer alone: what a library prints goes to stderr."""
    answer = os.dup(_STDOUT)
    os.dup2(_STDERR, _STDOUT)
    return answer


def _yield_to_others(memory: int) -> None:
    os.nice(_NICENESS)
    if hasattr(os, "SCHED_IDLE"):  # Linux: whoever serves gets its processor at once
        with suppress(OSError):  # where it may not be asked for, niceness is what there is
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a crash leaves no file behind
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    limit = memory if hard == resource.RLIM_INFINITY else min(memory, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))
    with suppress(OSError):  # Linux alone has it: the kernel's first choice when memory is short
        Path("/proc/self/oom_score_adj").write_text("1000")


def _explain(
    memory: int, kind: type[BaseException], error: BaseException, _trace: TracebackType | None
) -> None:
    """Say in one line what nobody foresaw: the last line is what the daemon quotes."""
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (hard, hard))  # a sentence takes memory, too
    used = _data_bytes()
    # Near the limit libraries fail in any way; only some say that it is for memory.
    if issubclass(kind, MemoryError) or used > _NEARLY * memory:
        wanted = f"{memory // 1_000_000} MB at most (training.memory)"
        _say(f"training: out of memory, wanted {wanted}; raise it, or lower training.max_windows")
        return
    first = next(filter(None, map(str.strip, str(error).splitlines())), "no more is known")
    _say(f"training: {kind.__name__}: {first}")


def _data_bytes() -> int:
    """What `RLIMIT_DATA` bounds, as it is now; 0 where nobody says."""
    with suppress(OSError):
        pages = Path("/proc/self/statm").read_text().split()[5]
        return int(pages) * resource.getpagesize()
    return 0


def _say(sentence: str) -> None:
    sys.stderr.write(f"\n{sentence}\n")


if __name__ == "__main__":
    sys.exit(main())
