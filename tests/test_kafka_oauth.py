import base64
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs

import pytest

from forecastd.errors import BrokerError
from forecastd.kafka_oauth import (
    BackgroundTokens,
    ClientCredentials,
    NoTokenError,
    Token,
    fetch_token,
    token_provider,
)

WAIT_S = 10.0
"""Longest wait for another thread; none is that long when the test passes."""

Answer = tuple[int, bytes]


class TokenServer:
    """An authorization server of one answer, which keeps what it was asked."""

    def __init__(self) -> None:
        self.answer: Answer = (200, b'{"access_token": "t1", "expires_in": 60}')
        self.asked: list[tuple[dict[str, list[str]], str]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                outer.asked.append((parse_qs(body), self.headers["Authorization"]))
                status, answer = outer.answer
                self.send_response(status)
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/token"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def server() -> Iterator[TokenServer]:
    found = TokenServer()
    yield found
    found.close()


def credentials(server: TokenServer, scope: str | None = None) -> ClientCredentials:
    return ClientCredentials(server.url, "id:1", "hunter2 ü", scope)


class TestFetch:
    def test_asks_for_the_client_credentials_grant(self, server: TokenServer) -> None:
        """RFC 6749: form-encoded before Basic, so that a colon in the id does not end it."""
        assert fetch_token(credentials(server, scope="kafka")) == Token("t1", 60.0)
        ((form, login),) = server.asked
        assert form == {"grant_type": ["client_credentials"], "scope": ["kafka"]}
        assert login == "Basic " + base64.b64encode(b"id%3A1:hunter2%20%C3%BC").decode()

    def test_assumes_a_lifetime_where_none_is_told(self, server: TokenServer) -> None:
        server.answer = (200, b'{"access_token": "t1"}')
        assert fetch_token(credentials(server)).lifetime_s == 300.0

    @pytest.mark.parametrize(
        ("answer", "found"),
        [
            ((401, b'{"error": "invalid_client"}'), "answers 401 Unauthorized"),
            ((200, b"<html>"), "answers without an access_token"),
            ((200, b"[]"), "answers without an access_token"),
            ((200, b'{"token": 1}'), "answers without an access_token"),
            ((200, b'{"access_token": "a", "expires_in": "x"}'), "answers without"),
        ],
    )
    def test_says_what_came_instead(self, server: TokenServer, answer: Answer, found: str) -> None:
        server.answer = answer
        with pytest.raises(BrokerError, match=found) as refused:
            fetch_token(credentials(server))
        assert str(refused.value).startswith(f"kafka.oauth_token_url: {server.url} answers")
        assert "hunter2" not in str(refused.value)

    def test_says_that_nobody_answers(self, server: TokenServer) -> None:
        server.close()
        with pytest.raises(BrokerError, match="Connection refused"):
            fetch_token(credentials(server))

    def test_shows_neither_secret_nor_token(self, server: TokenServer) -> None:
        assert "hunter2" not in repr(credentials(server))
        assert "t1" not in repr(Token("t1", 1.0))


@pytest.fixture
def provide() -> Iterator[Callable[[Callable[[], Token]], BackgroundTokens]]:
    made: list[BackgroundTokens] = []

    def make(fetch: Callable[[], Token]) -> BackgroundTokens:
        made.append(BackgroundTokens(fetch))
        return made[-1]

    yield make
    for tokens in made:
        tokens.close()


Provide = Callable[[Callable[[], Token]], BackgroundTokens]


class TestBackgroundTokens:
    def test_are_fetched_once_for_many_connections(self, provide: Provide) -> None:
        fetched = []

        def fetch() -> Token:
            fetched.append(1)
            return Token("t", 3600.0)

        tokens = provide(fetch)
        assert {tokens.token() for _ in range(5)} == {"t"}
        assert len(fetched) == 1

    def test_are_renewed_before_they_expire(self, provide: Provide) -> None:
        asked = threading.Event()
        texts = iter(["first", "second"])

        def fetch() -> Token:
            text = next(texts, None)
            if text is None:
                asked.set()
                return Token("third", 3600.0)
            return Token(text, 0.1)

        tokens = provide(fetch)
        assert asked.wait(WAIT_S)
        assert tokens.token() in ("second", "third")

    def test_that_expired_are_not_handed_out(self, provide: Provide) -> None:
        """The broker would refuse the login; so the client waits, and tries again."""
        second = threading.Event()
        answers = iter([Token("old", 0.0)])

        def fetch() -> Token:
            token = next(answers, None)
            if token is None:
                second.set()
                raise BrokerError("kafka.oauth_token_url: gone, wanted a token")
            return token

        tokens = provide(fetch)
        assert second.wait(WAIT_S)
        with pytest.raises(NoTokenError):
            tokens.token()

    def test_that_never_came_are_told_with_their_reason(self, provide: Provide) -> None:
        def fetch() -> Token:
            raise BrokerError("kafka.oauth_token_url: no, wanted a token")

        with pytest.raises(NoTokenError, match=r"kafka\.oauth_token_url: no, wanted a token"):
            provide(fetch).token()

    def test_are_shared_by_clients_that_log_in_alike(self, server: TokenServer) -> None:
        first = token_provider(credentials(server))
        assert token_provider(credentials(server)) is first
        assert token_provider(credentials(server, scope="other")) is not first
        first.close()
        token_provider(credentials(server, scope="other")).close()

    def test_have_a_name_that_a_thread_dump_shows(self, provide: Provide) -> None:
        provide(lambda: Token("t", 3600.0))
        assert "forecastd-oauth" in {thread.name for thread in threading.enumerate()}
