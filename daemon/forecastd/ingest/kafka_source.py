"""The input topics and the group's offsets, through kafka-python.

What the client does on its own is switched off: no deserialisers (one that raises makes the client
spin), no automatic commits, and no reading of a partition before its state is restored. Rebalance
callbacks run on the client's I/O thread, so they only take notes and pause.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from kafka import ConsumerRebalanceListener, KafkaConsumer
from kafka import TopicPartition as KafkaPartition
from kafka.structs import ConsumerGroupMetadata, MemberState

from forecastd.clock import Clock
from forecastd.commit_metadata import read_commit
from forecastd.ingest.kafka_membership import Assignor, make_reliable
from forecastd.kafka_connection import broker_errors, build_client, connection_options
from forecastd.kafka_offsets import kafka_offsets
from forecastd.observe.events import Rebalanced, Telemetry
from forecastd.records import Committed, Polled, TopicPartition
from forecastd.settings import Settings, parse_duration_ms

Kind = Literal["assigned", "revoked", "lost"]

_FETCH_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Changes:
    """Partitions that came and went since the loop last asked."""

    added: list[TopicPartition]
    removed: list[TopicPartition]


class KafkaSource:
    """One member of the consumer group."""

    def __init__(self, settings: Settings, telemetry: Telemetry, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._timeout_ms = settings.kafka.request_timeout
        options = connection_options(settings.kafka, "source")
        self._telemetry = telemetry
        self._notes = _Notes()
        self._is_joining = False
        self._asked_s, self._answers = float("-inf"), False
        self._member = ConsumerGroupMetadata(settings.kafka.group_id)
        assignor = Assignor()
        with broker_errors("kafka.bootstrap_servers"):
            self._consumer = build_client(
                KafkaConsumer,
                **options,
                group_id=settings.kafka.group_id,
                group_instance_id=settings.kafka.instance_id,
                session_timeout_ms=settings.kafka.session_timeout,
                heartbeat_interval_ms=max(settings.kafka.session_timeout // 3, 1),
                max_poll_interval_ms=settings.kafka.max_poll_interval,
                partition_assignment_strategy=[assignor],
                metadata_max_age_ms=settings.kafka.metadata_max_age,
                enable_auto_commit=False,
                # Records that retention was faster to delete are a gap, not a new beginning.
                auto_offset_reset="none",
                isolation_level="read_committed",
                max_poll_records=settings.ingest.poll_records,
                max_partition_fetch_bytes=_FETCH_BYTES,
                allow_auto_create_topics=False,
            )
            make_reliable(self._consumer, assignor)
            self._notes.pause = self._consumer.pause
            self._notes.seek = self._consumer.seek
            self._consumer.subscribe(topics=list(settings.ingest.topics), listener=self._notes)

    def poll(self, timeout_s: float) -> Polled:
        """Records of the partitions that are not paused; empty after `timeout_s`."""
        with broker_errors("poll"):
            polled = self._consumer.poll(timeout_ms=round(timeout_s * 1000))
        member = self._consumer.group_metadata()
        self._is_joining = member.state == MemberState.REBALANCING
        if member.state == MemberState.STABLE:
            self._member = member
        records = {TopicPartition(*partition): found for partition, found in polled.items()}
        positions = {partition: found[-1].offset + 1 for partition, found in records.items()}
        return Polled(records, positions)

    @property
    def is_joining(self) -> bool:
        """Whether the last poll left us in the midst of a round in which the group shares out."""
        return self._is_joining

    def take_assignment(self) -> Changes:
        """What changed since the last call; a partition that left and came back is in both."""
        added: list[TopicPartition] = []
        removed: list[TopicPartition] = []
        for kind, partitions in self._notes.take():
            if partitions or kind == "assigned":
                self._telemetry.emit(Rebalanced(kind, partitions))
            if kind == "assigned":
                added.extend(partitions)
                continue
            # One that came and went between two calls was never ours to work on.
            removed.extend(at for at in partitions if at not in added)
            added = [at for at in added if at not in partitions]
        return Changes(added, removed)

    def is_reachable(self) -> bool:
        """Whether the group's coordinator has answered a heartbeat within the session timeout."""
        now_s = self._clock.monotonic_s()
        if now_s - self._asked_s > 1.0:
            self._asked_s = now_s
            ages = [
                metric.value()
                for name, metric in self._consumer.metrics(raw=True).items()
                if name.name == "last-heartbeat-seconds-ago"
            ]
            bound_s = self._settings.kafka.session_timeout / 1000
            self._answers = bool(ages) and 0 <= ages[0] <= bound_s
        return self._answers

    def committed(self, partition: TopicPartition) -> Committed | None:
        """The group's committed offset, None where there is none."""
        with broker_errors(f"committed offset of {partition}"):
            found = self._consumer.committed(
                KafkaPartition(*partition), metadata=True, timeout_ms=self._timeout_ms
            )
        if found is None or found.offset < 0:
            return None
        return read_commit(found.offset, found.metadata)

    def bounds(self, partition: TopicPartition) -> tuple[int, int]:
        """Lowest offset kept, and the offset after the last record."""
        kafka = KafkaPartition(*partition)
        with broker_errors(f"offsets of {partition}"):
            first = self._consumer.beginning_offsets([kafka], timeout_ms=self._timeout_ms)
            end = self._consumer.end_offsets([kafka], timeout_ms=self._timeout_ms)
        return first[kafka], end[kafka]

    def start_offset(self, partition: TopicPartition) -> int:
        """Where a group without offsets begins (`ingest.start`)."""
        first, end = self.bounds(partition)
        start = self._settings.ingest.start
        if start in ("earliest", "latest"):
            return first if start == "earliest" else end
        kafka = KafkaPartition(*partition)
        since = max(self._clock.now_ms() - parse_duration_ms(start), 0)
        with broker_errors(f"offsets of {partition}"):
            found = self._consumer.offsets_for_times({kafka: since}, timeout_ms=self._timeout_ms)
        at = found.get(kafka)
        return end if at is None else max(at.offset, first)

    def position(self, partition: TopicPartition) -> int | None:
        """The offset that the next poll reads from.

        It lies above the last record where a marker of a transaction follows that.
        """
        with broker_errors(f"position in {partition}"):
            at: int | None = self._consumer.position(
                KafkaPartition(*partition), timeout_ms=self._timeout_ms
            )
        return at

    def serve_from(self, partition: TopicPartition, offset: int) -> None:
        """Read an assigned partition from `offset` on, no longer paused."""
        kafka = KafkaPartition(*partition)
        with broker_errors(f"seek in {partition}"):
            self._consumer.seek(kafka, offset)
            self._consumer.resume(kafka)

    def commit(self, committed: Mapping[TopicPartition, Committed]) -> None:
        """Commit; returns when the broker has acknowledged."""
        with broker_errors("commit"):
            self._consumer.commit(kafka_offsets(committed), timeout_ms=self._timeout_ms)

    def group_metadata(self) -> Any:
        """The membership to which the present assignment belongs.

        What the client tells is live. While it joins anew its generation may already be the next
        one, to which partitions belong that we are yet to be told of, and after it was thrown out
        it is none, which no broker fences. The assignment changes within `poll` alone, and the
        membership that such a call left behind is fenced as soon as another generation is there.
        """
        return self._member

    def end_offset(self, partition: TopicPartition) -> int | None:
        """The offset after the last record as the last fetch saw it; no I/O."""
        end: int | None = self._consumer.highwater(KafkaPartition(*partition))
        return end

    def close(self, timeout_s: float) -> None:
        """Leave the group."""
        with broker_errors("leave the group"):
            self._consumer.close(autocommit=False, timeout_ms=round(timeout_s * 1000))


class _Notes(ConsumerRebalanceListener):  # type: ignore[misc]  # the client has no types
    """What the I/O thread saw of rebalances, kept for the loop's thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seen: list[tuple[Kind, tuple[TopicPartition, ...]]] = []
        self.pause: Any = None
        self.seek: Any = None

    def take(self) -> list[tuple[Kind, tuple[TopicPartition, ...]]]:
        with self._lock:
            taken, self._seen = self._seen, []
        return taken

    def on_partitions_assigned(self, assigned: Any) -> None:
        # The same poll could otherwise return records before their state is restored.
        self.pause(*assigned)
        # Or the client would look for a place by itself, and fail where none is committed.
        for partition in assigned:
            self.seek(partition, 0)
        self._note("assigned", assigned)

    def on_partitions_revoked(self, revoked: Any) -> None:
        self._note("revoked", revoked)

    def on_partitions_lost(self, lost: Any) -> None:
        self._note("lost", lost)

    def _note(self, kind: Kind, partitions: Any) -> None:
        moved = tuple(sorted(TopicPartition(*partition) for partition in partitions))
        with self._lock:
            self._seen.append((kind, moved))
