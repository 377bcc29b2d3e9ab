"""Knows when clients can connect to the nodes of an embedded Kafka."""

from __future__ import annotations

import socket
from collections.abc import Sequence

from forecastd.demo.broker_layout import HOST, ClusterLayout
from forecastd.demo.kafka_node import KafkaNode
from forecastd.patience import looks

_START_S = 120.0
"""Three nodes that start on two busy cores, with logs to recover, need a good part of this."""


def await_ready(starting: Sequence[KafkaNode], layout: ClusterLayout) -> None:
    """Return when each of these nodes takes connections and is listed in the cluster.

    Connections first: after a kill the cluster goes on listing the old incarnation for a while.

    Raises:
        EmbeddedKafkaError: a node ended, or the time is up.
    """
    silent = list(starting)
    ids = {node.node_id for node in starting}
    wanted = "a running node"
    for _ in looks(_START_S, pause_s=0.02):
        for node in starting:
            if node.running_pid is None:
                raise node.ended(wanted)
        while silent and _accepts(layout.client_port(silent[0].node_id)):
            del silent[0]
        if not silent:
            wanted = "a node that clients find in the cluster"
            if ids <= _listed_brokers(layout.bootstrap):
                return
    raise (silent or starting)[0].ended(wanted)


def _accepts(port: int) -> bool:
    """Whether somebody listens on this port."""
    try:
        socket.create_connection((HOST, port), timeout=1.0).close()
    except OSError:
        return False
    return True


def _listed_brokers(bootstrap: str) -> set[int]:
    """The ids of the brokers that a client is told of; empty while no client can connect."""
    from kafka.admin import KafkaAdminClient
    from kafka.errors import KafkaError

    try:
        admin = KafkaAdminClient(
            bootstrap_servers=bootstrap.split(","),
            bootstrap_timeout_ms=5_000,
            request_timeout_ms=5_000,
        )
    except KafkaError:
        return set()
    try:
        return {broker["broker_id"] for broker in admin.describe_cluster()["brokers"]}
    except KafkaError:
        return set()
    finally:
        admin.close()
