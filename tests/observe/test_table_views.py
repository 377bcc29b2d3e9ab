from __future__ import annotations

from dataclasses import replace

import pytest

from forecastd.loop import Loop
from forecastd.memory.log import MemoryBroker
from forecastd.memory.network import MemoryNetwork
from forecastd.observe.snapshot import SeriesView
from forecastd.observe.table_views import ServedWeights, busiest_series
from forecastd.records import Float32s, Slots
from tests.in_memory import drain, feed, feed_more, make_model, make_settings, published, start

VERSION = "7-3fa9c1"


class Wrong(MemoryNetwork):
    """Three spreads too high."""

    def predict(self, windows: Float32s, rows: Slots) -> Float32s:
        return super().predict(windows, rows) + 3


class Shown:
    """A daemon without a champion, and what the page shows of its series."""

    def __init__(self, stride: int = 4, network: type[MemoryNetwork] = MemoryNetwork) -> None:
        self.settings = make_settings(
            windows={"stride": stride}, training={"prime_windows": 8, "enabled": False}
        )
        self.broker: MemoryBroker = feed(120, seed=1, broken=0.0, late=0.0)
        self.model = make_model(self.settings, version=VERSION, network=network)
        self.loop: Loop = start(self.broker, self.settings, self.model)
        self.loop.forecaster.falls_back = False

    @property
    def views(self) -> dict[tuple[int, str], SeriesView]:
        loop, served = self.loop, self.loop.forecaster.model
        weights = None
        if served is not None:
            weights = ServedWeights(
                served.version, served.version_key, self.settings.windows.stride_steps
            )
        quantiles = self.settings.forecast.quantiles
        found = busiest_series(loop.table, list(loop.served), loop.targets, quantiles, weights)
        return {(view.partition, view.name): view for view in found}


class TestModelFrom:
    @pytest.mark.parametrize("stride", [4, 2])
    def test_is_where_the_first_forecast_of_the_serving_weights_sets_out(self, stride: int) -> None:
        """There the page draws its line."""
        shown = Shown(stride)
        shown.loop.forecaster.model = None
        drain(shown.loop)
        assert {view.model_from_ms for view in shown.views.values()} == {None}
        shown.loop.forecaster.model = shown.model.served
        feed_more(shown.broker, 40, seed=2, broken=0.0, late=0.0)
        drain(shown.loop)
        first: dict[tuple[int, str], int] = {}
        for message in published(shown.broker):
            if message["source"] == "model":
                key = message["input"]["partition"], message["series"]
                first.setdefault(key, message["origin_ms"])
        told = {key: view.model_from_ms for key, view in shown.views.items() if key in first}
        assert told
        assert {key: at for key, at in told.items() if at is not None} == {
            key: first[key] for key, at in told.items() if at is not None
        }
        assert sum(at is not None for at in told.values()) >= 4

    def test_is_nowhere_where_one_model_made_all_forecasts(self) -> None:
        shown = Shown()
        drain(shown.loop)
        assert {view.model_from_ms for view in shown.views.values()} == {None}


class TestModelVersion:
    def test_is_that_of_the_latest_forecast(self) -> None:
        shown = Shown()
        drain(shown.loop)
        views = shown.views.values()
        assert {view.model_version for view in views if view.source == "model"} == {VERSION}

    def test_is_unknown_where_replaced_weights_made_it(self) -> None:
        """Until the series' next window the page must not call it the new model's."""
        shown = Shown()
        drain(shown.loop)
        shown.loop.forecaster.model = replace(shown.model.served, version="8-11aa22")
        assert {view.model_version for view in shown.views.values()} == {None}

    def test_is_none_of_a_series_in_fallback(self) -> None:
        shown = Shown(network=Wrong)
        shown.loop.forecaster.falls_back = True
        drain(shown.loop)
        views = [view for view in shown.views.values() if view.in_fallback]
        assert views
        assert {(view.source, view.model_version) for view in views} == {("baseline", None)}
