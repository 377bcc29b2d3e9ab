"""How an embedded Kafka is laid out: nodes, ports, settings. Values only, no I/O."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from uuid import UUID

HOST = "127.0.0.1"

LOG4J2_PROPERTIES = """\
rootLogger.level=warn
rootLogger.appenderRef.c.ref=C
appender.c.type=Console
appender.c.name=C
appender.c.layout.type=PatternLayout
appender.c.layout.pattern=%d %p %c %m%n
"""


@dataclass(frozen=True, slots=True)
class ClusterLayout:
    """The nodes of one cluster on loopback; each is broker and controller at once.

    Attributes:
        cluster_id: 22 characters as Kafka wants them; formatted into the data of every node.
        nodes: 1 or 3; node ids are 1..nodes.
        port: client port of node 1; node i listens on `port + i - 1`.
        controller_ports: one a node, of no interest to clients. The quorum is a static one, whose
            addresses live in the settings alone, so these may differ at every start.
    """

    cluster_id: str
    nodes: int
    port: int
    controller_ports: tuple[int, ...]

    def client_port(self, node_id: int) -> int:
        """Where clients reach this node."""
        return self.port + node_id - 1

    @property
    def node_ids(self) -> range:
        """1..nodes."""
        return range(1, self.nodes + 1)

    @property
    def bootstrap(self) -> str:
        """What clients take as `bootstrap_servers`.

        >>> ClusterLayout("x", nodes=3, port=9092, controller_ports=(1, 2, 3)).bootstrap
        '127.0.0.1:9092,127.0.0.1:9093,127.0.0.1:9094'
        """
        return ",".join(f"{HOST}:{self.client_port(node_id)}" for node_id in self.node_ids)


def cluster_id_of(uuid: UUID) -> str:
    """A UUID as Kafka writes it: unpadded URL-safe base64.

    A leading dash would read as an option on the command line, so it is replaced.

    >>> cluster_id_of(UUID(int=0))
    'AAAAAAAAAAAAAAAAAAAAAA'
    >>> cluster_id_of(UUID(int=0xFB << 120))
    'AwAAAAAAAAAAAAAAAAAAAA'
    """
    text = base64.urlsafe_b64encode(uuid.bytes).decode("ascii").rstrip("=")
    return "A" + text[1:] if text.startswith("-") else text


def server_properties(layout: ClusterLayout, node_id: int) -> str:
    """The settings of one node; paths are relative to the node's own folder.

    Relative, because `log.dirs` splits at commas and the file is read as Latin-1: a folder that
    the caller chose could not be written down in it.
    """
    copies = layout.nodes
    in_sync = layout.nodes // 2 + 1
    session_ms = 2_000 if layout.nodes == 1 else 5_000
    client = f"PLAINTEXT://{HOST}:{layout.client_port(node_id)}"
    controller = f"CONTROLLER://{HOST}:{layout.controller_ports[node_id - 1]}"
    voters = ",".join(
        f"{voter}@{HOST}:{port}"
        for voter, port in zip(layout.node_ids, layout.controller_ports, strict=True)
    )
    return f"""\
process.roles=broker,controller
node.id={node_id}
controller.quorum.voters={voters}
controller.listener.names=CONTROLLER
listeners={client},{controller}
advertised.listeners={client}
inter.broker.listener.name=PLAINTEXT
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
log.dirs=data

# Topics come from whoever uses the broker: a typing error must not make one.
auto.create.topics.enable=false
num.partitions=1
default.replication.factor={copies}
min.insync.replicas={in_sync}
offsets.topic.num.partitions=1
offsets.topic.replication.factor={copies}
transaction.state.log.num.partitions=1
transaction.state.log.replication.factor={copies}
transaction.state.log.min.isr={in_sync}
share.coordinator.state.topic.replication.factor={copies}
share.coordinator.state.topic.min.isr={in_sync}

# A node that was killed may register again only when its old session is over: with Kafka's own 9 s
# most of a restart would be waiting.
broker.session.timeout.ms={session_ms}
broker.heartbeat.interval.ms={session_ms // 5}
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000

# Small: this shares a machine with everything else.
num.network.threads=2
num.io.threads=2
log.cleaner.threads=1
log.cleaner.backoff.ms=500
log.cleaner.dedupe.buffer.size=8388608
"""


_STACK_OR_WARNING = re.compile(r"\s+at |\s+\.\.\. \d+ more|WARNING:|\s*$")
_THROWN = re.compile(r"(Caused by: |Exception in thread )?\S*[\w$](Exception|Error)\b")
_LOGGED = re.compile(r"\S+ \S+ (ERROR|FATAL) ")


def telling_line(log: str) -> str:
    r"""The line of a Kafka log that says why it ended: the last cause, else the last error.

    >>> telling_line(
    ...     "WARNING: deprecated\n2026-01-01 00:00:00 ERROR k Fatal error.\n"
    ...     "java.lang.RuntimeException: no lock\n\tat a.B.c(B.java:1)\n"
    ... )
    'java.lang.RuntimeException: no lock'
    >>> telling_line("")
    'nothing'
    """
    lines = [line for line in log.splitlines() if not _STACK_OR_WARNING.match(line)]
    for pattern in (_THROWN, _LOGGED):
        matching = [line for line in lines if pattern.match(line)]
        if matching:
            return matching[-1].strip()
    return lines[-1].strip() if lines else "nothing"
