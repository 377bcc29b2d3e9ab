"""The topics of the daemon: described, verified, and created where they are missing.

Nothing may be left to the broker's auto-creation: kafka-python cannot be told not to ask for it,
and a state topic with the broker's defaults would forget rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import kafka.errors
from kafka.admin import ConfigResource, KafkaAdminClient
from kafka.errors import AuthorizationError, CoordinatorNotAvailableError, KafkaError

from forecastd.clock import Clock
from forecastd.errors import BrokerError, SettingsError, TopicError
from forecastd.kafka_connection import (
    build_client,
    client_words,
    connection_error,
    connection_options,
    overheard,
    unreachable,
)
from forecastd.observe.events import BrokerLost, Telemetry, TopicCreated, TopicGrown
from forecastd.settings import KafkaSettings, Settings, format_duration
from forecastd.topic_plan import (
    TopicPlan,
    TopicShape,
    faults_of,
    hints_of,
    is_outgrown,
    missing_topic,
    outgrown_topic,
    plan_topics,
)

_NO_SUCH_TOPIC, _TOPIC_EXISTS, _ENOUGH_PARTITIONS = 3, 36, 37
_FIRST_ATTEMPT_S, _LAST_ATTEMPT_S, _PAUSE_S = 1.0, 5.0, 0.5
_ANSWER_S = 2.0
"""A broker that takes longer than this to say where topics are counts as one that is away."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """What answers.

    Attributes:
        cluster_id: of the cluster.
        brokers: how many there are.
    """

    cluster_id: str
    brokers: int


@dataclass(frozen=True, slots=True)
class Inspection:
    """The topics of the daemon as they are.

    Attributes:
        there: those that exist.
        missing: those that do not, inputs first.
        outgrown: state topics that have fewer partitions than their input topics.
        faults: what keeps the daemon from working, one sentence each.
        hints: what works and will be missed one day, one sentence each.
    """

    there: dict[str, TopicShape]
    missing: list[TopicPlan]
    outgrown: list[TopicPlan]
    faults: list[str]
    hints: list[str]


class TopicAdmin:
    """A connection for looking after topics. Creates nothing unless asked to."""

    def __init__(self, settings: KafkaSettings, timeout_s: float | None = None) -> None:
        """Connect.

        Raises:
            BrokerError: nobody answers in `timeout_s` (None: `kafka.request_timeout`).
            SettingsError: the broker refuses the login.
        """
        self._settings = settings
        options = connection_options(settings, "admin")
        if timeout_s is not None:
            options["bootstrap_timeout_ms"] = max(round(timeout_s * 1000), 1)
        with overheard() as errors:
            try:
                self._client = build_client(KafkaAdminClient, **options)
            except KafkaError:
                raise connection_error(settings, errors) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Disconnect."""
        self._client.close()

    def cluster(self) -> Cluster:
        """Who answers."""
        with self._answers("describe the cluster"):
            found = self._client.describe_cluster()
        return Cluster(str(found["cluster_id"]), len(found["brokers"]))

    def advertised(self) -> tuple[str, ...]:
        """`host:port` of each broker as clients are told to connect to it; no I/O.

        The first answer brought them; no further question gets anywhere where they are wrong.
        """
        brokers = self._client._manager.cluster.brokers()  # noqa: SLF001  # told by nothing public
        return tuple(sorted(f"{broker.host}:{broker.port}" for broker in brokers))

    def group_operations(self, group_id: str) -> frozenset[str] | None:
        """What we may do with a consumer group; None where the broker does not say."""
        try:
            with self._answers(f"describe group {group_id}"):
                found = self._client.describe_groups([group_id])[group_id]
        except BrokerError as error:
            if isinstance(error.__cause__, AuthorizationError):
                return frozenset()
            if isinstance(error.__cause__, CoordinatorNotAvailableError):
                return None  # a cluster that never had a group
            raise
        if "AuthorizationFailed" in (found["error"] or ""):
            return frozenset()
        return frozenset(found.get("authorized_operations") or ()) or None

    def describe(self, topics: Sequence[str]) -> tuple[dict[str, TopicShape], dict[str, str]]:
        """Those of `topics` that are there, and why others cannot be seen."""
        with self._answers("describe topics"):
            found = self._client.describe_topics(list(topics))
            there = {topic["name"]: topic for topic in found if topic["error_code"] == 0}
            resources = [ConfigResource("TOPIC", name) for name in there]
            configs = self._client.describe_configs(resources, config_filter="all") if there else {}
        settings = configs.get("topic", {})
        shapes = {name: _shape(topic, settings.get(name, {})) for name, topic in there.items()}
        errors = [t for t in found if t["error_code"] not in (0, _NO_SUCH_TOPIC)]
        hidden = {topic["name"]: _refused(topic, "DESCRIBE") for topic in errors}
        return shapes, {topic: hidden[topic] for topic in topics if topic in hidden}

    def message_bytes_max(self, topic: str) -> int:
        """The largest message that a topic takes; 1 MiB where we may not read that."""
        there, _ = self.describe([topic])
        configs = there[topic].configs if topic in there else {}
        return int(configs.get("max.message.bytes", 2**20))

    def inspect(self, settings: Settings) -> Inspection:
        """Compare what is there with what the daemon needs."""
        names = [plan.name for plan in plan_topics(settings, {})]
        there, hidden = self.describe(names)
        brokers = self.cluster().brokers
        plans = plan_topics(settings, there)
        pairs = [(plan, there[plan.name]) for plan in plans if plan.name in there]
        faults = [fault for plan, shape in pairs for fault in faults_of(plan, shape)]
        return Inspection(
            there,
            [plan for plan in plans if plan.name not in there and plan.name not in hidden],
            [plan for plan, shape in pairs if is_outgrown(plan, shape)],
            [*hidden.values(), *faults],
            [hint for plan, shape in pairs for hint in hints_of(plan, shape, brokers)],
        )

    def ensure_topics(self, settings: Settings) -> list[TopicCreated | TopicGrown]:
        """Verify every topic; create and grow what is missing where that is allowed.

        Raises:
            TopicError: a topic is missing, of the wrong shape, or cannot be created or grown.
            BrokerError: the broker does not answer.
        """
        self._demand_fit(self.inspect(settings), settings)
        created: list[TopicCreated | TopicGrown] = []
        for is_input in (True, False):  # the others are shaped after the inputs
            missing = self.inspect(settings).missing if settings.kafka.create_topics else []
            created += self.create([p for p in missing if (p.purpose == "input") is is_input])
        inspection = self.inspect(settings)
        self._demand_fit(inspection, settings)
        grown = [self.grow(plan, inspection.there[plan.name]) for plan in inspection.outgrown]
        return [*created, *filter(None, grown)]

    def grow(self, plan: TopicPlan, shape: TopicShape) -> TopicGrown | None:
        """Add the partitions that a state topic lacks; None where another instance was faster.

        Raises:
            TopicError: the broker refuses it.
        """
        assert plan.partitions is not None, "an outgrown topic is shaped after another"
        with self._answers("add partitions"):
            wanted = {plan.name: plan.partitions}
            answer = self._client.create_partitions(wanted, raise_errors=False)
        (result,) = answer.to_dict()["results"]
        if result["error_code"] == _ENOUGH_PARTITIONS:
            return None
        if result["error_code"] != 0:
            raise TopicError(_refused(result, "ALTER"))
        return TopicGrown(plan.name, plan.like or "", shape.partitions, plan.partitions)

    def create(self, plans: Sequence[TopicPlan], *, only_try: bool = False) -> list[TopicCreated]:
        """Create topics; one that another instance created meanwhile is as good.

        Args:
            plans: what to create.
            only_try: let the broker say what it would do, and change nothing.

        Raises:
            TopicError: the broker refuses one of them.
        """
        if not plans:
            return []
        wanted = {
            plan.name: {
                "num_partitions": plan.partitions or -1,
                "replication_factor": self._settings.replication_factor,
                "configs": dict(plan.configs),
            }
            for plan in plans
        }
        with self._answers("create topics"):
            result = self._client.create_topics(wanted, validate_only=only_try, raise_errors=False)
            answers = result["topics"]
            refused = [t for t in answers if t["error_code"] not in (0, _TOPIC_EXISTS)]
            if refused:
                raise TopicError("\n".join(_refused(topic, "CREATE") for topic in refused))
            if not only_try:
                self._client.wait_for_topics(list(wanted), self._settings.request_timeout)
        made = [topic for topic in answers if topic["error_code"] == 0]
        return [TopicCreated(topic["name"], topic.get("num_partitions", -1)) for topic in made]

    def _demand_fit(self, inspection: Inspection, settings: Settings) -> None:
        faults = list(inspection.faults)
        if not settings.kafka.create_topics:
            faults += [missing_topic(p, settings) for p in inspection.missing if not p.is_optional]
            faults += [
                outgrown_topic(plan, inspection.there[plan.name], settings)
                for plan in inspection.outgrown
            ]
        if faults:
            raise TopicError("\n".join(faults))

    @contextmanager
    def _answers(self, what: str) -> Iterator[None]:
        """Whatever kafka-python raises is a broker that did not do `what`."""
        with overheard():
            try:
                yield
            except KafkaError as error:
                servers = ", ".join(self._settings.bootstrap_servers)
                lost = [unreachable(self._settings, broker) for broker in self.advertised()]
                if any(lost):
                    obstacles = "; ".join(filter(None, lost))
                    found = f"{servers} sends clients on to its brokers, and {obstacles}"
                    wanted = "advertised.listeners that can be reached from here"
                else:
                    found = f"{servers} did not {what} ({client_words(error)})"
                    wanted = "an answer"
                where = "kafka.bootstrap_servers"
                raise BrokerError(f"{where}: {found}, wanted {wanted}") from error


def wait_for_broker(
    settings: Settings, clock: Clock, telemetry: Telemetry, ends_within: Callable[[float], bool]
) -> TopicAdmin | None:
    """Connect, trying again for `startup_timeout`; None when the end is asked for first.

    Args:
        ends_within: waits that many seconds, or until the end is asked for, and says whether it is.

    Raises:
        BrokerError: nobody answered in that time; the sentence says where and how.
        SettingsError: the broker refuses the login, which no waiting would change.
    """
    deadline_s = clock.monotonic_s() + settings.startup_timeout / 1000
    attempt_s, pause_s = _FIRST_ATTEMPT_S, 0.0
    while not ends_within(pause_s):
        left_s = deadline_s - clock.monotonic_s()
        try:
            return _answering(settings.kafka, max(min(attempt_s, left_s), _PAUSE_S))
        except BrokerError as error:
            if clock.monotonic_s() + _PAUSE_S >= deadline_s:
                waited = format_duration(settings.startup_timeout)
                raise BrokerError(f"{error}; waited startup_timeout ({waited})") from None
            telemetry.emit(BrokerLost(str(error), _PAUSE_S))
        attempt_s, pause_s = min(2 * attempt_s, _LAST_ATTEMPT_S), _PAUSE_S
    return None


def brokers_answer(settings: Settings) -> bool:
    """Whether brokers let us ask, and each partition of our topics that are there has a leader.

    Then whatever fails is refused, and not for want of a broker. A login that is refused is an
    answer, too.
    """
    timeout_ms = round(_ANSWER_S * 1000)
    kafka = settings.kafka.model_copy(update={"request_timeout": timeout_ms})
    try:
        with TopicAdmin(kafka) as admin:
            there, _ = admin.describe([plan.name for plan in plan_topics(settings, {})])
    except SettingsError:
        return True
    except BrokerError:
        return False
    return not any(shape.leaderless for shape in there.values())


def _answering(settings: KafkaSettings, timeout_s: float) -> TopicAdmin:
    """A connection over which a question was answered."""
    admin = TopicAdmin(settings, timeout_s)
    try:
        admin.cluster()
    except BrokerError:
        admin.close()
        raise
    return admin


def _shape(topic: dict[str, Any], configs: dict[str, Any]) -> TopicShape:
    partitions = topic["partitions"]
    operations = topic.get("authorized_operations")
    leaderless = [p["partition_index"] for p in partitions if p["leader_id"] < 0]
    return TopicShape(
        partitions=len(partitions),
        replicas=min(len(partition["replica_nodes"]) for partition in partitions),
        leaderless=tuple(sorted(leaderless)),
        operations=frozenset(operations) if operations else None,
        configs={key: str(config["value"]) for key, config in configs.items()},
    )


def _refused(topic: dict[str, Any], operation: str) -> str:
    """What a broker answers about a topic that it does not show or create."""
    error = kafka.errors.for_code(topic["error_code"])
    if issubclass(error, AuthorizationError):
        return f"{topic['name']}: no permission to {operation}, wanted an ACL that allows it"
    why = topic.get("error_message") or error.description or error.__name__
    return f"{topic['name']}: the broker refuses to {operation} it ({why.rstrip('.')}), wanted it"
