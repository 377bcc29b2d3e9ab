"""The key of a saved row: the series and who wrote it.

A row is a function of the records up to its `offset`, so of several rows of a series the one with
the highest offset is right. With the writer in the key, compaction cannot let the older row of an
instance that was frozen past its session take the place of a newer one.
"""

from __future__ import annotations

import msgspec

from forecastd.errors import RowError

_KEY = msgspec.json.Decoder(tuple[str, str])


def encode_key(series: str, writer: str) -> bytes:
    """JSON, `["host.cpu0", "5f0c9a3e"]`: readable with any console tool."""
    return msgspec.json.encode((series, writer))


def decode_key(key: bytes) -> tuple[str, str]:
    """Series and writer.

    Raises:
        RowError: it is no key of ours.
    """
    try:
        return _KEY.decode(key)
    except msgspec.MsgspecError as error:
        raise RowError(f"row key: {key[:80]!r}, wanted [series, writer]") from error
