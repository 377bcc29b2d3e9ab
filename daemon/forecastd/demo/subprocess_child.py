"""A part of the demo that is a process of its own: watched, quoted when it dies, ended for sure."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import forecastd
from forecastd.demo import kafka_leash
from forecastd.demo.errors import DemoError

_SOURCE_ROOT = Path(forecastd.__file__).parents[1]

_QUOTED_LINES = 8


class Child:
    """`forecastd` with some arguments, from entering the `with` block to leaving it at the latest.

    In a session of its own, so that Ctrl-C reaches us alone and we end the parts in order; and on
    a leash, so that it is gone should we be killed.

    Attributes:
        log: what it wrote.
    """

    def __init__(
        self, name: str, arguments: Sequence[str], folder: Path, stop_s: float = 25.0
    ) -> None:
        """Touch nothing yet.

        Args:
            name: what a person calls it.
            arguments: of the command line, without the program.
            folder: it works there, and its log goes there.
            stop_s: how long it may take to end after SIGTERM before it is killed.
        """
        self.log = folder / f"{name}.log"
        self._name = name
        self._arguments = arguments
        self._folder = folder
        self._stop_s = stop_s
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        leash = (sys.executable, "-I", "-S", kafka_leash.__file__, str(os.getpid()))
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(  # noqa: S603  # ourselves, with words of our own
                [*leash, sys.executable, "-m", "forecastd", *self._arguments],
                cwd=self._folder,
                env=_environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """SIGTERM, and SIGKILL if that is not enough or nobody wants to wait any longer."""
        assert self._process is not None, "not started yet"
        try:
            self._process.terminate()
            self._process.wait(self._stop_s)
        except subprocess.TimeoutExpired:
            pass
        finally:
            self._process.kill()
            self._process.wait()

    def check(self, wanted: str) -> None:
        """Return if it runs.

        Raises:
            DemoError: it ended; quotes its log on stderr.
        """
        assert self._process is not None, "not started yet"
        status = self._process.poll()
        if status is not None:
            raise self.failure(_status_text(status), wanted)

    def failure(self, found: str, wanted: str) -> DemoError:
        """The error to raise about it; quotes its log, in the error and on stderr."""
        lines = self.log.read_text(errors="replace").splitlines()[-_QUOTED_LINES:]
        sys.stderr.writelines(f"{self._name}| {line}\n" for line in lines)
        said = f", its last words being '{lines[-1]}'" if lines else " without a word"
        return DemoError(f"{self._name}: {found}{said}, wanted {wanted}")


def _environment() -> dict[str, str]:
    """Ours, without settings that were made for another daemon, and with our source."""
    kept = {k: v for k, v in os.environ.items() if not k.upper().startswith("FORECASTD_")}
    paths = [str(_SOURCE_ROOT), *filter(None, [kept.get("PYTHONPATH")])]
    return {**kept, "PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1"}


def _status_text(status: int) -> str:
    """An exit status as a person says it.

    >>> _status_text(1), _status_text(-9)
    ('ended with status 1', 'ended with SIGKILL')
    """
    return f"ended with {f'status {status}' if status >= 0 else signal.Signals(-status).name}"
