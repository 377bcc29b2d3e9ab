"""Metrics, probes and the page over HTTP, in a thread that only reads what it is handed.

The loop's thread replaces two values, the health and the snapshot, and never waits for a reader.
The thread is a daemon thread and starts before the broker is reached: a probe or a person who asks
during the start gets an answer.
"""

from __future__ import annotations

import errno
import socket
import threading
from collections.abc import Awaitable, Callable
from importlib import metadata, resources
from pathlib import Path

import msgspec
import uvicorn
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import Route

from forecastd.clock import Clock
from forecastd.errors import SettingsError
from forecastd.observe.events import Event
from forecastd.observe.health import Health, Verdict, liveness, readiness
from forecastd.observe.snapshot import Snapshot, encode

WATCHED_S = 5.0
"""How long after a look at the snapshot someone counts as looking."""

STALL_S = 120.0
"""Age of the loop's last turn at which `/healthz` gives it up: several of the longest waits for the
broker (`kafka.delivery_timeout`) fit in."""

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
        "img-src 'self' data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
"""On every answer. Styles may be inline because the charts set them; scripts may not."""

PAGE_FILES = {
    "/": ("index.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
    "/charts.js": ("charts.js", "text/javascript"),
}


class HttpServer:
    """Listens on `host:port` from `start` to `stop`.

    Args:
        host, port: where to listen; port 0 picks a free one.
        registry: what `/metrics` shows.
        clock: the one that `LoopTurned.at_s` comes from.
        stall_s: how old the loop's last turn may be before `/healthz` says 503.
    """

    def __init__(
        self,
        host: str,
        port: int,
        registry: CollectorRegistry,
        clock: Clock,
        stall_s: float = STALL_S,
    ) -> None:
        self._host, self._port = host, port
        self._registry = registry
        self._clock = clock
        self._stall_s = stall_s
        self._health = Health(started_s=clock.monotonic_s())
        self._snapshot = Snapshot()
        self._watched_s = float("-inf")
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None
        self.app = Starlette(routes=self._routes())

    @property
    def address(self) -> str:
        """Where a browser on this machine finds the page."""
        host = {"0.0.0.0": "localhost", "::": "localhost", "": "localhost"}.get(  # noqa: S104
            self._host, self._host
        )
        return f"http://[{host}]:{self._port}/" if ":" in host else f"http://{host}:{self._port}/"

    @property
    def is_watched(self) -> bool:
        """Whether someone has looked at the snapshot lately, so that views are worth making."""
        return self._clock.monotonic_s() - self._watched_s < WATCHED_S

    @property
    def is_stopped(self) -> bool:
        """Whether nobody listens, before `start` or after `stop`."""
        return self._thread is None or not self._thread.is_alive()

    def emit(self, event: Event) -> None:
        """Follow the daemon's health; one of the telemetry's listeners."""
        self._health = self._health.after(event)

    def publish(self, snapshot: Snapshot) -> None:
        """Show this snapshot from now on."""
        self._snapshot = snapshot

    def start(self) -> None:
        """Listen.

        Raises:
            SettingsError: the address cannot be listened on.
        """
        bound = self._bind()
        self._port = bound.getsockname()[1]
        config = uvicorn.Config(
            self.app,
            access_log=False,
            log_config=None,
            log_level="warning",
            lifespan="off",
            ws="none",
            server_header=False,
            timeout_graceful_shutdown=1,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._server.run, args=([bound],), name="http", daemon=True
        )
        self._thread.start()

    def stop(self, timeout_s: float = 2.0) -> None:
        """Stop listening, at the latest after `timeout_s`; answers under way are given up then."""
        if self._server is not None and self._thread is not None:
            self._server.should_exit = True
            self._thread.join(timeout_s)

    def _bind(self) -> socket.socket:
        try:
            family, kind, protocol, _, where = socket.getaddrinfo(
                self._host or None, self._port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0]
            bound = socket.socket(family, kind, protocol)
            try:
                bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                bound.bind(where)
                bound.listen()
            except OSError:
                bound.close()
                raise
        except OSError as error:
            raise SettingsError([_bind_fault(self._host, self._port, error)]) from error
        return bound

    def _routes(self) -> list[Route]:
        return [
            Route("/metrics", self._metrics),
            Route("/healthz", self._healthz),
            Route("/readyz", self._readyz),
            Route("/snapshot.json", self._snapshot_json),
            Route("/plotly.min.js", _plotly),
            *(Route(path, _page_file(*file)) for path, file in PAGE_FILES.items()),
        ]

    async def _metrics(self, request: Request) -> Response:
        encoder, content_type = choose_encoder(request.headers.get("accept", ""))
        headers = HEADERS | {"Content-Type": content_type}
        return Response(encoder(self._registry), headers=headers)

    async def _healthz(self, _request: Request) -> Response:
        now_s = self._clock.monotonic_s()
        return _answer(liveness(self._health, now_s, self._stall_s))

    async def _readyz(self, _request: Request) -> Response:
        return _answer(readiness(self._health))

    async def _snapshot_json(self, _request: Request) -> Response:
        self._watched_s = self._clock.monotonic_s()
        body = encode(self._snapshot)
        return Response(body, media_type="application/json", headers=HEADERS)


def _answer(verdict: Verdict) -> Response:
    body = msgspec.json.encode({"ok": verdict.ok, "waiting_for": verdict.waiting_for})
    status = 200 if verdict.ok else 503
    return Response(body, status, media_type="application/json", headers=HEADERS)


def _page_file(name: str, media_type: str) -> Callable[[Request], Awaitable[Response]]:
    body = resources.files("forecastd.observe").joinpath("page", name).read_bytes()

    async def endpoint(_request: Request) -> Response:
        return Response(
            body, media_type=media_type, headers=HEADERS | {"Cache-Control": "no-cache"}
        )

    return endpoint


async def _plotly(_request: Request) -> Response:
    """plotly.js as the plotly package ships it: no copy in our tree, no network."""
    path = plotly_script()
    if path is None:
        return PlainTextResponse("plotly: not installed", 404, headers=HEADERS)
    headers = HEADERS | {"Cache-Control": "max-age=86400"}
    return FileResponse(path, media_type="text/javascript", headers=headers)


def plotly_script() -> Path | None:
    """Where plotly.js lies; found without importing plotly, which costs time and memory."""
    try:
        located = metadata.distribution("plotly").locate_file("plotly/package_data/plotly.min.js")
    except metadata.PackageNotFoundError:
        return None
    path = Path(str(located))
    return path if path.is_file() else None


def _bind_fault(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"observe.port: {port} on {host} is taken by another process, wanted a free port;"
            " 0 picks one"
        )
    if error.errno == errno.EACCES:
        return f"observe.port: {port} needs a privilege that we lack, wanted 1024 or above"
    return f"observe.host: '{host}' ({error.strerror or error}), wanted an address of this machine"
