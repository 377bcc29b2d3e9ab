"""How kafka-python reaches the broker: address, names, TLS and login, for every client alike."""

from __future__ import annotations

import importlib.util
import logging
import socket
import ssl
from collections.abc import Callable
from typing import Any

from pydantic import SecretStr

from forecastd.errors import SettingsError
from forecastd.kafka_oauth import ClientCredentials, token_provider
from forecastd.settings import KafkaSettings

_RECONNECT_MS_MAX = 2_000
"""kafka-python waits up to 30 s between two attempts, which is how long a broker that is back
stays unseen."""

_PROBE_S = 2.0

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
        reason = getattr(error, "reason", None) or error.strerror or str(error)
        wanted = "what OpenSSL can use: PEM files, the key's password in kafka.ssl_password"
        if name == "ssl_ciphers":
            wanted = "ciphers in OpenSSL's notation"
        fault = f"kafka.{name}: {value} ({str(reason).lower().replace('_', ' ')}), wanted {wanted}"
        raise SettingsError([fault]) from None


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


def build_client(kind: Callable[..., Any], **options: Any) -> Any:
    """A client of kafka-python; where it cannot be made, the thread that it would leave is ended.

    Its constructors start an I/O thread and then wait for a broker: after a timeout nobody holds
    what would stop that thread, and a daemon that tries again collects them.
    """
    from kafka.net.compat import KafkaNetClient

    made: list[Any] = []

    def remember(**config: Any) -> Any:
        made.append(KafkaNetClient(**config))
        return made[-1]

    try:
        return kind(kafka_client=remember, **options)
    except BaseException:
        for client in made:
            client.close()
        raise


def obstacle(settings: KafkaSettings) -> str:
    """Why no bootstrap server can be spoken to, as far as plain sockets tell; one sentence.

    kafka-python only says that time is up.
    """
    wanted = f"a Kafka broker that speaks {settings.security_protocol}"
    where = "kafka.bootstrap_servers"
    found = [
        unreachable(settings, server) or f"{server} takes connections and does not answer"
        for server in settings.bootstrap_servers
    ]
    if any("certificate" in one for one in found):
        where, wanted = "kafka.ssl_cafile", "the authority of the broker's certificate"
    return f"{where}: {'; '.join(found)}, wanted {wanted}"


def unreachable(settings: KafkaSettings, server: str) -> str | None:
    """What is in the way of a connection, and of TLS where it is spoken; None: nothing."""
    host, _, port = server.rpartition(":")
    host = host.strip("[]")
    try:
        with socket.create_connection((host, int(port)), timeout=_PROBE_S) as connection:
            if settings.security_protocol.endswith("SSL"):
                tls_context(settings).wrap_socket(connection, server_hostname=host).close()
    except ssl.SSLCertVerificationError as error:
        return f"{server} shows a certificate that is refused ({error.verify_message})"
    except socket.gaierror:
        return f"the host of {server} is not known"
    except TimeoutError:
        return f"nothing answers at {server} in {_PROBE_S:g}s"
    except ssl.SSLError as error:
        return f"{server} does not agree on TLS ({str(error.reason).lower().replace('_', ' ')})"
    except OSError as error:
        return f"nothing answers at {server} ({(error.strerror or str(error)).lower()})"
    return None
