from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from forecastd.forecast.fallback import EVIDENCE_WINDOWS, falls_back
from forecastd.memory.log import MemoryBroker
from forecastd.memory.network import MemoryNetwork
from forecastd.observe.events import ForecastsScored, ModelScored
from forecastd.records import Float32s, Slots
from tests.in_memory import (
    P0,
    START_MS,
    Obs,
    Telemetry,
    assert_same,
    by_id,
    drain,
    encode,
    make_model,
    make_settings,
    published,
    start,
)


class Wrong(MemoryNetwork):
    """Far off, as long as the windows that it reads move."""

    __slots__ = ()

    def predict(self, windows: Float32s, rows: Slots) -> Float32s:
        outputs = MemoryNetwork.predict(self, windows, rows)
        return (np.zeros_like(outputs) + 5).astype(np.float32)


class Right(MemoryNetwork):
    """Knows that every step is one spread above the last."""

    __slots__ = ()

    def predict(self, windows: Float32s, rows: Slots) -> Float32s:
        outputs = MemoryNetwork.predict(self, windows, rows)
        return np.zeros_like(outputs)


def noise(count: int) -> MemoryBroker:
    broker, rng = MemoryBroker(), np.random.default_rng(0)
    for at in range(count):
        at_ms = START_MS + 1_000 * at
        broker.append(P0, encode([Obs("a", at_ms, (float(rng.normal()),))]), at_ms)
    return broker


def windows(broker: MemoryBroker) -> list[dict[str, Any]]:
    return [message for message in published(broker) if "cold" not in message["flags"]]


def served(network: type[MemoryNetwork], count: int = 80, **sections: Any) -> Any:
    settings, broker, heard = make_settings(**sections), noise(count), Telemetry()
    drain(start(broker, settings, make_model(settings, network=network), telemetry=heard))
    return broker, heard


class TestSeriesOnWhichTheModelLoses:
    def test_get_the_naive_forecast_after_a_few_windows(self) -> None:
        broker, _ = served(Wrong)
        sources = [message["source"] for message in windows(broker)]
        assert sources[:EVIDENCE_WINDOWS] == ["model"] * EVIDENCE_WINDOWS
        assert set(sources[EVIDENCE_WINDOWS + 1 :]) == {"baseline"}
        assert {m["model_version"] for m in windows(broker)[-5:]} == {None}

    def test_get_what_they_would_get_without_a_model(self) -> None:
        broker, plain = served(Wrong)[0], noise(80)
        drain(start(plain, make_settings()))
        for message in windows(broker)[-5:]:
            assert_same(message, by_id(plain)[message["id"]])

    def test_have_the_model_scored_all_the_same(self) -> None:
        """It can only win again if somebody looks; and what was published is scored as itself."""
        _, heard = served(Wrong)
        assert sum(event.forecasts for event in heard.heard(ModelScored)) > 10
        by_source = heard.heard(ForecastsScored)
        naive = [event for event in by_source if event.source == "baseline"][-3:]
        assert naive
        assert all(event.error == event.naive_error for event in naive)

    def test_are_counted_while_a_model_serves(self) -> None:
        settings = make_settings()
        loop = start(noise(80), settings, make_model(settings, network=Wrong))
        drain(loop)
        assert loop.forecaster.count_fallback(loop.served) == 1
        assert loop.forecaster.count_fallback([]) == 0
        loop.forecaster.model = None
        assert loop.forecaster.count_fallback(loop.served) == 0, "nothing to fall back from"

    def test_get_the_model_where_the_operator_pinned_it(self) -> None:
        broker, _ = served(Wrong, models={"serve": "anywhere"})
        assert {message["source"] for message in windows(broker)} == {"model"}


class TestModelScored:
    def test_speaks_for_the_serving_weights_alone(self) -> None:
        """Or new weights would be on probation with what the old ones have left pending."""
        settings, broker, heard = make_settings(), noise(40), Telemetry()
        loop = start(broker, settings, make_model(settings), telemetry=heard)
        drain(loop)
        before = sum(event.forecasts for event in heard.heard(ModelScored))
        assert before > 0
        assert loop.forecaster.model is not None
        loop.forecaster.model = replace(loop.forecaster.model, version="2-bb")
        scored = []
        for window in range(3):
            for at in range(40 + 4 * window, 44 + 4 * window):
                at_ms = START_MS + 1_000 * at
                broker.append(P0, encode([Obs("a", at_ms, (0.5 * at % 3,))]), at_ms)
            drain(loop)
            scored.append(sum(event.forecasts for event in heard.heard(ModelScored)) - before)
        assert scored == [0, 1, 2]


class TestSeriesOnWhichTheModelTies:
    def test_keep_the_model(self) -> None:
        broker, _ = served(Right)
        assert {message["source"] for message in windows(broker)} == {"model"}


class TestFallsBack:
    def test_needs_more_to_come_back_than_to_stay(self) -> None:
        rivals = np.array([[1.0, 1.0], [1.0, 1.0], [0.9, 1.0], [1.1, 1.0]])
        before = np.array([True, False, True, False])
        many = np.full(4, 100)
        assert falls_back(rivals, many, before).tolist() == [True, False, False, True]

    def test_says_nothing_on_little_evidence(self) -> None:
        few = np.array([EVIDENCE_WINDOWS - 1] * 2)
        before = np.array([True, False])
        assert falls_back(np.array([[0.0, 9.0], [9.0, 0.0]]), few, before).tolist() == [True, False]
