"""The consumer group and its topics as an outsider sees them: tools look at it and never join it.

Offsets are moved by a request that the broker refuses while the group has a member, so that no
daemon which starts meanwhile can be overlooked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kafka import TopicPartition as KafkaPartition
from kafka.admin import OffsetSpec
from kafka.errors import (
    CoordinatorLoadInProgressError,
    CoordinatorNotAvailableError,
    GroupSubscribedToTopicError,
    NoError,
    UnknownMemberIdError,
)
from kafka.structs import OffsetAndMetadata

from forecastd.commit_metadata import metadata_of, read_commit
from forecastd.errors import BrokerError, StateError, TopicError
from forecastd.kafka_topics import TopicAdmin
from forecastd.patience import looks
from forecastd.records import Committed, TopicPartition
from forecastd.settings import Settings

_ASKED_AGAIN_S = 0.2


@dataclass(frozen=True, slots=True)
class Member:
    """One member of the group.

    Attributes:
        client_id: as it calls itself.
        host: where it connects from, as the broker sees it.
        instance_id: of a static member.
    """

    client_id: str
    host: str
    instance_id: str | None

    def __str__(self) -> str:
        instance = f", kafka.instance_id {self.instance_id}" if self.instance_id else ""
        return f"{self.client_id} at {self.host.lstrip('/')}{instance}"


class GroupAdmin(TopicAdmin):
    """A connection for looking at a group, and for moving its offsets while it is stopped."""

    def __init__(self, settings: Settings) -> None:
        """Connect.

        Raises:
            BrokerError: nobody answers.
            SettingsError: the broker refuses the login.
        """
        super().__init__(settings.kafka)
        self._group = settings.kafka.group_id

    def partitions(self, topics: Sequence[str]) -> dict[str, int]:
        """How many partitions each of those topics has that are there.

        Raises:
            TopicError: we may not see one of them.
        """
        there, hidden = self.describe(topics)
        if hidden:
            raise TopicError("\n".join(hidden.values()))
        return {topic: shape.partitions for topic, shape in there.items()}

    def members(self) -> list[Member]:
        """Who is in the group now.

        Raises:
            StateError: the broker does not tell.
        """
        described = self._coordinated(
            f"describe group {self._group}", lambda: self._client.describe_groups([self._group])
        )
        if described is None:
            return []
        found: dict[str, Any] = described[self._group]
        fault = found["error"] or ""
        if fault and "GroupIdNotFound" not in fault:
            raise StateError(f"group {self._group}: {fault}, wanted its members")
        return [
            Member(member["client_id"], member["client_host"], member["group_instance_id"])
            for member in found["members"]
        ]

    def committed(self, topics: Sequence[str]) -> dict[TopicPartition, Committed]:
        """The group's commits in those topics; partitions without one are left out."""
        listed = self._coordinated(
            f"tell the offsets of group {self._group}",
            lambda: self._client.list_group_offsets({self._group: None}),
        )
        if listed is None:
            return {}
        return {
            TopicPartition(*partition): read_commit(commit.offset, commit.metadata)
            for partition, commit in listed[self._group].items()
            if partition.topic in topics and commit.offset >= 0
        }

    def bounds(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, tuple[int, int]]:
        """Lowest offset kept and the offset after the last record of partitions that exist."""
        kafka = [KafkaPartition(*partition) for partition in partitions]
        if not kafka:
            return {}
        with self._answers("tell the ends of the input topics"):
            first = self._client.list_partition_offsets(dict.fromkeys(kafka, OffsetSpec.EARLIEST))
            end = self._client.list_partition_offsets(dict.fromkeys(kafka, OffsetSpec.LATEST))
        return {TopicPartition(*at): (first[at].offset, end[at].offset) for at in kafka}

    def disown(self, committed: Mapping[TopicPartition, Committed]) -> None:
        """Take our metadata away from commits, so that no restart believes the rows beside them.

        Raises:
            StateError: the group has a member.
        """
        self._commit({at: OffsetAndMetadata(c.position, "", None) for at, c in committed.items()})

    def commit(self, committed: Mapping[TopicPartition, Committed]) -> None:
        """Commit for the group, as the daemon would.

        Raises:
            StateError: the group has a member.
        """
        self._commit(
            {at: OffsetAndMetadata(c.position, metadata_of(c), None) for at, c in committed.items()}
        )

    def forget(self, partitions: Sequence[TopicPartition]) -> None:
        """Remove commits, so that the group begins there as a new one would.

        Raises:
            StateError: the group has a member.
        """
        if not partitions:
            return
        kafka = [KafkaPartition(*partition) for partition in partitions]
        with self._answers(f"remove offsets of group {self._group}"):
            self._demand(self._client.delete_group_offsets(self._group, kafka))

    def _coordinated(self, what: str, ask: Callable[[], Any]) -> Any:
        """What the group's coordinator answers; None in a cluster that never had a group.

        One that was only just elected still loads the group, and says so: it is asked again.
        """
        told: BrokerError | None = None
        for _ in looks(self._settings.request_timeout / 1000, _ASKED_AGAIN_S):
            try:
                with self._answers(what):
                    return ask()
            except BrokerError as error:
                if isinstance(error.__cause__, CoordinatorNotAvailableError):
                    return None
                if not isinstance(error.__cause__, CoordinatorLoadInProgressError):
                    raise
                told = error
        assert told is not None, "asked at least once"
        raise told

    def _commit(self, offsets: Mapping[TopicPartition, OffsetAndMetadata]) -> None:
        if not offsets:
            return
        kafka = {KafkaPartition(*at): commit for at, commit in offsets.items()}
        with self._answers(f"commit for group {self._group}"):
            self._demand(self._client.alter_group_offsets(self._group, kafka))

    def _demand(self, answers: Mapping[KafkaPartition, type[Exception]]) -> None:
        """Every partition's offset was moved."""
        for partition, error in answers.items():
            if error is NoError:
                continue
            at = TopicPartition(*partition)
            found = f"the broker refuses the offset of {at} ({error.__name__})"
            if error in (UnknownMemberIdError, GroupSubscribedToTopicError):
                found = f"a member joined while {at} was reset"
            wanted = "a stopped group; stop the daemon and reset again"
            raise StateError(f"group {self._group}: {found}, wanted {wanted}")
