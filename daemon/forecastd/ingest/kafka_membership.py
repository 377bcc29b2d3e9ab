"""What kafka-python's member of a group has to learn before it can be relied on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kafka import KafkaConsumer
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.coordinator.consumer import ConsumerCoordinator
from kafka.future import Future

_NEW = b"new"


class Assignor(CooperativeStickyAssignor):  # type: ignore[misc]  # the client has no types
    """Cooperative and sticky, and safe for a static member that is killed between two rounds.

    A partition moves in two rounds: in the first its owner learns that it must give it up, and
    joins anew to say that it has. If the owner dies in between and comes back as the same static
    member, the coordinator hands it its share of the first round, and a second one never follows:
    the partition is nobody's for good. So a new client joins a second time, and with other words
    than the first, or the coordinator would see no reason for a round. Nothing moves by it.

    Attributes:
        on_first: called after the first assignment.
    """

    def __init__(self) -> None:
        super().__init__()
        self.on_first: Callable[[], None] = _nothing
        self._told = _NEW

    def metadata(self, topics: Any) -> Any:
        """What a join says of this member."""
        told = super().metadata(topics)
        told.user_data = self._told
        return told

    def on_assignment(self, assignment: Any, generation: int) -> None:
        """What the leader gave to this member."""
        super().on_assignment(assignment, generation)
        if self._told == _NEW:
            self._told = b""
            self.on_first()


def _nothing() -> None:
    """Nothing is to be done."""


def make_reliable(consumer: KafkaConsumer, assignor: Assignor) -> None:
    """Mend the membership of a consumer that has not joined its group yet."""
    coordinator = consumer._coordinator  # noqa: SLF001  # nothing public leads to it
    coordinator.__class__ = _Coordinator
    if coordinator.group_instance_id is not None:
        assignor.on_first = coordinator.request_rejoin


class _Coordinator(ConsumerCoordinator):  # type: ignore[misc]  # the client has no types
    """Ends every join that it began, also one that outlasts a poll.

    kafka-python 3.0.12 leaves such a join in flight for the next poll, and then loses it: where it
    has ended by then it begins another one, so that a member that is polled briefly may never be
    in; and where it was begun because partitions were found it no longer sees a reason to wait for
    it. Such a member owns nothing, sends no heartbeat, and says nothing.
    """

    _join_task: Any

    def need_rejoin(self) -> bool:
        needed: bool = super().need_rejoin()
        if needed:
            self.request_rejoin()  # until it is done, whatever was the reason
        return needed

    async def join_group_async(self, timeout_ms: float | None = None) -> bool:
        if isinstance(self._join_task, Future):
            self._join_task = _Kept(self._join_task)
        return bool(await super().join_group_async(timeout_ms))


class _Kept:
    """A join whose success is there to be waited for, even where it has come already."""

    def __init__(self, join: Future) -> None:
        self._join = join
        self.add_callback = join.add_callback
        self.add_errback = join.add_errback

    @property
    def is_done(self) -> bool:
        """Whether another attempt is to be made."""
        return bool(self._join.failed())
