"""Log lines: form (JSON or console), time stamp, and text that cannot break out of its line.

Series names, keys and parts of records reach the log and are untrusted: an escape sequence in one
of them must not paint the operator's terminal, and a line feed must not forge a line.
"""

from __future__ import annotations

import logging
import sys
import unicodedata
from collections.abc import MutableMapping
from datetime import UTC, datetime
from typing import Any, Literal, TextIO

import structlog
from structlog.typing import FilteringBoundLogger, Processor

from forecastd.clock import Clock

Fields = MutableMapping[str, Any]
LogFormat = Literal["auto", "json", "console"]

_UNSAFE = frozenset(("Cc", "Cf", "Cs", "Zl", "Zp"))
"""Unicode categories that move the cursor, hide or reorder text, or cannot be written."""


def escape_controls(text: str) -> str:
    r"""The text with everything that is not plainly visible written as an escape.

    >>> escape_controls("cpu\x1b[2J\n0")
    'cpu\\x1b[2J\\n0'
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        character.encode("unicode_escape").decode("ascii")
        if unicodedata.category(character) in _UNSAFE
        else character
        for character in text
    )


class LineWriter:
    """Writes lines to a stream, and gives up a line rather than the daemon.

    A full disk or a closed pipe behind stdout is no reason to stop forecasting.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._encoding = getattr(stream, "encoding", None) or "utf-8"

    def msg(self, line: str) -> None:
        """Write one line in one call, so that lines of several threads do not mix."""
        safe = line.encode(self._encoding, "backslashreplace").decode(self._encoding)
        try:
            self._stream.write(safe + "\n")
            self._stream.flush()
        except (OSError, ValueError):  # ValueError: the stream is closed
            return

    debug = info = warning = error = msg


def make_logger(
    log_format: LogFormat, level: str, clock: Clock, stream: TextIO | None = None
) -> FilteringBoundLogger:
    """A logger that writes lines of `level` and above to `stream`, stdout by default."""
    out = sys.stdout if stream is None else stream
    is_terminal = out.isatty()
    if log_format == "auto":
        log_format = "console" if is_terminal else "json"
    rendered: list[Processor] = (
        [structlog.processors.JSONRenderer(sort_keys=False)]
        if log_format == "json"
        else [_escape_fields, structlog.dev.ConsoleRenderer(colors=is_terminal, pad_event_to=0)]
    )
    logger: FilteringBoundLogger = structlog.wrap_logger(
        LineWriter(out),
        processors=[structlog.processors.add_log_level, _TimeStamp(clock), *rendered],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level.upper())),
        cache_logger_on_first_use=True,
    )
    return logger


class _TimeStamp:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def __call__(self, _logger: object, _method: str, fields: Fields) -> Fields:
        at = datetime.fromtimestamp(self._clock.now_ms() / 1_000, tz=UTC)
        stamp = at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        first = {"timestamp": stamp, "level": fields.pop("level"), "event": fields.pop("event")}
        return {**first, **fields}


def _escape_fields(_logger: object, _method: str, fields: Fields) -> Fields:
    return {
        name: escape_controls(value) if isinstance(value, str) else value
        for name, value in fields.items()
    }
