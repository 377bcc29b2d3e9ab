"""This machine's own metrics, several times a second: what it does right now, and did since."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

from forecastd.demo.errors import DemoError

_RATE_S = 1.0
"""Rates are taken over this time: between two samples a disk mostly does nothing."""

_MB = 1e6


class _Counters(NamedTuple):
    """Bytes since the machine started, None where it has no such device.

    Attributes:
        at_s: monotonic time.
    """

    at_s: float
    disk_read: int | None
    disk_written: int | None
    received: int | None
    sent: int | None


class Machine:
    """Measures since the last measurement, so one object serves one feed."""

    def __init__(self) -> None:
        """Begin to measure.

        Raises:
            DemoError: psutil is not installed.
        """
        try:
            import psutil
        except ImportError as missing:
            found = "the Python package psutil is not installed"
            raise DemoError(f"feed: {found}, wanted it; install forecastd[feed]") from missing
        self._psutil = psutil
        psutil.cpu_percent(percpu=True)
        self._counters = deque([self._count()])

    def sample(self) -> dict[str, float]:
        """Series and value: cores and memory in per cent, waiting processes, MB a second."""
        values = {
            f"host.cpu{core}": percent
            for core, percent in enumerate(self._psutil.cpu_percent(percpu=True))
        }
        memory = self._psutil.virtual_memory()
        values["host.memory"] = round(100 * (1 - memory.available / memory.total), 2)
        values["host.load"] = round(self._psutil.getloadavg()[0], 2)
        return values | self._rates()

    def _rates(self) -> dict[str, float]:
        now = self._count()
        self._counters.append(now)
        while now.at_s - self._counters[1].at_s >= _RATE_S:
            self._counters.popleft()
        then = self._counters[0]
        seconds = max(now.at_s - then.at_s, 1e-3)
        moved = {
            # In whole MB: the log of a broker that flushes now and then is not worth a chart.
            "host.disk.read": (then.disk_read, now.disk_read, 0),
            "host.disk.written": (then.disk_written, now.disk_written, 0),
            "host.network.received": (then.received, now.received, 1),
            "host.network.sent": (then.sent, now.sent, 1),
        }
        return {
            name: round(
                max(later - earlier, 0) / seconds / _MB, decimals
            )  # counters may start over
            for name, (earlier, later, decimals) in moved.items()
            if earlier is not None and later is not None
        }

    def _count(self) -> _Counters:
        disk = _counters(self._psutil.disk_io_counters)
        network = _counters(self._psutil.net_io_counters)
        return _Counters(
            time.monotonic(),
            disk.get("read_bytes"),
            disk.get("write_bytes"),
            network.get("bytes_recv"),
            network.get("bytes_sent"),
        )


def _counters(read: Callable[[], Any]) -> dict[str, int]:
    """What psutil counts of all devices of a kind; empty where a container shows it none."""
    try:
        counted = read()
    except (OSError, NotImplementedError):
        return {}
    return {} if counted is None else counted._asdict()
