"""Offsets to commit, in the client's form."""

from __future__ import annotations

from collections.abc import Mapping

from kafka import TopicPartition as KafkaPartition
from kafka.structs import OffsetAndMetadata

from forecastd.commit_metadata import metadata_of
from forecastd.records import Committed, TopicPartition


def kafka_offsets(
    commits: Mapping[TopicPartition, Committed],
) -> dict[KafkaPartition, OffsetAndMetadata]:
    """Positions, each with where a restart must resume beside it."""
    return {
        KafkaPartition(*partition): OffsetAndMetadata(at.position, metadata_of(at), -1)
        for partition, at in commits.items()
    }
