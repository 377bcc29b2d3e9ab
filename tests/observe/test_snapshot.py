from __future__ import annotations

import json
import math

from forecastd.observe.snapshot import SeriesView, Snapshot, encode


class TestEncode:
    def test_gaps_become_null_because_json_has_no_nan(self) -> None:
        view = SeriesView(
            name="cpu",
            topic="t",
            partition=0,
            target="value",
            at_ms=[1, 2],
            actuals=[1.5, math.nan],
        )
        shown = json.loads(encode(Snapshot(at_ms=5, series=(view,))))
        assert shown["series"][0]["actuals"] == [1.5, None]

    def test_names_come_through_whatever_they_hold(self) -> None:
        name = '<script>alert("1")</script>\x1b[2J\n\u202e'
        view = SeriesView(name=name, topic="t", partition=0, target="v", at_ms=[], actuals=[])
        assert json.loads(encode(Snapshot(series=(view,))))["series"][0]["name"] == name

    def test_an_empty_snapshot_holds_every_field(self) -> None:
        """What polls it from the start, such as the demo, must not look for missing fields."""
        shown = json.loads(encode(Snapshot()))
        assert set(shown) == set(Snapshot.__struct_fields__)
        assert (shown["records_total"], shown["forecasts_total"], shown["skill"]) == (0, 0, None)
