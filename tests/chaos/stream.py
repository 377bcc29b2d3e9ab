"""A seeded stream of records, of every kind that a daemon meets."""

from __future__ import annotations

import json
import math
import random
from dataclasses import dataclass

InputRecord = tuple[int, bytes, bytes]
"""Partition, key and value."""

START_MS = 1_700_000_000_000
_STEP_MS = 10

_BAD = (
    "not JSON {at}",
    '{{"series": "s", "timestamp": {at}}}',
    '{{"series": "s", "timestamp": 1700000000000, "value": "n/a {at}"}}',
    '[{{"series": "s", "timestamp": 1700000000000, "value": 1}}, {{"broken": {at}}}]',
    "[]",
    '{{"series": "s", "timestamp": {at}, "value": 1}}',  # long before 1990
)


@dataclass(frozen=True, slots=True)
class Stream:
    """How much of it there is.

    Attributes:
        seed: of everything in it.
        count: records.
        series: in all; series k lives in partition k modulo `partitions`.
    """

    seed: int
    count: int
    series: int = 500
    partitions: int = 4

    def records(self) -> list[InputRecord]:
        """Interleaved at random: 5 % hold several observations, a few are late, 1 % are bad."""
        draw = random.Random(self.seed)
        return [self._record(at, draw) for at in range(self.count)]

    def _record(self, at: int, draw: random.Random) -> InputRecord:
        number = draw.randrange(self.series)
        partition = number % self.partitions
        key = f"series-{number}".encode()
        if draw.random() < 0.01:
            return partition, key, draw.choice(_BAD).format(at=at).encode()
        numbers = [number]
        if draw.random() < 0.05:
            others = range(partition, self.series, self.partitions)
            numbers += draw.sample(others, min(draw.randrange(1, 5), len(others)))
        late_ms = 100_000 if draw.random() < 0.003 else 0
        observations = [
            {
                "series": f"series-{one}",
                "timestamp": START_MS + _STEP_MS * at + part - late_ms,
                "value": round(math.sin(at / 4_000 + one) + draw.gauss(0, 0.1), 4),
            }
            for part, one in enumerate(numbers)
        ]
        value = json.dumps(observations if len(observations) > 1 else observations[0])
        return partition, key, value.encode()
