"""What settings owe each other: one rule a sentence, each naming the settings that it reads.

A rule whose settings can all be read is applied even where others cannot, so that an operator sees
every fault at once. Rules know names and values only; `settings.py` holds the models.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from forecastd.settings_values import format_duration


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong.

    Attributes:
        where: dotted name of the setting to change.
        found: what it asks for, as a person would write it.
        wanted: what it should ask for.
    """

    where: str
    found: str
    wanted: str

    def sentence(self, source: str | None = None) -> str:
        """The fault as an operator reads it; `source` says where the value came from."""
        said_by = f" ({source})" if source else ""
        return f"{self.where}: {self.found}{said_by}, wanted {self.wanted}"


Check = Callable[..., Iterator[Fault]]


@dataclass(frozen=True, slots=True)
class Rule:
    """A check of the values of the settings named in `reads`, given in that order."""

    reads: tuple[str, ...]
    check: Check


def broken_rules(
    value_of: Callable[[str], Any], unreadable: Collection[str] = ()
) -> Iterator[Fault]:
    """The faults of all rules that read none of the settings or sections in `unreadable`."""
    for rule in RULES:
        sections = {name.partition(".")[0] for name in rule.reads}
        if sections.union(rule.reads).isdisjoint(unreadable):
            yield from rule.check(*map(value_of, rule.reads))


def hints(value_of: Callable[[str], Any]) -> Iterator[str]:
    """What is allowed and seldom meant: one sentence each, for the start and for `check`."""
    horizon = value_of("forecast.horizon")
    stride = value_of("windows.stride") or value_of("windows.timesteps")
    if horizon < stride:
        yield (
            f"forecast.horizon: {horizon}, less than the {stride} steps from one window to the"
            f" next, so that {stride - horizon} of them are forecast by nobody"
        )


def state_topic(group_id: str, topic: str) -> str:
    """The compacted topic that holds the rows of the series of input topic `topic`."""
    return f"{group_id}-{topic}-state"


def _login_has_a_protocol(protocol: str, mechanism: str | None) -> Iterator[Fault]:
    where = "kafka.sasl_mechanism"
    if protocol.startswith("SASL_") and mechanism is None:
        yield Fault(where, "none", f"a mechanism with kafka.security_protocol {protocol}")
    if mechanism is not None and not protocol.startswith("SASL_"):
        found = f"{mechanism} with kafka.security_protocol {protocol}"
        yield Fault(where, found, "none, or kafka.security_protocol SASL_SSL or SASL_PLAINTEXT")
    if mechanism == "AWS_MSK_IAM" and protocol == "SASL_PLAINTEXT":
        yield Fault("kafka.security_protocol", protocol, "SASL_SSL with AWS_MSK_IAM")


def _login_has(name: str, *mechanisms: str) -> Rule:
    """The setting `kafka.<name>` must be there with these mechanisms."""

    def check(mechanism: str | None, value: object) -> Iterator[Fault]:
        if mechanism in mechanisms and value is None:
            yield Fault(f"kafka.{name}", "none", f"a value with kafka.sasl_mechanism {mechanism}")

    return Rule(("kafka.sasl_mechanism", f"kafka.{name}"), check)


def _certificate_has_its_key(certificate: object, key: object) -> Iterator[Fault]:
    if certificate is not None and key is None:
        yield Fault("kafka.ssl_keyfile", "none", "the key of kafka.ssl_certfile")
    if certificate is None and key is not None:
        yield Fault("kafka.ssl_certfile", "none", "the certificate of kafka.ssl_keyfile")


def _files_are_used(protocol: str, *files: object) -> Iterator[Fault]:
    """Certificates that nothing reads are a connection in the clear that looks safe."""
    for name, file in zip(_TLS_FILES, files, strict=True):
        if file is not None and not protocol.endswith("SSL"):
            found = f"a file with kafka.security_protocol {protocol}"
            yield Fault(f"kafka.{name}", found, "none, or kafka.security_protocol SSL or SASL_SSL")


def _request_fits_the_client(request: int) -> Iterator[Fault]:
    """A fetch waits half a second, and a connection is closed after nine idle minutes."""
    if not 500 < request < 540_000:
        wanted = "more than 500ms and less than 9m"
        yield Fault("kafka.request_timeout", format_duration(request), wanted)


def _session_can_be_kept(session: int, poll: int) -> Iterator[Fault]:
    if session < 1_000:
        yield Fault("kafka.session_timeout", format_duration(session), "at least 1s")
    if poll < session:
        wanted = f"at least kafka.session_timeout ({format_duration(session)})"
        yield Fault("kafka.max_poll_interval", format_duration(poll), wanted)


def _delivery_outlasts_a_request(delivery: int, request: int) -> Iterator[Fault]:
    if delivery < request:
        wanted = f"at least kafka.request_timeout ({format_duration(request)})"
        yield Fault("kafka.delivery_timeout", format_duration(delivery), wanted)


def _turn_outlasts_a_delivery(poll: int, delivery: int) -> Iterator[Fault]:
    if poll <= delivery:
        wanted = f"more than kafka.delivery_timeout ({format_duration(delivery)})"
        yield Fault("kafka.max_poll_interval", format_duration(poll), wanted)


def _topics_differ(
    group_id: str, inputs: tuple[str, ...], dead_letters: str, published: str
) -> Iterator[Fault]:
    if repeated := [topic for topic, count in Counter(inputs).items() if count > 1]:
        yield Fault("ingest.topics", f"'{repeated[0]}' twice", "different topics")
    taken = dict.fromkeys(inputs, "an input topic")
    for topic in inputs:
        taken.setdefault(state_topic(group_id, topic), f"the state topic of {topic}")
        if state_topic(group_id, topic) in inputs:
            found = f"'{group_id}', whose state topic of {topic} is an input topic"
            yield Fault("kafka.group_id", found, "another group")
    for purpose in ("models", "windows"):
        taken.setdefault(f"{group_id}-{purpose}", f"the {purpose} topic")
        if f"{group_id}-{purpose}" in inputs:
            found = f"'{group_id}', whose {purpose} topic is an input topic"
            yield Fault("kafka.group_id", found, "another group")
    own = {"ingest.dead_letter_topic": dead_letters, "publish.topic": published}
    for where, topic in own.items():
        if topic in taken:
            yield Fault(where, f"'{topic}', which is {taken[topic]} too", "another topic")
        taken[topic] = "the dead-letter topic"


def _state_topics_have_names(group_id: str, inputs: tuple[str, ...]) -> Iterator[Fault]:
    for topic in inputs:
        excess = len(state_topic(group_id, topic)) - 249
        if excess > 0:
            found = f"a state topic of {topic} that is {excess} characters too long"
            yield Fault("kafka.group_id", found, "names of at most 249 characters together")


def _paths_differ(
    series: tuple[str, ...], time: str | None, values: tuple[str, ...]
) -> Iterator[Fault]:
    times = () if time is None else (time,)
    owners = {"ingest.series": series, "ingest.time": times, "ingest.values": values}
    every = dict.fromkeys((where, path) for where, paths in owners.items() for path in paths)
    for where, path in every:
        if owners[where].count(path) > 1:
            yield Fault(where, f"'{path}' twice", "different paths")
        for other, outer in every:
            if path == outer and where < other:
                yield Fault(where, f"'{path}', which is in {other} too", "a path of its own")
            if path.startswith(f"{outer}."):
                yield Fault(where, f"'{path}' inside '{outer}'", "no path inside another's value")


def _stride_divides(timesteps: int, stride: int | None) -> Iterator[Fault]:
    if stride is not None and timesteps % stride:
        wanted = f"a divisor of windows.timesteps ({timesteps})"
        yield Fault("windows.stride", str(stride), wanted)


def _segment_divides(timesteps: int, segment: int) -> Iterator[Fault]:
    if timesteps % segment:
        wanted = f"a divisor of windows.timesteps ({timesteps})"
        yield Fault("forecast.segment", str(segment), wanted)


def _quantiles_ascend(quantiles: tuple[float, ...]) -> Iterator[Fault]:
    if 0.5 not in quantiles or any(b <= a for a, b in pairwise(quantiles)):
        found = ", ".join(map(str, quantiles)) or "none"
        yield Fault("forecast.quantiles", found, "ascending quantiles with 0.5 among them")


_PASSWORDS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
_TLS_FILES = ("ssl_cafile", "ssl_certfile", "ssl_keyfile", "ssl_crlfile")

RULES = (
    Rule(("kafka.security_protocol", "kafka.sasl_mechanism"), _login_has_a_protocol),
    _login_has("sasl_username", *_PASSWORDS),
    _login_has("sasl_password", *_PASSWORDS),
    _login_has("oauth_token_url", "OAUTHBEARER"),
    _login_has("oauth_client_id", "OAUTHBEARER"),
    _login_has("oauth_client_secret", "OAUTHBEARER"),
    Rule(("kafka.ssl_certfile", "kafka.ssl_keyfile"), _certificate_has_its_key),
    Rule(("kafka.security_protocol", *(f"kafka.{name}" for name in _TLS_FILES)), _files_are_used),
    Rule(("kafka.request_timeout",), _request_fits_the_client),
    Rule(("kafka.session_timeout", "kafka.max_poll_interval"), _session_can_be_kept),
    Rule(("kafka.delivery_timeout", "kafka.request_timeout"), _delivery_outlasts_a_request),
    Rule(("kafka.max_poll_interval", "kafka.delivery_timeout"), _turn_outlasts_a_delivery),
    Rule(
        ("kafka.group_id", "ingest.topics", "ingest.dead_letter_topic", "publish.topic"),
        _topics_differ,
    ),
    Rule(("kafka.group_id", "ingest.topics"), _state_topics_have_names),
    Rule(("ingest.series", "ingest.time", "ingest.values"), _paths_differ),
    Rule(("windows.timesteps", "windows.stride"), _stride_divides),
    Rule(("windows.timesteps", "forecast.segment"), _segment_divides),
    Rule(("forecast.quantiles",), _quantiles_ascend),
)
