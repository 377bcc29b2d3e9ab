"""The daemon as a process: it starts, starts over after a broker's failure, and stops in order."""

from __future__ import annotations

import gc
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import FrameType

from forecastd.clock import Clock
from forecastd.errors import BrokerError
from forecastd.loop import Loop
from forecastd.observe.events import BrokerLost, LoopTurned, Stopped, Stopping, Telemetry

RETRY_S = (0.5, 1.0, 2.0, 5.0)
"""Pauses between attempts; the last one repeats."""

REFUSALS_MAX = 10
"""Failures in a row, each against brokers that answer, after which the process ends.

A rebalance, a takeover or a coordinator that loads passes within a few attempts; with the pauses
between them ten take at least 33 s. What they do not cure is a topic that is gone or a permission
that was taken away, and someone must be told."""

SNAPSHOT_S = 0.5
"""Time between two snapshots for the page."""


@dataclass(slots=True)
class StopSignal:
    """SIGTERM and SIGINT: the first asks for the end, the second ends at once.

    If the graceful end takes longer than `timeout_s` the process ends without it.

    Attributes:
        name: of the signal that was heard.
    """

    timeout_s: float
    say_fatal: Callable[[str], None]
    name: str = ""
    _asked: threading.Event = field(default_factory=threading.Event)
    _asked_s: float = 0.0

    def install(self) -> None:
        """Take over both signals; call from the main thread."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._heard)

    def __bool__(self) -> bool:
        """Whether the end was asked for."""
        return self._asked.is_set()

    @property
    def seconds(self) -> float:
        """Time since it was asked for."""
        return time.monotonic() - self._asked_s

    def wait(self, seconds: float) -> bool:
        """Sleep, and wake up when the end is asked for; whether it is."""
        return self._asked.wait(seconds)

    def _heard(self, number: int, _frame: FrameType | None) -> None:
        if self._asked.is_set():
            os._exit(128 + number)
        # No more than this: whatever the signal interrupts may hold the lock of a log or a metric.
        self.name = signal.Signals(number).name
        self._asked_s = time.monotonic()
        self._asked.set()
        threading.Thread(target=self._end_late, name="shutdown", daemon=True).start()

    def _end_late(self) -> None:
        # A daemon thread: an orderly end does not wait for it.
        time.sleep(self.timeout_s)  # noqa: TID251  # nothing can call the end off
        self.say_fatal(f"shutdown_timeout: not stopped after {self.timeout_s:g} s, wanted an end")
        os._exit(1)


@dataclass(slots=True)
class Service:
    """Runs loops, one after the other, until a signal asks for the end.

    Attributes:
        connect: makes a loop over new clients and an empty table.
        show: hands the page what it shows.
        answers: whether brokers answer, so that a failure is no mere outage.
    """

    connect: Callable[[], Loop]
    show: Callable[[Loop], None]
    answers: Callable[[], bool]
    stop: StopSignal
    telemetry: Telemetry
    clock: Clock
    close_s: float = 5.0
    _failures: int = 0
    _refusals: int = 0

    def run(self) -> None:
        """Turn until the end is asked for. A broker's failure drops everything and starts over.

        Raises:
            BrokerError: it failed `REFUSALS_MAX` times in a row, of brokers that answer.
        """
        is_complete = True
        while not self.stop:
            try:
                is_complete = self._serve()
            except BrokerError as error:
                is_complete = False
                self._pause(error)
        self.telemetry.emit(Stopped(self.stop.seconds, is_complete))

    def _pause(self, error: BrokerError) -> None:
        """Wait before the next attempt, longer from failure to failure."""
        failed_s = self.clock.monotonic_s()
        retry_s = RETRY_S[min(self._failures, len(RETRY_S) - 1)]
        self._failures += 1
        self.telemetry.emit(BrokerLost(str(error), retry_s))
        self.telemetry.emit(LoopTurned(failed_s, broker_reachable=False))
        if self.stop:
            return
        self._refusals = self._refusals + 1 if self.answers() else 0
        if self._refusals == REFUSALS_MAX:
            raise BrokerError(f"{error}; {REFUSALS_MAX} times in a row, by brokers that answer")
        self.stop.wait(max(retry_s - (self.clock.monotonic_s() - failed_s), 0.0))

    def _serve(self) -> bool:
        """Turn until the end is asked for, or another network; whether all ended in order."""
        loop = self.connect()
        # What was made up to here lives as long as the loop: the collector need not go through
        # all of TensorFlow at every turn.
        gc.unfreeze()
        gc.collect()
        gc.freeze()
        is_closed = False
        try:
            self._turn(loop)
            if self.stop:
                self.telemetry.emit(Stopping(self.stop.name))
        finally:
            try:
                loop.close(self.close_s)
                is_closed = True
            except BrokerError as error:
                # What could not be closed is given up; the failure that led here is what counts.
                self.telemetry.emit(BrokerLost(str(error), 0.0))
        return is_closed

    def _turn(self, loop: Loop) -> None:
        shown_s = 0.0
        while not (self.stop or loop.learner.needs_network):
            loop.run_once()
            if loop.heard:  # a replay asks too little of the broker to prove anything
                self._failures = self._refusals = 0
            now_s = self.clock.monotonic_s()
            reachable = loop.source.is_reachable()
            self.telemetry.emit(LoopTurned(now_s, broker_reachable=reachable))
            if now_s - shown_s >= SNAPSHOT_S:
                shown_s = now_s
                self.show(loop)
