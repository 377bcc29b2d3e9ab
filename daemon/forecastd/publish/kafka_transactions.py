"""Exactly once: all that a turn produces, and the offsets that it read up to, in one transaction.

kafka-python's transactions are complete and not safe as they are; each line here that looks
superfluous closes a hole that was reproduced:

- A batch that dies inside a transaction fails only its own future, and the commit then succeeds:
  so every future is checked before the offsets are sent.
- The consumer's group metadata is live: a member that was thrown out reads as generation -1, which
  the broker does not fence. So the snapshot that belongs to the assignment is checked and used.
- Nothing of a failed transaction may be used again, or the next one carries its stale offsets: so
  any failure is a `BrokerError`, on which the whole client is dropped.
- The end of a transaction is waited for without a limit: so we wait for it ourselves, and a
  watchdog bounds whatever else may hang.
- Between two transactions the sender sleeps for `retry_backoff_ms`: so that is short.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from secrets import token_hex
from typing import Any, Protocol

from kafka import KafkaProducer

from forecastd.errors import BrokerError
from forecastd.kafka_connection import broker_errors, build_client
from forecastd.kafka_offsets import kafka_offsets
from forecastd.ports import Timer
from forecastd.publish.kafka_sink import close_producer, producer_options, send_all
from forecastd.records import Committed, TopicPartition, Turn
from forecastd.settings import Settings
from forecastd.watchdog import Watchdog

_PROCESS = token_hex(8)
"""In place of `kafka.instance_id`: a client after a failed one ends what that has left open, where
another id would have to wait for the time-out of the transaction."""

RETRY_BACKOFF_MS = 10
"""Pause of the sender while the markers of the transaction before are still being written."""


class Reader(Protocol):
    """The consumer whose offsets go into the transaction."""

    def group_metadata(self) -> Any:
        """The membership to which the present assignment belongs."""
        ...


@dataclass(slots=True)
class KafkaTransactions:
    """One transactional producer; a turn is one transaction."""

    producer: KafkaProducer
    source: Reader
    watchdog: Watchdog
    timeout_s: float

    @classmethod
    def open(cls, settings: Settings, source: Reader, watchdog: Watchdog) -> KafkaTransactions:
        """Connect, and end whatever an earlier process of the same id has left open."""
        kafka = settings.kafka
        instance = kafka.instance_id or _PROCESS
        # A coordinator looks for what it must abort every 10 s only. Until then a client that waits
        # goes on sooner than one that begins anew: where a broker died, leaders are elected after
        # its session of 9 s.
        timeout_s = min(kafka.delivery_timeout, 1.5 * kafka.transaction_timeout) / 1000
        options = producer_options(settings) | {
            "transactional_id": f"{kafka.group_id}-{instance}",
            "transaction_timeout_ms": kafka.transaction_timeout,
            "retry_backoff_ms": RETRY_BACKOFF_MS,
        }
        with watchdog.bound("init_transactions", 2 * timeout_s), broker_errors("transactions"):
            producer = build_client(KafkaProducer, **options)
            producer.init_transactions()
        return cls(producer, source, watchdog, timeout_s)

    def deliver(self, turn: Turn, timer: Timer) -> None:
        """Send, save and commit, all of it or nothing.

        Raises:
            BrokerError: nothing of it happened, or the broker will abort it.
        """
        member = self.source.group_metadata()
        if member.generation_id < 0 or not member.member_id:
            raise BrokerError(f"transaction: {member.state} in the group, wanted a member of it")
        # Four waits, none longer than the time-out: for topics, messages, offsets and the end.
        with broker_errors("transaction"), self.watchdog.bound("transaction", 5 * self.timeout_s):
            self.producer.begin_transaction()
            with timer.timed("publish"):
                messages = [*turn.published, *turn.windows, *turn.rows]
                send_all(self.producer, messages, self.timeout_s)
            with timer.timed("commit"):
                self._commit(turn.commits, member)

    def _commit(self, commits: Mapping[TopicPartition, Committed], member: Any) -> None:
        """Send the offsets and end the transaction, as the producer does but for its patience.

        Raises:
            BrokerError: no answer in time; whether it is committed shows at the next start.
        """
        manager = self.producer._transaction_manager  # noqa: SLF001  # nothing public has a limit
        steps: Sequence[tuple[str, Callable[[], Any]]] = (
            (
                "offsets",
                lambda: manager.send_offsets_to_transaction(kafka_offsets(commits), member),
            ),
            ("commit", manager.begin_commit),
        )
        for what, begin in steps:
            result = begin()
            self.producer._sender.wakeup()  # noqa: SLF001
            if not result.wait(timeout_ms=self.timeout_s * 1000):
                raise BrokerError(f"transaction: no answer to its {what} in {self.timeout_s:g} s")

    def close(self, timeout_s: float) -> None:
        """Give the producer up; the broker aborts what it left open."""
        close_producer(self.producer, timeout_s)
