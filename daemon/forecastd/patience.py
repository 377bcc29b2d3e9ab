"""Waiting for what tells nobody: a port, a lock or a process of somebody else."""

from __future__ import annotations

import time
from collections.abc import Iterator


def looks(within_s: float, pause_s: float = 0.05) -> Iterator[None]:
    """Yield for every look that patience allows: one at once, and a last one when it ends.

    The loop is left with `break` or `return` when the look finds what it is after; behind the loop
    patience has ended.

    >>> [seen for seen, _ in enumerate(looks(0.0))]
    [0]
    """
    deadline_s = time.monotonic() + within_s
    yield
    while time.monotonic() < deadline_s:
        time.sleep(pause_s)  # noqa: TID251  # the one place for it
        yield
