"""Tokens for OAUTHBEARER: the client credentials grant, fetched ahead of need.

kafka-python asks for a token on the thread that also sends heartbeats, so nothing is fetched there.
"""

from __future__ import annotations

import base64
import functools
import json
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field

from kafka.errors import KafkaTimeoutError
from kafka.net.sasl.oauth import AbstractTokenProvider

from forecastd.errors import BrokerError

_FIRST_TOKEN_S = 2.0
"""How long the client's thread may be held up, and only before the first answer is there."""

_FETCH_S = 10.0
_RETRY_S_MAX = 30.0
_LIFETIME_S = 300.0
"""Assumed where the server does not say how long a token is good for."""


class NoTokenError(KafkaTimeoutError):  # type: ignore[misc]  # kafka-python is untyped
    """There is no token to log in with; the client tries again later."""


@dataclass(frozen=True, slots=True)
class ClientCredentials:
    """Who asks whom for tokens (RFC 6749 section 4.4)."""

    url: str
    client_id: str
    client_secret: str = field(repr=False)
    scope: str | None


@dataclass(frozen=True, slots=True)
class Token:
    """A token and how long it is good for, from when it was asked for."""

    text: str = field(repr=False)
    lifetime_s: float


def fetch_token(credentials: ClientCredentials) -> Token:
    """Ask for one token.

    Raises:
        BrokerError: none came; the sentence holds no secret.
    """
    form = {"grant_type": "client_credentials"}
    if credentials.scope is not None:
        form["scope"] = credentials.scope
    login = f"{_quoted(credentials.client_id)}:{_quoted(credentials.client_secret)}"
    headers = {
        "Authorization": "Basic " + base64.b64encode(login.encode()).decode(),
        "Accept": "application/json",
    }
    body = urllib.parse.urlencode(form).encode()
    request = urllib.request.Request(credentials.url, body, headers)  # noqa: S310  # settings demand http
    try:
        with urllib.request.urlopen(request, timeout=_FETCH_S) as response:  # noqa: S310
            answer = json.loads(response.read())
        return Token(str(answer["access_token"]), float(answer.get("expires_in") or _LIFETIME_S))
    except urllib.error.HTTPError as error:
        with error:
            found = f"{credentials.url} answers {error.code} {error.reason}"
    except OSError as error:
        found = f"{credentials.url} ({getattr(error, 'reason', error)})"
    except (AttributeError, KeyError, TypeError, ValueError):
        found = f"{credentials.url} answers without an access_token"
    raise BrokerError(f"kafka.oauth_token_url: {found}, wanted a token")


def _quoted(text: str) -> str:
    return urllib.parse.quote(text, safe="")


class BackgroundTokens(AbstractTokenProvider):  # type: ignore[misc]  # kafka-python is untyped
    """Keeps one valid token, renewed after four fifths of its life on a thread of its own."""

    def __init__(self, fetch: Callable[[], Token]) -> None:
        super().__init__()
        self._fetch = fetch
        self._token = ""
        self._expires_s = 0.0
        self._error = "kafka.oauth_token_url: no answer yet, wanted a token"
        self._has_answer = threading.Event()
        self._is_closed = threading.Event()
        threading.Thread(target=self._renew, name="forecastd-oauth", daemon=True).start()

    def token(self) -> str:
        """The token.

        Raises:
            NoTokenError: there is none, or it has expired.
        """
        self._has_answer.wait(_FIRST_TOKEN_S)
        if time.monotonic() >= self._expires_s:
            raise NoTokenError(self._error)
        return self._token

    def close(self) -> None:
        """Stop renewing."""
        self._is_closed.set()

    def _renew(self) -> None:
        retry_s = 1.0
        while not self._is_closed.is_set():
            asked_s = time.monotonic()
            try:
                token = self._fetch()
            except BrokerError as error:
                self._error = str(error)
                pause_s, retry_s = retry_s, min(2 * retry_s, _RETRY_S_MAX)
            else:
                self._token, self._expires_s = token.text, asked_s + token.lifetime_s
                pause_s, retry_s = max(0.8 * token.lifetime_s, 0.05), 1.0
            self._has_answer.set()
            self._is_closed.wait(pause_s)


@functools.cache
def token_provider(credentials: ClientCredentials) -> BackgroundTokens:
    """One provider for all clients of the process that log in alike."""
    return BackgroundTokens(functools.partial(fetch_token, credentials))
