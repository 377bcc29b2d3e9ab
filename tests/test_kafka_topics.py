import uuid
from typing import Any

import pytest
from kafka.admin import ConfigResource, KafkaAdminClient

from forecastd.clock import ManualClock, SystemClock
from forecastd.errors import BrokerError, SettingsError, TopicError
from forecastd.kafka_topics import TopicAdmin, brokers_answer, wait_for_broker
from forecastd.observe.events import BrokerLost, Event, TopicCreated, TopicGrown
from forecastd.settings import Settings
from tests.secured_kafka import PASSWORD, SOCKETS_LEFT, SecuredKafka, secured, swept

__all__ = ["secured", "swept"]

pytestmark = SOCKETS_LEFT


class Heard:
    """Keeps the events."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def emit(self, event: Event) -> None:
        self.events.append(event)


class Names:
    """Topics of one test, which no other test has."""

    def __init__(self, server: str) -> None:
        mark = uuid.uuid4().hex[:8]
        self.server, self.records, self.group = server, f"records-{mark}", f"group-{mark}"
        self.forecasts, self.dead = f"forecasts-{mark}", f"dead-{mark}"
        self.state = f"{self.group}-{self.records}-state"
        self.windows, self.models = f"{self.group}-windows", f"{self.group}-models"

    @property
    def all(self) -> list[str]:
        """In the order of the data path."""
        data = [self.records, self.forecasts, self.dead, self.state]
        return [*data, self.windows, self.models]

    def settings(self, **kafka: Any) -> Settings:
        return Settings.model_validate(
            {
                "kafka": {"bootstrap_servers": self.server, "group_id": self.group, **kafka},
                "ingest": {"topics": [self.records], "dead_letter_topic": self.dead},
                "publish": {"topic": self.forecasts},
            }
        )

    def create(self, topic: str, partitions: int = 1, **configs: str) -> None:
        """Make a topic as an operator would, without us."""
        plain = {key.replace("_", "."): value for key, value in configs.items()}
        admin = KafkaAdminClient(bootstrap_servers=self.server)
        admin.create_topics(
            {topic: {"num_partitions": partitions, "configs": plain}}, wait_for_metadata=True
        )
        admin.close()

    def exist(self) -> set[str]:
        """Those that are there."""
        admin = KafkaAdminClient(bootstrap_servers=self.server)
        found = set(self.all) & set(admin.list_topics())
        admin.close()
        return found

    def config(self, topic: str, key: str) -> str:
        admin = KafkaAdminClient(bootstrap_servers=self.server)
        found = admin.describe_configs([ConfigResource("TOPIC", topic)], config_filter="all")
        admin.close()
        return str(found["topic"][topic][key]["value"])


@pytest.fixture
def names(kafka: str) -> Names:
    return Names(kafka)


def ensure(settings: Settings) -> list[TopicCreated | TopicGrown]:
    with TopicAdmin(settings.kafka) as admin:
        return admin.ensure_topics(settings)


def refusal(settings: Settings) -> list[str]:
    with pytest.raises(TopicError) as refused:
        ensure(settings)
    return str(refused.value).splitlines()


class TestEnsureTopics:
    def test_creates_what_is_missing_and_says_so(self, names: Names) -> None:
        created = ensure(names.settings())
        assert [event.topic for event in created] == names.all
        assert names.exist() == {event.topic for event in created}
        assert names.config(names.state, "cleanup.policy") == "compact"
        assert names.config(names.models, "cleanup.policy") == "compact"

    def test_is_done_the_second_time(self, names: Names) -> None:
        ensure(names.settings())
        assert ensure(names.settings()) == []

    def test_shapes_the_others_after_the_input(self, names: Names) -> None:
        names.create(names.records, 3, max_message_bytes="2000000")
        created = {event.topic: event.partitions for event in ensure(names.settings())}
        assert created[names.state] == 3
        assert created[names.forecasts] == 3
        assert int(names.config(names.dead, "max.message.bytes")) == 2_000_000 + 64 * 1024

    def test_takes_a_topic_that_another_instance_made_meanwhile(self, names: Names) -> None:
        """Replicas start together, and each finds the topics missing."""
        settings = names.settings()
        with TopicAdmin(settings.kafka) as admin:
            missing = admin.inspect(settings).missing
            ensure(settings)
            assert admin.create(missing) == []

    def test_creates_nothing_that_it_may_not(self, names: Names) -> None:
        found = refusal(names.settings(create_topics=False))
        assert [sentence.partition(":")[0] for sentence in found] == names.all
        assert f"kafka-topics.sh --bootstrap-server {names.server} --create" in found[0]
        assert not names.exist()

    def test_needs_no_models_where_none_are_trained(self, names: Names) -> None:
        """An operator who forbids both has not asked for a topic of ours."""
        for topic in (names.records, names.forecasts, names.dead):
            names.create(topic)
        names.create(names.state, cleanup_policy="compact")
        settings = names.settings(create_topics=False)
        idle = settings.training.model_copy(update={"enabled": False})
        assert ensure(settings.model_copy(update={"training": idle})) == []
        assert names.models not in names.exist()

    def test_creates_nothing_where_another_topic_is_wrong(self, names: Names) -> None:
        """Half of the topics would be a start that looks done."""
        names.create(names.state)
        assert "cleanup.policy delete, wanted compact" in refusal(names.settings())[0]
        assert names.exist() == {names.state}

    def test_refuses_a_state_topic_with_more_partitions_than_its_input(self, names: Names) -> None:
        names.create(names.records, 2)
        names.create(names.state, 4, cleanup_policy="compact")
        (sentence,) = refusal(names.settings())
        assert sentence.startswith(f"{names.state}: 4 partitions, wanted 2 like {names.records}")

    def test_grows_a_state_topic_with_its_input(self, names: Names) -> None:
        names.create(names.records, 4)
        names.create(names.state, 2, cleanup_policy="compact")
        changes = ensure(names.settings())
        assert TopicGrown(names.state, names.records, 2, 4) in changes
        assert TopicGrown not in map(type, ensure(names.settings()))
        with TopicAdmin(names.settings().kafka) as admin:
            assert admin.describe([names.state])[0][names.state].partitions == 4

    def test_may_not_grow_a_state_topic_where_it_may_not_create(self, names: Names) -> None:
        ensure(names.settings())
        admin = KafkaAdminClient(bootstrap_servers=names.server)
        admin.create_partitions({names.records: 3})
        admin.close()
        (sentence,) = refusal(names.settings(create_topics=False))
        assert sentence.startswith(f"{names.state}: 1 partition, wanted 3 like {names.records}")
        assert sentence.endswith(f"--alter --topic {names.state} --partitions 3")

    def test_says_why_the_broker_creates_nothing(self, names: Names) -> None:
        found = refusal(names.settings(replication_factor=9))
        assert "the broker refuses to CREATE it (Unable to replicate" in found[0]
        assert not names.exist()


class TestInspect:
    def test_changes_nothing(self, names: Names) -> None:
        settings = names.settings()
        with TopicAdmin(settings.kafka) as admin:
            inspection = admin.inspect(settings)
            assert admin.create(inspection.missing, only_try=True)
        assert [plan.name for plan in inspection.missing] == names.all
        assert not names.exist()

    def test_only_hints_at_dead_letters_that_will_be_cut(self, names: Names) -> None:
        names.create(names.dead)
        ensure(names.settings())
        settings = names.settings()
        with TopicAdmin(settings.kafka) as admin:
            inspection = admin.inspect(settings)
        assert not inspection.faults
        assert any("larger ones are cut" in hint for hint in inspection.hints)


class TestMessageBytesMax:
    def test_is_what_the_topic_takes(self, names: Names) -> None:
        names.create(names.dead, max_message_bytes="2000000")
        with TopicAdmin(names.settings().kafka) as admin:
            assert admin.message_bytes_max(names.dead) == 2_000_000
            assert admin.message_bytes_max(names.records) == 2**20  # not there


class TestPermissions:
    """What is not allowed must stop the start: poll() of such a topic is silent for ever."""

    def test_that_are_missing_are_named_by_topic(self, secured: SecuredKafka) -> None:
        names = Names(secured.plain)
        ensure(names.settings())
        alice = names.settings(
            bootstrap_servers=secured.login,
            security_protocol="SASL_PLAINTEXT",
            sasl_mechanism="PLAIN",
            sasl_username="alice",
            sasl_password=PASSWORD,
        )
        assert refusal(alice) == [
            f"{topic}: no permission to DESCRIBE, wanted an ACL that allows it"
            for topic in names.all
        ]
        for topic in (names.records, names.forecasts, names.dead):
            secured.allow("alice", topic, "DESCRIBE")
        for topic in (names.state, names.windows, names.models):
            secured.allow("alice", topic, "ALL")
        assert refusal(alice) == [
            f"{names.records}: no permission to READ, wanted an ACL that allows it",
            f"{names.forecasts}: no permission to WRITE, wanted an ACL that allows it",
            f"{names.dead}: no permission to WRITE, wanted an ACL that allows it",
        ]
        secured.allow("alice", names.records, "READ")
        secured.allow("alice", names.forecasts, "WRITE")
        secured.allow("alice", names.dead, "WRITE")
        assert ensure(alice) == []
        with TopicAdmin(alice.kafka) as admin:
            assert admin.group_operations(names.group) == frozenset()

    def test_are_all_there_without_access_control(self, names: Names) -> None:
        with TopicAdmin(names.settings().kafka) as admin:
            operations = admin.group_operations(names.group)
        assert operations is None or "READ" in operations


class TestWaitForBroker:
    def test_returns_a_connection_that_answers(self, kafka: str) -> None:
        heard = Heard()
        settings = Settings.model_validate({"kafka": {"bootstrap_servers": kafka}})
        admin = wait_for_broker(settings, SystemClock(), heard, lambda _: False)
        assert admin is not None
        with admin:
            assert admin.cluster().brokers >= 1
        assert heard.events == []

    def test_gives_up_with_the_reason_and_how_long_it_waited(self) -> None:
        heard, clock = Heard(), ManualClock()

        waits: list[float] = []

        def time_passes(seconds: float) -> bool:
            waits.append(seconds)
            clock.advance(30)
            return False

        with pytest.raises(BrokerError) as gave_up:
            wait_for_broker(self.nobody(), clock, heard, time_passes)
        assert str(gave_up.value) == (
            "kafka.bootstrap_servers: nothing answers at 127.0.0.1:1 (connection refused),"
            " wanted a Kafka broker that speaks PLAINTEXT; waited startup_timeout (1m)"
        )
        assert [type(event) for event in heard.events] == [BrokerLost]
        assert waits == [0.0, 0.5]

    def test_stops_when_told_to(self) -> None:
        """SIGTERM during a long start must not wait for the broker."""
        answers = iter([False, True])
        found = wait_for_broker(self.nobody(), ManualClock(), Heard(), lambda _: next(answers))
        assert found is None

    def test_does_not_wait_for_a_refused_login(self, secured: SecuredKafka) -> None:
        """It is tried again only where kafka-python loses the refusal."""
        kafka = {
            "bootstrap_servers": secured.login,
            "security_protocol": "SASL_PLAINTEXT",
            "sasl_mechanism": "PLAIN",
            "sasl_username": "alice",
            "sasl_password": "wrong",
        }
        settings = Settings.model_validate({"kafka": kafka})
        with pytest.raises(SettingsError, match="login of alice is refused"):
            wait_for_broker(settings, ManualClock(), Heard(), lambda _: False)

    def test_names_brokers_that_send_clients_astray(self, secured: SecuredKafka) -> None:
        """The address in `advertised.listeners` is the usual one to be wrong."""
        clock = ManualClock()
        settings = {"startup_timeout": "0s", "kafka": {"bootstrap_servers": secured.lost}}
        with pytest.raises(BrokerError) as gave_up:
            wait_for_broker(Settings.model_validate(settings), clock, Heard(), lambda _: False)
        assert str(gave_up.value) == (
            f"kafka.bootstrap_servers: {secured.lost} sends clients on to its brokers, and"
            " nothing answers at 127.0.0.1:1 (connection refused),"
            " wanted advertised.listeners that can be reached from here;"
            " waited startup_timeout (0s)"
        )

    @staticmethod
    def nobody() -> Settings:
        return Settings.model_validate({"kafka": {"bootstrap_servers": "127.0.0.1:1"}})


class TestBrokersAnswer:
    def test_where_one_lets_us_ask(self, names: Names) -> None:
        assert brokers_answer(names.settings())
        ensure(names.settings())
        assert brokers_answer(names.settings())

    def test_not_where_nobody_is(self, names: Names) -> None:
        assert not brokers_answer(names.settings(bootstrap_servers="127.0.0.1:1"))

    def test_where_a_login_is_refused(self, names: Names, secured: SecuredKafka) -> None:
        """It is no outage: whatever the daemon tries, it will be refused again."""
        assert brokers_answer(
            names.settings(
                bootstrap_servers=secured.login,
                security_protocol="SASL_PLAINTEXT",
                sasl_mechanism="SCRAM-SHA-256",
                sasl_username="alice",
                sasl_password="wrong",
            )
        )
