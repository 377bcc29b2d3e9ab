"""How kafka-python reaches the broker: address, names, TLS and login, for every client alike."""

from __future__ import annotations

import importlib.util
import logging
import re
import socket
import ssl
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from kafka.errors import (
    IllegalSaslStateError,
    KafkaConnectionError,
    KafkaError,
    KafkaTimeoutError,
    SaslAuthenticationFailedError,
    UnsupportedSaslMechanismError,
)
from kafka.net.compat import KafkaNetClient
from pydantic import SecretStr

from forecastd.errors import BrokerError, ForecastdError, SettingsError
from forecastd.kafka_oauth import ClientCredentials, NoTokenError, token_provider
from forecastd.settings import KafkaSettings

_RECONNECT_MS_MAX = 2_000
"""kafka-python waits up to 30 s between two attempts, which is how long a broker that is back
stays unseen."""

_PROBE_S = 2.0

_REFUSED_PAUSE_MS = 20

_REFUSED_CERTIFICATE = "shows a certificate that is refused"

_REFUSALS = (SaslAuthenticationFailedError, UnsupportedSaslMechanismError)

_PACKAGES = {"GSSAPI": "gssapi", "AWS_MSK_IAM": "botocore"}
"""What kafka-python imports for a login, on its own thread and too late to be told of."""


def connection_options(settings: KafkaSettings, role: str) -> dict[str, Any]:
    """Options of `KafkaConsumer`, `KafkaProducer` and `KafkaAdminClient`, understood by all three.

    Args:
        settings: how to reach the broker.
        role: what the client does; the broker's logs and quotas see `<client_id>-<role>`.

    Raises:
        SettingsError: a certificate, a key or a package is not there.
    """
    # What its INFO and WARNING say is said by our own events, once and structured.
    logging.getLogger("kafka").setLevel(logging.ERROR)
    options: dict[str, Any] = {
        "bootstrap_servers": list(settings.bootstrap_servers),
        "client_id": f"{settings.client_id}-{role}",
        "request_timeout_ms": settings.request_timeout,
        "bootstrap_timeout_ms": settings.request_timeout,
        "reconnect_backoff_max_ms": _RECONNECT_MS_MAX,
        "security_protocol": settings.security_protocol,
    }
    if settings.security_protocol in ("SSL", "SASL_SSL"):
        options["ssl_context"] = tls_context(settings)
    if settings.sasl_mechanism is not None:
        options |= _login(settings, settings.sasl_mechanism)
    return options


def tls_context(settings: KafkaSettings) -> ssl.SSLContext:
    """Everything that `kafka.ssl_*` asks for.

    Built here, because of kafka-python 3.0.12's own options `ssl_ciphers` is ignored by two clients
    and refused by the third, and `ssl_crlfile` is passed on to a call that does not know it.

    Raises:
        SettingsError: a file is not there, or not what it should be.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = settings.ssl_check_hostname
    authorities, certificate = settings.ssl_cafile, settings.ssl_certfile
    key, revoked, ciphers = settings.ssl_keyfile, settings.ssl_crlfile, settings.ssl_ciphers
    if authorities is None:
        context.load_default_certs()
    else:
        _load("ssl_cafile", authorities, lambda: context.load_verify_locations(authorities))
    if certificate is not None:
        # Without a password OpenSSL would stop and ask on the terminal.
        password = _text(settings.ssl_password) or ""
        _load(
            "ssl_certfile",
            f"{certificate} with key {key}",
            lambda: context.load_cert_chain(certificate, key, lambda: password),
        )
    if revoked is not None:
        _load("ssl_crlfile", revoked, lambda: context.load_verify_locations(revoked))
        context.verify_flags |= ssl.VerifyFlags.VERIFY_CRL_CHECK_LEAF
    if ciphers is not None:
        _load("ssl_ciphers", ciphers, lambda: context.set_ciphers(ciphers))
    return context


def _load(name: str, value: object, load: Callable[[], object]) -> None:
    """Have OpenSSL take a setting, or say in our words that it does not."""
    try:
        load()
    except OSError as error:  # ssl.SSLError is one
        wanted = "what OpenSSL can use: PEM files, the key's password in kafka.ssl_password"
        if name == "ssl_ciphers":
            wanted = "ciphers in OpenSSL's notation"
        fault = f"kafka.{name}: {value} ({_os_words(error)}), wanted {wanted}"
        raise SettingsError([fault]) from None


def _os_words(error: OSError) -> str:
    """What an operating system's or OpenSSL's error says, without its codes."""
    words = error.strerror or (error.args[-1] if error.args else type(error).__name__)
    return re.sub(r"^\[.*?\] | \(_ssl\.c:\d+\)|\.$", "", str(words)).lower()


def _login(settings: KafkaSettings, mechanism: str) -> dict[str, Any]:
    package = _PACKAGES.get(mechanism)
    if package is not None and importlib.util.find_spec(package) is None:
        found = (
            f"kafka.sasl_mechanism: {mechanism}, for which the Python package {package} is missing"
        )
        raise SettingsError([f"{found}, wanted it installed"])
    options: dict[str, Any] = {"sasl_mechanism": mechanism}
    if mechanism == "GSSAPI":
        options["sasl_kerberos_service_name"] = settings.sasl_kerberos_service_name
        options["sasl_kerberos_domain_name"] = settings.sasl_kerberos_domain_name
    elif mechanism == "OAUTHBEARER":
        options["sasl_oauth_token_provider"] = token_provider(
            ClientCredentials(
                url=settings.oauth_token_url or "",
                client_id=settings.oauth_client_id or "",
                client_secret=_text(settings.oauth_client_secret) or "",
                scope=settings.oauth_scope,
            )
        )
    elif mechanism != "AWS_MSK_IAM":
        options["sasl_plain_username"] = settings.sasl_username
        options["sasl_plain_password"] = _text(settings.sasl_password)
    return options


def _text(secret: SecretStr | None) -> str | None:
    return None if secret is None else secret.get_secret_value()


class _Patient(KafkaNetClient):  # type: ignore[misc]  # the client has no types
    """Says of a node that refuses connections that it is not ready, rather than raise.

    The sender of a transactional producer forgets the request that it was about to send when this
    raises: the transaction then waits in vain for the partitions that were to be added to it. And
    it asks again at once, thousands of times a second, until another node is the coordinator.
    """

    def await_ready(self, node_id: Any, timeout_ms: float = 30_000) -> bool:
        try:
            return bool(super().await_ready(node_id, timeout_ms))
        except KafkaConnectionError:
            self.poll(timeout_ms=_REFUSED_PAUSE_MS)
            return False


def build_client(kind: Callable[..., Any], **options: Any) -> Any:
    """A client of kafka-python; where it cannot be made, the thread that it would leave is ended.

    Its constructors start an I/O thread and then wait for a broker: after a timeout nobody holds
    what would stop that thread, and a daemon that tries again collects them.
    """
    made: list[Any] = []

    def remember(**config: Any) -> Any:
        made.append(_Patient(**config))
        return made[-1]

    try:
        return kind(kafka_client=remember, **options)
    except BaseException:
        for client in made:
            client.close()
        raise


@contextmanager
def broker_errors(doing: str) -> Iterator[None]:
    """Whatever the client raises, as the one error that makes the loop start over."""
    try:
        yield
    except KafkaError as error:
        raise BrokerError(f"{doing}: {type(error).__name__} ({error})") from error


@contextmanager
def overheard() -> Iterator[list[Exception]]:
    """The errors that kafka-python meets meanwhile; nothing of it is logged.

    Of a refused login, a broken handshake or a lost connection it only logs; what it raises, after
    trying until the time is up, is a timeout that says nothing of them.
    """
    errors: list[Exception] = []
    logger = logging.getLogger("kafka")
    listener = _Listener(errors)
    level, propagate = logger.level, logger.propagate
    logger.addHandler(listener)
    logger.setLevel(logging.WARNING)
    logger.propagate = False
    try:
        yield errors
    finally:
        logger.removeHandler(listener)
        logger.setLevel(level)
        logger.propagate = propagate


class _Listener(logging.Handler):
    def __init__(self, errors: list[Exception]) -> None:
        super().__init__(logging.WARNING)
        self._errors = errors

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the errors that a line was written about."""
        arguments = record.args if isinstance(record.args, tuple) else ()
        self._errors += [argument for argument in arguments if isinstance(argument, Exception)]


def client_words(error: Exception) -> str:
    """What an error of kafka-python says, without its number and its name."""
    words = re.sub(r"^(\[Error \d+\] )?(\w+Error: ?)*", "", str(error)).strip()
    return words.rstrip(".") or type(error).__name__


def connection_error(settings: KafkaSettings, errors: Sequence[Exception]) -> ForecastdError:
    """Why no bootstrap server lets us in: the errors overheard, and what plain sockets tell.

    A refusal that arrives together with the end of its connection is dropped by kafka-python, so
    that the login is named even where no refusal was heard.

    Returns:
        SettingsError where the broker refuses the login, or asks for none, which no waiting would
        change.
    """
    user = f" of {settings.sasl_username}" if settings.sasl_username else ""
    login = f"the {settings.sasl_mechanism} login{user}"
    for error in reversed(errors):
        if isinstance(error, NoTokenError):
            return BrokerError(client_words(error))
        if isinstance(error, IllegalSaslStateError):
            servers = ", ".join(settings.bootstrap_servers)
            open_protocol = settings.security_protocol.removeprefix("SASL_")
            wanted = f"its SASL port, or kafka.security_protocol {open_protocol}"
            fault = f"kafka.bootstrap_servers: {servers} asks for no login, wanted {wanted}"
            return SettingsError([fault])
        if isinstance(error, _REFUSALS):
            refused = f"{login} is refused ({client_words(error)})"
            return SettingsError(
                [f"kafka.sasl_mechanism: {refused}, wanted one that the broker accepts"]
            )
    causes = [error for error in errors if not isinstance(error, KafkaTimeoutError)]
    met = f" ({client_words(causes[-1])})" if causes else ""
    found = [
        unreachable(settings, server) or f"{server} takes connections and does not answer{met}"
        for server in settings.bootstrap_servers
    ]
    wanted = f"a Kafka broker that speaks {settings.security_protocol}"
    if settings.sasl_mechanism is not None:
        wanted += f" and accepts {login}"
    if any(_REFUSED_CERTIFICATE in one for one in found):
        wanted = "one for that host, signed by kafka.ssl_cafile, not revoked"
    return BrokerError(f"kafka.bootstrap_servers: {'; '.join(found)}, wanted {wanted}")


def unreachable(settings: KafkaSettings, server: str) -> str | None:
    """What is in the way of a connection, and of TLS where it is spoken; None: nothing."""
    host, _, port = server.rpartition(":")
    host = host.strip("[]")
    try:
        with socket.create_connection((host, int(port)), timeout=_PROBE_S) as connection:
            if settings.security_protocol.endswith("SSL"):
                tls_context(settings).wrap_socket(connection, server_hostname=host).close()
    except ssl.SSLCertVerificationError as error:
        return f"{server} {_REFUSED_CERTIFICATE} ({error.verify_message.rstrip('.')})"
    except socket.gaierror:
        return f"the host of {server} is not known"
    except TimeoutError:
        return f"nothing answers at {server} in {_PROBE_S:g}s"
    except ssl.SSLError as error:
        return f"{server} does not agree on TLS ({_os_words(error)})"
    except OSError as error:
        return f"nothing answers at {server} ({_os_words(error)})"
    return None
