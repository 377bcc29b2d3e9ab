"""Killed anywhere and started again, the daemon sends what it would have sent uninterrupted."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from forecastd.clock import ManualClock
from forecastd.forecast.model import Model
from forecastd.loop import Loop
from forecastd.memory.log import MemoryBroker, Request
from forecastd.memory.network import MemoryNetwork
from forecastd.observe.events import SeriesEvicted, TurnCompleted
from forecastd.observe.prometheus_telemetry import PrometheusTelemetry
from forecastd.records import Float32s, Message, Slots, TopicPartition
from forecastd.settings import Settings
from forecastd.state.row_key import decode_key
from tests.in_memory import (
    STATE_TOPIC,
    Telemetry,
    assert_same,
    by_id,
    copy_input,
    drain,
    feed,
    feed_more,
    fields,
    make_model,
    make_settings,
    published,
    saved_state,
    start,
)


class FailsAtTimes(MemoryNetwork):
    """Now and then it forecasts what is no number."""

    __slots__ = ()

    failed: ClassVar[int] = 0

    def predict(self, windows: Float32s, rows: Slots) -> Float32s:
        outputs = MemoryNetwork.predict(self, windows, rows)
        bad = windows[:, -1, 0] > 1.0
        FailsAtTimes.failed += int(np.count_nonzero(bad))
        outputs[bad] = np.nan
        return outputs


class KilledError(Exception):
    """SIGKILL: nothing after it happens."""


class Fuse:
    """Kills at the `requests`-th thing that the broker is asked for."""

    def __init__(self, requests: int) -> None:
        self.left = requests

    def __call__(self, request: Request, message: Message | None) -> None:
        self.left -= 1
        if self.left < 0:
            raise KilledError


class Watch:
    """Looks at every message that is about to be sent, and says what must never be seen."""

    def __init__(
        self, broker: MemoryBroker, then: Callable[[Request, Message | None], None]
    ) -> None:
        self.broker, self.then = broker, then
        # What was committed when this process started: nothing below it may be sent again.
        self.committed = {at: found.position for at, found in broker.committed.items()}

    def __call__(self, request: Request, message: Message | None) -> None:
        self.then(request, message)
        if message is None or message.topic == STATE_TOPIC:
            return
        if message.topic == "forecasts":
            read = json.loads(message.value or b"")["input"]
            partition = TopicPartition(read["topic"], read["partition"])
            offset = read["last_offset"]
        else:
            said = dict(message.headers)
            partition = TopicPartition(
                said["forecastd.topic"].decode(), int(said["forecastd.partition"])
            )
            offset = int(said["forecastd.offset"])
        assert offset >= self.committed.get(partition, 0), f"sent again in a replay: {message}"


def rows_sent(broker: MemoryBroker, loop: Loop) -> list[tuple[int, TopicPartition, str, int]]:
    """Place in the order of sending, partition, series and offset of every row."""
    found = []
    for place, message in enumerate(broker.sent):
        if message.topic == STATE_TOPIC and message.value is not None:
            series, _ = decode_key(message.key or b"")
            partition = TopicPartition("records", message.partition or 0)
            found.append((place, partition, series, loop.saver.codec.offset(message.value)))
    return found


def assert_rows_follow_what_they_imply(broker: MemoryBroker, loop: Loop) -> None:
    """A row that arrives before its forecasts would make a restart skip them."""
    implied: dict[tuple[TopicPartition, str], list[tuple[int, str]]] = defaultdict(list)
    first: dict[str, int] = {}
    for place, message in enumerate(broker.sent):
        if message.topic == "forecasts":
            said = json.loads(message.value or b"")
            first.setdefault(said["id"], place)
            at = TopicPartition(said["input"]["topic"], said["input"]["partition"])
            implied[at, said["series"]].append((said["input"]["last_offset"], said["id"]))
    rows = rows_sent(broker, loop)
    assert rows
    for place, partition, series, offset in rows:
        for last_offset, key in implied[partition, series]:
            assert last_offset > offset or first[key] < place, key


def assert_same_state(found: Loop, wanted: Loop, *, forgets: bool = False) -> None:
    """All that a row would hold is what it would be without the crashes.

    Args:
        found: after the crashes.
        wanted: without.
        forgets: series are given up that do not come back, now by one and now by the other.
    """
    told = {"reset", "seen", "late"} if forgets else set()
    for partition in wanted.served:
        a, b = saved_state(found, partition), saved_state(wanted, partition)
        assert forgets or a.keys() == b.keys()
        for name in a.keys() & b.keys():
            for column in b[name].keys() - told:
                cell = b[name][column]
                np.testing.assert_allclose(
                    a[name][column], cell, rtol=1e-4, atol=1e-5, err_msg=f"{name} {column}"
                )


SETUPS: dict[str, tuple[dict[str, Any], dict[str, Any] | None, int]] = {
    "baseline": ({"windows": {"season": 5}}, None, 2),
    "model": ({}, {}, 1),
    "model, phases": ({"windows": {"stride": 2}}, {}, 1),
    "series that were away for long": ({"state": {"series_ttl": "25s"}}, {}, 1),
    "point model, every step": ({"windows": {"stride": 1}}, {"is_point": True}, 1),
}


@pytest.fixture(scope="module", params=list(SETUPS.values()), ids=list(SETUPS))
def setup(request: pytest.FixtureRequest) -> Setup:
    return Setup(*request.param)


class Setup:
    """Settings and a model, the records, and what comes of them without a crash."""

    def __init__(
        self, sections: dict[str, Any], model: dict[str, Any] | None, features: int
    ) -> None:
        self.sections = {**sections, "ingest": {"values": fields(features)}}
        self.state = sections.get("state", {})
        self.forgets = "series_ttl" in self.state
        self.model = model
        self.records = feed(75, features=features, seed=4)
        self.broker = copy_input(self.records)
        self.loop = self.start(self.broker, self.settings(), 20)
        drain(self.loop)
        self.messages = by_id(self.broker)

    def settings(self, **state: Any) -> Settings:
        return make_settings(**{**self.sections, "state": {**self.state, **state}})

    def random_settings(self, rng: np.random.Generator) -> Settings:
        """When rows are written is a question of cost: any answer must do."""
        return self.settings(
            row_every=int(rng.integers(1, 9)),
            max_replay=int(rng.choice([1, 5, 40, 10_000])),
            bytes_per_second=int(rng.choice([1, 5_000, 10**8])),
        )

    def start(
        self, broker: MemoryBroker, settings: Settings, poll_records: int, read_rows: int = 5_000
    ) -> Loop:
        """A new process: whatever the model remembered is gone."""
        model: Model | None = None
        if self.model is not None:
            model = make_model(settings, **self.model)
        return start(broker, settings, model, poll_records=poll_records, read_rows=read_rows)

    def crash(self, broker: MemoryBroker, rng: np.random.Generator, requests: int) -> Loop:
        """Run with random costs until `requests` were made, or until all is done."""
        poll_records = int(rng.choice([1, 7, 30, 200]))
        read_rows = int(rng.choice([1, 3, 5_000]))
        loop = self.start(broker, self.random_settings(rng), poll_records, read_rows)
        broker.before = Watch(broker, Fuse(requests))
        drain(loop)
        return loop

    def assert_undisturbed(self, broker: MemoryBroker, loop: Loop) -> None:
        """Ids and numbers of the uninterrupted run, those of repeats too."""
        assert by_id(broker).keys() == self.messages.keys()
        # Whether a series that returns is flagged depends on whether its row was still there.
        flags = {"restored", "reset"} if self.forgets else {"restored"}
        for message in published(broker):
            assert_same(message, self.messages[message["id"]], flags=flags)
        assert {dead_letter(message) for message in broker.messages("dead-letters")} == {
            dead_letter(message) for message in self.broker.messages("dead-letters")
        }
        assert_rows_follow_what_they_imply(broker, loop)
        assert_same_state(loop, self.loop, forgets=self.forgets)
        assert {at: found.position for at, found in broker.committed.items()} == {
            at: found.position for at, found in self.broker.committed.items()
        }


def dead_letter(message: Message) -> tuple[Any, ...]:
    """All of it, so that a repeat carries the same provenance."""
    return message.key, message.value, tuple(message.headers)


class TestCrashes:
    @pytest.mark.parametrize("seed", range(3))
    def test_anywhere_and_often_change_nothing(self, setup: Setup, seed: int) -> None:
        """During a publish, between publish and save, save and commit, in a restore, a replay."""
        rng, broker = np.random.default_rng(seed), copy_input(setup.records)
        for _ in range(5):
            with pytest.raises(KilledError):
                setup.crash(broker, rng, int(rng.integers(1, 40)))
        setup.assert_undisturbed(broker, setup.crash(broker, rng, 1_000_000))

    @pytest.mark.parametrize("request_kind", ["send", "commit", "rows", "poll"])
    def test_at_every_kind_of_request_change_nothing(self, request_kind: str) -> None:
        """At the second, and at the first of the restart, and again."""
        setup = Setup(*SETUPS["model, phases"])
        rng, broker = np.random.default_rng(7), copy_input(setup.records)
        with pytest.raises(KilledError):
            setup.crash(broker, rng, 50)
        for nth in (2, 1, 2):
            left = nth

            def kill(request: Request, message: Message | None) -> None:
                nonlocal left
                left -= request == request_kind
                if left == 0:
                    raise KilledError

            loop = setup.start(broker, setup.random_settings(rng), 30, 2)
            broker.before = Watch(broker, kill)
            with pytest.raises(KilledError):
                drain(loop)
        setup.assert_undisturbed(broker, setup.crash(broker, rng, 1_000_000))


class TestPublish:
    def test_that_is_refused_leaves_neither_row_nor_commit(self) -> None:
        """One flush for forecasts and rows would be a defect: the order is the guarantee."""
        settings = make_settings(state={"row_every": 1})
        broker = feed(100)
        loop = start(broker, settings, poll_records=200)
        loop.run_once()

        def refuse(request: Request, message: Message | None) -> None:
            if message is not None and message.topic == "forecasts" and message.key == b"s2":
                raise KilledError

        broker.before = refuse
        with pytest.raises(KilledError):
            loop.run_once()
        assert broker.messages("forecasts")
        assert not broker.messages(STATE_TOPIC)
        assert {found.position for found in broker.committed.values()} == {0}

    def test_of_a_dead_letter_that_is_refused_leaves_neither_row_nor_commit(self) -> None:
        settings = make_settings(state={"row_every": 1})
        broker = feed(100)
        loop = start(broker, settings)
        loop.run_once()

        def refuse(request: Request, message: Message | None) -> None:
            if message is not None and message.topic == "dead-letters":
                raise KilledError

        broker.before = refuse
        with pytest.raises(KilledError):
            loop.run_once()
        assert not broker.messages(STATE_TOPIC)
        assert {found.position for found in broker.committed.values()} == {0}


class TestSave:
    def test_that_is_refused_leaves_no_commit(self) -> None:
        broker = feed(100)
        loop = start(broker, make_settings(state={"row_every": 1}))
        loop.run_once()

        def refuse(request: Request, message: Message | None) -> None:
            if message is not None and message.topic == STATE_TOPIC:
                raise KilledError

        broker.before = refuse
        with pytest.raises(KilledError):
            loop.run_once()
        assert broker.messages("forecasts")
        assert {found.position for found in broker.committed.values()} == {0}


class TestReplay:
    def test_of_records_whose_rows_were_never_written_is_silent_and_complete(self) -> None:
        """The slowest way back: no row at all, everything is read again from the beginning."""
        settings = make_settings(state={"row_every": 10_000})
        broker = feed(150, seed=2)
        records = copy_input(broker)
        loop = start(broker, settings, make_model(settings), poll_records=20)
        drain(loop)
        assert not broker.messages(STATE_TOPIC)
        assert {found.resume_from for found in broker.committed.values()} == {0}
        sent = len(broker.sent)
        again = start(broker, settings, make_model(settings), poll_records=33)
        drain(again)
        assert len(broker.sent) == sent
        assert_same_state(again, loop)
        feed_more(broker, 60, seed=9)
        feed_more(records, 60, seed=9)
        drain(again)
        once = start(records, settings, make_model(settings))
        drain(once)
        assert by_id(broker).keys() == by_id(records).keys()
        assert_same_state(again, once)

    def test_moves_no_counter_but_that_of_replayed_records(self) -> None:
        """An alert on what happens must not ring again for what happened before a restart."""
        settings = make_settings(state={"row_every": 10_000})
        broker = feed(150, seed=2)
        drain(start(broker, settings, make_model(settings, network=FailsAtTimes)))
        registry, failed = CollectorRegistry(), FailsAtTimes.failed
        exported = PrometheusTelemetry(registry, "1", ManualClock())
        model = make_model(settings, network=FailsAtTimes)
        drain(start(broker, settings, model, telemetry=exported))
        assert FailsAtTimes.failed > failed, "no output was replayed that was not finite"
        moved = {
            sample.name
            for family in registry.collect()
            for sample in family.samples
            if sample.name.endswith(("_total", "_count")) and sample.value
        }
        of_the_process = ("process_", "python_", "forecastd_stage_", "forecastd_restore")
        told = {name for name in moved if not name.startswith(of_the_process)}
        assert told == {"forecastd_records_replayed_total"}

    def test_tells_of_no_series_that_was_evicted_before(self) -> None:
        settings = make_settings(state={"row_every": 10_000}, windows={"max_series": 3})
        broker, before, after = feed(300, seed=2, series=6), Telemetry(), Telemetry()
        drain(start(broker, settings, telemetry=before))
        assert before.heard(SeriesEvicted)
        loop = start(broker, settings, telemetry=after)
        drain(loop)
        assert sum(turn.replayed for turn in after.heard(TurnCompleted)) > 0
        assert not after.heard(SeriesEvicted)

    def test_ends_at_a_committed_position_that_only_markers_lie_below(self) -> None:
        """A marker of a transaction takes an offset and is never polled."""
        settings = make_settings(state={"row_every": 10_000})
        broker = feed(60, seed=3)
        drain(start(broker, settings))
        for partition in broker.records:
            broker.mark(partition)
            end = broker.end(partition)
            broker.committed[partition] = broker.committed[partition]._replace(position=end)
        loop = start(broker, settings)
        drain(loop)
        assert loop.is_ready
        assert all(at.position == broker.end(p) for p, at in loop.served.items())
