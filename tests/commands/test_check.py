import re
import uuid
from pathlib import Path

import numpy as np
import pytest
from kafka.admin import KafkaAdminClient

from forecastd.__main__ import main
from forecastd.architecture import Architecture
from forecastd.disk_models import save_model
from forecastd.settings import Settings
from tests.hanging import hanging_transaction, open_transaction
from tests.secured_kafka import PASSWORD, SOCKETS_LEFT, SecuredKafka, secured, swept

__all__ = ["secured", "swept"]

pytestmark = SOCKETS_LEFT

Out = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


class Checked:
    """What `forecastd check` printed, by verdict."""

    def __init__(self, capsys: Out, *words: str) -> None:
        self.status = main(["check", *words])
        self.lines = capsys.readouterr().out.splitlines()

    def of(self, verdict: str) -> list[str]:
        return [line[6:] for line in self.lines if line.startswith(verdict.ljust(6))]


def own_topics(server: str) -> tuple[str, ...]:
    """Settings with names that no other test has."""
    mark = uuid.uuid4().hex[:8]
    return (
        f"--kafka.bootstrap_servers={server}",
        f"--kafka.group_id=g-{mark}",
        f"--ingest.topics=r-{mark}",
        f"--ingest.dead_letter_topic=d-{mark}",
        f"--publish.topic=f-{mark}",
    )


def name(words: tuple[str, ...], option: str) -> str:
    (found,) = [word.partition("=")[2] for word in words if word.startswith(f"--{option}=")]
    return found


class TestWithoutBroker:
    nobody = "--kafka.bootstrap_servers=127.0.0.1:1"

    def test_says_every_fault_of_the_settings(self, capsys: Out) -> None:
        checked = Checked(capsys, "--windows.timesteps=many", "--training.epochs=0")
        assert checked.status == 1
        assert [line.partition(":")[0] for line in checked.of("wrong")] == [
            "windows.timesteps",
            "training.epochs",
        ]
        assert not checked.of("ok")

    def test_says_what_works_before_what_does_not(
        self, capsys: Out, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("FORECASTD_KAFKA__CLIENT_ID", "a")
        monkeypatch.setattr("forecastd.commands.check._PATIENCE_S", 0.1)
        checked = Checked(capsys, self.nobody, "--forecast.horizon=4")
        assert checked.status == 1
        assert checked.of("ok")[0].endswith(", 2 from command line, 1 from environment")
        assert checked.of("ok")[1].startswith("models.serve: none, the group's champion")
        assert checked.of("hint")[0].startswith("forecast.horizon: 4, less than the 16 steps")
        (wrong,) = checked.of("wrong")
        assert wrong.startswith("kafka.bootstrap_servers: nothing answers at 127.0.0.1:1 (conn")

    def test_looks_for_the_model(
        self, capsys: Out, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("forecastd.commands.check._PATIENCE_S", 0.1)
        checked = Checked(capsys, self.nobody, "--models.serve=mine")
        assert checked.of("wrong")[0].startswith("mine: ")
        architecture = Architecture.from_settings(Settings())
        weights = [np.zeros(shape, np.float32) for shape in architecture.weight_shapes]
        save_model(tmp_path / "mine", architecture, weights, "a test", {})
        checked = Checked(capsys, self.nobody, "--models.serve=mine")
        (said,) = (line for line in checked.of("ok") if line.startswith("models.serve: mine is "))
        assert said.endswith("; it fits")

    def test_says_what_a_model_does_not_fit(
        self, capsys: Out, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Told by the start it would be told too late: when the old daemon is already stopped."""
        monkeypatch.setattr("forecastd.commands.check._PATIENCE_S", 0.1)
        architecture = Architecture.from_settings(Settings())
        weights = [np.zeros(shape, np.float32) for shape in architecture.weight_shapes]
        save_model(tmp_path / "mine", architecture, weights, "a test", {})
        words = ("--models.serve=mine", "--windows.timesteps=8")
        checked = Checked(capsys, self.nobody, *words)
        assert "windows.timesteps" in checked.of("wrong")[0]
        assert checked.status == 1


class TestWithBroker:
    def test_finds_all_well_before_the_first_start_and_creates_nothing(
        self, capsys: Out, kafka: str
    ) -> None:
        words = own_topics(kafka)
        checked = Checked(capsys, *words)
        assert checked.status == 0, checked.lines
        records = name(words, "ingest.topics")
        assert f"topic {records}: not there yet, the start would create it" in checked.of("ok")
        assert f"group {name(words, 'kafka.group_id')}: may be joined" in checked.of("ok")
        admin = KafkaAdminClient(bootstrap_servers=kafka)
        assert records not in admin.list_topics()
        admin.close()

    def test_says_what_topics_must_be_made_by_hand(self, capsys: Out, kafka: str) -> None:
        checked = Checked(capsys, *own_topics(kafka), "--kafka.create_topics=false")
        assert checked.status == 1
        wrong = checked.of("wrong")
        assert len(wrong) == 6
        assert all("create it with: kafka-topics.sh" in line for line in wrong)

    def test_wants_no_models_topic_where_nothing_is_trained(self, capsys: Out, kafka: str) -> None:
        words = (*own_topics(kafka), "--training.enabled=false", "--kafka.create_topics=false")
        checked = Checked(capsys, *words)
        models = f"{name(words, 'kafka.group_id')}-models"
        assert f"topic {models}: not there, and nothing needs it yet" in checked.of("ok")
        assert len(checked.of("wrong")) == 4

    def test_says_that_the_broker_would_not_create_them(self, capsys: Out, kafka: str) -> None:
        """The broker is asked what it would do; that changes nothing."""
        checked = Checked(capsys, *own_topics(kafka), "--kafka.replication_factor=9")
        assert checked.status == 1
        assert "the broker refuses to CREATE it (Unable to replicate" in checked.of("wrong")[0]

    def test_looks_for_the_version_that_should_serve(self, capsys: Out, kafka: str) -> None:
        words = own_topics(kafka)
        none = "models: none was promoted yet, the baseline forecasts"
        assert none in Checked(capsys, *words).of("ok")
        (wrong,) = Checked(capsys, *words, "--models.serve=7-3fa9c1").of("wrong")
        group = name(words, "kafka.group_id")
        assert wrong == (
            f"{group}-models 7-3fa9c1: no such model, wanted one; the group has no models yet"
        )

    def test_counts_the_partitions_of_what_is_there(self, capsys: Out, kafka: str) -> None:
        words = own_topics(kafka)
        records = name(words, "ingest.topics")
        admin = KafkaAdminClient(bootstrap_servers=kafka)
        admin.create_topics({records: {"num_partitions": 3}}, wait_for_metadata=True)
        admin.close()
        assert f"topic {records}: 3 partitions" in Checked(capsys, *words).of("ok")


class TestExactlyOnce:
    def test_needs_copies(self, capsys: Out, kafka: str) -> None:
        """A lone broker that is killed can leave a transaction that never ends."""
        words = (*own_topics(kafka), "--kafka.replication_factor=1")
        checked = Checked(capsys, *words, "--delivery=exactly_once")
        assert checked.status == 0, checked.lines
        hints = [hint for hint in checked.of("hint") if hint.startswith("delivery: ")]
        assert any(
            "replication factor 1" in hint and name(words, "publish.topic") in hint
            for hint in hints
        )
        assert not any(name(words, "ingest.topics") + "," in hint for hint in hints)

    def test_alone_needs_them(self, capsys: Out, kafka: str) -> None:
        checked = Checked(capsys, *own_topics(kafka), "--kafka.replication_factor=1")
        assert not [line for line in checked.lines if "delivery: " in line]

    @pytest.fixture
    def words(self, kafka: str) -> tuple[str, ...]:
        words = own_topics(kafka)
        admin = KafkaAdminClient(bootstrap_servers=kafka)
        admin.create_topics({name(words, "publish.topic"): {}}, wait_for_metadata=True)
        admin.close()
        return words

    def test_names_a_transaction_that_hangs_and_how_to_end_it(
        self, capsys: Out, kafka: str, words: tuple[str, ...]
    ) -> None:
        topic = name(words, "publish.topic")
        with hanging_transaction(kafka, topic, f"lost-{topic}"):
            checked = Checked(capsys, *words, "--kafka.transaction_timeout=1ms")
        assert checked.status == 1
        (wrong,) = checked.of("wrong")
        assert re.fullmatch(
            rf"{topic}\[0\]: a transaction of producer \d+ \(epoch 0\) hangs since offset 0, its"
            r" last message \d+ s old, and no coordinator knows it, wanted its end; readers of"
            r" committed messages stop there for good: drop its messages with:"
            rf" kafka-transactions.sh --bootstrap-server {kafka} abort --topic {topic}"
            rf" --partition 0 --start-offset 0",
            wrong,
        )
        assert Checked(capsys, *words, "--kafka.transaction_timeout=1ms").status == 0

    def test_hints_at_a_transaction_that_is_open_for_long(
        self, capsys: Out, kafka: str, words: tuple[str, ...]
    ) -> None:
        topic = name(words, "publish.topic")
        with open_transaction(kafka, topic, f"slow-{topic}"):
            checked = Checked(capsys, *words, "--kafka.transaction_timeout=1ms")
            young = Checked(capsys, *words, "--kafka.transaction_timeout=10m")
        assert checked.status == 0
        (hint,) = (line for line in checked.of("hint") if "transaction" in line)
        assert f"{topic}[0]: the transaction 'slow-{topic}' of producer" in hint
        assert "is open since offset 0" in hint
        assert not [line for line in young.lines if "transaction" in line]


class TestBehindLocks:
    def login(self, secured: SecuredKafka) -> tuple[str, ...]:
        return (
            *own_topics(secured.plain)[1:],
            f"--kafka.bootstrap_servers={secured.login}",
            "--kafka.security_protocol=SASL_PLAINTEXT",
            "--kafka.sasl_mechanism=SCRAM-SHA-256",
            "--kafka.sasl_username=alice",
            f"--kafka.sasl_password={PASSWORD}",
        )

    def test_names_every_permission_that_is_missing(
        self, capsys: Out, secured: SecuredKafka
    ) -> None:
        words = self.login(secured)
        checked = Checked(capsys, *words)
        assert checked.status == 1
        group = name(words, "kafka.group_id")
        assert checked.of("wrong") == [
            *(
                f"topic {topic}: no permission to DESCRIBE, wanted an ACL that allows it"
                for topic in (
                    name(words, "ingest.topics"),
                    name(words, "publish.topic"),
                    name(words, "ingest.dead_letter_topic"),
                    f"{group}-{name(words, 'ingest.topics')}-state",
                    f"{group}-windows",
                    f"{group}-models",
                )
            ),
            f"kafka.group_id: no permission to READ group {group}, wanted an ACL that allows it",
        ]

    def test_shows_no_password(self, capsys: Out, secured: SecuredKafka) -> None:
        assert PASSWORD not in "\n".join(Checked(capsys, *self.login(secured)).lines)

    def test_finds_brokers_that_send_clients_astray(
        self, capsys: Out, secured: SecuredKafka
    ) -> None:
        checked = Checked(capsys, f"--kafka.bootstrap_servers={secured.lost}")
        assert checked.status == 1
        (wrong,) = checked.of("wrong")
        assert wrong == (
            "kafka.bootstrap_servers: answered, but nothing answers at 127.0.0.1:1 (connection"
            " refused), wanted the broker's advertised.listeners to be reachable from here"
        )
