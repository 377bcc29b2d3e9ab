"""A measured value as a record of the input topic, in the form that `ingest.*` reads by default."""

from __future__ import annotations

import msgspec


def feed_record(series: str, at_ms: int, value: float) -> tuple[bytes, bytes]:
    """Key and value; the key keeps a series in one partition, which its state never leaves.

    >>> feed_record("host.cpu0", 1_700_000_000_000, 12.5)
    (b'host.cpu0', b'{"series":"host.cpu0","timestamp":1700000000000,"value":12.5}')
    """
    record = {"series": series, "timestamp": at_ms, "value": value}
    return series.encode(), msgspec.json.encode(record)
