"""The daemon as DESIGN.md describes it, one observation at a time: slow, and easily believed.

It shares nothing with the vectorised stages but the network, which it calls for a single window of
a single series at a time, with a bank of its own.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from forecastd.forecast.model import Model
from forecastd.memory.log import MemoryBroker, MemoryRecord
from forecastd.records import Floats, TopicPartition
from forecastd.settings import Settings


@dataclass
class Step:
    """One step of a series, and the record it came in."""

    at_ms: int
    values: Floats
    offset: int


@dataclass
class Made:
    """A forecast that waits for its actuals; the arrays have shape (H, V)."""

    window: int
    steps: int
    median: Floats
    naive: Floats
    low: Floats
    high: Floats
    is_model: bool
    in_shadow: bool


@dataclass
class SlowSeries:
    """One series of one partition: everything it has seen."""

    rows: dict[int, int]  # bank rows by phase
    steps: list[Step] = field(default_factory=list)
    made: dict[int, Made] = field(default_factory=dict)
    naive_error: dict[tuple[int, int], float] = field(default_factory=dict)  # by lead, value
    model_error: dict[tuple[int, int], float] = field(default_factory=dict)
    scored: int = 0
    rivals: tuple[float, float] = (0.0, 0.0)  # discounted errors of model and naive forecast
    falls_back: bool = False
    late: int = 0
    recorded_ms: int = -1
    is_reset: bool = False


@dataclass
class Scores:
    """What was scored, by source: leads, scaled errors, naive ones, covered."""

    leads: int = 0
    error: float = 0.0
    naive_error: float = 0.0
    covered: int = 0


class SlowDaemon:
    """Reads records one at a time; `messages` are the forecasts by id."""

    def __init__(self, settings: Settings, model: Model | None) -> None:
        self.settings, self.model = settings, model
        self.windows, self.horizon = settings.windows, settings.forecast.horizon
        self.stride = settings.windows.stride_steps
        self.features = settings.ingest.values
        self.values = model.served.values if model else len(self.features)
        self.quantiles = settings.forecast.quantiles
        self.series: dict[tuple[TopicPartition, str], SlowSeries] = {}
        self.messages: dict[str, dict[str, Any]] = {}
        self.rejected: list[tuple[TopicPartition, int]] = []
        self.scores: dict[str, Scores] = defaultdict(Scores)
        self.bank_rows = 0
        self.expired = self.accepted = 0

    def read(self, broker: MemoryBroker) -> SlowDaemon:
        for partition in sorted(broker.records):
            for record in broker.records[partition]:
                self.record(partition, record)
        return self

    def record(self, partition: TopicPartition, record: MemoryRecord) -> None:
        if record.value is None:
            return
        try:
            parsed = json.loads(record.value)
            objects = parsed if isinstance(parsed, list) else [parsed]
            observations = [
                (o["series"], o["timestamp"], [o[name] for name in self.features]) for o in objects
            ]
        except (ValueError, KeyError):
            observations = []
        if not observations:
            self.rejected.append((partition, record.offset))
            return
        taken: dict[str, int] = {}
        for place, (name, at_ms, values) in enumerate(observations):
            one = self.seen(partition, name, record.timestamp)
            if one.steps and at_ms <= one.steps[-1].at_ms:
                one.late += 1
                continue
            if one.steps and at_ms - one.steps[-1].at_ms > self.settings.state.series_ttl:
                one = self.anew(partition, name)
            self.accepted += 1
            one.steps.append(Step(at_ms, np.array(values, np.float64), record.offset))
            taken[name] = place
            count = len(one.steps) - self.windows.timesteps
            if count >= 0 and count % self.stride == 0:
                self.window(partition, name, one, count // self.stride)
        for name in taken:
            one = self.one(partition, name)
            if len(one.steps) < self.windows.timesteps:
                self.cold(partition, name, one)

    def one(self, partition: TopicPartition, name: str) -> SlowSeries:
        if (partition, name) not in self.series:
            self.series[partition, name] = self.fresh()
        return self.series[partition, name]

    def seen(self, partition: TopicPartition, name: str, recorded_ms: int) -> SlowSeries:
        """The series of a record, which begins anew if its last one was too long ago."""
        one = self.one(partition, name)
        if one.steps and recorded_ms - one.recorded_ms > self.settings.state.series_ttl:
            one = self.anew(partition, name)
        one.recorded_ms = recorded_ms
        return one

    def fresh(self) -> SlowSeries:
        """A series that has seen nothing, with bank rows that nobody had."""
        rows = {phase: self.bank_rows + phase for phase in range(self.windows.phases)}
        self.bank_rows += self.windows.phases
        if self.model:
            self.model.bank.grow(self.bank_rows)
        return SlowSeries(rows)

    def anew(self, partition: TopicPartition, name: str) -> SlowSeries:
        """The same series after it was away for too long."""
        fresh = self.fresh()
        before = self.series[partition, name]
        fresh.is_reset, fresh.late, fresh.recorded_ms = True, before.late, before.recorded_ms
        self.series[partition, name] = fresh
        self.expired += 1
        return fresh

    def cold(self, partition: TopicPartition, name: str, one: SlowSeries) -> None:
        errors = self.last_value_errors(one)
        forecast = self.banded(self.naive(one), errors)
        self.publish(partition, name, one, forecast, one.steps[0].offset, "-cold", ["cold"])

    def window(self, partition: TopicPartition, name: str, one: SlowSeries, window: int) -> None:
        self.score(one, window)
        if window == 0:
            one.naive_error = self.last_value_errors(one)
        naive = self.naive(one)
        forecast, is_model = self.banded(naive, one.naive_error), self.model is not None
        middle = self.quantiles.index(0.5)
        median = forecast[:, middle]
        in_shadow = is_model and one.falls_back and self.settings.models.serve is None
        if is_model:
            by_model = self.modelled(one, window)
            median = by_model[:, middle]
            forecast = forecast if in_shadow else by_model
        one.made[window] = Made(
            window,
            len(one.steps),
            median,
            naive,
            forecast[:, 0],
            forecast[:, -1],
            is_model,
            in_shadow,
        )
        first = one.steps[-self.windows.timesteps].offset
        flags, one.is_reset = ["reset"] * one.is_reset, False
        self.publish(
            partition, name, one, forecast, first, "", flags, is_model=is_model and not in_shadow
        )

    def score(self, one: SlowSeries, window: int) -> None:
        """Each lead of each forecast that fell on the last `stride` steps."""
        now, spread, any_model = len(one.steps), self.spread(one), False
        rivals = [0.0, 0.0]
        for made in list(one.made.values()):
            if made.steps + self.horizon <= now - self.stride:
                del one.made[made.window]
                continue
            for lead in range(1, self.horizon + 1):
                if not now - self.stride < made.steps + lead <= now:
                    continue
                actual = one.steps[made.steps + lead - 1].values
                any_model |= made.is_model
                for value in range(self.values):
                    most = 10 * spread[value]
                    error = min(abs(actual[value] - made.median[lead - 1, value]), most)
                    naive = min(abs(actual[value] - made.naive[lead - 1, value]), most)
                    learn(one.naive_error, (lead, value), naive, made.window + 1)
                    if made.is_model:
                        learn(one.model_error, (lead, value), error, one.scored)
                        rivals[0] += error / spread[value]
                        rivals[1] += naive / spread[value]
                    by_model = made.is_model and not made.in_shadow
                    scores = self.scores["model" if by_model else "baseline"]
                    scores.leads += 1
                    scores.error += (naive if made.in_shadow else error) / spread[value]
                    scores.naive_error += naive / spread[value]
                    low, high = made.low[lead - 1, value], made.high[lead - 1, value]
                    scores.covered += low <= actual[value] <= high
        if any_model:
            self.judge(one, rivals)

    def judge(self, one: SlowSeries, rivals: list[float]) -> None:
        """Which side the series is on after one more scored window of the model."""
        one.scored += 1
        model, naive = (0.95 * old + new for old, new in zip(one.rivals, rivals, strict=True))
        one.rivals = model, naive
        if one.scored >= 3:
            one.falls_back = model >= 0.95 * naive if one.falls_back else model > 1.05 * naive

    def modelled(self, one: SlowSeries, window: int) -> Floats:
        assert self.model is not None
        served, timesteps = self.model.served, self.windows.timesteps
        steps = np.array([step.values for step in one.steps])
        cut, spread = steps[-timesteps:], self.spread(one)
        before = steps[-timesteps - 1] if len(steps) > timesteps else cut[0]
        if served.scaling == "none":
            spread = np.ones_like(spread)
        if served.anchor == "none":
            median = np.median(self.tail(one), axis=0)
            before = anchor = median if served.scaling == "series" else np.zeros_like(spread)
        elif served.anchor == "last":
            anchor = cut[-1]
        else:
            weights = [0.8 ** (timesteps - 1 - at) for at in range(timesteps)]
            anchor = sum(w * row for w, row in zip(weights, cut, strict=True)) / sum(weights)
        fed = (cut - before) / spread
        if served.scaling == "series":
            fed = np.clip(fed, -10, 10)
        row = np.array([one.rows[window % self.windows.phases]], np.int32)
        out = served.network.predict(fed[None].astype(np.float32), row)[0, 0].astype(np.float64)
        made: Floats = anchor[: self.values] + spread[: self.values] * out
        if served.quantiles:
            return made
        errors = {at: one.model_error.get(at, one.naive_error[at]) for at in one.naive_error}
        return self.banded(made[:, 0], errors)

    def tail(self, one: SlowSeries) -> Floats:
        return np.array([step.values for step in one.steps[-self.settings.tail_steps :]])

    def spread(self, one: SlowSeries) -> Floats:
        tail = self.tail(one)
        spread = (np.quantile(tail, 0.75, axis=0) - np.quantile(tail, 0.25, axis=0)) / 1.349
        for value, median in enumerate(np.median(tail, axis=0)):
            if spread[value] <= abs(median) * 1e-9:
                spread[value] = tail[:, value].std()
            if spread[value] <= abs(median) * 1e-9:
                spread[value] = abs(median) or 1.0
        return spread

    def naive(self, one: SlowSeries) -> Floats:
        season, made = self.windows.season, []
        for lead in range(1, self.horizon + 1):
            back = 0
            if season and len(one.steps) >= season:
                back = season * math.ceil(lead / season) - lead
            made.append(one.steps[-1 - back].values[: self.values])
        return np.array(made)

    def last_value_errors(self, one: SlowSeries) -> dict[tuple[int, int], float]:
        steps = [step.values for step in one.steps[-self.windows.timesteps :]]
        most = 10 * self.spread(one)
        errors: dict[tuple[int, int], float] = {}
        for value in range(self.values):
            known = 0.0
            for lead in range(1, self.horizon + 1):
                moves = [
                    min(abs(b[value] - a[value]), most[value])
                    for a, b in zip(steps, steps[lead:], strict=False)
                ]
                known = sum(moves) / len(moves) if moves else known
                errors[lead, value] = known
        return errors

    def banded(self, middle: Floats, errors: dict[tuple[int, int], float]) -> Floats:
        """(H, V) and errors to (H, Q, V)."""
        banded = np.empty((self.horizon, len(self.quantiles), self.values))
        for (lead, value), error in errors.items():
            for at, q in enumerate(self.quantiles):
                move = error * math.log(2 * q) if q < 0.5 else -error * math.log(2 * (1 - q))
                banded[lead - 1, at, value] = middle[lead - 1, value] + move
        return banded

    def publish(
        self,
        partition: TopicPartition,
        name: str,
        one: SlowSeries,
        forecast: Floats,
        first_offset: int,
        behind: str,
        flags: list[str],
        *,
        is_model: bool = False,
    ) -> None:
        last = one.steps[-1]
        times = [step.at_ms for step in one.steps[-self.settings.tail_steps :]]
        key = f"{partition.topic}-{partition.partition}-{name}-{last.at_ms}{behind}"
        assert key not in self.messages, key
        self.messages[key] = {
            "schema": 1,
            "id": key,
            "series": name,
            "origin_ms": last.at_ms,
            "step_ms": round(float(np.median(np.diff(times)))) if len(times) > 1 else None,
            "quantiles": list(self.quantiles),
            "forecasts": {
                target: forecast[:, :, value].tolist()
                for value, target in enumerate(self.features[: self.values])
            },
            "source": "model" if is_model else "baseline",
            "model_version": self.model.served.version if is_model and self.model else None,
            "input": {
                "topic": partition.topic,
                "partition": partition.partition,
                "first_offset": first_offset,
                "last_offset": last.offset,
            },
            "flags": flags,
        }


def learn(
    errors: dict[tuple[int, int], float], at: tuple[int, int], error: float, count: int
) -> None:
    """A mean of the first 50, which forgets from then on."""
    mean = errors.get(at, error)
    errors[at] = mean + (error - mean) / min(count + 1, 50)
