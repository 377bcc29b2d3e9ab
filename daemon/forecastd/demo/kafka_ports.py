"""Ports on loopback: random free ones, and a clear sentence for one that is taken."""

from __future__ import annotations

import secrets
import socket

from forecastd.demo.broker_layout import HOST
from forecastd.demo.errors import EmbeddedKafkaError
from forecastd.patience import looks

_LOWEST, _HIGHEST = 20_000, 32_000
"""Below what Linux and macOS give to outgoing connections. A port from there could be lost while
its broker is down for a restart: a client that keeps trying to reach it may be given that very
port as its own end, and then be connected to itself."""

_PATIENCE_S = 3.0
"""A predecessor that was just killed may hold its port a moment longer."""


def free_ports(count: int, apart_from: range = range(0)) -> range:
    """That many ports in a row, at random, on which nobody listens or is about to."""
    while True:
        first = _LOWEST + secrets.randbelow(_HIGHEST - _LOWEST)
        ports = range(first, first + count)
        if all(port not in apart_from and _fault(port) is None for port in ports):
            return ports


def demand_free(port: int) -> None:
    """Return when the port is free.

    Raises:
        EmbeddedKafkaError: it is still taken after some patience, or no port that we may use.
    """
    fault = None
    for _ in looks(_PATIENCE_S):
        fault = _fault(port)
        if fault is None:
            return
    raise EmbeddedKafkaError(
        f"port {port}",
        str(fault),
        "a free port",
        "end what listens there, or choose another with --port",
    )


def _fault(port: int) -> str | None:
    """Why nobody can listen on this port now, None when somebody can."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as Java does
        try:
            probe.bind((HOST, port))
            probe.listen()
        except OSError as refused:
            return (refused.strerror or str(refused)).lower()
    return None
