"""One run of daemons over a stream that is fed as fast as they follow, with faults on the way.

The stream is fed by progress, never by time: the daemons always have records to read, and a fault
falls where the group's committed offsets say it should. An uninterrupted daemon of a group of its
own then reads the very same topic, and what came out of both is compared.
"""

from __future__ import annotations

import random
import re
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Self

import kafka
from kafka import KafkaConsumer, KafkaProducer
from kafka.errors import KafkaError

from forecastd.patience import looks
from tests.chaos.equivalence import Outcome, faults
from tests.chaos.stream import InputRecord, Stream
from tests.deadline import until
from tests.end_to_end.daemons import Daemon, World

Delivery = Literal["at_least_once", "exactly_once"]

DEADLINE_S = 180.0
"""How long anything that is awaited may take, a broker's or a transaction's time-outs included."""

_NEXT_S = 10.0
"""After which no further forecast is expected."""

# Small polls and rows, so that many turns, rows and replays lie in a short stream.
_SETTINGS = {
    "INGEST__POLL_RECORDS": "100",
    "STATE__ROW_EVERY": "2",
    "STATE__MAX_REPLAY": "2000",
    "KAFKA__TRANSACTION_TIMEOUT": "6s",
    "OBSERVE__LOG_LEVEL": "debug",  # tells when a restore begins
}

_OWNED = re.compile(r"^forecastd_partitions_assigned (\S+)$", re.MULTILINE)
_OK = 200


@dataclass(frozen=True, slots=True)
class Case:
    """What a scenario is run with.

    Attributes:
        model: settings that serve a trained model, its shape included.
        folder: for logs.
        ahead: records that wait for the daemons at any time.
        prepare: what is done for each group before its first daemon starts.
    """

    bootstrap: str
    folder: Path
    delivery: Delivery
    stream: Stream
    model: Mapping[str, str]
    is_static: bool = True
    ahead: int = 2_000
    prepare: Callable[[World], None] = lambda _: None

    @property
    def draw(self) -> random.Random:
        """The schedule's own random numbers."""
        return random.Random(self.stream.seed + 1)

    def goals(self, draw: random.Random, count: int) -> list[int]:
        """Moments for `count` faults, as records committed: spread at random, in order."""
        last = self.stream.count - self.ahead
        return sorted(draw.sample(range(self.stream.count // 50, last), count))


@dataclass(slots=True)
class Report:
    """What a scenario has to say.

    Attributes:
        faults: a sentence each; none is what is promised.
        figures: by name.
    """

    faults: list[str]
    figures: dict[str, Any]


@dataclass(slots=True)
class Instance:
    """One daemon that is started again and again, and its log.

    Attributes:
        wanted: whether it should be running: one that ends by itself is started again.
        ended: how often it ended by itself.
        mark: bytes of the log that were there before what is now looked for.
    """

    name: str
    world: World
    folder: Path
    settings: Mapping[str, str]
    daemon: Daemon | None = None
    wanted: bool = False
    ended: int = 0
    mark: int = 0

    @property
    def log(self) -> Path:
        """What it writes, over all starts."""
        return self.folder / f"{self.world.name}-{self.name}.log"

    def start(self) -> None:
        """Start it; returns at once."""
        self.note()
        self.wanted = True
        self.daemon = Daemon(self.world, self.log, **self.settings)

    def kill(self) -> None:
        """SIGKILL."""
        assert self.daemon is not None, f"{self.name} was not started"
        self.wanted = False
        self.daemon.kill()
        self.close()

    def stop(self) -> None:
        """SIGTERM once it listens, and wait for the end."""
        assert self.daemon is not None, f"{self.name} was not started"
        assert self.daemon.address, "a Python that is still importing has no orderly end"
        self.wanted = False
        status = self.daemon.stop()
        assert status == 0, f"{self.name} ended with {status} on SIGTERM"
        self.close()

    def freeze(self) -> None:
        """SIGSTOP."""
        assert self.daemon is not None, f"{self.name} was not started"
        self.daemon.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        assert self.daemon is not None, f"{self.name} was not started"
        self.note()
        self.daemon.process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        """End it, if it runs."""
        if self.daemon is not None:
            self.daemon.__exit__()
        self.daemon = None

    def served(self) -> int:
        """Partitions that it owns, once all of them are restored; 0 while it cannot be asked."""
        if self.daemon is None or not self.daemon.listens:
            return 0
        try:
            if self.daemon.get("readyz")[0] != _OK:
                return 0
            found = _OWNED.search(self.daemon.get("metrics")[1])
        except OSError:
            return 0  # it is about to end, or about to listen
        return round(float(found[1])) if found else 0

    def note(self) -> None:
        """Look only at what it says from now on."""
        self.mark = self.log.stat().st_size if self.log.exists() else 0

    def has_said(self, words: str) -> bool:
        """Whether its log holds this since it was last started, continued, or `note` was called."""
        with self.log.open("rb") as log:
            log.seek(self.mark)
            return words.encode() in log.read()

    def revive(self) -> None:
        """Start it again if it has ended by itself, as a supervisor would."""
        if self.wanted and self.daemon is not None and self.daemon.process.poll() is not None:
            self.ended += 1
            self.close()
            self.start()


@dataclass(slots=True)
class Feed:
    """Sends the stream, a little more whenever the group has gone on.

    Attributes:
        ahead: records that are sent beyond what is committed.
        end: where the stream waits: else it would be over before a slow start is.
    """

    world: World
    records: Sequence[InputRecord]
    ahead: int
    end: int = 0
    sent: int = 0
    futures: list[Any] = field(default_factory=list)
    producer: KafkaProducer | None = None

    def follow(self, committed: int) -> None:
        """Let `ahead` records wait behind what is committed; a dead broker gets them later."""
        if self.producer is None:
            self.producer = KafkaProducer(
                bootstrap_servers=self.world.bootstrap,
                linger_ms=5,
                delivery_timeout_ms=round(2 * DEADLINE_S * 1000),
            )
        end = min(committed + self.ahead, self.end, len(self.records))
        for partition, key, value in self.records[self.sent : end]:
            topic = self.world.records
            self.futures.append(
                self.producer.send(topic, partition=partition, key=key, value=value)
            )
        self.sent = max(self.sent, end)

    def close(self) -> None:
        """See that all of the stream is in the topic."""
        if self.producer is not None:
            self.producer.flush(timeout=DEADLINE_S)
            for future in self.futures:
                future.get(timeout=0)
            self.producer.close()
            self.producer = None


class Run:
    """The run under test: its instances, its feed, and how far it has come."""

    def __init__(self, case: Case, names: Sequence[str]) -> None:
        """Create the topics; start nothing yet."""
        self.case = case
        self.world = World(case.bootstrap, partitions=case.stream.partitions).create()
        case.prepare(self.world)
        self.instances = [
            Instance(name, self.world, case.folder, self._settings(name)) for name in names
        ]
        self._feed = Feed(self.world, case.stream.records(), case.ahead)
        self._reader = KafkaConsumer(
            bootstrap_servers=case.bootstrap, group_id=self.world.name, enable_auto_commit=False
        )
        self._committed = dict.fromkeys(range(case.stream.partitions), 0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for instance in self.instances:
            instance.close()
        self._reader.close()

    def committed(self) -> dict[int, int]:
        """The group's offset in each partition; as last known while no broker tells."""
        try:
            for partition in self._committed:
                at = kafka.TopicPartition(self.world.records, partition)
                found = self._reader.committed(at, timeout_ms=1_000)
                self._committed[partition] = max(found or 0, self._committed[partition])
        except KafkaError:
            pass  # that is what a broker that is killed does; the caller's deadline bounds it
        return self._committed

    def wait(self, holds: Callable[[], Any], what: str) -> None:
        """Wait for something, while the stream flows up to where it last should."""

        def look() -> Any:
            self._feed.follow(sum(self.committed().values()))
            for instance in self.instances:
                instance.revive()
            return holds()

        until(look, what, within_s=DEADLINE_S)

    def until_committed(self, goal: int) -> None:
        """Let the stream flow on until the group has come this far, and a little beyond it."""
        self._feed.end = goal + self.case.ahead
        self.wait(lambda: sum(self._committed.values()) >= goal, f"commit of {goal} records")

    def until_published(self) -> None:
        """Wait until a forecast has just arrived, of which no row and no offset tells yet.

        Where none comes any more, the fault falls between two turns instead.
        """
        outputs = [
            kafka.TopicPartition(self.world.forecasts, partition)
            for partition in range(self.world.partitions)
        ]
        before = self._reader.end_offsets(outputs)
        for _ in looks(_NEXT_S, pause_s=0.0):  # the moment is a few ms long
            if self._reader.end_offsets(outputs) != before:
                return

    def until_said(self, instance: Instance, words: str) -> None:
        """Wait until an instance has written this."""
        self.wait(lambda: instance.has_said(words), f"'{words}' by {instance.name}")

    def until_served(self, *instances: Instance) -> None:
        """Wait until these instances, each with a share of it, serve every partition.

        What they say of single partitions is no proof: a rebalance that went on before moves some.
        """
        names = " and ".join(instance.name for instance in instances)

        def all_served() -> bool:
            owned = [instance.served() for instance in instances]
            return all(owned) and sum(owned) == self.world.partitions

        self.wait(all_served, f"every partition to be served by {names}")

    def finish(self) -> Report:
        """Let the group read to the end and stop; then judge it by an uninterrupted run."""
        for instance in self.instances:
            if instance.daemon is None:
                instance.start()
        self.until_committed(self.case.stream.count)
        self._feed.close()
        for instance in self.instances:
            instance.stop()
        calm = self._uninterrupted()
        hit = _outcome(self.world)
        exactly_once = self.case.delivery == "exactly_once"
        figures = {
            "records": self.case.stream.count,
            "forecasts": len(hit.forecasts),
            "dead letters": len(hit.dead_letters),
            "windows": len(hit.windows),
            "repeated": hit.repeats,
            "ended by itself": sum(instance.ended for instance in self.instances),
        }
        found = faults(calm, hit, exactly_once=exactly_once)
        if calm.repeats:
            found.append(f"the uninterrupted run repeats {calm.repeats} messages")
        return Report(found, figures)

    def _uninterrupted(self) -> Outcome:
        """A daemon of another group reads the same topic, in polls of another size."""
        world = replace(self.world, name=f"{self.world.name}-calm", reads=self.world.records)
        instance = Instance("calm", world, self.case.folder, self.case.model)
        self.case.prepare(world)
        try:
            instance.start()
            assert instance.daemon is not None, "started"
            instance.daemon.until_ready().until_caught_up()
            instance.stop()
        finally:
            instance.close()
        return _outcome(world)

    def _settings(self, name: str) -> dict[str, str]:
        settings = _SETTINGS | dict(self.case.model) | {"DELIVERY": self.case.delivery}
        return settings | ({"KAFKA__INSTANCE_ID": name} if self.case.is_static else {})


def _outcome(world: World) -> Outcome:
    letters = (record.headers for record in world.read(world.dead_letters))
    windows = (record.value for record in world.read(f"{world.name}-windows"))
    return Outcome.of(world.messages(), letters, windows)
