"""Transactions that are not decided yet, by name: what readers of committed messages wait for.

Such a reader stops at the first message of the oldest open transaction of a partition. As a rule
that takes milliseconds, and at most the time-out of the transaction, at which its coordinator ends
it. A transaction that no coordinator has open any more *hangs*: nobody will ever end it. A broker
that is killed between the decision of a transaction and its markers can leave one.
"""

from __future__ import annotations

import shlex
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from kafka import KafkaAdminClient
from kafka import TopicPartition as KafkaPartition

from forecastd.records import TopicPartition

_ACTIVE = ("Ongoing", "PrepareCommit", "PrepareAbort")
"""States in which a coordinator will end a transaction, whatever happens."""

GROUP_OFFSETS, TRANSACTIONS = "__consumer_offsets", "__transaction_state"
"""Kafka's own topics that a transaction writes to."""


@dataclass(frozen=True, slots=True)
class OpenTransaction:
    """A transaction that is not decided in one partition.

    Attributes:
        start_offset: of its first message, at which readers of committed messages stop.
        owner: its transactional id; None where no coordinator has it open, so that it hangs.
        open_s: time since its start; of one that hangs, since its last message in this partition.
    """

    partition: TopicPartition
    producer_id: int
    producer_epoch: int
    start_offset: int
    owner: str | None
    open_s: float

    @property
    def hangs(self) -> bool:
        """Whether it will never end by itself."""
        return self.owner is None

    def sentence(self, servers: Sequence[str]) -> str:
        """What it keeps waiting, and what to do."""
        producer = f"producer {self.producer_id} (epoch {self.producer_epoch})"
        held_up = "readers of committed messages stop there"
        if self.owner is not None:
            return (
                f"{self.partition}: the transaction {self.owner!r} of {producer} is open since"
                f" offset {self.start_offset}, for {self.open_s:.0f} s, wanted its end; {held_up}"
                " until its producer ends it or its time-out passes"
            )
        command = shlex.join(
            [
                *("kafka-transactions.sh", "--bootstrap-server", ",".join(servers), "abort"),
                *("--topic", self.partition.topic, "--partition", str(self.partition.partition)),
                *("--start-offset", str(self.start_offset)),
            ]
        )
        return (
            f"{self.partition}: a transaction of {producer} hangs since offset"
            f" {self.start_offset}, its last message {self.open_s:.0f} s old, and no coordinator"
            f" knows it, wanted its end; {held_up} for good: drop its messages with: {command}"
        )


def open_transactions(
    client: KafkaAdminClient, partitions: Collection[TopicPartition], now_ms: int
) -> list[OpenTransaction]:
    """Those that are open in these partitions at `now_ms`, by partition and offset.

    Raises:
        KafkaError: a broker does not say.
    """
    before = _undecided(client, partitions)
    if not before:
        return []
    producers = {producer for _, producer, _ in before}
    owners = _owners(client, producers)
    started_ms = {
        owner: found.transaction_start_time_ms
        for owner, found in client.describe_transactions(owners.values()).items()
    }
    # One that was decided while its coordinator was asked must not be taken for one that hangs.
    after = _undecided(client, {partition for partition, _, _ in before})
    found = []
    for at in sorted(before.keys() & after.keys()):
        partition, producer, offset = at
        epoch, last_ms = after[at]
        owner = owners.get(producer)
        since_ms = last_ms if owner is None else started_ms[owner]
        open_s = max(now_ms - since_ms, 0) / 1000
        found.append(OpenTransaction(partition, producer, epoch, offset, owner, open_s))
    return found


def _undecided(
    client: KafkaAdminClient, partitions: Collection[TopicPartition]
) -> dict[tuple[TopicPartition, int, int], tuple[int, int]]:
    """(partition, producer, start offset) to (epoch, timestamp of the last message in ms)."""
    told = client.describe_producers([KafkaPartition(*partition) for partition in partitions])
    return {
        (TopicPartition(*partition), one.producer_id, one.current_transaction_start_offset): (
            one.producer_epoch,
            one.last_timestamp,
        )
        for partition, found in told.items()
        for one in found.active_producers
        if one.current_transaction_start_offset >= 0
    }


def _owners(client: KafkaAdminClient, producers: Collection[int]) -> dict[int, str]:
    """Transactional ids of the producers whose transaction a coordinator has open."""
    told = client.list_transactions(
        producer_id_filters=sorted(producers), state_filters=list(_ACTIVE)
    )
    return {one.producer_id: one.transactional_id for found in told.values() for one in found}


def offsets_partition(group_id: str, partitions: int) -> int:
    """The partition of `__consumer_offsets` that holds a group's commits.

    Kafka takes Java's hash of the name, which of "hello" is 99162322.

    >>> offsets_partition("hello", 50), offsets_partition("hello", 1)
    (22, 0)
    """
    units = group_id.encode("utf-16-be")
    value = 0
    for high, low in zip(units[::2], units[1::2], strict=True):
        value = (31 * value + (high << 8 | low)) & 0xFFFF_FFFF
    signed = value - 2**32 if value >= 2**31 else value
    return (0 if signed == -(2**31) else abs(signed)) % partitions
