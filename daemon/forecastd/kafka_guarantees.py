"""What exactly once stands on, as the brokers have it: copies, and transactions that do not end."""

from __future__ import annotations

from kafka.admin import ConfigResource

from forecastd.durability import IN_SYNC, REPLICAS, Durability
from forecastd.kafka_open_transactions import (
    GROUP_OFFSETS,
    TRANSACTIONS,
    OpenTransaction,
    offsets_partition,
    open_transactions,
)
from forecastd.kafka_topics import TopicAdmin
from forecastd.records import TopicPartition
from forecastd.settings import Settings
from forecastd.topic_plan import plan_topics


class GuaranteeAdmin(TopicAdmin):
    """Looks at what a topic admin does not need to know. Changes nothing."""

    def durability(self, settings: Settings) -> dict[str, Durability]:
        """Of each topic that a transaction of ours writes to, as it is or as it would be made.

        What we may not read is taken for what it should be.

        Raises:
            BrokerError: the broker does not say.
        """
        names = [plan.name for plan in plan_topics(settings, {}) if plan.purpose != "input"]
        there, _ = self.describe([*names, GROUP_OFFSETS, TRANSACTIONS])
        broker = self._broker_configs()

        def number(name: str, otherwise: int) -> int:
            return int(broker.get(name, otherwise))

        replicas = settings.kafka.replication_factor
        if replicas < 1:
            replicas = number("default.replication.factor", REPLICAS)
        in_sync = number("min.insync.replicas", IN_SYNC)
        offsets = number("offsets.topic.replication.factor", REPLICAS)
        transactions = Durability(
            number("transaction.state.log.replication.factor", REPLICAS),
            number("transaction.state.log.min.isr", IN_SYNC),
        )
        made = dict.fromkeys(names, Durability(replicas, in_sync))
        made |= {GROUP_OFFSETS: Durability(offsets, in_sync), TRANSACTIONS: transactions}
        return made | {
            name: Durability(shape.replicas, int(shape.configs.get("min.insync.replicas", IN_SYNC)))
            for name, shape in there.items()
        }

    def open_transactions(self, settings: Settings, now_ms: int) -> list[OpenTransaction]:
        """What is not decided in our topics, and where the commits of our group are kept.

        Raises:
            BrokerError: the broker does not say.
        """
        names = [plan.name for plan in plan_topics(settings, {})]
        there, _ = self.describe([*names, GROUP_OFFSETS])
        offsets = there.pop(GROUP_OFFSETS, None)
        partitions = [
            TopicPartition(name, number)
            for name, shape in there.items()
            for number in range(shape.partitions)
            if number not in shape.leaderless
        ]
        if offsets is not None:
            number = offsets_partition(settings.kafka.group_id, offsets.partitions)
            partitions.append(TopicPartition(GROUP_OFFSETS, number))
        with self._answers("describe transactions"):
            return open_transactions(self._client, partitions, now_ms)

    def _broker_configs(self) -> dict[str, str]:
        """Effective settings of one of the brokers; empty where we may not read them."""
        with self._answers("describe its settings"):
            brokers = self._client.describe_cluster()["brokers"]
            node = next(one["broker_id"] for one in brokers if not one.get("is_fenced"))
            resource = ConfigResource("BROKER", str(node))
            found = self._client.describe_configs([resource], config_filter="all")
        configs = found.get("broker", {}).get(str(node), {})
        return {key: str(config["value"]) for key, config in configs.items()}
