from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from forecastd.clock import ManualClock
from forecastd.errors import BrokerError, RestoreError
from forecastd.loop import Loop
from forecastd.memory.log import MemoryBroker, MemorySource, Request
from forecastd.observe.events import BrokerLost, LoopTurned, Stopped, Stopping, TurnCompleted
from forecastd.records import Committed, Message
from forecastd.service import REFUSALS_MAX, RETRY_S, SNAPSHOT_S, Service, StopSignal
from tests.in_memory import (
    P0,
    Telemetry,
    assert_same,
    by_id,
    copy_input,
    feed,
    feed_more,
    make_settings,
    run,
    start,
)


@dataclass(slots=True)
class Patient(StopSignal):
    """A stop signal whose pauses pass at once; `waits` are their lengths."""

    waits: list[float] = field(default_factory=list)

    def wait(self, seconds: float) -> bool:
        self.waits.append(seconds)
        return bool(self)

    def ask(self) -> None:
        """As SIGTERM does."""
        self.name = "SIGTERM"
        self._asked.set()


class Bench:
    """A service over a broker in memory, which is asked to stop at the `stop_at`-th poll."""

    def __init__(self, broker: MemoryBroker, stop_at: int = 40) -> None:
        self.broker, self.heard, self.clock = broker, Telemetry(), ManualClock()
        self.stop, self.polls, self.shown = Patient(10.0, print), 0, 0
        self.stop_at = stop_at
        self.answering = True
        self.failing: dict[Request, int] = {}
        self.loops: list[Loop] = []
        broker.before = self.before
        self.service = Service(
            self.connect, self.show, lambda: self.answering, self.stop, self.heard, self.clock
        )

    def before(self, request: Request, _message: Message | None) -> None:
        if request == "poll":
            self.polls += 1
            self.clock.advance(0.2)
            if self.polls >= self.stop_at:
                self.stop.ask()
        if self.failing.get(request, 0):
            self.failing[request] -= 1
            raise BrokerError(f"{request}: no answer")

    def connect(self) -> Loop:
        self.loops.append(
            start(self.broker, make_settings(), poll_records=20, telemetry=self.heard)
        )
        return self.loops[-1]

    def show(self, _loop: Loop) -> None:
        self.shown += 1


@pytest.fixture(autouse=True)
def _thaw() -> Iterator[None]:
    """A service freezes what the collector looks at; other tests have not asked for that."""
    yield
    gc.unfreeze()


class TestService:
    def test_works_until_it_is_asked_to_stop(self) -> None:
        whole = feed(100)
        bench = Bench(copy_input(whole))
        run(whole, make_settings())
        bench.service.run()
        assert by_id(bench.broker).keys() == by_id(whole).keys()
        assert [type(event) for event in bench.heard.events[-2:]] == [Stopping, Stopped]
        assert bench.heard.heard(Stopping) == [Stopping("SIGTERM")]
        assert len(bench.loops) == 1
        assert bench.stop.waits == []

    def test_finishes_the_turn_in_which_it_is_asked(self) -> None:
        """The poll in hand is published, saved and committed."""
        bench = Bench(feed(100), stop_at=4)
        bench.service.run()
        assert bench.polls == 4
        (loop,) = bench.loops
        assert bench.broker.committed[P0].position == loop.served[P0].position > 0

    @pytest.mark.parametrize("request_kind", ["poll", "send", "commit", "rows"])
    def test_starts_over_from_the_last_commit_when_the_broker_fails(
        self, request_kind: Request
    ) -> None:
        whole = feed(100)
        bench = Bench(copy_input(whole))
        bench.failing[request_kind] = 3
        run(whole, make_settings())
        bench.service.run()
        found, wanted = by_id(bench.broker), by_id(whole)
        assert found.keys() == wanted.keys()
        for key, message in found.items():
            assert_same(message, wanted[key], flags={"restored"})
        lost = bench.heard.heard(BrokerLost)
        assert [event.reason for event in lost] == [f"{request_kind}: no answer"] * 3
        assert len(bench.loops) == 4

    def test_waits_longer_from_failure_to_failure_until_records_flow_again(self) -> None:
        bench = Bench(feed(60))
        bench.failing["poll"] = 6
        bench.service.run()
        assert bench.stop.waits == [*RETRY_S, RETRY_S[-1], RETRY_S[-1]]
        assert [event.retry_seconds for event in bench.heard.heard(BrokerLost)] == bench.stop.waits
        bench.stop._asked.clear()
        bench.stop.waits.clear()
        bench.failing["poll"], bench.stop_at = 1, bench.polls + 9
        bench.service.run()
        assert bench.stop.waits == [RETRY_S[0]]

    @pytest.mark.parametrize("request_kind", ["poll", "send", "commit"])
    def test_ends_when_brokers_that_answer_refuse_again_and_again(
        self, request_kind: Request
    ) -> None:
        """A topic that is gone or a permission that was taken away is not cured by trying."""
        bench = Bench(feed(60), stop_at=1000)
        bench.failing[request_kind] = 1000
        with pytest.raises(BrokerError) as caught:
            bench.service.run()
        assert str(caught.value) == (
            f"{request_kind}: no answer; {REFUSALS_MAX} times in a row, by brokers that answer"
        )
        assert len(bench.heard.heard(BrokerLost)) == REFUSALS_MAX
        assert sum(bench.stop.waits) >= 33

    def test_never_ends_while_no_broker_answers(self) -> None:
        failures = REFUSALS_MAX + 2
        bench = Bench(feed(60), stop_at=failures + 20)
        bench.answering = False
        bench.failing["poll"] = failures
        bench.service.run()
        assert len(bench.heard.heard(BrokerLost)) == failures
        assert bench.heard.heard(Stopped)

    def test_counts_refusals_anew_after_an_outage(self) -> None:
        """Brokers that come back refuse for a while: their coordinators load."""
        bench = Bench(feed(60))
        bench.failing["poll"] = 2 * REFUSALS_MAX - 1
        bench.service.answers = lambda: len(bench.heard.heard(BrokerLost)) != REFUSALS_MAX
        bench.service.run()
        assert len(bench.heard.heard(BrokerLost)) == 2 * REFUSALS_MAX - 1

    def test_counts_refusals_anew_after_a_turn_that_succeeds(self) -> None:
        bench = Bench(feed(20 * (REFUSALS_MAX + 5)), stop_at=10_000)
        failed_at = [0]

        def before(request: Request, message: Message | None) -> None:
            bench.before(request, message)
            records = sum(event.records for event in bench.heard.heard(TurnCompleted))
            if request == "poll" and records > failed_at[-1]:
                failed_at.append(records)
                raise BrokerError("poll: no answer")
            if len(failed_at) > REFUSALS_MAX:
                bench.stop.ask()

        bench.broker.before = before
        bench.service.run()
        assert len(bench.heard.heard(BrokerLost)) == REFUSALS_MAX
        assert bench.stop.waits == [RETRY_S[0]] * REFUSALS_MAX

    def test_takes_no_replay_for_a_success(self) -> None:
        """A replay sends nothing, so that it would hide for ever that nothing can be sent."""
        settings = make_settings(state={"row_every": 1000})
        broker = feed(100)
        run(broker, settings)
        feed_more(broker, 20)
        bench = Bench(broker, stop_at=1000)
        bench.failing["send"] = 1000
        with pytest.raises(BrokerError, match="times in a row"):
            bench.service.run()
        assert sum(event.replayed for event in bench.heard.heard(TurnCompleted)) > 0

    def test_asks_nobody_once_it_is_to_stop(self) -> None:
        bench = Bench(feed(20), stop_at=1)
        bench.failing["poll"] = 1

        def answers() -> bool:
            pytest.fail("asked a broker that may take its time")

        bench.service.answers = answers
        bench.service.run()

    def test_turns_its_heartbeat_while_the_broker_is_away(self) -> None:
        bench = Bench(feed(20))
        bench.failing["poll"] = 2
        bench.service.run()
        beats = [event.broker_reachable for event in bench.heard.heard(LoopTurned)]
        assert beats[:2] == [False, False]
        assert all(beats[2:])
        times = [event.at_s for event in bench.heard.heard(LoopTurned)]
        assert times == sorted(times)

    def test_shows_the_page_twice_a_second(self) -> None:
        bench = Bench(feed(20), stop_at=41)
        bench.service.run()
        # 0.2 s a turn: every third turn is due.
        assert SNAPSHOT_S == 0.5
        assert bench.shown == 14

    def test_ends_with_what_an_operator_must_mend(self) -> None:
        bench = Bench(feed(20))
        bench.service.run()
        bench.stop._asked.clear()
        bench.broker.committed[P0] = Committed(5, None)
        settings = make_settings(state={"on_gap": "stop"})
        bench.service.connect = lambda: start(bench.broker, settings)
        with pytest.raises(RestoreError):
            bench.service.run()

    def test_outlives_a_broker_that_does_not_hear_it_leave(self) -> None:
        class Deaf(MemorySource):
            def close(self, timeout_s: float) -> None:
                raise BrokerError("leave the group: no answer")

        bench = Bench(feed(20), stop_at=5)

        def connect() -> Loop:
            loop = bench.connect()
            loop.source = Deaf(bench.broker, 20)
            return loop

        bench.service.connect = connect
        bench.service.run()
        assert bench.heard.heard(BrokerLost) == [BrokerLost("leave the group: no answer", 0.0)]
        assert isinstance(bench.heard.events[-1], Stopped)


WAITS = """
import signal, sys, time
from forecastd.service import StopSignal
stop = StopSignal(float(sys.argv[1]), lambda said: print(said, flush=True))
stop.install()
print("ready", flush=True)
while True:
    stop.wait(60)
    if stop:
        print(stop.name, 0 <= stop.seconds < 30, flush=True)
        if sys.argv[2] == "ends":
            sys.exit(0)
        signal.pause()
"""


class TestStopSignal:
    @pytest.fixture
    def process(self, request: pytest.FixtureRequest) -> Iterator[subprocess.Popen[str]]:
        """A process that waits for signals; its time to stop, and whether it uses it."""
        process = subprocess.Popen(
            [sys.executable, "-c", WAITS, *request.param],
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ,
        )
        with process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process
            process.kill()

    @pytest.mark.parametrize("process", [("60", "ends")], indirect=True)
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_wakes_up_who_waits(
        self, process: subprocess.Popen[str], number: signal.Signals
    ) -> None:
        process.send_signal(number)
        said, _ = process.communicate(timeout=30)
        assert said == f"{number.name} True\n"
        assert process.returncode == 0

    @pytest.mark.parametrize("process", [("60", "hangs")], indirect=True)
    def test_the_second_time_ends_at_once(self, process: subprocess.Popen[str]) -> None:
        process.send_signal(signal.SIGINT)
        assert process.stdout is not None
        assert process.stdout.readline() == "SIGINT True\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 128 + signal.SIGTERM

    @pytest.mark.parametrize("process", [("0.05", "hangs")], indirect=True)
    def test_ends_a_process_that_does_not_stop_in_time(
        self, process: subprocess.Popen[str]
    ) -> None:
        process.send_signal(signal.SIGTERM)
        said, _ = process.communicate(timeout=30)
        last = said.splitlines()[-1]
        assert last == "shutdown_timeout: not stopped after 0.05 s, wanted an end"
        assert process.returncode == 1

    def test_that_was_not_heard_is_false(self) -> None:
        stop = StopSignal(1.0, print)
        assert not stop
        assert not stop.wait(0.0)
        assert stop.name == ""
