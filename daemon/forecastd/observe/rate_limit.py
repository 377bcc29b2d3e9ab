"""Says a repeated fact once a period, with how often it was true in between.

Pure: the caller hands in the time.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)


@dataclass(slots=True)
class _Quiet:
    until_s: float
    count: int = 0
    example: str = ""


class OncePer(Generic[Key]):
    """Lets the first of a kind through, then counts the others until the period is over.

    The number of keys must be bounded by the caller (reasons, partitions, never series).

    >>> limit = OncePer[str](period_s=60)
    >>> limit.admit("json", 3, "bad", now_s=0), limit.admit("json", 2, "worse", now_s=10)
    (3, None)
    >>> limit.due(now_s=60)
    [('json', 2, 'worse')]
    """

    def __init__(self, period_s: float) -> None:
        self._period_s = period_s
        self._quiet: dict[Key, _Quiet] = {}
        self._next_due_s = float("inf")

    def admit(self, key: Key, count: int, example: str, now_s: float) -> int | None:
        """How many to say now, None for silence.

        A count that is said includes what was silent before.
        """
        quiet = self._quiet.get(key)
        if quiet is None or now_s >= quiet.until_s:
            silent = quiet.count if quiet else 0
            self._quiet[key] = _Quiet(now_s + self._period_s)
            return count + silent
        quiet.count += count
        quiet.example = example
        self._next_due_s = min(self._next_due_s, quiet.until_s)
        return None

    def due(self, now_s: float) -> list[tuple[Key, int, str]]:
        """What was counted in silence and may be said now: key, count, newest example."""
        if now_s < self._next_due_s:
            return []
        said = []
        for key, quiet in self._quiet.items():
            if quiet.count and now_s >= quiet.until_s:
                said.append((key, quiet.count, quiet.example))
                self._quiet[key] = _Quiet(now_s + self._period_s)
        waiting = [quiet.until_s for quiet in self._quiet.values() if quiet.count]
        self._next_due_s = min(waiting, default=float("inf"))
        return said
