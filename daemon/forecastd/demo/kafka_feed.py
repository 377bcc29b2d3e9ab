"""`forecastd feed`: this machine's metrics and made-up series, as records, as they happen.

What is made up can be given a past first: it is known at every time, the machine is not.
"""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping

import numpy as np
from kafka import KafkaProducer
from kafka.errors import KafkaError
from pydantic import ValidationError

from forecastd.demo.errors import DemoError
from forecastd.demo.feed_record import feed_record
from forecastd.demo.psutil_machine import Machine
from forecastd.demo.restless_series import RESTLESS_SERIES
from forecastd.demo.seasonal_series import SEASONAL_SERIES
from forecastd.errors import BrokerError, TopicError
from forecastd.kafka_connection import build_client, client_words, connection_options
from forecastd.kafka_topics import TopicAdmin
from forecastd.settings import KafkaSettings
from forecastd.topic_plan import TopicPlan

MADE_UP = (*SEASONAL_SERIES, *RESTLESS_SERIES)
"""Series that can be asked for any time."""

MADE_UP_MS = 200
"""Between two values of each of these, in their past as in their present."""

_MACHINE_MS = 300
"""Between two values of this machine. Less often, because the page shows the busiest series, and
the seasons are what there is to see."""

_PAST_STEPS = 50
"""Steps of the past that are made at once: one by one takes long."""

_RETRY_S = 1.0
_CLOSE_S = 5.0


def kafka_settings(broker: str) -> KafkaSettings:
    """How to reach `--broker`.

    Raises:
        DemoError: it is no address.
    """
    try:
        return KafkaSettings.model_validate({"bootstrap_servers": broker})
    except ValidationError as error:
        wanted = "host:port, such as localhost:9092"
        raise DemoError(f"--broker: {broker!r}, wanted {wanted}") from error


def ensure_topic(admin: TopicAdmin, topic: str, partitions: int) -> None:
    """Create the topic where it is missing; one that is there stays as it is.

    Raises:
        BrokerError: the broker does not answer.
        TopicError: the topic can neither be seen nor created.
    """
    there, hidden = admin.describe([topic])
    if hidden:
        raise TopicError(hidden[topic])
    if topic not in there:
        operations = frozenset({"DESCRIBE", "WRITE"})
        admin.create([TopicPlan(topic, "input", partitions, operations)])


def feed_main(broker: str, topic: str, partitions: int, history_s: float = 0.0) -> int:
    """Feed until SIGTERM or Ctrl-C; the exit status of `forecastd feed`.

    Args:
        broker: `host:port`.
        topic: created, with so many `partitions`, where it is missing.
        partitions: of the topic.
        history_s: how much of the past of what is made up is sent first.

    Raises:
        DemoError: the address is none, or psutil is missing.
        TopicError: the topic can neither be seen nor created.
        SettingsError: the broker refuses the login.
    """
    settings = kafka_settings(broker)
    stop = threading.Event()
    before = {
        number: signal.signal(number, lambda *_: stop.set())
        for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        machine = Machine()
        if _topic_is_there(settings, topic, partitions, stop):
            _Feed(settings, topic, machine).run(stop, round(1000 * history_s))
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return 0


def _topic_is_there(
    settings: KafkaSettings, topic: str, partitions: int, stop: threading.Event
) -> bool:
    """Try until the broker has the topic; False where the end is asked for first."""
    complaint = _Complaint()
    while not stop.is_set():
        try:
            with TopicAdmin(settings, timeout_s=2.0) as admin:
                ensure_topic(admin, topic, partitions)
        except BrokerError as error:
            complaint.say(str(error))
            stop.wait(_RETRY_S)
        else:
            return True
    return False


class _Feed:
    """Sends what is due. What a broker that is away did not take is gone: the next value counts."""

    def __init__(self, settings: KafkaSettings, topic: str, machine: Machine) -> None:
        self._topic = topic
        self._machine = machine
        self._complaint = _Complaint()
        self._producer = build_client(
            KafkaProducer,
            **connection_options(settings, "feed"),
            acks="all",
            linger_ms=5,
            delivery_timeout_ms=settings.delivery_timeout,
            max_block_ms=settings.request_timeout,
        )

    def run(self, stop: threading.Event, history_ms: int) -> None:
        """Catch up with the present from `history_ms` ago, then feed, until `stop` is set."""
        try:
            self._send_past(stop, history_ms)
            self._send_present(stop)
        finally:
            self._producer.close(timeout=_CLOSE_S)

    def _send_past(self, stop: threading.Event, history_ms: int) -> None:
        """What is due of the made-up series; meanwhile more is, so that no gap is left."""
        at_ms = _now_ms() - history_ms
        while (due := (_now_ms() - at_ms) // MADE_UP_MS) > 0 and not stop.is_set():
            times = at_ms + MADE_UP_MS * np.arange(min(due, _PAST_STEPS))
            columns = {series.name: series.values(times).tolist() for series in MADE_UP}
            for step_ms, values in zip(
                times.tolist(), zip(*columns.values(), strict=True), strict=True
            ):
                self._send(step_ms, dict(zip(columns, values, strict=True)))
            at_ms += MADE_UP_MS * len(times)

    def _send_present(self, stop: threading.Event) -> None:
        sources: list[tuple[int, Callable[[int], Mapping[str, float]]]] = [
            (MADE_UP_MS, _made_up),
            (_MACHINE_MS, lambda _: self._machine.sample()),
        ]
        due_s = [time.monotonic() + period_ms / 1000 for period_ms, _ in sources]
        while not stop.wait(max(0.0, min(due_s) - time.monotonic())):
            now_s, at_ms = time.monotonic(), _now_ms()
            for at, (period_ms, sample) in enumerate(sources):
                if due_s[at] <= now_s:
                    self._send(at_ms, sample(at_ms))
                    # After a stall the ticks that were missed stay missed.
                    due_s[at] = max(due_s[at] + period_ms / 1000, now_s)

    def _send(self, at_ms: int, values: Mapping[str, float]) -> None:
        try:
            for series, value in values.items():
                key, record = feed_record(series, at_ms, value)
                sent = self._producer.send(self._topic, value=record, key=key)
                sent.add_callback(self._complaint.forget)
                sent.add_errback(self._lost)
        except KafkaError as error:
            self._lost(error)

    def _lost(self, error: Exception) -> None:
        self._complaint.say(f"{self._topic}: lost a record ({client_words(error)}), wanted it sent")


class _Complaint:
    """Says a sentence on stderr, and not again until it has changed."""

    def __init__(self) -> None:
        self._said = ""

    def say(self, sentence: str) -> None:
        """Complain."""
        if sentence != self._said:
            self._said = sentence
            sys.stderr.write(f"forecastd: {sentence}\n")
            sys.stderr.flush()

    def forget(self, _answer: object) -> None:
        """All is well: what was said would be news again."""
        self._said = ""


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _made_up(at_ms: int) -> dict[str, float]:
    now = np.array([at_ms])
    return {series.name: float(series.values(now)[0]) for series in MADE_UP}
