"""What a running daemon says of itself: `/readyz`, `/snapshot.json` and `/metrics`."""

from __future__ import annotations

from http.client import HTTPException
from urllib.error import HTTPError
from urllib.request import ProxyHandler, build_opener

import msgspec
from prometheus_client.parser import text_string_to_metric_families

from forecastd.observe.snapshot import Snapshot

_TIMEOUT_S = 2.0


class Readiness(msgspec.Struct, frozen=True):
    """`/readyz`; `waiting_for` holds a sentence for each thing that is not there yet."""

    ok: bool
    waiting_for: tuple[str, ...] = ()


class DaemonPage:
    """The HTTP side of one daemon. Where nobody answers, the answer is None.

    Args:
        address: of the page, with a slash at its end.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        # A proxy of the environment has no way to this machine's loopback.
        self._open = build_opener(ProxyHandler({})).open

    def readiness(self) -> Readiness | None:
        """Whether records become forecasts."""
        body = self._get("readyz")
        return None if body is None else msgspec.json.decode(body, type=Readiness)

    def snapshot(self) -> Snapshot | None:
        """What the page shows."""
        body = self._get("snapshot.json")
        return None if body is None else msgspec.json.decode(body, type=Snapshot)

    def forecasts(self) -> dict[str, int] | None:
        """Forecasts published since the start, by source."""
        body = self._get("metrics")
        if body is None:
            return None
        counts: dict[str, int] = {}
        for family in text_string_to_metric_families(body.decode()):
            for sample in family.samples:
                if sample.name == "forecastd_forecasts_published_total":
                    source = sample.labels["source"]
                    counts[source] = counts.get(source, 0) + int(sample.value)
        return counts

    def _get(self, path: str) -> bytes | None:
        try:
            with self._open(self.address + path, timeout=_TIMEOUT_S) as answer:
                body: bytes = answer.read()
        except HTTPError as answer:
            return answer.read()  # 503 is an answer too
        except (OSError, HTTPException):
            return None
        return body
