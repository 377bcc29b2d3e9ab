"""Ends the process when a call that has no time-out of its own does not come back.

kafka-python waits without limit for the end of a transaction, and cannot be told to give up. A
process that hangs serves nobody, and what it held is safe with the broker; so it ends, and its
supervisor starts it again.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Watchdog:
    """Bounds a block of code.

    Attributes:
        say_fatal: says why the process ends.
        end: ends it, whatever hangs.
    """

    say_fatal: Callable[[str], None]
    end: Callable[[int], None] = os._exit

    @contextmanager
    def bound(self, what: str, seconds: float) -> Iterator[None]:
        """Let the block run for `seconds` at most."""
        timer = threading.Timer(seconds, self._bite, (what, seconds))
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _bite(self, what: str, seconds: float) -> None:
        self.say_fatal(f"{what}: no answer in {seconds:g} s, wanted one; the process ends")
        self.end(1)
