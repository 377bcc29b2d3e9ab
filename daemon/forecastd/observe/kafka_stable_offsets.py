"""Watches the last stable offsets of the daemon's topics, on a thread of its own.

Nothing else would tell: a reader of committed messages that waits for a transaction looks like one
whose topic is idle. What is found is kept for the loop's thread, which must never wait for it.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

from kafka import IsolationLevel, KafkaAdminClient, OffsetSpec
from kafka import TopicPartition as KafkaPartition
from kafka.errors import KafkaError

from forecastd.clock import Clock
from forecastd.errors import ForecastdError
from forecastd.kafka_connection import build_client, connection_options
from forecastd.kafka_open_transactions import open_transactions
from forecastd.observe.events import Event, ReadersHeldUp, StableOffsetsSeen
from forecastd.observe.standstill import Reach, Standstill
from forecastd.records import TopicPartition
from forecastd.settings import KafkaSettings

PERIOD_S = 10.0
"""Time between two looks: three requests, of a few ms in all."""

NAMED_AFTER_S = 30.0
"""From then on the transaction that others wait for is looked up and named at each look."""

_JOIN_S = 1.0


class StableOffsetWatch:
    """Looks at all partitions of some topics, those that exist."""

    def __init__(self, settings: KafkaSettings, topics: Sequence[str], clock: Clock) -> None:
        """Do nothing yet."""
        self._settings, self._topics, self._clock = settings, list(topics), clock
        self._standstill = Standstill()
        self._client: KafkaAdminClient | None = None
        self._lock, self._seen = threading.Lock(), list[Event]()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="stable-offsets", daemon=True)

    def start(self) -> None:
        """Look at once, and then every `PERIOD_S`."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more; a look that waits for a broker is not waited for."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join(_JOIN_S)

    def take(self) -> list[Event]:
        """What was seen since the last call."""
        with self._lock:
            taken, self._seen = self._seen, []
        return taken

    def look(self) -> None:
        """Look once.

        Raises:
            KafkaError: a broker does not say; another client may do better.
            ForecastdError: there is no other client to be had.
        """
        if self._client is None:
            options = connection_options(self._settings, "stable-offsets")
            self._client = build_client(KafkaAdminClient, **options)
        seconds = self._standstill.seconds(self._reaches(), self._clock.monotonic_s())
        seen: list[Event] = [StableOffsetsSeen(seconds)]
        held_up = {at: waited for at, waited in seconds.items() if waited >= NAMED_AFTER_S}
        for one in open_transactions(self._client, held_up, self._clock.now_ms()):
            sentence = one.sentence(self._settings.bootstrap_servers)
            seen.append(ReadersHeldUp(one.partition, sentence))
        with self._lock:
            self._seen = seen  # what was not taken is out of date

    def _reaches(self) -> dict[TopicPartition, Reach]:
        """The end first: a message that is added meanwhile must not look like one that waits."""
        client = self._client
        assert client is not None, "connected"
        latest = {
            KafkaPartition(topic["name"], partition["partition_index"]): OffsetSpec.LATEST
            for topic in client.describe_topics(self._topics)
            for partition in topic["partitions"]
            if partition["leader_id"] >= 0
        }
        if not latest:
            return {}
        ends = client.list_partition_offsets(latest)
        stable = client.list_partition_offsets(latest, IsolationLevel.READ_COMMITTED)
        return {
            TopicPartition(*at): Reach(stable[at].offset, ends[at].offset)
            for at in ends.keys() & stable.keys()
        }

    def _run(self) -> None:
        while not self._ended.is_set():
            try:
                self.look()
            except (KafkaError, ForecastdError):
                # The loop's own clients tell of a broker that does not answer.
                self._disconnect()
            self._ended.wait(PERIOD_S)
        self._disconnect()

    def _disconnect(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.close()
