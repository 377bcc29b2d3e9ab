"""The names under which a demo works on a broker, and their end."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

from kafka.admin import KafkaAdminClient, MemberToRemove
from kafka.errors import CoordinatorNotAvailableError, KafkaError

from forecastd.kafka_connection import build_client, client_words, connection_options
from forecastd.settings import KafkaSettings

_BROKER_MS = 3_000


@dataclass(frozen=True, slots=True)
class DemoNames:
    """Topics and group of one demo.

    Attributes:
        prefix: in front of all of them. Empty on a broker of our own; on somebody else's it holds
            something random, so that no name is theirs or another demo's.
    """

    prefix: str

    @property
    def records(self) -> str:
        """Input topic."""
        return f"{self.prefix}records"

    @property
    def forecasts(self) -> str:
        """Output topic."""
        return f"{self.prefix}forecasts"

    @property
    def dead_letters(self) -> str:
        """Dead-letter topic."""
        return f"{self.prefix}dead-letters"

    @property
    def group(self) -> str:
        """Consumer group; the state topic's name begins with it."""
        return f"{self.prefix}forecastd"


def delete_all(names: DemoNames, settings: KafkaSettings) -> None:
    """Remove the topics and the group from a broker that is not ours; says so where it cannot."""
    assert names.prefix, "that would be every topic there is"
    options = connection_options(settings, "demo") | {"bootstrap_timeout_ms": _BROKER_MS}
    try:
        admin = build_client(KafkaAdminClient, **options)
        try:
            ours = [topic for topic in admin.list_topics() if topic.startswith(names.prefix)]
            if ours:
                admin.delete_topics(ours)
            _delete_group(admin, names.group)
        finally:
            admin.close()
    except KafkaError as error:
        _warn(f"{names.prefix}*", client_words(error))


def _delete_group(admin: Any, group: str) -> None:
    """Empty the group first: a daemon that was killed is a member until its session is over."""
    try:
        members = admin.describe_groups([group])[group]["members"]
    except CoordinatorNotAvailableError:
        return  # a cluster that never had a group
    admin.remove_group_members(group, [MemberToRemove(one["member_id"]) for one in members])
    for answer in admin.delete_groups([group]).values():
        if answer not in ("OK", "GroupIdNotFoundError"):
            _warn(group, answer)


def _warn(what: str, why: str) -> None:
    sys.stderr.write(f"forecastd: {what} stays on the broker ({why}), wanted it deleted\n")
