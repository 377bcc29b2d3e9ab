from __future__ import annotations

import re
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from forecastd.observe.prometheus_metrics import Metrics, metrics_table

DECLARED = Metrics(CollectorRegistry()).declared
README = Path(__file__).parents[2] / "README.md"
BASE_UNITS = ("seconds", "bytes", "records", "ratio", "info", "windows")
COUNTS = (
    "forecastd_series_active",
    "forecastd_partitions_assigned",
    "forecastd_partitions_restoring",
    "forecastd_restore_read_rows",
    "forecastd_restore_wanted_rows",
    "forecastd_ready",
    "forecastd_training_running",
    "forecastd_training_failures_in_a_row",
    "forecastd_model_held",
    "forecastd_series_in_fallback",
)


class TestNames:
    @pytest.mark.parametrize("name", [metric.name for metric in DECLARED])
    def test_is_ours_and_lower_case(self, name: str) -> None:
        assert re.fullmatch(r"forecastd(_[a-z]+)+", name)

    def test_counters_and_only_they_end_in_total(self) -> None:
        assert {m.name for m in DECLARED if m.name.endswith("_total")} == {
            m.name for m in DECLARED if m.kind == "counter"
        }

    def test_everything_else_ends_in_a_base_unit_or_is_a_count(self) -> None:
        others = [m.name for m in DECLARED if m.kind != "counter" and m.name not in COUNTS]
        assert [name for name in others if not name.endswith(BASE_UNITS)] == []

    def test_labels_come_from_a_short_list_without_series(self) -> None:
        bounded = {"topic", "partition", "stage", "source", "cold", "reason", "kind"}
        bounded |= {"outcome", "by", "rival"}
        bounded |= {"version", "architecture"}  # one value at a time
        assert {label for metric in DECLARED for label in metric.labels} <= bounded

    def test_no_name_twice(self) -> None:
        assert len({metric.name for metric in DECLARED}) == len(DECLARED)


class TestMetricsTable:
    def test_has_a_row_for_every_metric(self) -> None:
        rows = metrics_table().splitlines()[2:]
        assert [row.split("`")[1] for row in rows[:-1]] == [metric.name for metric in DECLARED]

    def test_no_text_breaks_the_table(self) -> None:
        assert {len(re.findall(r"\|", row)) for row in metrics_table().splitlines()} == {5}

    @pytest.mark.skipif(not README.exists(), reason="this checkout has no README.md")
    def test_readme_shows_it_as_it_is(self) -> None:
        """Written by hand it would be wrong within a month."""
        assert metrics_table() in README.read_text(encoding="utf-8")
