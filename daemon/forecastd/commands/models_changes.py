"""`forecastd models promote | rollback | release | import`: what changes the group's models."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from forecastd.clock import SystemClock
from forecastd.commands.models_views import group_models, pointer_in_words
from forecastd.commands.state_views import say
from forecastd.errors import ModelError, TopicError
from forecastd.kafka_topics import TopicAdmin
from forecastd.models.disk_cache import new_model
from forecastd.models.kafka_models import KafkaModels
from forecastd.models.model_records import NewModel, Pointer, encode_entry, encode_pointer
from forecastd.scaling import Scaling
from forecastd.settings import Settings
from forecastd.topic_plan import missing_topic, plan_models

_BY_HAND = "asked for by an operator"


def promote(args: Namespace, settings: Settings) -> int:
    """`models promote VERSION`."""
    with group_models(settings) as models:
        log = models.log
        log.models.entry(args.version).architecture.check_fits(settings)
        reason, now_ms = args.reason or _BY_HAND, SystemClock().now_ms()
        _move(models, log.promote(args.version, "operator", now_ms, reason), settings)
    return 0


def rollback(args: Namespace, settings: Settings) -> int:
    """`models rollback`."""
    with group_models(settings) as models:
        log, now_ms = models.log, SystemClock().now_ms()
        back = log.rollback("operator", now_ms, args.reason or _BY_HAND)
        if back.version is not None:
            log.models.entry(back.version).architecture.check_fits(settings)
        _move(models, back, settings)
    return 0


def release(args: Namespace, settings: Settings) -> int:
    """`models release`."""
    with group_models(settings) as models:
        reason, now_ms = args.reason or _BY_HAND, SystemClock().now_ms()
        _move(models, models.log.release(now_ms, reason), settings)
    return 0


def import_model(args: Namespace, settings: Settings) -> int:
    """`models import FILE`: add to the group's models."""
    model = _read(args.file, args.scaling)
    model.architecture.check_fits(settings)
    _ensure_topic(settings)
    with group_models(settings) as models:
        number, now_ms = models.log.next_number(), SystemClock().now_ms()
        entry, messages = encode_entry(models.log.topic, model, number, now_ms)
        known = models.log.version_of(entry.version.partition("-")[2])
        if known is not None:
            say(f"{args.file}: it is version {known} of the group's models already")
            return 0
        models.write(messages)
        models.read_to_end()
        models.log.models.entry(entry.version)
    say(f"{args.file}: added as version {entry.version}, {entry.architecture.describe()}")
    say(f"forecastd models promote {entry.version} lets it serve")
    return 0


def convert(args: Namespace) -> int:
    """`models import FILE --out MODEL`: a .keras file as a folder, and how it is served."""
    from forecastd.disk_models import check_replaceable, save_model

    check_replaceable(args.out)
    model = _from_keras(args.file, args.scaling)
    architecture = model.architecture
    metadata = save_model(args.out, architecture, model.weights, model.made_by, model.facts)
    say(f"{args.out}: version 0-{metadata.version_hash}, {architecture.describe()}")
    say(
        f"it fits windows.timesteps {architecture.timesteps or 'of any number'}, "
        f"forecast.horizon {' or '.join(map(str, architecture.horizons))}, "
        f"{architecture.features} of ingest.values"
    )
    return 0


def _move(models: KafkaModels, pointer: Pointer, settings: Settings) -> None:
    """Write a pointer, and say what serves once it is read back."""
    models.write([encode_pointer(models.log.topic, pointer)])
    models.read_to_end()
    now = models.log.pointer
    if now is None or (now.sequence, now.by) != (pointer.sequence, pointer.by):
        found = f"{models.log.topic}: another moved the pointer meanwhile"
        raise ModelError(f"{found}, wanted nobody else to; look with forecastd models show")
    say(f"group {settings.kafka.group_id} serves {pointer_in_words(now)}")


def _read(file: Path, scaling: Scaling) -> NewModel:
    """A model from either kind of file."""
    if file.is_dir():
        from forecastd.disk_models import load_model

        return new_model(load_model(file))
    return _from_keras(file, scaling)


def _from_keras(file: Path, scaling: Scaling) -> NewModel:
    from forecastd.disk_models import software_versions
    from forecastd.keras_import import import_model as take_over

    imported, weights = take_over(file, scaling)
    facts = {"file": file.name, "layers": list(imported.layers)}
    return NewModel(
        imported.architecture,
        weights,
        "forecastd models import",
        software=software_versions(),
        facts=facts,
    )


def _ensure_topic(settings: Settings) -> None:
    """Create the models topic of a group that has not run yet."""
    plan = plan_models(settings)
    with TopicAdmin(settings.kafka) as admin:
        there, hidden = admin.describe([plan.name])
        if hidden:
            raise TopicError("\n".join(hidden.values()))
        if there:
            return
        if not settings.kafka.create_topics:
            raise TopicError(missing_topic(plan, settings))
        admin.create([plan])
