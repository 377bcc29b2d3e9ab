"""Whether two runs over the same records came to the same: what a fault may do, and may not."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from forecastd.records import Floats

TOLERANCE = 1e-5
"""Of a number, in spreads of its message."""

_SHOWN_MAX = 5

Place = tuple[str, int, int]
"""Topic, partition and offset of a record."""


@dataclass(frozen=True, slots=True, eq=False)
class Forecast:
    """One message.

    Attributes:
        facts: all of it that must be equal to the letter, as JSON.
        numbers: shape (H, Q).
    """

    facts: str
    numbers: Floats

    @classmethod
    def of(cls, message: Mapping[str, Any]) -> Forecast:
        """Take a message apart; that it follows a restart is no difference between two runs."""
        facts = {name: part for name, part in message.items() if name != "forecasts"}
        facts["flags"] = [flag for flag in message["flags"] if flag != "restored"]
        ((target, table),) = message["forecasts"].items()
        facts["target"] = target
        return cls(json.dumps(facts, sort_keys=True), np.array(table, np.float64))

    def distance(self, other: Forecast) -> float:
        """Largest difference of two numbers, in spreads of this message.

        A message whose numbers are almost equal is measured by a thousandth of their size.
        """
        if self.numbers.shape != other.numbers.shape:
            return float("inf")
        size = float(np.abs(self.numbers).max())
        spread = max(float(np.ptp(self.numbers)), 1e-3 * size, 1e-12)
        return float(np.abs(self.numbers - other.numbers).max()) / spread


@dataclass(slots=True)
class Outcome:
    """What came out of one run.

    Attributes:
        forecasts: by id, in the order in which they lie in the topic.
        dead_letters: how often each record was rejected.
        windows: that were written to learn from, as bytes.
    """

    forecasts: dict[str, list[Forecast]] = field(default_factory=lambda: defaultdict(list))
    dead_letters: Counter[Place] = field(default_factory=Counter)
    windows: set[bytes] = field(default_factory=set)

    @classmethod
    def of(
        cls,
        messages: Iterable[Mapping[str, Any]],
        letters: Iterable[Iterable[tuple[str, bytes]]],
        windows: Iterable[bytes] = (),
    ) -> Outcome:
        """Sort what the topics hold.

        Args:
            messages: forecasts.
            letters: headers of the dead letters.
            windows: that were written to learn from.
        """
        found = cls(windows=set(windows))
        for message in messages:
            found.forecasts[message["id"]].append(Forecast.of(message))
        for headers in letters:
            told = {name: value.decode() for name, value in headers}
            place = (
                told["forecastd.topic"],
                int(told["forecastd.partition"]),
                int(told["forecastd.offset"]),
            )
            found.dead_letters[place] += 1
        return found

    @property
    def repeats(self) -> int:
        """Forecasts and dead letters beyond the first of each."""
        sent = sum(map(len, self.forecasts.values())) + self.dead_letters.total()
        return sent - len(self.forecasts) - len(self.dead_letters)


def faults(calm: Outcome, hit: Outcome, *, exactly_once: bool) -> list[str]:
    """What must not differ between an uninterrupted run and one with faults; a sentence each."""
    found = [
        *_set_faults("forecasts", calm.forecasts.keys(), hit.forecasts.keys()),
        *_set_faults("dead letters", calm.dead_letters.keys(), hit.dead_letters.keys()),
        *_set_faults("windows", calm.windows, hit.windows),
        *_shown("forecasts with other numbers", _changed(calm, hit)),
    ]
    if exactly_once:
        twice = [name for name, made in hit.forecasts.items() if len(made) > 1]
        letters = [place for place, count in hit.dead_letters.items() if count > 1]
        found += _shown("forecasts repeated", twice)
        found += _shown("dead letters repeated", letters)
    return found


def _set_faults(what: str, wanted: Iterable[Any], found: Iterable[Any]) -> Iterator[str]:
    wanted, found = set(wanted), set(found)
    yield from _shown(f"{what} lost", sorted(wanted - found))
    yield from _shown(f"{what} invented", sorted(found - wanted))


def _changed(calm: Outcome, hit: Outcome) -> list[str]:
    """Ids of which one message is not what the calm run made, the first of them with a sentence."""
    changed = []
    for name in sorted(calm.forecasts.keys() & hit.forecasts.keys()):
        wanted = calm.forecasts[name][0]
        for made in hit.forecasts[name]:
            if made.facts != wanted.facts:
                changed.append(f"{name}: {made.facts}, wanted {wanted.facts}")
            elif not wanted.distance(made) <= TOLERANCE:
                changed.append(f"{name}: off by {wanted.distance(made):.2g} spreads")
    return changed


def _shown(what: str, which: list[Any]) -> list[str]:
    """One sentence, with a few examples; none where there is nothing to say."""
    if not which:
        return []
    return [f"{len(which)} {what}, such as " + "; ".join(map(str, which[:_SHOWN_MAX]))]
