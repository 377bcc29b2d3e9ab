from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator

import httpx
import pytest
from prometheus_client import CollectorRegistry

from forecastd.clock import ManualClock
from forecastd.errors import SettingsError
from forecastd.observe.events import LoopTurned, PartitionReady, Rebalanced, Stopping
from forecastd.observe.http_server import STALL_S, WATCHED_S, HttpServer, plotly_script
from forecastd.observe.prometheus_telemetry import PrometheusTelemetry
from forecastd.observe.snapshot import SeriesView, Snapshot
from forecastd.records import TopicPartition

P0 = TopicPartition("records", 0)
NASTY = '<script>alert("1")</script><img src=x onerror=alert(1)>'


class AppClient:
    """Asks the application in this thread, without a socket."""

    def __init__(self, server: HttpServer) -> None:
        self._app = server.app

    def ask(self, method: str, path: str, headers: dict[str, str] | None = None) -> httpx.Response:
        return asyncio.run(self._ask(method, path, headers))

    def get(self, path: str, headers: dict[str, str] | None = None) -> httpx.Response:
        return self.ask("GET", path, headers)

    async def _ask(self, method: str, path: str, headers: dict[str, str] | None) -> httpx.Response:
        transport = httpx.ASGITransport(self._app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.request(method, path, headers=headers)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def server(clock: ManualClock) -> HttpServer:
    registry = CollectorRegistry()
    PrometheusTelemetry(registry, "0.1.0", clock)
    return HttpServer("127.0.0.1", 0, registry, clock)


@pytest.fixture
def client(server: HttpServer) -> AppClient:
    return AppClient(server)


@pytest.fixture
def started(server: HttpServer) -> Iterator[HttpServer]:
    server.start()
    yield server
    server.stop()


def serve(server: HttpServer, clock: ManualClock) -> None:
    server.emit(LoopTurned(clock.monotonic_s(), broker_reachable=True))
    server.emit(Rebalanced("assigned", (P0,)))
    server.emit(PartitionReady(P0, 0))


class TestProbes:
    def test_before_anything_is_known_the_daemon_lives_and_is_not_ready(
        self, client: AppClient
    ) -> None:
        assert client.get("/healthz").status_code == 200
        answer = client.get("/readyz")
        assert answer.status_code == 503
        assert answer.json()["ok"] is False
        assert answer.json()["waiting_for"][0].startswith("broker: ")

    def test_ready_once_it_serves(
        self, server: HttpServer, client: AppClient, clock: ManualClock
    ) -> None:
        serve(server, clock)
        answer = client.get("/readyz")
        assert (answer.status_code, answer.json()) == (200, {"ok": True, "waiting_for": []})
        server.emit(Stopping("SIGTERM"))
        assert client.get("/readyz").status_code == 503

    def test_a_loop_that_hangs_is_unhealthy_until_it_turns_again(
        self, server: HttpServer, client: AppClient, clock: ManualClock
    ) -> None:
        serve(server, clock)
        clock.advance(STALL_S)
        assert client.get("/healthz").status_code == 200
        clock.advance(1)
        assert client.get("/healthz").status_code == 503
        server.emit(LoopTurned(clock.monotonic_s(), broker_reachable=False))
        assert client.get("/healthz").status_code == 200


class TestMetrics:
    def test_is_prometheus_text(self, client: AppClient) -> None:
        answer = client.get("/metrics")
        assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
        assert 'forecastd_build_info{version="0.1.0"} 1.0' in answer.text

    def test_is_openmetrics_for_who_asks_for_it(self, client: AppClient) -> None:
        accept = {"Accept": "application/openmetrics-text; version=1.0.0"}
        answer = client.get("/metrics", headers=accept)
        assert answer.headers["content-type"].startswith("application/openmetrics-text")
        assert answer.text.endswith("# EOF\n")


class TestSnapshot:
    def test_is_what_the_loop_published_last(self, server: HttpServer, client: AppClient) -> None:
        assert client.get("/snapshot.json").json()["at_ms"] == 0
        server.publish(Snapshot(at_ms=7, records_total=12))
        shown = client.get("/snapshot.json").json()
        assert (shown["at_ms"], shown["records_total"]) == (7, 12)

    def test_is_made_only_while_someone_looks(
        self, server: HttpServer, client: AppClient, clock: ManualClock
    ) -> None:
        """Views cost the loop time: an unattended daemon must not make them for months."""
        watched = [server.is_watched]
        client.get("/metrics")
        watched.append(server.is_watched)
        client.get("/snapshot.json")
        clock.advance(WATCHED_S - 1)
        watched.append(server.is_watched)
        clock.advance(1)
        watched.append(server.is_watched)
        assert watched == [False, False, True, False]

    def test_names_are_data_that_no_browser_takes_for_markup(
        self, server: HttpServer, client: AppClient
    ) -> None:
        view = SeriesView(name=NASTY, topic="t", partition=0, target="v", at_ms=[], actuals=[])
        server.publish(Snapshot(series=(view,)))
        answer = client.get("/snapshot.json")
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.json()["series"][0]["name"] == NASTY


class TestPage:
    @pytest.mark.parametrize(
        ("path", "kind"),
        [
            ("/", "text/html"),
            ("/page.css", "text/css"),
            ("/page.js", "text/javascript"),
            ("/charts.js", "text/javascript"),
            ("/plotly.min.js", "text/javascript"),
        ],
    )
    def test_is_served_whole_from_this_process(
        self, client: AppClient, path: str, kind: str
    ) -> None:
        answer = client.get(path)
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith(kind)
        assert len(answer.content) > 1_000

    @pytest.mark.parametrize("path", ["/", "/page.js", "/snapshot.json", "/readyz", "/metrics"])
    def test_no_answer_lets_foreign_or_inline_scripts_run(
        self, client: AppClient, path: str
    ) -> None:
        policy = client.get(path).headers["content-security-policy"]
        rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
        assert rules["default-src"] == "'none'"
        assert rules["script-src"] == "'self'"
        assert rules["frame-ancestors"] == "'none'"

    def test_charts_come_from_the_plotly_package(self, client: AppClient) -> None:
        path = plotly_script()
        assert path is not None
        assert client.get("/plotly.min.js").content == path.read_bytes()

    def test_other_paths_are_not_found(self, client: AppClient) -> None:
        assert client.get("/../http_server.py").status_code == 404

    def test_nothing_can_be_sent_to_it(self, client: AppClient) -> None:
        assert client.ask("POST", "/snapshot.json").status_code == 405


class TestListening:
    def test_port_0_is_a_free_one_and_the_address_says_which(self, started: HttpServer) -> None:
        assert not started.address.endswith(":0/")
        assert httpx.get(started.address + "healthz").status_code == 200

    def test_a_taken_port_is_one_sentence(self, clock: ManualClock) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            server = HttpServer("127.0.0.1", port, CollectorRegistry(), clock)
            with pytest.raises(SettingsError) as raised:
                server.start()
        assert str(raised.value) == (
            f"observe.port: {port} on 127.0.0.1 is taken by another process, wanted a free port;"
            " 0 picks one"
        )

    def test_a_foreign_address_is_one_sentence(self, clock: ManualClock) -> None:
        server = HttpServer("192.0.2.1", 0, CollectorRegistry(), clock)
        with pytest.raises(SettingsError, match=r"^observe\.host: '192\.0\.2\.1' .*, wanted an"):
            server.start()

    def test_stops_at_once_although_a_browser_is_still_connected(self, server: HttpServer) -> None:
        server.start()
        with httpx.Client() as browser:
            assert browser.get(server.address + "healthz").status_code == 200
            server.stop()
            assert server.is_stopped
            with pytest.raises(httpx.TransportError):
                browser.get(server.address + "healthz")

    def test_stopping_what_never_started_is_nothing(self, server: HttpServer) -> None:
        server.stop()

    @pytest.mark.parametrize(
        ("host", "shown"),
        [
            ("127.0.0.1", "http://127.0.0.1:9464/"),
            ("0.0.0.0", "http://localhost:9464/"),
            ("::", "http://localhost:9464/"),
            ("::1", "http://[::1]:9464/"),
        ],
    )
    def test_the_address_is_one_that_a_browser_opens(
        self, clock: ManualClock, host: str, shown: str
    ) -> None:
        assert HttpServer(host, 9464, CollectorRegistry(), clock).address == shown
