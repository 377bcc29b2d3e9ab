"""Records that an emitter would send."""

from __future__ import annotations

import json

START_MS = 1_700_000_000_000


def observations(
    series: str, first: int, last: int, *, partition: int = 0
) -> list[tuple[int, bytes | None, bytes | None]]:
    """Steps `first` to `last` of a series, one a second and record: partition, key, value."""
    return [
        (
            partition,
            None,
            json.dumps(
                {"series": series, "timestamp": START_MS + 1_000 * at, "value": at % 7}
            ).encode(),
        )
        for at in range(first, last)
    ]
