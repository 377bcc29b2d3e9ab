"""`forecastd check`: would it run? A line a check; changes nothing, at the broker or elsewhere."""

from __future__ import annotations

import re
import sys
from argparse import ArgumentParser, Namespace
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from forecastd.commands import LoadSettings, add_settings_arguments
from forecastd.errors import ForecastdError, ModelError, TopicError

if TYPE_CHECKING:
    from forecastd.kafka_guarantees import GuaranteeAdmin
    from forecastd.settings import Settings
    from forecastd.settings_sources import Loaded

NAME = "check"
HELP = "say whether the daemon would run: settings, broker, topics, permissions, model"

_PATIENCE_S = 5.0
"""How long a broker may take to answer somebody who sits and waits."""

Line = tuple[Literal["ok", "hint", "wrong"], str]


def add_arguments(parser: ArgumentParser) -> None:
    """Only settings."""
    add_settings_arguments(parser)


def main(_args: Namespace, load: LoadSettings) -> int:
    """Print a line a check; 1 when one of them is wrong."""
    is_wrong = False
    for verdict, text in _lines(load):
        sys.stdout.write(f"{verdict:<6}{text}\n")
        sys.stdout.flush()
        is_wrong |= verdict == "wrong"
    return int(is_wrong)


def _lines(load: LoadSettings) -> Iterator[Line]:
    try:
        loaded = load()
    except ForecastdError as error:
        yield from _wrong(error)
        return
    yield from _settings(loaded)
    yield from _model(loaded.settings)
    yield from _kafka(loaded.settings)


def _settings(loaded: Loaded) -> Iterator[Line]:
    from forecastd.settings_rules import hints

    kinds = Counter(re.sub(r"^(environment|secrets) .*", r"\1", s) for s in loaded.sources.values())
    unset = kinds.pop("default", 0)
    where = ", ".join(f"{count} from {kind}" for kind, count in kinds.items())
    yield "ok", f"settings: {unset} by default{', ' if where else ''}{where}"
    for hint in hints(loaded.settings.value_of):
        yield "hint", hint


def _model(settings: Settings) -> Iterator[Line]:
    from forecastd.disk_models import load_model

    if settings.models.serve is None:
        yield "ok", "models.serve: none, the group's champion forecasts"
        return
    if settings.follows_group_models:
        return  # a version: the broker knows
    try:
        model = load_model(Path(settings.models.serve))
        model.architecture.check_fits(settings)
    except ForecastdError as error:
        yield from _wrong(error)
        return
    fits = f"{model.version}, {model.architecture.describe()}; it fits"
    yield "ok", f"models.serve: {settings.models.serve} is {fits}"


def _kafka(settings: Settings) -> Iterator[Line]:
    from forecastd.kafka_connection import unreachable
    from forecastd.kafka_guarantees import GuaranteeAdmin

    try:
        admin = GuaranteeAdmin(settings.kafka, _PATIENCE_S)
    except ForecastdError as error:
        yield from _wrong(error)
        return
    with admin:
        obstacles = [unreachable(settings.kafka, broker) for broker in admin.advertised()]
        for obstacle in filter(None, obstacles):
            wanted = "the broker's advertised.listeners to be reachable from here"
            yield "wrong", f"kafka.bootstrap_servers: answered, but {obstacle}, wanted {wanted}"
        if all(obstacles):
            return
        for step in (_cluster, _topics, _group, _group_models, _delivery, _transactions):
            yield from _attempt(step, admin, settings)


def _cluster(admin: GuaranteeAdmin, settings: Settings) -> Iterator[Line]:
    from forecastd.topic_plan import counted

    cluster = admin.cluster()
    servers = ", ".join(settings.kafka.bootstrap_servers)
    brokers = counted(cluster.brokers, "broker")
    yield "ok", f"kafka: {brokers} of cluster {cluster.cluster_id} at {servers}"
    if cluster.brokers == 1:
        yield "hint", "kafka: 1 broker, wanted 3; whatever it holds is gone with its disk"


def _topics(admin: GuaranteeAdmin, settings: Settings) -> Iterator[Line]:
    from forecastd.topic_plan import counted, missing_topic, outgrown_topic

    inspection = admin.inspect(settings)
    for name, shape in inspection.there.items():
        if not any(fault.startswith(f"{name}: ") for fault in inspection.faults):
            yield "ok", f"topic {name}: {counted(shape.partitions, 'partition')}"
    yield from (("wrong", f"topic {fault}") for fault in inspection.faults)
    yield from (("hint", f"topic {hint}") for hint in inspection.hints)
    for plan in inspection.outgrown:
        if settings.kafka.create_topics:
            yield "ok", f"topic {plan.name}: fewer partitions than {plan.like}, the start adds them"
        else:
            shape = inspection.there[plan.name]
            yield "wrong", f"topic {outgrown_topic(plan, shape, settings)}"
    for plan in inspection.missing:
        if not settings.kafka.create_topics and plan.is_optional:
            yield "ok", f"topic {plan.name}: not there, and nothing needs it yet"
            continue
        if not settings.kafka.create_topics:
            yield "wrong", f"topic {missing_topic(plan, settings)}"
            continue
        try:
            admin.create([plan], only_try=True)
        except ForecastdError as error:
            yield from _wrong(error, "topic ")
        else:
            yield "ok", f"topic {plan.name}: not there yet, the start would create it"


def _group(admin: GuaranteeAdmin, settings: Settings) -> Iterator[Line]:
    group_id = settings.kafka.group_id
    operations = admin.group_operations(group_id)
    if operations is None or "READ" in operations:
        yield "ok", f"group {group_id}: may be joined"
    else:
        found = f"kafka.group_id: no permission to READ group {group_id}"
        yield "wrong", f"{found}, wanted an ACL that allows it"


def _group_models(_admin: GuaranteeAdmin, settings: Settings) -> Iterator[Line]:
    """Whether the model that should serve is there, and can."""
    from forecastd.models.kafka_models import KafkaModels

    if not settings.follows_group_models:
        return
    models = KafkaModels(settings)
    try:
        models.read_to_end(_PATIENCE_S)
    except TopicError:
        return  # the topics' lines say so
    finally:
        models.close()
    log, serve = models.log, settings.models.serve
    champion = log.champion if serve is None else log.models.entry(serve)
    if champion is None:
        yield "ok", "models: none was promoted yet, the baseline forecasts"
        return
    try:
        champion.architecture.check_fits(settings)
    except ModelError as error:
        if serve is not None:
            raise
        why = "; ".join(str(error).splitlines())
        yield "hint", f"models: {champion.version} does not serve here, the baseline does: {why}"
        return
    yield "ok", f"models: {champion.version} serves, {champion.architecture.describe()}"


def _delivery(admin: GuaranteeAdmin, settings: Settings) -> Iterator[Line]:
    from forecastd.durability import hollow_promises

    if settings.delivery != "exactly_once":
        return
    hollow = list(hollow_promises(admin.durability(settings)))
    yield from (("hint", sentence) for sentence in hollow)
    if not hollow:
        yield "ok", "delivery: exactly_once, and what it stands on survives a broker's death"


def _transactions(admin: GuaranteeAdmin, settings: Settings) -> Iterator[Line]:
    """Those that readers of committed messages wait for, as the daemon is one in either mode."""
    from forecastd.clock import SystemClock

    for one in admin.open_transactions(settings, SystemClock().now_ms()):
        if one.open_s * 1000 >= settings.kafka.transaction_timeout:
            yield "wrong" if one.hangs else "hint", one.sentence(settings.kafka.bootstrap_servers)


def _attempt(
    step: Callable[[GuaranteeAdmin, Settings], Iterator[Line]],
    admin: GuaranteeAdmin,
    settings: Settings,
) -> Iterator[Line]:
    """The lines of a step; one that cannot be taken is a line too, and the next one is tried."""
    try:
        yield from step(admin, settings)
    except ForecastdError as error:
        yield from _wrong(error)


def _wrong(error: ForecastdError, prefix: str = "") -> Iterator[Line]:
    return (("wrong", f"{prefix}{sentence}") for sentence in str(error).splitlines())
