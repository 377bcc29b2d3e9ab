"""`forecastd broker`: a real Apache Kafka in KRaft mode, one node or a quorum of three.

    with EmbeddedKafka() as kafka:
        KafkaProducer(bootstrap_servers=kafka.bootstrap)

The data folder holds `cluster.json` (which cluster this is, and its client ports), and for each
node a folder `node-1`, ... with Kafka's data, its settings and its log `kafka.log`.
"""

from __future__ import annotations

import math
import os
import shutil
import signal
import sys
import tempfile
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from forecastd.demo.broker_layout import ClusterLayout, cluster_id_of
from forecastd.demo.disk_cluster_folder import claim, read_cluster, write_cluster
from forecastd.demo.errors import EmbeddedKafkaError
from forecastd.demo.kafka_node import KafkaNode, java_command
from forecastd.demo.kafka_ports import demand_free, free_ports
from forecastd.demo.kafka_ready import await_ready
from forecastd.patience import looks

_STOP_S = 30.0
"""How long nodes may take to end by themselves."""

_LAST_STOP_S = 8.0
"""How long the last of three may take when the quorum is gone. It spends 5 s on telling the others
that it resigns; now and then it waits for ever for a controller to let it go, and is killed then,
which Kafka recovers from."""


class EmbeddedKafka:
    """A Kafka cluster of our own on loopback, whose processes cannot outlive this one.

    Nor can they outlive this object, so keep it. `start`, `kill` and `stop` may follow each other
    in any order; data, ports and cluster stay the same until one with temporary data is stopped.
    """

    def __init__(self, data: Path | None = None, port: int | None = None, nodes: int = 1) -> None:
        """Touch nothing yet.

        Args:
            data: kept after the end, and used again when it is there. None: temporary.
            port: of the first node, the others follow. None: that of last time, or a random one.
            nodes: 1 or 3.
        """
        if nodes not in (1, 3):
            raise EmbeddedKafkaError("--nodes", str(nodes), "1 or 3")
        if port is not None and not 0 < port <= 65_536 - nodes:
            raise EmbeddedKafkaError("--port", str(port), f"1 to {65_536 - nodes}")
        self._keeps_data = data is not None
        self._data = data.absolute() if data is not None else None
        self._port = port
        self._node_count = nodes
        self._layout: ClusterLayout | None = None
        self._nodes: dict[int, KafkaNode] = {}
        self._lock: int | None = None
        self._forker = ThreadPoolExecutor(max_workers=1)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def bootstrap(self) -> str:
        """What clients take as `bootstrap_servers`; known once started."""
        assert self._layout is not None, "not started yet"
        return self._layout.bootstrap

    @property
    def data(self) -> Path:
        """The data folder; Kafka's own log is `node-N/kafka.log` in it. Known once started."""
        assert self._data is not None, "not started yet"
        return self._data

    @property
    def pids(self) -> dict[int, int]:
        """The running Java processes by node id."""
        pids = {node_id: node.running_pid for node_id, node in self._nodes.items()}
        return {node_id: pid for node_id, pid in pids.items() if pid is not None}

    def start(self) -> None:
        """Start every node that is not running, and return when clients can connect to all.

        Raises:
            EmbeddedKafkaError: with the sentence that says why not; then nothing is left running.
        """
        with ExitStack() as undo:
            undo.push(self._undo_start)
            if not self.pids:
                self._lay_out()
            self._start(*(self._nodes.keys() - self.pids.keys()))
            undo.pop_all()

    def start_node(self, node_id: int) -> None:
        """Bring one node back to the others; needs two of three running, this one included."""
        self._start(node_id)

    def kill_node(self, node_id: int) -> None:
        """SIGKILL one node, and return when it is gone."""
        self._nodes[node_id].kill()

    def stop_node(self, node_id: int) -> None:
        """Stop one node as an operator would: it hands its partitions over first."""
        _end([self._nodes[node_id]])

    def kill(self) -> None:
        """SIGKILL every node: the power cut. The data stays."""
        for node in self._nodes.values():
            node.kill()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def stop(self) -> None:
        """Stop every node, cleanly where the data is kept; temporary data goes."""
        if self._keeps_data:
            _end(list(self._nodes.values()))
            self.kill()
        else:
            self._discard()

    def wait(self) -> None:
        """Stay until so many nodes ended without being asked that the cluster is of no use.

        Raises:
            EmbeddedKafkaError: about the last of them.
        """
        ended: set[int] = set()
        for _ in looks(math.inf, pause_s=0.2):
            for node_id in self._nodes.keys() - self.pids.keys() - ended:
                ended.add(node_id)
                error = self._nodes[node_id].ended(f"{self._node_count} running nodes")
                if len(ended) > self._node_count // 2:
                    raise error
                sys.stderr.write(f"forecastd: {error}\n")

    def _lay_out(self) -> None:
        """Claim the folder, settle identity and ports, and format what is not formatted."""
        self._data = self._data or Path(tempfile.mkdtemp(prefix="forecastd-broker-"))
        if self._lock is None:
            self._lock = claim(self._data)
        self._layout = layout = self._settle(self._data)
        java = java_command()
        write_cluster(self._data, layout.cluster_id, layout.nodes, layout.port)
        self._nodes = {
            node_id: KafkaNode(
                node_id, self._data / f"node-{node_id}", java, self._forker, self._lock
            )
            for node_id in layout.node_ids
        }
        for node in self._nodes.values():
            node.prepare(layout)
            node.start_format(layout.cluster_id)
        for node in self._nodes.values():
            node.finish_format()

    def _settle(self, data: Path) -> ClusterLayout:
        """The cluster that the folder holds, else a new one; on ports that are free."""
        kept = read_cluster(data)
        if kept is not None and kept[1] != self._node_count:
            raise EmbeddedKafkaError(
                str(data),
                f"the data of a cluster with --nodes {kept[1]}",
                f"--nodes {self._node_count}",
                "give that number, or another --data",
            )
        cluster_id, _, kept_port = kept or (cluster_id_of(uuid.uuid4()), 0, None)
        first = self._port or kept_port or free_ports(self._node_count)[0]
        clients = range(first, first + self._node_count)
        for port in clients:
            demand_free(port)
        controllers = free_ports(self._node_count, apart_from=clients)
        return ClusterLayout(cluster_id, self._node_count, first, tuple(controllers))

    def _start(self, *node_ids: int) -> None:
        """Start these nodes and wait for them."""
        starting = [self._nodes[node_id] for node_id in node_ids]
        for node in starting:
            node.start()
        assert self._layout is not None, "laid out before"
        await_ready(starting, self._layout)

    def _undo_start(
        self,
        _kind: type[BaseException] | None,
        error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        """Leave nothing running; temporary data stays only where our sentence may name its log."""
        self.kill()
        names_log = bool(self._nodes) and isinstance(error, EmbeddedKafkaError)
        if not self._keeps_data and not names_log:
            self._discard()

    def _discard(self) -> None:
        """Kill, because a clean end only serves the data, and remove the data."""
        self.kill()
        if self._data is not None:
            shutil.rmtree(self._data, ignore_errors=True)
        self._data = None
        self._nodes = {}


def broker_main(data: Path | None, port: int | None, nodes: int) -> int:
    """Serve in the foreground until SIGTERM or Ctrl-C; the exit status of `forecastd broker`.

    Raises:
        EmbeddedKafkaError: it cannot be started or kept running.
    """
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with EmbeddedKafka(data, port, nodes) as kafka:
            sys.stdout.write(f"ready {kafka.bootstrap}\n")
            sys.stdout.flush()
            kafka.wait()
    except KeyboardInterrupt:
        return 0
    finally:
        signal.signal(signal.SIGTERM, before)
    return 0


def _end(nodes: Sequence[KafkaNode]) -> None:
    """Ask all at once and wait; what is left at the deadline, or when interrupted, is killed.

    At once, because they need each other to end: the last of three, asked alone, would always wait
    for ever.
    """
    try:
        for node in nodes:
            node.terminate()
        if _are_at_most(len(nodes) // 2, nodes, _STOP_S):
            _are_at_most(0, nodes, _LAST_STOP_S)
    finally:
        for node in nodes:
            node.kill()


def _are_at_most(count: int, nodes: Sequence[KafkaNode], within_s: float) -> bool:
    """Whether no more than `count` of them are left running in that time."""
    return any(
        sum(node.running_pid is not None for node in nodes) <= count
        for _ in looks(within_s, pause_s=0.02)
    )
