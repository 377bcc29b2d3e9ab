"""How good the serving model is on what arrives, against its own past.

Skill is 1 - error / naive error, both sums of absolute errors in units of each series' spread, of
all forecasts of the serving weights: those that were published, and those that ran in shadow.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

BLOCK_FORECASTS = 100
"""Scored forecasts that one value of the skill is made of."""

MEMORY_BLOCKS = 50
"""Blocks that the long mean remembers, on average."""

KNOWN_BLOCKS = 10
"""Blocks below which the long mean says nothing."""

RECENT_BLOCKS = 3
"""Blocks whose mean is the present skill."""

NOISE = 3.0
"""Standard errors of the present skill that count as its noise."""


@dataclass(slots=True)
class LiveSkill:
    """The skill of the serving weights: its long mean, its noise, and whether it has dropped."""

    _sums: tuple[int, float, float] = (0, 0.0, 0.0)
    _recent: tuple[float, ...] = ()
    _blocks: int = 0
    _mean: float = 0.0
    _variance: float = 0.0

    def add(self, forecasts: int, error: float, naive_error: float) -> None:
        """Take note of scored forecasts."""
        count, errors, naive_errors = self._sums
        self._sums = (count + forecasts, errors + error, naive_errors + naive_error)
        if self._sums[0] >= BLOCK_FORECASTS:
            self._end_block()

    @property
    def mean(self) -> float | None:
        """The long mean; None while too little is known."""
        return self._mean if self._blocks >= KNOWN_BLOCKS else None

    @property
    def has_dropped(self) -> bool:
        """Whether the present skill is below the long mean by more than its noise."""
        if self.mean is None or len(self._recent) < RECENT_BLOCKS:
            return False
        noise = NOISE * math.sqrt(self._variance / RECENT_BLOCKS)
        return sum(self._recent) / RECENT_BLOCKS < self._mean - noise

    def _end_block(self) -> None:
        _, error, naive_error = self._sums
        self._sums = (0, 0.0, 0.0)
        if naive_error <= 0:
            return
        self._recent = (*self._recent, 1 - error / naive_error)[-RECENT_BLOCKS - 1 :]
        if len(self._recent) > RECENT_BLOCKS:
            # What is still recent must not hide in the mean that it is held against.
            self._learn(self._recent[0])
            self._recent = self._recent[1:]

    def _learn(self, skill: float) -> None:
        """Exponentially weighted mean and variance, plain ones at first.

        Source: West, Updating Mean and Variance Estimates, CACM 22 (1979), with a constant weight
        once MEMORY_BLOCKS are known.
        """
        self._blocks += 1
        weight = 1 / min(self._blocks, MEMORY_BLOCKS)
        moved = skill - self._mean
        self._mean += weight * moved
        self._variance = (1 - weight) * (self._variance + weight * moved * moved)


@dataclass(slots=True)
class Probation:
    """The first scored forecasts of weights that were just promoted.

    Attributes:
        before: skill of what served until then; 0 where the naive forecast did.
        drop: by how much the skill may be lower.
        forecasts: scored forecasts on which that is judged.
    """

    before: float
    drop: float
    forecasts: int
    _count: int = 0
    _error: float = 0.0
    _naive_error: float = 0.0

    def add(self, forecasts: int, error: float, naive_error: float) -> None:
        """Take note of scored forecasts."""
        if not self.is_over:
            self._count += forecasts
            self._error += error
            self._naive_error += naive_error

    @property
    def is_over(self) -> bool:
        """Whether enough was scored to judge."""
        return self._count >= self.forecasts

    @property
    def skill(self) -> float:
        """Of the promoted weights so far."""
        return 1 - self._error / self._naive_error if self._naive_error > 0 else self.before

    @property
    def has_failed(self) -> bool:
        """Whether the promoted weights are worse than what they replaced."""
        return self.is_over and self.before - self.skill > self.drop
