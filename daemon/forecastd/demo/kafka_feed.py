"""`forecastd feed`: this machine's metrics and the seasonal series, as records, as they happen."""

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
from forecastd.demo.seasonal_series import SEASONAL_SERIES
from forecastd.errors import BrokerError, TopicError
from forecastd.kafka_connection import build_client, client_words, connection_options
from forecastd.kafka_topics import TopicAdmin
from forecastd.settings import KafkaSettings
from forecastd.topic_plan import TopicPlan

SEASONAL_MS = 200
"""Between two values of a seasonal series. The demo's history has the same step."""

_MACHINE_MS = 300
"""Between two values of this machine. Less often, because the page shows the busiest series, and
the seasons are what there is to see."""

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


def feed_main(broker: str, topic: str, partitions: int) -> int:
    """Feed until SIGTERM or Ctrl-C; the exit status of `forecastd feed`.

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
            _Feed(settings, topic, machine).run(stop)
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

    def run(self, stop: threading.Event) -> None:
        """Feed until `stop` is set."""
        sources: list[tuple[float, Callable[[int], Mapping[str, float]]]] = [
            (SEASONAL_MS / 1000, _seasonal),
            (_MACHINE_MS / 1000, lambda _: self._machine.sample()),
        ]
        due_s = [time.monotonic() + period_s for period_s, _ in sources]
        try:
            while not stop.wait(max(0.0, min(due_s) - time.monotonic())):
                now_s = time.monotonic()
                for at, (period_s, sample) in enumerate(sources):
                    if due_s[at] <= now_s:
                        self._send(sample)
                        # After a stall the ticks that were missed stay missed.
                        due_s[at] = max(due_s[at] + period_s, now_s)
        finally:
            self._producer.close(timeout=_CLOSE_S)

    def _send(self, sample: Callable[[int], Mapping[str, float]]) -> None:
        at_ms = time.time_ns() // 1_000_000
        try:
            for series, value in sample(at_ms).items():
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


def _seasonal(at_ms: int) -> dict[str, float]:
    now = np.array([at_ms])
    return {series.name: float(series.values(now)[0]) for series in SEASONAL_SERIES}
