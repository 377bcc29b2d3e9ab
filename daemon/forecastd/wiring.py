"""Which part is plugged into which: the only place that knows them all."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from prometheus_client import CollectorRegistry

from forecastd import __version__
from forecastd.clock import Clock, SystemClock
from forecastd.errors import ForecastdError, ModelError
from forecastd.evaluate.skill_watch import SkillWatch
from forecastd.forecast.bank_columns import Bank, bank_columns
from forecastd.forecast.forecaster import Forecaster, ServedModel, WindowShape
from forecastd.forecast.scoring import Scoring
from forecastd.ingest.json_decoder import Fields, JsonDecoder
from forecastd.loop import Loop
from forecastd.ingest.kafka_source import KafkaSource
from forecastd.kafka_topics import wait_for_broker
from forecastd.observe.events import (
    FatalError,
    ModelServed,
    SettingWarned,
    Started,
    Telemetry,
)
from forecastd.observe.http_server import HttpServer
from forecastd.observe.prometheus_telemetry import PrometheusTelemetry
from forecastd.observe.rates import LiveRates
from forecastd.observe.stdout_log import StdoutLog
from forecastd.observe.table_views import busiest_series
from forecastd.observe.telemetry import Fanout
from forecastd.ports import ColumnStore, RowReader, Sink, Source
from forecastd.publish.kafka_sink import KafkaSink
from forecastd.service import Service, StopSignal
from forecastd.settings import Settings
from forecastd.state.kafka_rows import KafkaRowReader
from forecastd.state.restorer import Restorer
from forecastd.state.row_codec import RowCodec
from forecastd.state.row_saver import RowSaver
from forecastd.state.starting_point import StartingPoint
from forecastd.state.table import SeriesTable
from forecastd.windows.admission import Admission
from forecastd.windows.windower import Windower


@dataclass(frozen=True, slots=True)
class Model:
    """A model in memory: how it forecasts, and where its state is kept.

    Attributes:
        architecture: in a few words.
        states: (layer, part, units) of every state part.
    """

    served: ServedModel
    architecture: str
    bank: Bank
    states: list[tuple[int, str, int]]


@dataclass(frozen=True, slots=True)
class Ends:
    """Both ends of the data path, and the saved rows."""

    source: Source
    sink: Sink
    rows: RowReader


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
    columns = [
        *Windower.columns(shape.timesteps, shape.stride, settings.tail_steps, features),
        *Scoring.columns(shape.horizon, shape.stride, values),
        *Forecaster.columns(shape, features),
    ]
    stores: list[ColumnStore] = []
    if model is not None:
        stores = bank_columns(model.bank, model.states, shape.phases)
    return SeriesTable(columns, stores)


def build_loop(
    settings: Settings, ends: Ends, model: Model | None, telemetry: Telemetry, clock: Clock
) -> Loop:
    """A loop that has yet to be given partitions."""
    shape, table = window_shape(settings), build_table(settings, model)
    served = model.served if model is not None else None
    names = settings.ingest.values
    targets = names if served is None else names[: served.values]
    quantiles = (served.quantiles if served is not None else ()) or settings.forecast.quantiles
    codec = RowCodec(table, f"timesteps={shape.timesteps} values={','.join(names)}")
    saver = RowSaver(
        table,
        codec,
        clock,
        settings.state_topic,
        shape.stride,
        settings.state.row_every,
        settings.state.max_replay,
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
            telemetry,
        ),
        forecaster=Forecaster(table, shape, quantiles, served, scoring, telemetry),
        sink=ends.sink,
        saver=saver,
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
        dead_letter_topic=settings.ingest.dead_letter_topic,
        targets=targets,
    )


def load_model(settings: Settings, path: Path) -> Model:
    """Read a model and put it into a network, warmed up.

    Raises:
        ModelError: it cannot be read, or does not fit the settings.
    """
    from forecastd.disk_models import load_model as load
    from forecastd.keras_network import KeyedNetwork

    stored = load(path)
    architecture = stored.architecture.fit(settings)
    network = KeyedNetwork(architecture, rows=64 * settings.windows.phases)
    network.set_weights(stored.weights)
    network.warm_up()
    horizon = settings.forecast.horizon
    served = ServedModel(
        network,
        stored.version,
        architecture.quantiles,
        architecture.targets(horizon),
        architecture.scaling,
        architecture.anchor,
    )
    states = [
        (layer, part, cell.units)
        for layer, cell in enumerate(architecture.cells)
        for part in cell.state_parts
    ]
    return Model(served, architecture.describe(), network, states)


def run(settings: Settings) -> int:
    """The daemon, from its settings to its end. Returns the exit status.

    Raises:
        ForecastdError: it cannot start, or must not go on.
    """
    clock = SystemClock()
    registry = CollectorRegistry()
    observe = settings.observe
    server = HttpServer(observe.host, observe.port, registry, clock)
    log = StdoutLog(observe.log_format, observe.log_level, clock)
    rates = LiveRates(clock.now_ms())
    heard = Fanout([log, PrometheusTelemetry(registry, __version__, clock), rates, server])
    telemetry = Fanout([heard, SkillWatch(heard)])
    stop = StopSignal(
        settings.shutdown_timeout / 1000, telemetry, lambda error: telemetry.emit(FatalError(error))
    )
    stop.install()
    try:
        server.start()
        topics = settings.ingest.topics
        telemetry.emit(Started(__version__, settings.kafka.group_id, topics, server.address))
        _warn_of_consequences(settings, telemetry)
        model = _served_model(settings, telemetry)
        admin = wait_for_broker(settings, clock, telemetry, lambda: bool(stop))
        if admin is not None:
            with admin:
                for created in admin.ensure_topics(settings):
                    telemetry.emit(created)

        def connect() -> Loop:
            ends = _kafka_ends(settings, telemetry, clock)
            return build_loop(settings, ends, model, telemetry, clock)

        def show(loop: Loop) -> None:
            quantiles = loop.forecaster.quantiles
            views = (
                busiest_series(loop.table, list(loop.served), loop.targets, quantiles)
                if server.is_watched
                else ()
            )
            server.publish(rates.snapshot(clock.now_ms(), views))

        Service(connect, show, stop, telemetry, clock).run()
    except ForecastdError as error:
        telemetry.emit(FatalError(str(error)))
        return 1
    finally:
        server.stop()
    return 0


def _kafka_ends(settings: Settings, telemetry: Telemetry, clock: Clock) -> Ends:
    """New clients. The producer goes first: it opens nothing that would have to be left again."""
    sink = KafkaSink(settings)
    return Ends(KafkaSource(settings, telemetry, clock), sink, KafkaRowReader(settings))


def _served_model(settings: Settings, telemetry: Telemetry) -> Model | None:
    if settings.models.serve is None:
        telemetry.emit(ModelServed(None, ""))
        return None
    path = Path(settings.models.serve)
    try:
        model = load_model(settings, path)
    except ModelError as error:
        raise ModelError(f"models.serve {path}: {error}") from error
    telemetry.emit(ModelServed(model.served.version, model.architecture))
    return model


def _warn_of_consequences(settings: Settings, telemetry: Telemetry) -> None:
    stride, horizon = settings.windows.stride_steps, settings.forecast.horizon
    if horizon < stride:
        nobody = f"{stride - horizon} of every {stride} steps are forecast by nobody"
        telemetry.emit(SettingWarned("forecast.horizon", f"{nobody}; the stride is {stride}"))
