"""When the next training run begins.

Pure: the time comes in with every question. What there is to know of past runs is in the group's
models topic, so that neither a restart nor another owner begins anew.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from zlib import crc32

RETRY_MS = 60_000
"""Pause after a run that failed; it doubles with every further one, up to `every_ms`."""

JITTER = 0.1
"""Share by which the time between two runs varies."""

EARLY = 0.1
"""Share of the time between two runs after which a drop of the live skill may begin one."""


@dataclass(frozen=True, slots=True)
class LastRun:
    """How the last run ended.

    Attributes:
        number: of the run, from 1.
        ended_ms: when, ms since the Unix epoch.
        failures: runs that failed since one did not.
    """

    number: int
    ended_ms: int
    failures: int


@dataclass(frozen=True, slots=True)
class Schedule:
    """A run as soon as there are `min_windows`, then one every `every_ms`, more or less.

    Attributes:
        group: whose runs; two groups with the same settings do not train at the same moments.
    """

    every_ms: int
    min_windows: int
    group: str

    def is_due(
        self,
        now_ms: int,
        windows: Callable[[], int],
        last: LastRun | None,
        *,
        is_urgent: bool,
    ) -> bool:
        """Whether a run should begin, where none is running.

        Args:
            now_ms: present time.
            windows: how many there are to learn from, about; a question that costs something, and
                is asked last.
            last: run that ended.
            is_urgent: whether the live skill has fallen below its own mean, or what should serve
                cannot.
        """
        if last is not None and now_ms < last.ended_ms + self.pause_ms(last, is_urgent):
            return False
        return windows() >= self.min_windows

    def pause_ms(self, last: LastRun, is_urgent: bool) -> int:  # noqa: FBT001
        """Time from the end of a run to the next one.

        >>> schedule = Schedule(every_ms=3_600_000, min_windows=1, group="g")
        >>> [schedule.pause_ms(LastRun(1, 0, failures), False) for failures in (1, 2, 3)]
        [60000, 120000, 240000]
        >>> schedule.pause_ms(LastRun(1, 0, 0), True)
        360000
        """
        if last.failures:
            doubled = RETRY_MS << min(last.failures - 1, 32)
            return min(doubled, self.every_ms)
        if is_urgent:
            return round(self.every_ms * EARLY)
        share = crc32(f"{self.group} {last.number}".encode()) / 2**32
        return round(self.every_ms * (1 + JITTER * (2 * share - 1)))
