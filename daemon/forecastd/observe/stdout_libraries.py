"""What libraries log, in the form of our own lines.

A Kafka client without a broker repeats itself several times a second. Its words help to find the
cause, so they are kept, but once a minute each, and never above WARNING: a library cannot know
whether data is lost.
"""

from __future__ import annotations

import logging
from typing import TextIO

from forecastd.clock import Clock
from forecastd.observe.rate_limit import OncePer
from forecastd.observe.stdout_lines import LogFormat, make_logger

PERIOD_S = 60.0
KINDS_MAX = 500
"""Message templates told apart; further ones share one minute."""


class LibraryLines(logging.Handler):
    """A handler for the standard library's root logger: WARNING and above, once a minute each.

    Other threads log as well; `logging.Handler` calls `emit` under its own lock.
    """

    def __init__(
        self, log_format: LogFormat, level: str, clock: Clock, stream: TextIO | None = None
    ) -> None:
        super().__init__(logging.WARNING)
        self._log = make_logger(log_format, level, clock, stream)
        self._clock = clock
        self._repeated = OncePer[tuple[str, str]](PERIOD_S)
        self._kinds: set[tuple[str, str]] = set()

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line, unless the same template was written within the last minute."""
        message = record.getMessage()
        said = self._repeated.admit(self._kind_of(record), 1, message, self._clock.monotonic_s())
        if said is None:
            return
        raised = record.exc_info[1] if record.exc_info else None
        cause = {} if raised is None else {"cause": f"{type(raised).__name__}: {raised}"}
        self._log.warning(message, library=record.name, count=said, **cause)

    def _kind_of(self, record: logging.LogRecord) -> tuple[str, str]:
        kind = (record.name, str(record.msg))
        if kind in self._kinds:
            return kind
        if len(self._kinds) >= KINDS_MAX:
            return ("", "")
        self._kinds.add(kind)
        return kind


def install_library_lines(handler: LibraryLines) -> None:
    """Let the handler be the only one that libraries write to."""
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
