"""A real broker with locks on its doors: SASL, TLS and access control, for the tests of them.

One is started per test run, when the first test asks for it, and ends with the process. A test file
that wants it imports `secured`; one whose clients meet closed doors imports `swept` and says
`pytestmark = SOCKETS_LEFT`.
"""

from __future__ import annotations

import atexit
import base64
import functools
import gc
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from kafka.admin import (
    ACL,
    ACLOperation,
    ACLPermissionType,
    KafkaAdminClient,
    ResourcePattern,
    ResourceType,
    UserScramCredentialUpsertion,
)

from forecastd.demo import kafka_leash
from forecastd.demo.broker_layout import (
    HOST,
    LOG4J2_PROPERTIES,
    ClusterLayout,
    cluster_id_of,
    server_properties,
)
from forecastd.demo.errors import EmbeddedKafkaError
from forecastd.demo.kafka_node import java_command
from forecastd.demo.kafka_ports import free_ports

PASSWORD = "correct horse"
"""Of every user that has one."""


@dataclass(frozen=True)
class SecuredKafka:
    """One broker and its doors, each `host:port`.

    Attributes:
        plain: no lock; who enters may do everything.
        login: SASL_PLAINTEXT with PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 and OAUTHBEARER.
        tls: SSL, asks for a client certificate.
        lost: no lock, but sends clients on to an address where nobody listens.
        certificates: folder with `ca.pem`, `client.pem`, `client.key` (locked with PASSWORD),
            `empty.crl` and `revoked.crl`.
    """

    plain: str
    login: str
    tls: str
    lost: str
    certificates: Path

    def allow(self, user: str, topic: str, *operations: str) -> None:
        """Let a user do something with a topic."""
        admin = KafkaAdminClient(bootstrap_servers=self.plain)
        admin.create_acls(
            [
                ACL(
                    principal=f"User:{user}",
                    host="*",
                    operation=ACLOperation[operation],
                    permission_type=ACLPermissionType.ALLOW,
                    resource_pattern=ResourcePattern(ResourceType.TOPIC, topic),
                )
                for operation in operations
            ]
        )
        admin.close()


def unsigned_token(user: str, lifetime_s: int = 3600) -> str:
    """A token that Kafka's validator for development accepts."""
    now = int(time.time())
    parts = ({"alg": "none"}, {"sub": user, "iat": now, "exp": now + lifetime_s})
    encoded = (base64.urlsafe_b64encode(json.dumps(part).encode()) for part in parts)
    return b".".join(part.rstrip(b"=") for part in encoded).decode() + "."


SOCKETS_LEFT = pytest.mark.filterwarnings("ignore:unclosed <s:ResourceWarning")
"""kafka-python leaves sockets that did not connect to Python's collector, which warns of each."""


@pytest.fixture(autouse=True)
def swept() -> Iterator[None]:
    """Collect those sockets before another test would be blamed for them."""
    yield
    gc.collect()


@pytest.fixture(scope="session")
def secured() -> SecuredKafka:
    """The broker; where there can be none its tests are skipped, and with CI=true they fail."""
    try:
        return _secured_kafka()
    except (EmbeddedKafkaError, FileNotFoundError) as missing:
        if os.environ.get("CI") == "true":
            pytest.fail(f"NO KAFKA: {missing}", pytrace=False)
        pytest.skip(f"NO KAFKA, SO NO LOGIN AND NO PERMISSION IS TESTED: {missing}")


@functools.cache
def _secured_kafka() -> SecuredKafka:
    """Start it, once."""
    folder = Path(tempfile.mkdtemp(prefix="forecastd-secured-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    certificates = _make_certificates(folder / "certificates")
    plain, controller, login, tls, lost = free_ports(5)
    layout = ClusterLayout(cluster_id_of(uuid.uuid4()), 1, plain, (controller,))
    locks = _locks(plain, controller, login, tls, lost, certificates)
    (folder / "server.properties").write_text(server_properties(layout, 1) + locks)
    (folder / "log4j2.properties").write_text(LOG4J2_PROPERTIES)
    format_data = ("kafka.tools.StorageTool", "format", "-t", layout.cluster_id, "-c")
    assert _java(folder, *format_data, "server.properties").wait() == 0, "formatted"
    atexit.register(_java(folder, "kafka.Kafka", "server.properties").kill)
    _add_scram_user("alice", layout.bootstrap)
    return SecuredKafka(
        layout.bootstrap, f"{HOST}:{login}", f"localhost:{tls}", f"{HOST}:{lost}", certificates
    )


def _java(folder: Path, *arguments: str) -> subprocess.Popen[bytes]:
    """Start Java in the folder, tied to our life."""
    leash = (sys.executable, "-I", "-S", kafka_leash.__file__, str(os.getpid()))
    settings = ("-Djava.io.tmpdir=.", "-Dlog4j2.configurationFile=log4j2.properties")
    java, *options = java_command()
    with (folder / "kafka.log").open("ab") as log:
        return subprocess.Popen(
            [*leash, java, *settings, *options, *arguments],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )


def _locks(plain: int, controller: int, login: int, tls: int, lost: int, certificates: Path) -> str:
    """Settings of the broker; a key that is there twice counts as written last."""
    modules = "org.apache.kafka.common.security"
    door = "listener.name.login"
    return f"""
listeners=PLAINTEXT://{HOST}:{plain},CONTROLLER://{HOST}:{controller},LOGIN://{HOST}:{login},\
TLS://{HOST}:{tls},LOST://{HOST}:{lost}
advertised.listeners=PLAINTEXT://{HOST}:{plain},LOGIN://{HOST}:{login},TLS://localhost:{tls},\
LOST://{HOST}:1
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,LOGIN:SASL_PLAINTEXT,\
TLS:SSL,LOST:PLAINTEXT
sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER
{door}.plain.sasl.jaas.config={modules}.plain.PlainLoginModule required user_alice="{PASSWORD}";
{door}.scram-sha-256.sasl.jaas.config={modules}.scram.ScramLoginModule required;
{door}.scram-sha-512.sasl.jaas.config={modules}.scram.ScramLoginModule required;
{door}.oauthbearer.sasl.jaas.config={modules}.oauthbearer.OAuthBearerLoginModule required;
listener.name.tls.ssl.client.auth=required
ssl.keystore.type=PEM
ssl.keystore.location={certificates}/broker.all
ssl.truststore.type=PEM
ssl.truststore.location={certificates}/ca.pem
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS
"""


def _add_scram_user(user: str, server: str) -> None:
    admin = KafkaAdminClient(bootstrap_servers=server, bootstrap_timeout_ms=60_000)
    for mechanism in ("SCRAM-SHA-256", "SCRAM-SHA-512"):
        credential = UserScramCredentialUpsertion(user, mechanism, PASSWORD)
        assert admin.alter_user_scram_credentials([credential]) == {user: None}
    admin.close()


def _make_certificates(folder: Path) -> Path:
    """An authority, a broker and a client that it vouches for, and two revocation lists."""
    folder.mkdir()
    openssl = functools.partial(_openssl, folder)
    openssl("req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 2 -subj /CN=ca")
    (folder / "broker.ext").write_text("subjectAltName=DNS:localhost\n")
    (folder / "client.ext").write_text("extendedKeyUsage=clientAuth\n")
    for name in ("broker", "client"):
        openssl(
            f"req -new -newkey rsa:2048 -nodes -keyout {name}.open -out {name}.csr -subj /CN={name}"
        )
        openssl(
            f"x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2"
            f" -extfile {name}.ext -out {name}.pem"
        )
    openssl("pkcs8 -topk8 -in client.open -out client.key -passout env:PASSWORD")
    openssl("pkcs8 -topk8 -nocrypt -in broker.open -out broker.key")
    texts = [(folder / name).read_text() for name in ("broker.key", "broker.pem", "ca.pem")]
    (folder / "broker.all").write_text("".join(texts))
    (folder / "index.txt").touch()
    (folder / "ca.cnf").write_text(
        "[ca]\ndefault_ca=it\n[it]\ndatabase=index.txt\ndefault_md=sha256\ndefault_crl_days=2\n"
    )
    authority = "-config ca.cnf -keyfile ca.key -cert ca.pem"
    openssl(f"ca {authority} -gencrl -out empty.crl")
    openssl(f"ca {authority} -revoke broker.pem")
    openssl(f"ca {authority} -gencrl -out revoked.crl")
    return folder


def _openssl(folder: Path, arguments: str) -> None:
    command = ["openssl", *arguments.split()]
    subprocess.run(
        command,
        cwd=folder,
        env={"PASSWORD": PASSWORD, "PATH": "/usr/bin:/bin"},
        check=True,
        capture_output=True,
    )
