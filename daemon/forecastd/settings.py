"""Everything an operator can set, one model a stage, in the order of the data path.

This file holds the meaning and the default of every setting; `settings_sources.py` finds the
values. What an operator types carries its unit (`"30s"`, `"64MB"`); the core gets whole
milliseconds and bytes.
"""

from __future__ import annotations

import math
from operator import attrgetter
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationInfo,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError

from forecastd.settings_rules import broken_rules, state_topic
from forecastd.settings_values import (
    Count,
    Duration,
    FieldPaths,
    Flag,
    Number,
    OptionalCount,
    OptionalDuration,
    OptionalFile,
    OptionalPath,
    OptionalSecret,
    OptionalText,
    OptionalUrl,
    Quantiles,
    Replicas,
    Season,
    Servers,
    Size,
    Start,
    Text,
    Timeout,
    TimeRanges,
    Topic,
    Topics,
    Whole,
    format_duration,
    is_model_version,
    none_if_empty,
    not_built,
    parse_bytes,
    parse_duration_ms,
)

__all__ = [
    "RULES_LATER",
    "Section",
    "Settings",
    "all_settings",
    "format_duration",
    "is_secret",
    "parse_duration_ms",
]

RULES_LATER = {"rules": "later"}
"""Validation context with which only single values are checked, not what they owe each other."""


class Section(BaseModel):
    """One stage's settings: frozen, and closed to unknown keys."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, hide_input_in_errors=True
    )


class KafkaSettings(Section):
    """The broker, how to reach it and who we are to it."""

    bootstrap_servers: Servers = ("localhost:9092",)
    """Brokers to ask first, `host:port`, comma-separated or a list."""

    group_id: Topic = "forecastd"
    """Consumer group. Names the state topics too, so two daemons with the same group share work."""

    instance_id: OptionalText = None
    """Static membership (Kafka's `group.instance.id`): must differ between replicas. With it a
    restart within `session_timeout` moves no partition."""

    client_id: Text = "forecastd"
    """Prefix of the client names that the broker's logs and quotas see."""

    session_timeout: Timeout = parse_duration_ms("10s")
    """How long the broker waits for a heartbeat before it gives our partitions to another
    (`session.timeout.ms`). Raise it if rebalances happen without a restart."""

    max_poll_interval: Timeout = parse_duration_ms("5m")
    """How long one turn of the loop may take before the group counts us out
    (`max.poll.interval.ms`)."""

    request_timeout: Timeout = parse_duration_ms("10s")
    """How long one request to the broker may take (`request.timeout.ms`)."""

    delivery_timeout: Timeout = parse_duration_ms("30s")
    """How long a message may wait for its acknowledgement before the turn of the loop is given up
    and repeated (`delivery.timeout.ms`)."""

    transaction_timeout: Timeout = parse_duration_ms("10s")
    """With `exactly_once`: how long the broker keeps the transaction of an instance that is gone
    before it aborts it (`transaction.timeout.ms`). Readers of committed messages wait that long."""

    metadata_max_age: Timeout = parse_duration_ms("1s")
    """How old what is known of topics may be (`metadata.max.age.ms`). After about that time a
    partition's new leader is found when a broker dies, and an input topic that was given more
    partitions is read in full."""

    create_topics: Flag = True
    """Create missing topics with the right settings, and grow a state topic with its input topic.
    With false a missing topic stops the start with the command that would create it, and a new
    partition waits for the command that would grow the state topic."""

    replication_factor: Replicas = -1
    """Replication factor of topics that we create; -1 leaves it to the broker."""

    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    """How to speak to the broker (`security.protocol`)."""

    sasl_mechanism: Annotated[
        Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER", "GSSAPI", "AWS_MSK_IAM"]
        | None,
        BeforeValidator(none_if_empty),
    ] = None
    """How to log in (`sasl.mechanism`); needs a `SASL_` protocol."""

    sasl_username: OptionalText = None
    """User of PLAIN and SCRAM."""

    sasl_password: OptionalSecret = None
    """Password of PLAIN and SCRAM. Belongs in the secrets directory, not in a file."""

    sasl_kerberos_service_name: Text = "kafka"
    """Service name of GSSAPI."""

    sasl_kerberos_domain_name: OptionalText = None
    """Domain name of GSSAPI."""

    oauth_token_url: OptionalUrl = None
    """Where OAUTHBEARER fetches tokens (client credentials grant, RFC 6749 section 4.4)."""

    oauth_client_id: OptionalText = None
    """Client id of OAUTHBEARER."""

    oauth_client_secret: OptionalSecret = None
    """Client secret of OAUTHBEARER."""

    oauth_scope: OptionalText = None
    """Scope of OAUTHBEARER."""

    ssl_cafile: OptionalFile = None
    """Certificates of the authorities that sign the broker's certificate, PEM."""

    ssl_certfile: OptionalFile = None
    """Our certificate, PEM, where the broker asks for one."""

    ssl_keyfile: OptionalFile = None
    """The key of `ssl_certfile`, PEM."""

    ssl_password: OptionalSecret = None
    """Password of `ssl_keyfile`."""

    ssl_crlfile: OptionalFile = None
    """Certificate revocation list, PEM."""

    ssl_ciphers: OptionalText = None
    """Allowed ciphers, in OpenSSL's notation."""

    ssl_check_hostname: Flag = True
    """Whether the broker's certificate must carry its host name."""


class IngestSettings(Section):
    """Which records are read, and where in a record the observation is."""

    topics: Topics = ("records",)
    """Input topics."""

    start: Start = "earliest"
    """Where a group without offsets begins: `earliest`, `latest`, or a duration back."""

    series: FieldPaths = ("series",)
    """Field paths whose values, joined by `series_separator`, name the series; empty (or `none`)
    means the record key."""

    series_separator: str = "."
    """Between the parts of a joined series name."""

    time: OptionalPath = "timestamp"
    """Field path of the event time; `none` means the record's own timestamp."""

    time_format: Literal["auto", "iso8601", "s", "ms", "us", "ns"] = "auto"
    """Form of the event time. `auto` reads ISO 8601 text (without an offset: UTC) and tells
    seconds, ms, us and ns apart by size: their ranges from 1990 on do not overlap."""

    values: Annotated[FieldPaths, Field(min_length=1)] = ("value",)
    """Field paths of the values that make one observation; their count is F."""

    max_ahead: Duration = parse_duration_ms("1h")
    """How far after its record's Kafka timestamp an event time may lie. Later ones are rejected:
    one record from a far future would silence its series."""

    dead_letter_topic: Topic = "dead-letters"
    """Where records go that cannot be used, raw, with the reason in headers."""

    poll_records: Count = 10_000
    """At most this many records a turn of the loop (`max.poll.records`)."""


class WindowsSettings(Section):
    """How the observations of a series are grouped."""

    timesteps: Count = Field(16, le=4096)
    """Steps in a window (T)."""

    stride: OptionalCount = None
    """Steps from one window's end to the next, a divisor of `timesteps`; none: `timesteps`, so
    that windows tumble."""

    step: Annotated[OptionalDuration, not_built("a regular grid", None)] = None
    """Regular grid onto which observations are aggregated. Not built yet: each observation is one
    step."""

    season: Season = None
    """Steps in a season, for the seasonal naive forecast; none: the last value."""

    timezone: Annotated[Text, not_built("another zone", "UTC")] = "UTC"
    """Zone of calendar features. Only UTC is built yet."""

    max_series: Count = 100_000
    """Series kept a partition. One more evicts the longest idle, counted in
    `forecastd_series_evicted_total`; raise it if that counter moves."""

    @property
    def stride_steps(self) -> int:
        """Steps from one window's end to the next."""
        return self.stride or self.timesteps

    @property
    def phases(self) -> int:
        """Interleaved states of a series, each of which sees tumbling windows."""
        return self.timesteps // self.stride_steps


class ForecastSettings(Section):
    """What is forecast, and the network that the trainer builds."""

    horizon: Count = Field(16, le=4096)
    """Steps ahead that a forecast covers (H)."""

    quantiles: Quantiles = (0.1, 0.5, 0.9)
    """Quantiles of a forecast, ascending, 0.5 among them."""

    cell: Literal["lstm", "gru"] = "lstm"
    """Recurrent cell."""

    layers: Count = Field(1, le=8)
    """Recurrent layers."""

    units: Count = Field(64, le=4096)
    """Units of each layer."""

    segment: Count = 4
    """Steps folded into one recurrent step, a divisor of `windows.timesteps`; where the default
    does not divide it, their greatest common divisor."""

    scaling: Literal["series", "none"] = "series"
    """`series`: windows are divided by the running spread of their series; `none`: the network
    reads and forecasts raw values."""

    anchor: Literal["last", "ewma", "none"] = "last"
    """What the network's output is added to: the last value (smooth series), an exponentially
    weighted mean (noisy operations metrics), or nothing."""


class PublishSettings(Section):
    """Where forecasts go."""

    topic: Topic = "forecasts"
    """Output topic, keyed by series."""

    history: Flag = True
    """With false, what was in the input at the first start is read in silence: it moves state, and
    nothing is published for it."""

    compression: Literal["none", "gzip", "snappy", "lz4", "zstd"] = "none"
    """Compression of everything we send (`compression.type`)."""


class StateSettings(Section):
    """How often the rows of the series table are saved, and what happens when they are unusable."""

    row_every: Count = 4
    """Windows of a series between two saved rows. Larger: fewer bytes to the state topic, longer
    replay after a restart."""

    max_replay: Count = 100_000
    """Records of a partition after which a touched series' row is saved at the latest: bounds what
    a restart reads again."""

    row_age: Duration = parse_duration_ms("30m")
    """Time after which a touched series' row is saved at the latest. Keep it well below the
    retention of the input topics: what a restart must read again has to be there still."""

    bytes_per_second: Size = parse_bytes("32MB")
    """Rate at which rows are saved at most; what is left over waits, the oldest first."""

    on_gap: Literal["reset", "stop"] = "reset"
    """When offsets were reset from outside or fell below retention: start the partition's series
    cold, or stop."""

    on_mismatch: Literal["cold", "stop"] = "cold"
    """When a saved row cannot be read: start its series cold, or stop."""

    series_ttl: Duration = parse_duration_ms("90d")
    """A series whose next observation comes later than this after its last, by event time or by the
    timestamps of their records, begins anew, flagged `reset`: what it remembered no longer bears on
    it. Once the records of its partition are that far, its place and its row are given up
    (`forecastd_series_collected_total`); if it returns then, it is a new series."""

    restore_timeout: Timeout = parse_duration_ms("10m")
    """How long a restore may stand still before it is begun anew, with a line that says what it
    waits for: the state topic, where it stands and where it must get to. One that gets on, however
    slowly, is never ended. Below the transaction time-out of the instances it ends restores that
    only wait for the transaction of one that was killed."""


class TrainingSettings(Section):
    """How models are trained: by the daemon while it serves, and by `forecastd train`."""

    enabled: Flag = True
    """Whether the daemon trains models itself on the windows that it has read, and serves those
    that are better. With `models.serve` set no training runs."""

    every: Duration = parse_duration_ms("6h")
    """Time from one training run to the next; a tenth more or less, so that several groups do not
    train at once. A run begins earlier when live skill falls below its own long mean by more than
    its noise, or when the model that should serve does not fit the settings."""

    min_windows: Count = 1_000
    """Windows in the group's windows topic from which on the first run begins."""

    max_windows: Count = 200_000
    """Newest windows that a run reads at most: bounds its memory and time."""

    sample_rate: Number = Field(10.0, gt=0)
    """Windows written to the windows topic, a second of record time and partition, at most. Above
    it whole series are left out for good, chosen by the hash of their names, so that what is
    written of a series stays consecutive."""

    retention: Timeout = parse_duration_ms("7d")
    """How long the windows topic keeps windows (`retention.ms`)."""

    exclude: TimeRanges = ()
    """Time ranges that are not learnt from, such as a known outage: ISO 8601 intervals,
    `2026-01-31T00:00Z/2026-02-01T00:00Z`."""

    warm_start: Flag = True
    """Begin with the champion's weights where its network is the one that is trained; false begins
    from `seed`."""

    timeout: Timeout = parse_duration_ms("1h")
    """How long a run may take before it is ended."""

    memory: Size = parse_bytes("4000MB")
    """Memory that the training process may take; one that wants more ends without harm to the
    daemon."""

    min_gain: Number = Field(0.02, ge=0, lt=1)
    """Share by which a new model's error on the newest held-out windows must be less than that of
    the serving model and of the best naive forecast, or it is not promoted."""

    rollback_drop: Number = Field(0.1, gt=0)
    """By how much live skill may be lower after a promotion than before it; a larger drop rolls
    back to the model before, and the new one is not promoted again."""

    rollback_windows: Count = 500
    """Scored windows after a promotion on which that is judged."""

    epochs: Count = 20
    """Passes over the training windows at most."""

    patience: Count = 10
    """Epochs without a better validation loss after which training stops."""

    batch_size: Count = 32
    """Training slots: rows of one batch, each of which continues its own stretch. Fewer where
    windows are few, so that an epoch has some steps."""

    bptt_windows: Count = 8
    """Consecutive windows of a slot in one training row (truncated back-propagation)."""

    prime_windows: Count = 8
    """Windows of its tail that a series reads through new weights after a change of model."""

    loss: Literal["pinball", "huber", "mse", "mae"] = "pinball"
    """`pinball` trains every quantile; the others train one output, whose band is the running
    absolute error."""

    learning_rate: Number = Field(2e-2, gt=0, le=1)
    """Adam's step size at the start; it falls along a cosine, towards nothing in the last epoch.
    Lower it if the loss of the first epochs rises."""

    holdout: Number = Field(0.2, ge=0, lt=1)
    """Newest share of the windows, kept for validation."""

    seed: Whole = 0
    """Seed of the initial weights."""


class ModelsSettings(Section):
    """Which model serves."""

    dir: Path = Path("models")
    """Folder with copies of the group's models, as files: a cache, which may be removed."""

    keep: Count = 20
    """Versions kept, in the group's models topic and in `dir`."""

    serve: OptionalText = None
    """Path of a model made by `forecastd train` or `forecastd models import`, or a version of the
    group's models such as `7-3fa9c1`. What it forecasts is published whatever its skill, and
    nothing is trained. Without one the group's champion serves, and until there is one the baseline
    does."""


class ObserveSettings(Section):
    """What people see."""

    host: Text = "127.0.0.1"
    """Address on which `/metrics`, `/healthz`, `/readyz` and the page listen."""

    port: Whole = Field(9464, le=65_535)
    """Port of the same; 0 picks a free one."""

    log_format: Literal["auto", "json", "console"] = "auto"
    """Form of the log; `auto` is console on a terminal and JSON elsewhere."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Least consequence that is logged."""


class Settings(Section):
    """The whole tree."""

    delivery: Literal["at_least_once", "exactly_once"] = "at_least_once"
    """What a crash may do. `at_least_once`: publish a forecast twice, with the same id and the same
    numbers. `exactly_once`: nothing, for readers of committed messages; forecasts, rows and offsets
    of a turn are one transaction. It needs brokers that replicate: three, with two in sync."""

    startup_timeout: Duration = parse_duration_ms("60s")
    """How long the start waits for a broker."""

    shutdown_timeout: Duration = parse_duration_ms("20s")
    """How long a graceful stop may take."""

    kafka: KafkaSettings = KafkaSettings()
    ingest: IngestSettings = IngestSettings()
    windows: WindowsSettings = WindowsSettings()
    forecast: ForecastSettings = ForecastSettings()
    publish: PublishSettings = PublishSettings()
    state: StateSettings = StateSettings()
    training: TrainingSettings = TrainingSettings()
    models: ModelsSettings = ModelsSettings()
    observe: ObserveSettings = ObserveSettings()

    def value_of(self, name: str) -> Any:
        """The value of the setting with this dotted name."""
        return attrgetter(name)(self)

    @property
    def tail_steps(self) -> int:
        """Steps of a series that its row keeps.

        The windows that prime new weights, the due one after them, and the step before the first;
        or a season, where that is longer.
        """
        primed = (self.training.prime_windows + 1) * self.windows.timesteps + 1
        return max(primed, self.windows.season or 0)

    @property
    def windows_topic(self) -> str:
        """The topic of finished windows, from which models are trained."""
        return f"{self.kafka.group_id}-windows"

    @property
    def models_topic(self) -> str:
        """The compacted topic of the group's models."""
        return f"{self.kafka.group_id}-models"

    @property
    def learns(self) -> bool:
        """Whether the daemon trains models itself."""
        return self.training.enabled and self.models.serve is None

    @property
    def follows_group_models(self) -> bool:
        """Whether what serves comes from the group's models topic, not from a path."""
        return self.models.serve is None or is_model_version(self.models.serve)

    def state_topic(self, topic: str) -> str:
        """The compacted topic that holds the rows of the series of input topic `topic`."""
        return state_topic(self.kafka.group_id, topic)

    @model_validator(mode="before")
    @classmethod
    def _default_segment_divides(cls, data: Any) -> Any:
        """Let a changed `windows.timesteps` stand alone where the default segment does not fit."""
        windows, forecast = (data.get(name) or {} for name in ("windows", "forecast"))
        if not (isinstance(windows, dict) and isinstance(forecast, dict)) or "segment" in forecast:
            return data
        default = ForecastSettings.model_fields["segment"].default
        try:
            segment = math.gcd(int(windows.get("timesteps", default)), default)
        except (OverflowError, TypeError, ValueError):
            return data  # the fault of windows.timesteps is reported by its own field
        return {**data, "forecast": {**forecast, "segment": max(segment, 1)}}

    @model_validator(mode="after")
    def _fits_together(self, info: ValidationInfo) -> Settings:
        if info.context != RULES_LATER:
            faults = [fault.sentence() for fault in broken_rules(self.value_of)]
            if faults:
                raise PydanticCustomError("together", "{faults}", {"faults": "\n".join(faults)})
        return self


def all_settings() -> dict[str, FieldInfo]:
    """Every setting by its dotted name, in the order of this file."""
    settings: dict[str, FieldInfo] = {}
    for name, field in Settings.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            inner = field.annotation.model_fields
            settings |= {f"{name}.{key}": setting for key, setting in inner.items()}
        else:
            settings[name] = field
    return settings


def is_secret(setting: FieldInfo) -> bool:
    """Whether what an operator typed there must never be shown."""
    return SecretStr in get_args(setting.annotation)
