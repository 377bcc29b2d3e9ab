"""Whether what exactly once stands on survives the death of a broker."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

REPLICAS, IN_SYNC = 3, 2
"""With fewer replicas, or one of them enough for an acknowledgement, a single death can undo it."""


class Durability(NamedTuple):
    """Copies of a topic, and how many must have a message before it is acknowledged."""

    replicas: int
    in_sync: int


def hollow_promises(topics: Mapping[str, Durability]) -> Iterator[str]:
    """What weakens `delivery = "exactly_once"`, a sentence for topics that are alike.

    >>> list(hollow_promises({"a": Durability(3, 2), "b": Durability(1, 1)}))
    ... # doctest: +NORMALIZE_WHITESPACE
    ['delivery: exactly_once, and replication factor 1 with min.insync.replicas 1 of b, wanted at
     least 3 and 2; the death of one broker can break the promise']
    """
    for found in sorted(set(topics.values())):
        if found.replicas >= REPLICAS and found.in_sync >= IN_SYNC:
            continue
        names = ", ".join(sorted(name for name, one in topics.items() if one == found))
        yield (
            f"delivery: exactly_once, and replication factor {found.replicas} with"
            f" min.insync.replicas {found.in_sync} of {names}, wanted at least {REPLICAS} and"
            f" {IN_SYNC}; the death of one broker can break the promise"
        )
