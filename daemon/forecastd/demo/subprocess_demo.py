"""`forecastd demo`: a broker, the daemon and a feed, each a process of its own, and what they do.

    broker ─▶ daemon ─▶ feed ─▶ watch

The feed begins with some of the past of its made-up series. The daemon reads that as it would the
records that a topic has kept, forecasts with its baseline, and trains a model on what it has read.

Everything temporary lies in one folder, and goes with it. The parts end in the opposite order.
"""

from __future__ import annotations

import re
import secrets
import signal
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from forecastd.demo.errors import DemoError, EmbeddedKafkaError
from forecastd.demo.http_daemon import DaemonPage
from forecastd.demo.http_watch import Watch
from forecastd.demo.kafka_broker import EmbeddedKafka
from forecastd.demo.kafka_demo_topics import DemoNames, delete_all
from forecastd.demo.kafka_feed import ensure_topic, kafka_settings
from forecastd.demo.kafka_ports import demand_free
from forecastd.demo.psutil_machine import Machine
from forecastd.demo.subprocess_child import Child
from forecastd.demo.summary import Summary
from forecastd.kafka_topics import TopicAdmin
from forecastd.patience import looks

SETTINGS = Path(__file__).with_name("demo.toml")

HISTORY_MINUTES = 10
"""Past of its made-up series that the feed begins with; `training.min_windows` is made for it."""

_PARTITIONS = 4
_BROKER_S, _READY_S = 5.0, 120.0
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_INTERRUPTED = 130


@dataclass(frozen=True, slots=True)
class Wishes:
    """What was asked for.

    Attributes:
        broker: somebody else's, `host:port`; None starts one.
        for_s: how long after the daemon is ready; None: until a signal.
        as_json: the summary as JSON, and stdout for it alone.
        port: of the page; None: a free one.
    """

    broker: str | None = None
    for_s: float | None = None
    as_json: bool = False
    port: int | None = None


def demo_main(wishes: Wishes) -> int:
    """Run it in the foreground; the exit status of `forecastd demo`.

    Raises:
        ForecastdError: one of its parts cannot start, or did not go on.
    """
    before = {number: signal.signal(number, signal.default_int_handler) for number in _SIGNALS}
    try:
        return _Demo(wishes).run()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Demo:
    """One demo; its times count from here."""

    def __init__(self, wishes: Wishes) -> None:
        self._wishes = wishes
        self._start_s = time.monotonic()
        self._kafka: EmbeddedKafka | None = None
        self._watch: Watch | None = None
        self._silence: DemoError | None = None
        prefix = f"forecastd-demo-{secrets.token_hex(3)}-" if wishes.broker else ""
        self._names = DemoNames(prefix)

    def run(self) -> int:
        """Start everything, watch it, end everything, and sum up."""
        is_interrupted = False
        try:
            with ExitStack() as ends:
                self._run(ends)
        except KeyboardInterrupt:
            is_interrupted = True
        summary = self._watch.summary if self._watch is not None else None
        if summary is not None:
            self._print(summary)
        if self._silence is not None:
            raise self._silence
        has_forecasts = summary is not None and summary.forecasts > 0
        is_cut_short = is_interrupted and self._wishes.for_s is not None
        return _INTERRUPTED if is_cut_short and not has_forecasts else 0

    def _run(self, ends: ExitStack) -> None:
        Machine()  # where psutil is missing it is missed now, not once all else is running
        if self._wishes.port is not None:
            demand_free(self._wishes.port)
        temporary = TemporaryDirectory(prefix="forecastd-demo-", ignore_cleanup_errors=True)
        folder = Path(ends.enter_context(temporary))
        try:
            self._start_and_watch(ends, folder)
        except EmbeddedKafkaError as error:
            if str(folder) not in error.then:
                raise
            # It names a log that goes with our folder.
            raise EmbeddedKafkaError(error.where, error.found, error.wanted) from error

    def _start_and_watch(self, ends: ExitStack, folder: Path) -> None:
        names = self._names
        if self._wishes.broker is not None:
            self._prepare(self._wishes.broker, ends)
        bootstrap = self._wishes.broker or self._start_broker(ends, folder)
        broker_s = time.monotonic()
        daemon = ends.enter_context(self._daemon(folder, bootstrap))
        page = self._await_ready(daemon)
        self._watch = Watch(page, self._say, self._start_s, broker_s)
        self._say(f"ready; the page is {page.address} and Ctrl-C ends the demo")
        self._say(f"in the meantime, topics {names.records} and {names.forecasts} of {bootstrap}")
        self._say(
            f"the feed begins with the last {HISTORY_MINUTES} minutes of its made-up series; once"
            " they are read the daemon trains a model"
        )
        # Not earlier: nothing should have to wait for the daemon, and be shown as delayed.
        words = ["feed", "--broker", bootstrap, "--topic", names.records]
        words += ["--history", f"{HISTORY_MINUTES}m"]
        feed = ends.enter_context(Child("feed", words, folder))

        def check() -> None:
            if self._kafka is not None and not self._kafka.pids:
                self._kafka.wait()  # raises, with Kafka's last words
            daemon.check("a daemon that goes on")
            feed.check("a feed that goes on")

        try:
            self._watch.watch(self._wishes.for_s, check)
        finally:
            self._watch.look()
        summary = self._watch.summary
        if summary is None or not summary.forecasts:
            self._silence = daemon.failure("runs, without a forecast", "the first of many")

    def _start_broker(self, ends: ExitStack, folder: Path) -> str:
        self._kafka = EmbeddedKafka(folder / "broker")
        # A clean end would only serve the data, which go with the folder.
        ends.callback(self._kafka.kill)
        self._kafka.start()
        bootstrap = self._kafka.bootstrap
        self._say(f"the broker is ready: {bootstrap}")
        self._prepare(bootstrap, ends)
        return bootstrap

    def _prepare(self, bootstrap: str, ends: ExitStack) -> None:
        """Make the input topic; what a demo makes on somebody else's broker goes at its end."""
        settings = kafka_settings(bootstrap)
        with TopicAdmin(settings, _BROKER_S) as admin:
            if self._names.prefix:
                ends.callback(delete_all, self._names, settings)
            ensure_topic(admin, self._names.records, _PARTITIONS)

    def _daemon(self, folder: Path, bootstrap: str) -> Child:
        names = self._names
        settings = {
            "kafka.bootstrap_servers": bootstrap,
            "kafka.group_id": names.group,
            "ingest.topics": names.records,
            "ingest.dead_letter_topic": names.dead_letters,
            "publish.topic": names.forecasts,
            "observe.port": str(self._wishes.port or 0),
        }
        none = folder / "secrets"  # the user's are of another daemon
        none.mkdir()
        words = ["run", "--config", str(SETTINGS), "--secrets", str(none)]
        words += [f"--{name}={value}" for name, value in settings.items()]
        return Child("daemon", words, folder)

    def _await_ready(self, daemon: Child) -> DaemonPage:
        page, waiting_for = None, "a page"
        for _ in looks(_READY_S):
            daemon.check("a daemon that gets ready")
            if page is None:
                found = re.search(r"address=(http://\S+)", daemon.log.read_text(errors="replace"))
                page = DaemonPage(found[1]) if found else None
            readiness = page.readiness() if page is not None else None
            if page is not None and readiness is not None:
                if readiness.ok:
                    return page
                waiting_for = "; ".join(readiness.waiting_for)
        raise DemoError(f"daemon: after {_READY_S:g} s it waits for {waiting_for}, wanted it ready")

    def _say(self, text: str) -> None:
        """A line for a person; with JSON, stdout is for the summary alone."""
        stream = sys.stderr if self._wishes.as_json else sys.stdout
        stream.write(f"{time.monotonic() - self._start_s:6.1f} s  {text}\n")
        stream.flush()

    def _print(self, summary: Summary) -> None:
        line = summary.to_json() if self._wishes.as_json else summary.to_text()
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()
