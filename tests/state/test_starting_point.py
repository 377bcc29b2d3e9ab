from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from forecastd.errors import RestoreError
from forecastd.loop import Loop
from forecastd.memory.log import MemoryBroker, Request
from forecastd.observe.events import (
    OffsetsReset,
    PartitionRestored,
    RowsUnreadable,
    TurnCompleted,
)
from forecastd.records import Committed, Message
from forecastd.settings import Settings
from forecastd.state.row_key import encode_key
from tests.in_memory import (
    P0,
    P1,
    STATE_TOPIC,
    Telemetry,
    assert_same,
    by_id,
    copy_input,
    drain,
    feed,
    feed_more,
    make_model,
    make_settings,
    published,
    run,
    start,
)
from tests.slow_daemon import SlowDaemon


class KilledError(Exception):
    """SIGKILL."""


def settings_with(**state: Any) -> Settings:
    return make_settings(state={"row_every": 1, **state})


def run_first(settings: Settings, records: int = 90) -> MemoryBroker:
    """A broker on which a daemon with a model has done its work."""
    broker = feed(records, seed=5)
    run(broker, settings, make_model(settings), 20)
    return broker


def from_offset(broker: MemoryBroker, offset: int, settings: Settings) -> SlowDaemon:
    """What a daemon makes of the input that begins there."""
    slow = SlowDaemon(settings, make_model(settings))
    for partition in broker.records:
        for record in broker.read(partition, offset):
            slow.record(partition, record)
    return slow


def restart(broker: MemoryBroker, settings: Settings) -> tuple[Loop, Telemetry]:
    heard = Telemetry()
    loop = start(broker, settings, make_model(settings), poll_records=30, telemetry=heard)
    drain(loop)
    return loop, heard


def assert_began_anew(
    broker: MemoryBroker, settings: Settings, first_sent: int, offset: int
) -> None:
    """What was sent since is what the input from `offset` on gives to a daemon just born."""
    since = MemoryBroker(sent=broker.sent[first_sent:])
    slow = from_offset(broker, offset, settings)
    found = by_id(since)
    assert found.keys() == slow.messages.keys()
    for key, message in found.items():
        assert_same(message, slow.messages[key], rtol=2e-5, flags={"reset"})
    windows = [message for message in published(since) if "cold" not in message["flags"]]
    flagged = [message for message in windows if "reset" in message["flags"]]
    firsts: dict[tuple[int, str], Any] = {}
    for message in windows:
        firsts.setdefault((message["input"]["partition"], message["series"]), message)
    assert flagged == list(firsts.values())


class TestFirstStart:
    def test_commits_where_it_begins_at_once(self) -> None:
        """Otherwise a crash before the first commit could begin elsewhere (`latest`)."""
        broker = feed(30)
        loop = start(broker, make_settings())
        loop.run_once()
        assert broker.committed == {P0: Committed(0, 0)}
        loop.run_once()
        assert broker.committed[P1] == Committed(0, 0)

    def test_without_history_is_silent_up_to_the_end_it_found(self) -> None:
        """State moves as it would have, and nothing is published for what was there before."""
        settings = make_settings(publish={"history": False})
        broker = feed(120, seed=5)
        ends = {partition: broker.end(partition) for partition in broker.records}
        loop = start(broker, settings, make_model(settings), poll_records=30)
        loop.run_once()
        assert broker.committed == {P0: Committed(ends[P0], 0)}
        drain(loop)
        assert not broker.messages("forecasts")
        assert not broker.messages("dead-letters")
        feed_more(broker, 60, seed=6)
        drain(loop)
        whole = copy_input(broker)
        run(whole, make_settings(), make_model(settings))
        wanted = {
            key: message
            for key, message in by_id(whole).items()
            if message["input"]["last_offset"] >= ends[P0 if "records-0" in key else P1]
        }
        found = by_id(broker)
        assert found.keys() == wanted.keys()
        for key, message in found.items():
            assert_same(message, wanted[key])

    def test_without_history_goes_on_in_silence_after_a_crash(self) -> None:
        settings = make_settings(publish={"history": False}, state={"row_every": 1})
        broker = feed(120, seed=5)
        for turns in (2, 4, 5, 8):
            loop = start(broker, settings, make_model(settings), poll_records=10)
            for _ in range(turns):
                loop.run_once()
        run(broker, settings, make_model(settings))
        assert not broker.messages("forecasts")
        assert not broker.messages("dead-letters")
        assert broker.committed[P0].position == max(r.offset for r in broker.records[P0]) + 1


class TestRestart:
    def test_goes_on_where_it_was(self) -> None:
        settings = settings_with()
        broker = run_first(settings)
        sent = len(broker.sent)
        _, heard = restart(broker, settings)
        assert len(broker.sent) == sent
        assert not heard.heard(OffsetsReset)
        told = {event.partition: event for event in heard.heard(PartitionRestored)}
        for partition, committed in broker.committed.items():
            assert told[partition].position == committed.position
            assert told[partition].resume_from == committed.resume_from
            assert told[partition].series == 4

    def test_tells_what_it_replays_as_replayed_and_as_nothing_else(self) -> None:
        settings = settings_with(row_every=1_000)
        broker = run_first(settings)
        resumed = {at: committed.resume_from or 0 for at, committed in broker.committed.items()}
        _, heard = restart(broker, settings)
        turns = heard.heard(TurnCompleted)
        below = sum(len(broker.read(partition, at)) for partition, at in resumed.items())
        assert sum(turn.replayed for turn in turns) == below > 80
        for turn in turns:
            assert (turn.records, turn.observations, turn.late, turn.tombstones) == (0, 0, 0, 0)
            assert turn.delay_seconds == ()


def by_another_tool(broker: MemoryBroker) -> int:
    """`kafka-consumer-groups --reset-offsets --to-offset 20`."""
    broker.committed = {partition: Committed(20, None) for partition in broker.records}
    return 20


def without_group(broker: MemoryBroker) -> int:
    """The group was deleted, or its offsets expired."""
    broker.committed = {}
    return 0


def beyond_the_end(broker: MemoryBroker) -> int:
    """The input topic was made anew, with fewer records."""
    for partition in broker.records:
        broker.records[partition] = broker.records[partition][:10]
        broker.ends[partition] = 10
    return 0


def deleted(broker: MemoryBroker) -> int:
    """Retention has deleted what a restart would have to read again."""
    for partition, at in broker.committed.items():
        assert at.resume_from is not None
        assert at.resume_from < at.position
        broker.delete_below(partition, at.resume_from + 1)
    return -1


RESETS = [by_another_tool, without_group, beyond_the_end]


class TestSeriesWhoseRowCannotBeRead:
    def test_begin_anew_behind_the_replay_and_say_so(self) -> None:
        """Not in its midst: its neighbours' rows decide where a replay begins."""
        settings = settings_with(row_every=10_000)
        broker = run_first(settings)
        positions = {partition: at.position for partition, at in broker.committed.items()}
        assert {at.resume_from for at in broker.committed.values()} <= {0, 1}
        for partition in broker.records:
            key = encode_key("s0", "somebody")
            broker.sent.append(Message(STATE_TOPIC, key, b"no row", partition.partition))
        sent = len(broker.sent)
        feed_more(broker, 90, seed=6)
        _, heard = restart(broker, settings)
        assert [event.count for event in heard.heard(RowsUnreadable)] == [1, 1]
        since = published(MemoryBroker(sent=broker.sent[sent:]))
        for partition, position in positions.items():
            ours = [m for m in since if m["input"]["partition"] == partition.partition]
            begun = [m for m in ours if m["series"] == "s0"]
            assert all(message["input"]["first_offset"] >= position for message in begun)
            windows = [message for message in begun if "cold" not in message["flags"]]
            assert ["reset" in m["flags"] for m in windows] == [True] + [False] * (len(windows) - 1)
            assert not any("reset" in m["flags"] for m in ours if m["series"] != "s0")


class TestReset:
    @pytest.mark.parametrize("reset", RESETS)
    def test_begins_every_series_anew_and_says_so(self, reset: Any) -> None:
        settings = settings_with()
        broker = run_first(settings)
        offset, sent = reset(broker), len(broker.sent)
        feed_more(broker, 60, seed=6)
        _, heard = restart(broker, settings)
        assert [event.series for event in heard.heard(OffsetsReset)] == [4, 4]
        assert_began_anew(broker, settings, sent, offset)

    def test_follows_when_retention_was_faster(self) -> None:
        settings = settings_with(row_every=3)
        broker = run_first(settings)
        deleted(broker)
        positions = {partition: at.position for partition, at in broker.committed.items()}
        sent = len(broker.sent)
        feed_more(broker, 60, seed=6)
        _, heard = restart(broker, settings)
        assert len(heard.heard(OffsetsReset)) == 2
        since = MemoryBroker(sent=broker.sent[sent:])
        assert all(
            message["input"]["first_offset"] >= positions[P0 if "records-0" in key else P1]
            for key, message in by_id(since).items()
        )

    @pytest.mark.parametrize("reset", RESETS)
    @pytest.mark.parametrize("kills", [1, 5])
    def test_that_is_killed_begins_anew_all_the_same(self, reset: Any, kills: int) -> None:
        """Were our commit to stand beside an old row for a moment, a restart would believe both.

        It would skip whatever lies below the row's offset.
        """
        settings = settings_with()
        broker = run_first(settings)
        offset, sent = reset(broker), len(broker.sent)
        feed_more(broker, 60, seed=6)
        left = kills

        def kill(request: Request, message: Message | None) -> None:
            nonlocal left
            is_state = message is not None and message.topic == STATE_TOPIC
            left -= request == "commit" or is_state
            if left == 0:
                raise KilledError

        broker.before = kill
        with pytest.raises(KilledError):
            restart(broker, settings)
        broker.before = MemoryBroker().before
        restart(broker, settings)
        found = by_id(MemoryBroker(sent=broker.sent[sent:]))
        assert found.keys() == from_offset(broker, offset, settings).messages.keys()

    @pytest.mark.parametrize("seed", range(3))
    def test_is_behind_us_at_every_later_restart(self, seed: int) -> None:
        """The old rows, of higher offsets, stay on the topic until compaction removes them."""
        rng, settings = np.random.default_rng(seed), settings_with()
        broker = run_first(settings)
        sent, offset = len(broker.sent), by_another_tool(broker)
        feed_more(broker, 60, seed=6)
        for _ in range(6):
            loop = start(broker, settings, make_model(settings), poll_records=8)
            for _ in range(int(rng.integers(3, 8))):
                loop.run_once()
        _, heard = restart(broker, settings)
        assert not heard.heard(OffsetsReset)
        slow = from_offset(broker, offset, settings)
        found = by_id(MemoryBroker(sent=broker.sent[sent:]))
        assert found.keys() == slow.messages.keys()
        told = {message["series"] for message in found.values() if "reset" in message["flags"]}
        assert told == {m["series"] for m in found.values() if "cold" not in m["flags"]}
        flags = {"reset", "restored"}
        for key, message in found.items():
            assert_same(message, slow.messages[key], rtol=2e-5, flags=flags)

    @pytest.mark.parametrize("reset", [*RESETS, deleted])
    def test_may_stop_the_daemon_instead(self, reset: Any) -> None:
        settings = settings_with(on_gap="stop", row_every=3)
        broker = run_first(settings)
        reset(broker)
        committed, sent = dict(broker.committed), list(broker.sent)
        with pytest.raises(RestoreError, match=r"^records\[0\]: .+, wanted offsets that fit .+"):
            restart(broker, settings)
        assert (broker.committed, broker.sent) == (committed, sent)
