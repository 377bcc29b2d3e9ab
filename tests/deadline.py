"""The one way in which tests wait for what goes on in another process."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from forecastd.patience import looks

Found = TypeVar("Found")

DEADLINE_S = 90.0
"""How long anything that must happen may take, on a machine that is busy with other things."""


def until(
    look: Callable[[], Found],
    awaited: str,
    *,
    within_s: float = DEADLINE_S,
    process: subprocess.Popen[bytes] | None = None,
    log: Path | None = None,
) -> Found:
    """Look again and again; returns what `look` found, once that is true.

    Only where there is nothing to wait on: a broker, a log file or another process does not say
    when it has come that far. Where there is (the end of a process, a line in a pipe, an event, a
    consumer's poll), wait on that.

    Args:
        process: whose work it is; once it has ended nothing more is waited for.
        log: is quoted when it fails.

    Raises:
        AssertionError: not found in time, or the process ended without it.
    """
    __tracebackhide__ = True
    why = f"no {awaited} in {within_s:g} s"
    for _ in looks(within_s):
        # Asked first: what it did last must still be found.
        status = process.poll() if process is not None else None
        found = look()
        if found:
            return found
        if status is not None:
            why = f"no {awaited} by a process that ended with status {status}"
            break
    quoted = f":\n{log.read_text(errors='replace')[-3000:]}" if log is not None else ""
    raise AssertionError(why + quoted)
