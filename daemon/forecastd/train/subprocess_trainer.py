"""A training run as a process of its own, seen from the daemon that it must never harm.

    daemon ── job, one line ──▶ stdin │ training process │ stdout ── outcome ──▶ daemon
                (then kept open)      │ subprocess_worker │ stderr ── its last words ──▶ daemon

Nothing is written to a disk, so that nothing is left behind whoever is killed: the job with its
secrets goes through a pipe, and so do the weights. The process lives as long as its stdin is open,
and no longer than the daemon; it has a process group of its own, so that Ctrl-C reaches the daemon
alone. Whatever happens to it becomes an outcome of status `failed`, with a sentence.
"""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from threading import Thread
from typing import IO

from forecastd.clock import Clock
from forecastd.errors import ModelError
from forecastd.settings import format_duration
from forecastd.train.run_outcome import TrainingJob, TrainingOutcome

WORKER = (sys.executable, "-m", "forecastd.train.subprocess_worker")
"""The training process. Not a fork: TensorFlow hangs in a child that was forked after it ran."""

_TAIL_BYTES = 32_000
"""What is kept of its stderr: a stack may come after what it had to say."""

_STACK = re.compile(r"\s*(@ |\*\*\* )")
"""Lines of a stack that TensorFlow prints."""

_CUT = 300
"""Characters of it that are quoted."""


class TrainerProcess:
    """At most one training run at a time; every call but `kill` returns at once.

    Args:
        timeout_ms: `training.timeout`, after which a run is ended.
        clock: for that.
        command: what is run; takes a job and answers as `subprocess_worker` does.
    """

    def __init__(self, timeout_ms: int, clock: Clock, command: Sequence[str] = WORKER) -> None:
        self._timeout_ms, self._clock, self._command = timeout_ms, clock, command
        self._run: _Run | None = None
        self._failed: TrainingOutcome | None = None

    @property
    def is_running(self) -> bool:
        """Whether a run has begun whose outcome nobody has got yet."""
        return self._run is not None or self._failed is not None

    @property
    def pid(self) -> int | None:
        """Of the process, while it runs."""
        return None if self._run is None else self._run.process.pid

    def start(self, job: TrainingJob) -> None:
        """Begin a run; its outcome, also that it could not begin, comes from `poll`."""
        assert not self.is_running, "two runs at once"
        try:
            self._run = _begin(self._command, job, self._clock.monotonic_s())
        except OSError as error:
            self._failed = _failed(f"training: {error.strerror}, wanted to start a process", 0.0)

    def poll(self) -> TrainingOutcome | None:
        """The outcome, once; None while there is none."""
        if self._failed is not None:
            failed, self._failed = self._failed, None
            return failed
        if self._run is None:
            return None
        seconds = self._clock.monotonic_s() - self._run.started_s
        status = self._run.process.poll()
        if status is not None:
            run, self._run = self._run, None
            return run.end(status, seconds)
        if seconds * 1_000 > self._timeout_ms:
            self.kill()
            told = format_duration(self._timeout_ms)
            found = f"training: not done after {told}, wanted it within that time"
            hint = "raise training.timeout, or leave it a processor that is idle at times"
            return _failed(f"{found}; {hint}", seconds)
        return None

    def kill(self) -> None:
        """End a run, if there is one, without an outcome; returns when the process is gone."""
        self._failed = None
        if self._run is not None:
            run, self._run = self._run, None
            run.process.kill()
            run.process.wait()
            run.close()


@dataclass(slots=True)
class _Collected:
    """What a pipe brings until it is closed, or the last of it; read by a thread of its own."""

    pipe: IO[bytes]
    bytes_max: int | None = None
    data: bytes = b""
    thread: Thread | None = None

    def start(self) -> None:
        self.thread = Thread(target=self._read, name="training-pipe", daemon=True)
        self.thread.start()

    def _read(self) -> None:
        parts = bytearray()
        while part := self.pipe.read1(65_536):  # type: ignore[attr-defined]  # a BufferedReader
            parts += part
            if self.bytes_max is not None:
                del parts[: -self.bytes_max]
        self.data = bytes(parts)

    def end(self) -> bytes:
        """All of it; the process is gone, and with it the other end of the pipe."""
        assert self.thread is not None, "not started"
        self.thread.join()
        self.pipe.close()
        return self.data


@dataclass(slots=True)
class _Run:
    process: subprocess.Popen[bytes]
    started_s: float
    result: _Collected
    words: _Collected

    def end(self, status: int, seconds: float) -> TrainingOutcome:
        """What a process that has ended leaves behind."""
        result, words = self.close()
        if status != 0:
            return _failed(_sentence(status, words), seconds)
        try:
            return TrainingOutcome.from_bytes(result)
        except ModelError as error:
            return _failed(str(error), seconds)

    def close(self) -> tuple[bytes, bytes]:
        """Its result and its last words."""
        assert self.process.stdin is not None, "a pipe was asked for"
        with suppress(BrokenPipeError):
            self.process.stdin.close()
        return self.result.end(), self.words.end()


def _begin(command: Sequence[str], job: TrainingJob, now_s: float) -> _Run:
    process = subprocess.Popen(  # noqa: S603  # ourselves, with words of our own
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=-1,
        # Not a session of its own: Linux may weigh sessions alike, whatever the niceness in them.
        process_group=0,
    )
    assert process.stdin is not None, "a pipe was asked for"
    assert process.stdout is not None, "a pipe was asked for"
    assert process.stderr is not None, "a pipe was asked for"
    run = _Run(process, now_s, _Collected(process.stdout), _Collected(process.stderr, _TAIL_BYTES))
    run.result.start()
    run.words.start()
    with suppress(BrokenPipeError):  # it is gone already: `poll` will say why
        process.stdin.write(job.to_line())  # less than a pipe holds
        process.stdin.flush()
    return run


def _failed(reason: str, seconds: float) -> TrainingOutcome:
    return TrainingOutcome(status="failed", reason=reason, seconds=seconds)


def _sentence(status: int, words: bytes) -> str:
    """Why a process ended that did not do its work: its own words, where it had any."""
    lines = words.decode(errors="replace").splitlines()
    # Of a crash, not the stack that libraries print after what they have to say.
    telling = [line.strip() for line in lines if line.strip() and not _STACK.match(line)]
    said = telling[-1][:_CUT] if telling else ""
    if status == 1 and said:
        return said
    how = f"status {status}" if status >= 0 else signal.Signals(-status).name
    quoted = f", its last words being '{said}'" if said else ""
    hint = "" if status >= 0 else "; too little memory ends it like that, see training.memory"
    return f"training: the process ended with {how}{quoted}, wanted a result{hint}"
