"""`forecastd models list | show | export`: what lies on the models topic."""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import msgspec

from forecastd.commands.state_views import say
from forecastd.commands.state_words import iso, plain
from forecastd.errors import ModelError, TopicError
from forecastd.models.disk_cache import Copied
from forecastd.models.kafka_models import KafkaModels
from forecastd.models.model_log import ModelLog
from forecastd.models.model_records import Entry, Pointer, Run
from forecastd.settings import Settings, format_duration

_LABEL = 15
_LONG = frozenset({"history", "settings"})
"""Facts that are only told to programs."""


def list_models(args: Namespace, settings: Settings) -> int:
    """`models list`."""
    with group_models(settings) as models:
        log = models.log
    if args.json:
        for entry in log.versions:
            say(json.dumps(_entry_as_json(entry, log)))
        return 0
    if not log.versions:
        say(f"{plain(log.topic)}: no models yet, the baseline serves")
        return 0
    width = max(len(entry.version) for entry in log.versions)
    say(f"{'VERSION':<{width}}  {'MADE':<24}  {'ROLE':<14}  MADE BY, NETWORK")
    for entry in log.versions:
        made = f"{plain(entry.made_by)}: {entry.architecture.describe()}"
        role = ", ".join(_roles(entry.version, log)) or "-"
        say(f"{entry.version:<{width}}  {iso(entry.at_ms):<24}  {role:<14}  {made}")
    return 0


def show(args: Namespace, settings: Settings) -> int:
    """`models show [VERSION]`."""
    with group_models(settings) as models:
        log = models.log
    if args.version is not None:
        entry = log.models.entry(args.version)
        if args.json:
            say(json.dumps(_entry_as_json(entry, log)))
        else:
            _say_lines(f"model {entry.version}", _entry_in_words(entry, log, settings))
        return 0
    if args.json:
        say(json.dumps(_log_as_json(log)))
    else:
        _say_lines(f"models of group {settings.kafka.group_id}", _log_in_words(log))
    return 0


def export_model(args: Namespace, settings: Settings) -> int:
    """`models export VERSION --out MODEL`."""
    with group_models(settings) as models:
        copy = Copied.of(models.log, args.version)
    copy.write(args.out)
    say(f"{args.out}: version {copy.entry.version}, {copy.entry.architecture.describe()}")
    return 0


@contextmanager
def group_models(settings: Settings) -> Iterator[KafkaModels]:
    """The models of a group, read to their end.

    Raises:
        TopicError: there is no such topic.
    """
    models = KafkaModels(settings)
    try:
        if not models.is_there:
            group_id = settings.kafka.group_id
            found = f"{settings.models_topic}: no such topic, wanted the models of group {group_id}"
            raise TopicError(f"{found}; it has none yet, or it has another name")
        models.read_to_end()
        yield models
    finally:
        models.close()


def pointer_in_words(pointer: Pointer | None) -> str:
    """What serves and since when."""
    if pointer is None:
        return "the baseline; no model was promoted yet"
    serves = pointer.version or "the baseline"
    held = ", held until forecastd models release" if pointer.is_held else ""
    return f"{serves} since {iso(pointer.at_ms)} by {pointer.by}{held}"


def _say_lines(title: str, lines: Iterator[tuple[str, str]]) -> None:
    say(plain(title))
    for label, text in lines:
        say(f"  {plain(label):<{_LABEL}} {plain(text)}")


def _log_in_words(log: ModelLog) -> Iterator[tuple[str, str]]:
    pointer = log.pointer
    yield "serves", pointer_in_words(pointer)
    if pointer is not None:
        yield "reason", pointer.reason
        if pointer.version is not None:
            yield "before", pointer.before or "the baseline"
    if log.on_probation is not None:
        before = log.on_probation.skill_before
        yield "probation", f"live skill was {before:+.3f} before it; a drop rolls it back"
    if log.barred:
        yield "barred", f"{', '.join(log.barred)}: rolled back, not promoted by itself again"
    yield "models", f"{len(log.versions)}, the newest {_newest(log)}"
    yield from _run_in_words(log.last_run)
    for fault in log.faults:
        yield "ignored", fault


def _run_in_words(run: Run | None) -> Iterator[tuple[str, str]]:
    if run is None:
        yield "last run", "none yet"
        return
    took = format_duration(max(round((run.ended_ms - run.began_ms) / 1000), 0) * 1000)
    made = f" {run.version}" if run.version else ""
    failures = f", the {run.failures}. failure in a row" if run.failures > 1 else ""
    yield "last run", f"{run.status}{made} at {iso(run.ended_ms)} after {took}{failures}"
    yield "why", run.reason
    yield from _short(run.figures)


def _entry_in_words(entry: Entry, log: ModelLog, settings: Settings) -> Iterator[tuple[str, str]]:
    yield "role", ", ".join(_roles(entry.version, log)) or "none: it does not serve"
    yield "made", f"{iso(entry.at_ms)} by {entry.made_by}"
    yield "parent", entry.parent or "none: it did not begin with another's weights"
    yield "network", entry.architecture.describe()
    yield "fits", fits_in_words(entry, settings)
    count = f"{entry.weights.bytes // 4:,} numbers"
    yield "weights", f"{count}, sha256 {entry.weights.sha256[:16]}..."
    software = (f"{name} {version}" for name, version in entry.software.items())
    yield "software", ", ".join(software) or "not known"
    yield from _short(entry.facts)


def fits_in_words(entry: Entry, settings: Settings) -> str:
    """Whether the settings can serve a model."""
    try:
        entry.architecture.check_fits(settings)
    except ModelError as error:
        return "not these settings: " + "; ".join(str(error).splitlines())
    return "these settings"


def _short(facts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    return figures({key: fact for key, fact in facts.items() if key not in _LONG})


def figures(facts: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, str]]:
    """Nested facts, a line each.

    >>> list(figures({"scores": {"skill": 0.25, "by": [1, 2]}, "seconds": 61.5}))
    [('scores.skill', '0.25'), ('scores.by', '1, 2'), ('seconds', '61.5')]
    """
    for name, fact in facts.items():
        label = f"{path}{name}"
        if isinstance(fact, Mapping):
            yield from figures(fact, f"{label}.")
        elif isinstance(fact, list) and any(isinstance(item, Mapping) for item in fact):
            for number, item in enumerate(fact):
                yield from figures(
                    item if isinstance(item, Mapping) else {"": item}, f"{label}.{number}."
                )
        elif isinstance(fact, list):
            yield label, ", ".join(map(_figure, fact)) or "none"
        else:
            yield label, _figure(fact)


def _figure(fact: Any) -> str:
    if fact is None:
        return "none"
    return f"{fact:.6g}" if isinstance(fact, float) else str(fact)


def _roles(version: str, log: ModelLog) -> Iterator[str]:
    pointer = log.pointer
    if pointer is not None and version == pointer.version:
        yield "serves, held" if pointer.is_held else "serves"
    elif pointer is not None and version == pointer.before:
        yield "served before"
    if version in log.barred:
        yield "barred"


def _newest(log: ModelLog) -> str:
    return log.versions[0].version if log.versions else "none"


def _entry_as_json(entry: Entry, log: ModelLog) -> dict[str, Any]:
    told: dict[str, Any] = msgspec.to_builtins(entry)
    return told | {
        "serves": log.champion is not None and log.champion.version == entry.version,
        "barred": entry.version in log.barred,
    }


def _log_as_json(log: ModelLog) -> dict[str, Any]:
    return {
        "topic": log.topic,
        "pointer": msgspec.to_builtins(log.pointer),
        "on_probation": msgspec.to_builtins(log.on_probation),
        "versions": [entry.version for entry in log.versions],
        "last_run": msgspec.to_builtins(log.last_run),
        "ignored": log.faults,
    }
