"""Which part is plugged into which: the only place that knows them all."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from prometheus_client import CollectorRegistry

from forecastd import __version__
from forecastd.clock import Clock, SystemClock
from forecastd.errors import ForecastdError
from forecastd.evaluate.skill_watch import SkillWatch
from forecastd.forecast.bank_columns import bank_columns
from forecastd.forecast.forecaster import Forecaster, WindowShape
from forecastd.forecast.keras_model import load_model
from forecastd.forecast.model import Model
from forecastd.forecast.scoring import Scoring
from forecastd.ingest.json_decoder import Fields, JsonDecoder
from forecastd.ingest.kafka_source import KafkaSource
from forecastd.kafka_learning import KafkaLearning, Networks, pinned_version
from forecastd.kafka_topics import TopicAdmin, brokers_answer, wait_for_broker
from forecastd.learning import FixedModel, Serving
from forecastd.loop import Loop
from forecastd.observe.events import (
    FatalError,
    ModelServed,
    SettingWarned,
    Started,
    Telemetry,
)
from forecastd.observe.http_server import HttpServer
from forecastd.observe.kafka_stable_offsets import StableOffsetWatch
from forecastd.observe.prometheus_telemetry import PrometheusTelemetry
from forecastd.observe.rates import LiveRates
from forecastd.observe.snapshot import SeriesView
from forecastd.observe.stdout_libraries import LibraryLines, install_library_lines
from forecastd.observe.stdout_log import StdoutLog
from forecastd.observe.table_views import ServedWeights, busiest_series
from forecastd.observe.telemetry import Fanout
from forecastd.ports import ColumnStore, Delivery, Learner, RowReader, Source
from forecastd.publish.at_least_once import AtLeastOnce
from forecastd.publish.kafka_sink import KafkaSink
from forecastd.publish.kafka_transactions import KafkaTransactions
from forecastd.service import Service, StopSignal
from forecastd.settings import Settings
from forecastd.settings_rules import hints
from forecastd.state.collector import Collector
from forecastd.state.kafka_rows import KafkaRowReader
from forecastd.state.restorer import Restorer
from forecastd.state.row_codec import RowCodec, row_meaning
from forecastd.state.row_saver import RowSaver
from forecastd.state.starting_point import StartingPoint
from forecastd.state.table import SeriesTable
from forecastd.stopwatch import Stopwatch
from forecastd.topic_plan import plan_topics
from forecastd.train.window_buffer import WindowBuffer
from forecastd.watchdog import Watchdog
from forecastd.windows.admission import Admission
from forecastd.windows.windower import Windower

_CLOSE_S = 1.0
"""For leaving a group that was not joined yet."""


@dataclass(frozen=True, slots=True)
class Ends:
    """Both ends of the data path, and the saved rows.

    `dead_letter_bytes_max` is the largest message that the dead-letter topic takes.
    """

    source: Source
    delivery: Delivery
    rows: RowReader
    dead_letter_bytes_max: int


def window_shape(settings: Settings) -> WindowShape:
    """The shape of windows and forecasts."""
    windows = settings.windows
    return WindowShape(
        windows.timesteps,
        windows.stride_steps,
        settings.forecast.horizon,
        windows.season,
        settings.training.prime_windows,
    )


def json_decoder(settings: Settings) -> JsonDecoder:
    """The decoder of `ingest.*`."""
    ingest = settings.ingest
    return JsonDecoder(
        Fields(
            ingest.series,
            ingest.series_separator,
            ingest.time,
            ingest.time_format,
            ingest.values,
            ingest.max_ahead,
        )
    )


def build_table(settings: Settings, model: Model | None) -> SeriesTable:
    """An empty table with the columns of every stage."""
    shape, features = window_shape(settings), len(settings.ingest.values)
    values = model.served.values if model is not None else features
    states = model.states if model is not None else []
    columns = [
        *Windower.columns(shape.timesteps, shape.stride, settings.tail_steps, features),
        *Scoring.columns(shape.horizon, shape.stride, values),
        *Forecaster.columns(shape, features, states),
        *WindowBuffer.columns(),
    ]
    stores: list[ColumnStore] = []
    if model is not None:
        stores = bank_columns(model.bank, states, shape.phases)
    return SeriesTable(columns, stores)


def build_loop(  # noqa: PLR0913  # all that a loop stands on
    settings: Settings,
    ends: Ends,
    model: Model | None,
    telemetry: Telemetry,
    clock: Clock,
    learner: Learner | None = None,
) -> Loop:
    """A loop that has yet to be given partitions.

    Args:
        model: the network; what it forecasts is published once its weights have a version.
        learner: None: what serves was settled at the start.
    """
    shape, table = window_shape(settings), build_table(settings, model)
    served = model.served if model is not None else None
    names = settings.ingest.values
    targets = names if served is None else names[: served.values]
    quantiles = (served.quantiles if served is not None else ()) or settings.forecast.quantiles
    codec = RowCodec(table, row_meaning(shape.timesteps, names))
    saver = RowSaver(
        table,
        codec,
        clock,
        settings.state_topic,
        shape.stride,
        settings.state.row_every,
        settings.state.max_replay,
        settings.state.row_age / 1000,
        settings.state.bytes_per_second,
    )
    scoring = Scoring(
        table, shape.horizon, shape.stride, len(targets), len(quantiles) > 1, telemetry
    )
    return Loop(
        source=ends.source,
        decoder=json_decoder(settings),
        windower=Windower(
            table,
            Admission(table, settings.windows.max_series, telemetry),
            shape.timesteps,
            shape.stride,
            settings.state.series_ttl,
            telemetry,
        ),
        forecaster=Forecaster(
            table,
            shape,
            quantiles,
            served if served is not None and served.version else None,
            settings.models.serve is None,
            scoring,
            telemetry,
        ),
        delivery=ends.delivery,
        saver=saver,
        collector=Collector(table, saver, settings.state.series_ttl, telemetry),
        learner=learner or FixedModel(),
        restorer=Restorer(
            table,
            codec,
            saver,
            ends.rows,
            clock,
            telemetry,
            settings.state.restore_timeout / 1000,
            settings.state.on_mismatch == "stop",
        ),
        starting_point=StartingPoint(
            ends.source,
            table,
            saver,
            telemetry,
            settings.publish.history,
            settings.state.on_gap == "stop",
        ),
        table=table,
        telemetry=telemetry,
        clock=clock,
        output_topic=settings.publish.topic,
        dead_letters=(settings.ingest.dead_letter_topic, ends.dead_letter_bytes_max),
        targets=targets,
        stopwatch=Stopwatch(telemetry),
    )


def run(settings: Settings) -> int:
    """The daemon, from its settings to its end. Returns the exit status."""
    clock, registry, observe = SystemClock(), CollectorRegistry(), settings.observe
    install_library_lines(LibraryLines(observe.log_format, observe.log_level, clock))
    # A turn may wait for the broker this long, twice, and still be alive.
    stall_s = 120 + 2 * settings.kafka.delivery_timeout / 1000
    server = HttpServer(observe.host, observe.port, registry, clock, stall_s)
    log = StdoutLog(observe.log_format, observe.log_level, clock)
    rates = LiveRates(clock.now_ms())
    heard = Fanout([log, PrometheusTelemetry(registry, __version__, clock), rates, server])
    telemetry = Fanout([heard, SkillWatch(heard)])
    names = [plan.name for plan in plan_topics(settings, {})]
    stable_offsets = StableOffsetWatch(settings.kafka, names, clock)

    def show(loop: Loop) -> None:
        for event in stable_offsets.take():
            telemetry.emit(event)
        partitions, quantiles = list(loop.served), loop.forecaster.quantiles
        views: tuple[SeriesView, ...] = ()
        if server.is_watched:
            served = _served_weights(loop.forecaster)
            views = busiest_series(loop.table, partitions, loop.targets, quantiles, served)
        server.publish(rates.snapshot(clock.now_ms(), views))

    stop = StopSignal(
        settings.shutdown_timeout / 1000, lambda error: telemetry.emit(FatalError(error))
    )
    stop.install()
    until = ExitStack()
    until.callback(server.stop)
    until.callback(stable_offsets.stop)
    try:
        server.start()
        topics = settings.ingest.topics
        telemetry.emit(Started(__version__, settings.kafka.group_id, topics, server.address))
        connect = _prepare(settings, stop, telemetry, clock, until)
        stable_offsets.start()
        answers = partial(brokers_answer, settings)
        Service(connect, show, answers, stop, telemetry, clock).run()
    except ForecastdError as error:
        for sentence in str(error).splitlines():  # one a fault
            telemetry.emit(FatalError(sentence))
        return 1
    finally:
        until.close()
    return 0


def _served_weights(forecaster: Forecaster) -> ServedWeights | None:
    model = forecaster.model
    if model is None:
        return None
    return ServedWeights(model.version, model.version_key, forecaster.shape.stride)


def _prepare(
    settings: Settings, stop: StopSignal, telemetry: Fanout, clock: Clock, until: ExitStack
) -> Callable[[], Loop]:
    """All that must be right before the group is joined: settings, model, broker, topics.

    Returns:
        What makes a loop over new clients.
    """
    for hint in hints(settings.value_of):
        telemetry.emit(SettingWarned(hint.partition(":")[0], hint))
    serve, model = settings.models.serve, None
    if serve is not None and not settings.follows_group_models:
        model = load_model(settings, Path(serve))
    admin = wait_for_broker(settings, clock, telemetry, stop.wait)
    bytes_max = 0
    if admin is not None:
        with admin:
            for created in admin.ensure_topics(settings):
                telemetry.emit(created)
            bytes_max = admin.message_bytes_max(settings.ingest.dead_letter_topic)
        if serve is not None and settings.follows_group_models:
            model = pinned_version(settings, serve)
    if model is not None:
        telemetry.emit(ModelServed(model.served.version, model.architecture))
    watchdog = Watchdog(lambda error: telemetry.emit(FatalError(error)))

    def ends() -> Ends:
        return kafka_ends(settings, bytes_max, watchdog, telemetry, clock)

    if serve is not None:
        return lambda: build_loop(settings, ends(), model, telemetry, clock)
    learning = KafkaLearning(settings, telemetry, clock)
    until.callback(learning.close)
    telemetry.add(learning)
    return partial(_learning_loop, settings, learning, Networks(settings), ends)


def _learning_loop(
    settings: Settings, learning: KafkaLearning, networks: Networks, ends: Callable[[], Ends]
) -> Loop:
    """A loop that follows the group's champion; its models are known before any row is read."""
    learning.models.read_to_end()
    found = networks.of(learning.models.log)
    model, architecture = found if found is not None else (None, None)
    telemetry, clock = learning.telemetry, learning.clock
    loop = build_loop(settings, ends(), model, telemetry, clock, learning)
    buffer = window_buffer(settings, loop.table, telemetry)
    learning.attach(Serving(loop.forecaster, buffer, model, architecture))
    return loop


def window_buffer(
    settings: Settings, table: SeriesTable, telemetry: Telemetry
) -> WindowBuffer | None:
    """What picks the windows to learn from; None where nobody learns."""
    if not settings.learns:
        return None
    shape = window_shape(settings)
    rate = settings.training.sample_rate
    topic = settings.windows_topic
    return WindowBuffer(table, topic, shape.timesteps, shape.stride, rate, telemetry)


def kafka_ends(
    settings: Settings,
    dead_letter_bytes_max: int,
    watchdog: Watchdog,
    telemetry: Telemetry,
    clock: Clock,
) -> Ends:
    """New clients.

    What an earlier process of ours left in a transaction is ended before any row is read: until
    then a reader of committed rows would wait for it.
    """
    with ExitStack() as undo:
        source = KafkaSource(settings, telemetry, clock)
        undo.callback(source.close, _CLOSE_S)
        delivery: Delivery
        if settings.delivery == "exactly_once":
            delivery = KafkaTransactions.open(settings, source, watchdog)
        else:
            delivery = AtLeastOnce(source, KafkaSink(settings))
        undo.pop_all()
    rows = KafkaRowReader(settings, partial(_add_partitions, settings, telemetry))
    return Ends(source, delivery, rows, dead_letter_bytes_max)


def _add_partitions(settings: Settings, telemetry: Telemetry) -> None:
    """Make the state topics fit input topics that have grown since the start.

    Raises:
        TopicError: an operator must do it.
    """
    with TopicAdmin(settings.kafka) as admin:
        for change in admin.ensure_topics(settings):
            telemetry.emit(change)
