"""From the ends of windows to forecasts: score, scale, run the model, put a band around it.

Everything that is published is computed from the table as it stands at the window's last step.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Protocol
from zlib import crc32

import numpy as np

from forecastd.evaluate.running_error import laplace_offsets, last_value_errors
from forecastd.forecast.baseline import naive_forecast
from forecastd.forecast.scoring import Scoring
from forecastd.observe.events import ModelCalled, StateReset, Telemetry
from forecastd.ports import Table
from forecastd.records import (
    Bools,
    Column,
    Float32s,
    Floats,
    Forecasts,
    Ints,
    Round,
    Slots,
    TopicPartition,
)
from forecastd.scaling import (
    INPUT_LIMIT,
    Anchor,
    Scaling,
    feed,
    read_back,
    tail_spread,
    window_scale,
)
from forecastd.series_tail import median_step_ms, steps_back, steps_kept

WINDOWS_MAX = 4096
"""Windows of one call of the model: more gain nothing and take memory."""


def version_key(version: str) -> int:
    """A model's version as a number that a column can hold; never 0, which is no model."""
    return int.from_bytes(blake2b(version.encode(), digest_size=8).digest(), "little") | 1


class Network(Protocol):
    """The keyed stateful network."""

    def predict(self, windows: Float32s, rows: Slots) -> Float32s:
        """Read windows into the state of bank rows: (B, W * T, F) to (B, W, H, Q, V) outputs.

        Rows are distinct; quantiles come in order.
        """
        ...

    def zero_rows(self, rows: Slots) -> None:
        """Forget the state of bank rows in every layer."""
        ...


@dataclass(frozen=True, slots=True)
class ServedModel:
    """The model that forecasts, and how windows are put before it.

    Attributes:
        version: as messages carry it.
        quantiles: of its output; empty for a point model.
        values: V, how many of the observation's values it forecasts.
    """

    network: Network
    version: str
    quantiles: tuple[float, ...]
    values: int
    scaling: Scaling
    anchor: Anchor

    @property
    def version_key(self) -> int:
        """The version as the column `version` holds it."""
        return version_key(self.version)


@dataclass(frozen=True, slots=True)
class WindowShape:
    """T, stride, H, season and the windows that prime new weights."""

    timesteps: int
    stride: int
    horizon: int
    season: int | None
    prime_windows: int

    @property
    def phases(self) -> int:
        """Interleaved states of a series."""
        return self.timesteps // self.stride


@dataclass(slots=True)
class Forecaster:
    """Forecasts the rounds that the windower yields.

    Attributes:
        model: that serves; it may be replaced between two rounds. None: the baseline does.
        falls_back: whether a series on which the model loses gets the naive forecast.
    """

    table: Table
    shape: WindowShape
    quantiles: tuple[float, ...]
    model: ServedModel | None
    falls_back: bool
    scoring: Scoring
    telemetry: Telemetry

    @staticmethod
    def columns(
        shape: WindowShape, features: int, states: Sequence[tuple[int, str, int]]
    ) -> list[Column]:
        """What the table must hold for forecasting, the model's state aside.

        `version` is that of the weights that made the state of each phase, 0 for none. It is only
        read from a row that holds `states`, the (layer, part, units) of the same kind of model:
        without them it would vouch for a state that is not there.
        """
        fed = (shape.prime_windows + 1) * shape.phases
        kind = crc32(repr(list(states)).encode())
        return [
            Column("fed", "<f8", (fed, 2, features), fill=np.nan),  # median, spread by window
            Column("version", "<u8", (shape.phases,), version=kind),
        ]

    def forecast(self, origins: Round) -> Iterator[Forecasts]:
        """Forecast every origin of a round; what is silent moves state and is not returned."""
        is_window = origins.phases >= 0
        if not is_window.all():
            cold = origins.take(~is_window & ~origins.is_silent)
            if len(cold.slots):
                yield self._cold(cold)
        if is_window.any():
            yield from self._windows(origins.take(is_window))

    def count_fallback(self, partitions: Iterable[TopicPartition]) -> int:
        """How many series get the naive forecast because the serving model loses to it."""
        fallback = self.table["fallback"]
        if self.model is None or not self.falls_back or not fallback.any():
            return 0
        slots = (self.table.slots(partition) for partition in partitions)
        return sum(int(np.count_nonzero(fallback[some])) for some in slots)

    def _cold(self, origins: Round) -> Forecasts:
        slots, values = origins.slots, self._values
        naive = naive_forecast(self.table, slots, self.shape.horizon, self.shape.season)
        _, spread = self._tail_spread(slots)
        errors = self._first_errors(slots, spread)
        banded = naive[:, :, None] + laplace_offsets(errors, self.quantiles)
        none = np.zeros(len(slots), np.bool_)
        return self._forecasts(origins, banded[..., :values], spread, none, none)

    def _windows(self, origins: Round) -> Iterator[Forecasts]:
        table, slots = self.table, origins.slots
        windows = (table["steps"][slots] - self.shape.timesteps) // self.shape.stride
        median, spread = self._tail_spread(slots)
        table["fed"][slots, windows % table["fed"].shape[1]] = np.stack([median, spread], axis=1)
        serving = self.model.version_key if self.model is not None else 0
        self.scoring.score(slots, windows, spread, origins.is_silent, serving)
        self._seed_errors(slots, spread)
        naive = naive_forecast(table, slots, self.shape.horizon, self.shape.season)
        naive = naive[..., : self._values]
        band = laplace_offsets(table["naive_error"][slots], self.quantiles)
        forecasts = naive[:, :, None] + band
        is_model, primed = self._overwrite_by_model(forecasts, origins, windows, median, spread)
        middle = self.quantiles.index(0.5)
        medians = forecasts[:, :, middle].copy()
        in_shadow = is_model & table["fallback"][slots] & self.falls_back
        forecasts[in_shadow] = naive[in_shadow][:, :, None] + band[in_shadow]
        kept = np.stack([medians, forecasts[:, :, 0], forecasts[:, :, -1]], axis=1)
        self.scoring.remember(slots, windows, kept, naive, is_model, in_shadow)
        by_model = is_model & ~in_shadow
        heard = ~origins.is_silent
        if heard.any():
            yield self._forecasts(
                origins.take(heard),
                forecasts[heard],
                spread[heard],
                by_model[heard],
                primed[heard],
            )
        table["reset"][slots] = False  # also of a replayed window: it was told before

    def _overwrite_by_model(
        self, forecasts: Floats, origins: Round, windows: Ints, median: Floats, spread: Floats
    ) -> tuple[Bools, Bools]:
        """Put the model's forecasts in the place of the baseline's, where it has any.

        A state that other weights made is stale: before its first window that is heard, the tail
        is read through the present weights from zero. A replay only moves states that are fresh.

        Returns:
            Where the model forecast, and where its state was primed for it: (B,) each.
        """
        count = len(origins.slots)
        primed = np.zeros(count, np.bool_)
        if self.model is None:
            return np.zeros(count, np.bool_), primed
        version = self.table["version"]
        state = version[origins.slots, origins.phases]
        # The first window of a phase rightly begins from zero, whatever the weights.
        stale = (state != self.model.version_key) & (windows >= self.shape.phases)
        primed = stale & ~origins.is_silent
        runs = np.flatnonzero(~(stale & origins.is_silent))
        if primed.any():
            self._prime(origins.take(primed), windows[primed])
        self.scoring.begin(origins.slots[runs], windows[runs], self.model.version_key)
        is_model = np.zeros(count, np.bool_)
        for at in np.array_split(runs, -(-len(runs) // WINDOWS_MAX) or 1):
            if len(at):
                is_model[at] = self._run(forecasts, origins, at, median, spread)
        version[origins.slots[runs], origins.phases[runs]] = self.model.version_key
        return is_model, primed

    def _run(
        self, forecasts: Floats, origins: Round, at: Ints, median: Floats, spread: Floats
    ) -> Bools:
        """One call of the model for the origins `at`; True where its output is finite."""
        assert self.model is not None
        model, slots, steps = self.model, origins.slots[at], self.shape.timesteps
        values = steps_back(self.table, slots, range(steps, -1, -1))
        windows, before = values[:, 1:], values[:, 0]
        scale = window_scale(windows, before, median[at], spread[at], model.scaling, model.anchor)
        rows = self._rows(slots, origins.phases[at])
        is_silent = origins.is_silent[at]
        outputs = self._call(feed(windows, scale, model.scaling), rows, is_silent)[:, 0]
        is_finite: Bools = np.logical_and.reduce(np.isfinite(outputs), axis=(1, 2, 3))
        if not is_finite.all():
            model.network.zero_rows(rows[~is_finite])
            heard = int(np.count_nonzero(~is_finite & ~is_silent))
            if heard:
                self.telemetry.emit(StateReset(heard))
        made = read_back(outputs, scale.first(model.values))
        if not model.quantiles:
            made = made + laplace_offsets(self._model_errors(slots), self.quantiles)
        forecasts[at[is_finite]] = made[is_finite]
        return is_finite

    def _prime(self, origins: Round, windows: Ints) -> None:
        """Rebuild states from the tails: zero, then up to `prime_windows` windows in one call."""
        assert self.model is not None
        steps, phases = self.shape.timesteps, self.shape.phases
        self.model.network.zero_rows(self._rows(origins.slots, origins.phases))
        kept = steps_kept(self.table, origins.slots) // steps - 1
        counts = np.minimum(np.minimum(kept, windows // phases), self.shape.prime_windows)
        for count in np.unique(counts[counts > 0]).tolist():
            some = counts == count
            self._prime_same(origins.take(some), windows[some], count)
        self.table["row_due"][origins.slots] = True

    def _prime_same(self, origins: Round, windows: Ints, count: int) -> None:
        """Read `count` windows before the due one, the oldest first."""
        assert self.model is not None
        table, model, steps = self.table, self.model, self.shape.timesteps
        slots, batch = origins.slots, len(origins.slots)
        values = steps_back(table, slots, range((count + 1) * steps, steps - 1, -1))
        before = values[:, np.arange(count) * steps]
        numbers = windows[:, None] - self.shape.phases * np.arange(count, 0, -1)
        fed = table["fed"][slots[:, None], numbers % table["fed"].shape[1]]
        now = table["fed"][slots, windows % table["fed"].shape[1]][:, None]
        fed = np.where(np.isnan(fed), now, fed)  # fewer were kept when `prime_windows` was smaller
        flat = (batch * count, -1)
        cut = values[:, 1:].reshape(batch * count, steps, -1)
        scale = window_scale(
            cut,
            before.reshape(flat),
            fed[:, :, 0].reshape(flat),
            fed[:, :, 1].reshape(flat),
            model.scaling,
            model.anchor,
        )
        rows = self._rows(slots, origins.phases)
        read = feed(cut, scale, model.scaling).reshape(batch, count * steps, -1)
        self._call(read, rows, origins.is_silent)

    def _call(self, windows: Float32s, rows: Slots, is_silent: Bools) -> Float32s:
        """Run the network; windows of a replay are not told of."""
        assert self.model is not None
        started = time.perf_counter()
        outputs = self.model.network.predict(windows, rows)
        heard = int(np.count_nonzero(~is_silent))
        if heard:
            self.telemetry.emit(ModelCalled(heard, time.perf_counter() - started))
        return outputs

    def _forecasts(
        self, origins: Round, values: Floats, spread: Floats, is_model: Bools, primed: Bools
    ) -> Forecasts:
        """Put together what is published of origins that all are, or all are not, windows."""
        slots, is_cold = origins.slots, bool(origins.phases[0] < 0)
        return Forecasts(
            partitions=self.table.partitions(slots),
            series=self.table.names(slots),
            origin_ms=origins.origin_ms,
            step_ms=median_step_ms(self.table, slots),
            first_offsets=origins.first_offsets,
            last_offsets=origins.last_offsets,
            recorded_ms=origins.recorded_ms,
            quantiles=self.quantiles,
            values=values,
            spread=spread[:, : self._values],
            is_cold=is_cold,
            is_model=is_model,
            model_version=self.model.version if self.model is not None else None,
            flags=[()] * len(slots) if is_cold else self._flags(slots, primed),
        )

    def _flags(self, slots: Slots, primed: Bools) -> list[tuple[str, ...]]:
        """What is said of each window's forecast, and said once."""
        reset, restored = self.table["reset"][slots], self.table["restored"][slots]
        self.table["restored"][slots] = False
        told = {"reset": reset, "restored": restored, "primed": primed}
        flags: list[tuple[str, ...]] = [()] * len(slots)
        for name, where in told.items():
            for at in np.flatnonzero(where).tolist():
                flags[at] = (*flags[at], name)
        return flags

    def _tail_spread(self, slots: Slots) -> tuple[Floats, Floats]:
        tail = self.table["tail"][slots]
        return tail_spread(tail, steps_kept(self.table, slots))

    def _seed_errors(self, slots: Slots, spread: Floats) -> None:
        """Give series whose naive error is unknown one to begin with.

        That is the first window, and the first after a change of the horizon.
        """
        unknown = np.isnan(self.table["naive_error"][slots, 0, 0])
        if unknown.any():
            errors = self._first_errors(slots[unknown], spread[unknown])[..., : self._values]
            self.table["naive_error"][slots[unknown]] = errors

    def _first_errors(self, slots: Slots, spread: Floats) -> Floats:
        """The last value's errors within the steps of a series that has no scored forecast yet.

        Each counts as much as one that is scored, or an outlier among these steps would stay in the
        band for hundreds of windows.
        """
        steps = steps_back(self.table, slots, range(self.shape.timesteps))
        return last_value_errors(steps, INPUT_LIMIT * spread, self.shape.horizon)

    def _model_errors(self, slots: Slots) -> Float32s:
        """A point model's running errors; the naive forecast's until it has some."""
        own, naive = self.table["model_error"][slots], self.table["naive_error"][slots]
        return np.where(np.isnan(own), naive, own)

    def _rows(self, slots: Slots, phases: Slots) -> Slots:
        return (slots * self.shape.phases + phases).astype(np.int32)

    @property
    def _values(self) -> int:
        return self.scoring.first_values
