import logging
import ssl
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaConsumer, KafkaProducer
from kafka.admin import KafkaAdminClient
from kafka.errors import (
    IllegalSaslStateError,
    KafkaConnectionError,
    KafkaError,
    KafkaTimeoutError,
    SaslAuthenticationFailedError,
)
from kafka.protocol.metadata import CoordinatorType, FindCoordinatorResponse

from forecastd.errors import BrokerError, ForecastdError, SettingsError
from forecastd.kafka_connection import (
    build_client,
    client_words,
    connection_error,
    connection_options,
    overheard,
    tls_context,
    unreachable,
)
from forecastd.kafka_topics import TopicAdmin
from forecastd.settings import KafkaSettings
from tests.secured_kafka import PASSWORD, SOCKETS_LEFT, SecuredKafka, secured, swept, unsigned_token

__all__ = ["secured", "swept"]

pytestmark = SOCKETS_LEFT


def settings(**values: Any) -> KafkaSettings:
    return KafkaSettings.model_validate(values)


def options(**values: Any) -> dict[str, Any]:
    return connection_options(settings(**values), "test")


class TestOptions:
    @pytest.mark.parametrize("client", [KafkaConsumer, KafkaProducer, KafkaAdminClient])
    def test_are_known_to_every_client(self, client: Any) -> None:
        """kafka-python refuses a name that it does not know, when it is too late for a setting."""
        every = [
            options(),
            options(security_protocol="SSL", ssl_ciphers="ECDHE+AESGCM"),
            options(sasl_mechanism="PLAIN", sasl_username="a", sasl_password="b"),
            options(sasl_mechanism="SCRAM-SHA-512", sasl_username="a", sasl_password="b"),
            options(sasl_mechanism="OAUTHBEARER", oauth_token_url="http://127.0.0.1:1/"),
        ]
        for one in every:
            assert set(one) <= set(client.DEFAULT_CONFIG)

    def test_carry_servers_names_and_times(self) -> None:
        found = options(bootstrap_servers="a:1,b:2", client_id="mine", request_timeout="7s")
        assert found["bootstrap_servers"] == ["a:1", "b:2"]
        assert found["client_id"] == "mine-test"
        assert found["request_timeout_ms"] == 7_000

    def test_find_a_broker_that_is_back_soon(self) -> None:
        """kafka-python's own 30 s between two attempts is a stage of every recovery."""
        assert options()["reconnect_backoff_max_ms"] <= 2_000

    def test_carry_the_password_in_the_clear_to_the_client_alone(self) -> None:
        found = options(sasl_mechanism="SCRAM-SHA-256", sasl_username="a", sasl_password="b")
        assert found["sasl_mechanism"] == "SCRAM-SHA-256"
        assert (found["sasl_plain_username"], found["sasl_plain_password"]) == ("a", "b")

    @pytest.mark.parametrize(
        ("mechanism", "package"), [("GSSAPI", "gssapi"), ("AWS_MSK_IAM", "botocore")]
    )
    def test_that_need_a_package_say_so(self, mechanism: str, package: str) -> None:
        """kafka-python finds out on its own thread, and only tries again for ever."""
        with pytest.raises(SettingsError, match=f"Python package {package} is missing"):
            options(sasl_mechanism=mechanism)

    def test_quieten_the_client(self) -> None:
        options()
        assert logging.getLogger("kafka.anything").getEffectiveLevel() == logging.ERROR


class TestTls:
    def test_is_strict_by_default(self) -> None:
        context = tls_context(settings())
        assert context.minimum_version == ssl.TLSVersion.TLSv1_2
        assert context.verify_mode == ssl.CERT_REQUIRED
        assert context.check_hostname
        assert context.get_ca_certs()

    def test_can_let_a_name_pass(self) -> None:
        context = tls_context(settings(ssl_check_hostname=False))
        assert not context.check_hostname
        assert context.verify_mode == ssl.CERT_REQUIRED

    def test_narrows_ciphers(self) -> None:
        """kafka-python 3.0.12 takes `ssl_ciphers` and ignores it."""
        context = tls_context(settings(ssl_ciphers="ECDHE-RSA-AES256-GCM-SHA384"))
        old = [c["name"] for c in context.get_ciphers() if c["protocol"] != "TLSv1.3"]
        assert old == ["ECDHE-RSA-AES256-GCM-SHA384"]

    @pytest.mark.parametrize(
        ("values", "sentence"),
        [
            (
                {"ssl_cafile": "no.pem"},
                "kafka.ssl_cafile: no.pem (no such file or directory), wanted what OpenSSL can",
            ),
            ({"ssl_crlfile": "no.pem"}, "kafka.ssl_crlfile: no.pem (no such file"),
            (
                {"ssl_certfile": "no.pem", "ssl_keyfile": "no.key"},
                "kafka.ssl_certfile: no.pem with key no.key (no such file or directory)",
            ),
            (
                {"ssl_ciphers": "ROT13"},
                "kafka.ssl_ciphers: ROT13 (no cipher can be selected), wanted ciphers in",
            ),
        ],
    )
    def test_says_what_openssl_does_not_take(self, values: dict[str, Any], sentence: str) -> None:
        with pytest.raises(SettingsError) as refused:
            tls_context(settings(**values))
        assert str(refused.value).startswith(sentence)

    def test_says_that_a_file_is_no_certificate(self, tmp_path: Path) -> None:
        (tmp_path / "ca.pem").write_text("hello\n")
        with pytest.raises(SettingsError, match="no certificate or crl found"):
            tls_context(settings(ssl_cafile=tmp_path / "ca.pem"))


def enter(**values: Any) -> str:
    """Log in for real, and ask something; the cluster's id."""
    with TopicAdmin(settings(**{"request_timeout": "3s", **values})) as admin:
        return admin.cluster().cluster_id


def refusal(kind: type[Exception], **values: Any) -> str:
    with pytest.raises(kind) as refused:
        enter(**{"request_timeout": "1500ms", **values})
    return str(refused.value)


class TestRealLogin:
    @pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
    def test_with_a_password_opens(self, secured: SecuredKafka, mechanism: str) -> None:
        assert enter(**self.door(secured, mechanism, PASSWORD))

    @pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256"])
    def test_with_a_wrong_password_says_so(self, secured: SecuredKafka, mechanism: str) -> None:
        """kafka-python only says, when time is up, that it could not bootstrap.

        It loses a refusal that comes together with the end of its connection, which is why there
        are two ways to say it, and this test takes either.
        """
        sentence = refusal(ForecastdError, **self.door(secured, mechanism, "hunter2"))
        refused = f"kafka.sasl_mechanism: the {mechanism} login of alice is refused (Authentic"
        unheard = f"and accepts the {mechanism} login of alice"
        assert sentence.startswith(refused) or sentence.endswith(unheard)
        assert "hunter2" not in sentence

    def test_with_a_token_opens(
        self, secured: SecuredKafka, token_url: Callable[[int], str]
    ) -> None:
        assert enter(**self.bearer(secured, token_url(200)))

    def test_without_a_token_says_who_gave_none(
        self, secured: SecuredKafka, token_url: Callable[[int], str]
    ) -> None:
        url = token_url(401)
        sentence = refusal(BrokerError, **self.bearer(secured, url))
        assert sentence == f"kafka.oauth_token_url: {url} answers 401 Unauthorized, wanted a token"

    def test_at_a_broker_without_one_says_so(self, secured: SecuredKafka) -> None:
        """Or, where kafka-python loses the answer with its connection, that there is none."""
        door = {**self.door(secured, "PLAIN", PASSWORD), "bootstrap_servers": secured.plain}
        sentence = refusal(ForecastdError, **door)
        asks_for_none = f"kafka.bootstrap_servers: {secured.plain} asks for no login, wanted its"
        unheard = "and accepts the PLAIN login of alice"
        assert sentence.startswith(asks_for_none) or sentence.endswith(unheard)

    @staticmethod
    def door(secured: SecuredKafka, mechanism: str, password: str) -> dict[str, Any]:
        return {
            "bootstrap_servers": secured.login,
            "security_protocol": "SASL_PLAINTEXT",
            "sasl_mechanism": mechanism,
            "sasl_username": "alice",
            "sasl_password": password,
        }

    @staticmethod
    def bearer(secured: SecuredKafka, url: str) -> dict[str, Any]:
        return {
            "bootstrap_servers": secured.login,
            "security_protocol": "SASL_PLAINTEXT",
            "sasl_mechanism": "OAUTHBEARER",
            "oauth_token_url": url,
            "oauth_client_id": "carol",
            "oauth_client_secret": "hunter2",
        }


@pytest.fixture
def token_url(request: pytest.FixtureRequest) -> Callable[[int], str]:
    """Starts a server that answers with this status and, if it is 200, a token for carol."""

    def start(status: int) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.send_response(status)
                self.end_headers()
                answer = f'{{"access_token": "{unsigned_token("carol")}", "expires_in": 3600}}'
                self.wfile.write(answer.encode())

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                """Say nothing."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        request.addfinalizer(server.server_close)
        request.addfinalizer(server.shutdown)
        return f"http://127.0.0.1:{server.server_port}/"

    return start


class TestRealTls:
    def test_with_a_client_certificate_opens(self, secured: SecuredKafka) -> None:
        assert enter(**self.door(secured))

    def test_narrowed_to_a_cipher_opens(self, secured: SecuredKafka) -> None:
        assert enter(**self.door(secured), ssl_ciphers="ECDHE+AESGCM")

    def test_with_a_list_of_revoked_certificates_opens(self, secured: SecuredKafka) -> None:
        """kafka-python 3.0.12 hands `ssl_crlfile` to a function that does not know it."""
        assert enter(**self.door(secured), ssl_crlfile=secured.certificates / "empty.crl")

    def test_refuses_a_revoked_broker(self, secured: SecuredKafka) -> None:
        revoked = secured.certificates / "revoked.crl"
        sentence = refusal(BrokerError, **self.door(secured), ssl_crlfile=revoked)
        assert "shows a certificate that is refused (certificate revoked)" in sentence

    def test_refuses_an_unknown_authority(self, secured: SecuredKafka) -> None:
        sentence = refusal(BrokerError, **{**self.door(secured), "ssl_cafile": None})
        assert "(self-signed certificate in certificate chain)" in sentence
        assert sentence.endswith(
            "wanted one for that host, signed by kafka.ssl_cafile, not revoked"
        )

    def test_refuses_another_host(self, secured: SecuredKafka) -> None:
        elsewhere = {"bootstrap_servers": secured.tls.replace("localhost", "127.0.0.1")}
        door = {**self.door(secured), **elsewhere}
        assert "is not valid for '127.0.0.1'" in refusal(BrokerError, **door)
        assert enter(**door, ssl_check_hostname=False)

    def test_needs_the_password_of_its_key(self, secured: SecuredKafka) -> None:
        """Without one OpenSSL would stop and ask on the terminal of the daemon."""
        for password in (None, "hunter2"):
            sentence = refusal(SettingsError, **{**self.door(secured), "ssl_password": password})
            assert sentence.startswith("kafka.ssl_certfile: ")
            assert "hunter2" not in sentence

    def test_at_a_door_without_it_says_so(self, secured: SecuredKafka) -> None:
        door = {**self.door(secured), "bootstrap_servers": secured.plain}
        assert "does not agree on TLS" in refusal(BrokerError, **door)

    def test_is_wanted_by_a_door_that_has_it(self, secured: SecuredKafka) -> None:
        sentence = refusal(BrokerError, bootstrap_servers=secured.tls)
        assert sentence.startswith(
            f"kafka.bootstrap_servers: {secured.tls} takes connections and does not answer"
        )
        assert sentence.endswith("wanted a Kafka broker that speaks PLAINTEXT")

    @staticmethod
    def door(secured: SecuredKafka) -> dict[str, Any]:
        return {
            "bootstrap_servers": secured.tls,
            "security_protocol": "SSL",
            "ssl_cafile": secured.certificates / "ca.pem",
            "ssl_certfile": secured.certificates / "client.pem",
            "ssl_keyfile": secured.certificates / "client.key",
            "ssl_password": PASSWORD,
        }


class TestUnreachable:
    @pytest.mark.parametrize(
        ("server", "found"),
        [
            ("127.0.0.1:1", "nothing answers at 127.0.0.1:1 (connection refused)"),
            ("[::1]:1", "nothing answers at [::1]:1 ("),
            ("nowhere.invalid:9092", "the host of nowhere.invalid:9092 is not known"),
        ],
    )
    def test_says_what_is_in_the_way(self, server: str, found: str) -> None:
        assert str(unreachable(settings(), server)).startswith(found)

    def test_is_none_where_somebody_listens(self, kafka: str) -> None:
        assert unreachable(settings(), kafka) is None


class TestConnectionError:
    def test_of_a_refused_login_is_one_of_the_settings(self) -> None:
        """No waiting changes it, so the start must not wait."""
        login = {"sasl_mechanism": "PLAIN", "sasl_username": "alice", "sasl_password": "b"}
        errors = [SaslAuthenticationFailedError("X: wrong"), KafkaConnectionError("lost")]
        found = connection_error(settings(**login), errors)
        assert isinstance(found, SettingsError)
        assert str(found) == (
            "kafka.sasl_mechanism: the PLAIN login of alice is refused (X: wrong),"
            " wanted one that the broker accepts"
        )

    @pytest.mark.parametrize("protocol", ["PLAINTEXT", "SSL"])
    def test_of_a_broker_that_knows_no_login_names_the_other_two_ways(self, protocol: str) -> None:
        """It is no refusal of ours: it would refuse whoever logs in."""
        login = {
            "bootstrap_servers": "a:1", "security_protocol": f"SASL_{protocol}",
            "sasl_mechanism": "PLAIN", "sasl_username": "alice", "sasl_password": "b",
        }  # fmt: skip
        found = connection_error(settings(**login), [IllegalSaslStateError()])
        assert isinstance(found, SettingsError)
        assert str(found) == (
            "kafka.bootstrap_servers: a:1 asks for no login, wanted its SASL port,"
            f" or kafka.security_protocol {protocol}"
        )

    def test_names_every_server(self) -> None:
        found = connection_error(settings(bootstrap_servers="127.0.0.1:1,127.0.0.1:2"), [])
        assert isinstance(found, BrokerError)
        assert str(found) == (
            "kafka.bootstrap_servers: nothing answers at 127.0.0.1:1 (connection refused);"
            " nothing answers at 127.0.0.1:2 (connection refused),"
            " wanted a Kafka broker that speaks PLAINTEXT"
        )


class TestBuildClient:
    @pytest.mark.parametrize("client", [KafkaConsumer, KafkaProducer, KafkaAdminClient])
    def test_leaves_no_thread_of_a_client_that_could_not_be_made(self, client: Any) -> None:
        """A daemon that tries again for a night would collect thousands."""
        before = set(threading.enumerate())
        with overheard(), pytest.raises(KafkaError):
            build_client(
                client, **{**options(bootstrap_servers="127.0.0.1:1"), "bootstrap_timeout_ms": 50}
            )
        assert set(threading.enumerate()) <= before

    def test_makes_a_client_that_works(self, kafka: str) -> None:
        client = build_client(KafkaAdminClient, **options(bootstrap_servers=kafka))
        assert client.describe_cluster()["brokers"]
        client.close()

    def test_says_of_a_coordinator_that_is_gone_that_it_is_not_ready(self) -> None:
        """Were this to raise, the producer would drop the request that it was about to send.

        A transaction would then wait in vain for the partitions that were to be added to it.
        """

        def bare(kafka_client: Any, **config: Any) -> Any:
            return kafka_client(**config)

        client = build_client(bare, bootstrap_servers="127.0.0.1:1")
        gone = FindCoordinatorResponse(
            version=3, error_code=0, error_message="", node_id=9, host="127.0.0.1", port=1
        )
        node = client._manager.cluster.add_coordinator(gone, CoordinatorType.TRANSACTION, "a")
        with overheard():
            assert client.await_ready(node, timeout_ms=2_000) is False
        client.close()


class TestOverheard:
    def test_keeps_errors_and_logs_nothing(self, caplog: pytest.LogCaptureFixture) -> None:
        logger = logging.getLogger("kafka.net.manager")
        with overheard() as errors:
            logger.warning("Bootstrap connection to %s failed: %s", "b", KafkaTimeoutError("x"))
            logger.info("Closing")
        assert [str(error) for error in errors] == ["KafkaTimeoutError: x"]
        assert not caplog.records

    def test_ends(self, caplog: pytest.LogCaptureFixture) -> None:
        with overheard() as errors:
            pass
        logging.getLogger("kafka").error("lost: %s", KafkaTimeoutError("x"))
        assert not errors
        assert len(caplog.records) == 1


class TestClientWords:
    def test_leave_out_names_and_numbers(self) -> None:
        assert client_words(KafkaTimeoutError("no answer.")) == "no answer"
        assert client_words(KafkaTimeoutError()) == "KafkaTimeoutError"
