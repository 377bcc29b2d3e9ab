"""Every metric and label that alert rules and dashboards name is one that the daemon exports."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry

from forecastd.clock import ManualClock
from forecastd.observe.prometheus_metrics import Metrics
from forecastd.observe.prometheus_telemetry import PrometheusTelemetry

CONFIG = Path(__file__).parents[1] / "config"
RULES = CONFIG / "alerts.yml"
DASHBOARDS = sorted((CONFIG / "grafana" / "dashboards").glob("*.json"))
FROM_SCRAPE = {"job", "instance", "le"}
"""Labels that Prometheus or a histogram adds to ours."""


@functools.cache
def exported_names() -> set[str]:
    """Names of all samples, those of partitions and of the process included."""
    registry = CollectorRegistry()
    PrometheusTelemetry(registry, "0.1.0", ManualClock())
    names = {"up"}
    for family in registry.collect():
        suffixes = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}
        suffixes["info"] = ("_info",)
        names |= {family.name + suffix for suffix in suffixes.get(family.type, ("",))}
    return names


@functools.cache
def labels_by_metric() -> dict[str, set[str]]:
    return {metric.name: set(metric.labels) for metric in Metrics(CollectorRegistry()).declared}


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def panels() -> Iterator[tuple[str, dict[str, Any]]]:
    for path in DASHBOARDS:
        for panel in json.loads(path.read_text(encoding="utf-8"))["panels"]:
            yield path.name, panel


def expressions() -> Iterator[tuple[str, str]]:
    """Where an expression stands, and the expression."""
    for rule in rules():
        yield f"{RULES.name}: {rule['alert']}", rule["expr"]
    for name, panel in panels():
        for target in panel.get("targets", []):
            yield f"{name}: {panel['title']}", target["expr"]
    for path in DASHBOARDS:
        dashboard = json.loads(path.read_text(encoding="utf-8"))
        for variable in dashboard["templating"]["list"]:
            yield f"{path.name}: ${variable['name']}", variable["definition"]
        for annotation in dashboard["annotations"]["list"]:
            yield f"{path.name}: {annotation['name']}", annotation["expr"]


def metrics_in(expression: str) -> list[str]:
    return re.findall(r"\b(?:forecastd|process|python)_[a-z_]+\b|\bup\b", expression)


EXPRESSIONS = list(expressions())


class TestMetricNames:
    @pytest.mark.parametrize(("where", "expression"), EXPRESSIONS)
    def test_are_exported(self, where: str, expression: str) -> None:
        """An alert on a name that nobody exports is silent for ever."""
        named = metrics_in(expression)
        assert named, f"{where} names no metric of ours"
        assert [name for name in named if name not in exported_names()] == []

    @pytest.mark.parametrize(("where", "expression"), EXPRESSIONS)
    def test_carry_the_labels_that_are_asked_of_them(self, where: str, expression: str) -> None:
        known = labels_by_metric()
        for name, selector in re.findall(r"\b(forecastd_[a-z_]+)\{([^}]*)\}", expression):
            metric = re.sub(r"_(bucket|sum|count)$", "", name)
            asked = set(re.findall(r"([a-z_]+)\s*(?:=|!)", selector))
            assert asked <= known[metric] | FROM_SCRAPE, where

    @pytest.mark.parametrize(("where", "expression"), EXPRESSIONS)
    def test_are_grouped_by_labels_that_exist(self, where: str, expression: str) -> None:
        known = set().union(*labels_by_metric().values()) | FROM_SCRAPE
        for grouped in re.findall(r"\b(?:by|ignoring|on)\s*\(([^)]*)\)", expression):
            assert {label.strip() for label in grouped.split(",")} <= known, where

    def test_a_wrong_name_would_be_found(self) -> None:
        assert metrics_in("rate(forecastd_recods_total[5m])") == ["forecastd_recods_total"]
        assert "forecastd_recods_total" not in exported_names()


class TestRules:
    @pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
    def test_say_what_happened_and_what_to_do(self, rule: dict[str, Any]) -> None:
        assert rule["labels"]["severity"] in {"page", "ticket"}
        assert "{{" in rule["annotations"]["summary"], "which instance"
        assert len(rule["annotations"]["description"]) > 80

    def test_name_settings_that_exist(self) -> None:
        from forecastd.settings import Settings

        text = RULES.read_text(encoding="utf-8")
        sections = Settings.model_fields
        for section, name in re.findall(r"\b([a-z]+)\.([a-z_]+)\b", text):
            if section in sections:
                assert name in getattr(Settings(), section).__class__.model_fields, (
                    f"{section}.{name}"
                )

    def test_are_all_tested(self) -> None:
        """`make deploy-check` runs them with promtool; here only that none is left out."""
        tested = (CONFIG / "alerts_test.yml").read_text(encoding="utf-8")
        assert [rule["alert"] for rule in rules() if rule["alert"] not in tested] == []

    def test_are_read_by_prometheus_which_scrapes_the_daemon(self) -> None:
        config = yaml.safe_load((CONFIG / "prometheus.yml").read_text(encoding="utf-8"))
        assert config["rule_files"] == [RULES.name]
        jobs = {job["job_name"]: job["static_configs"] for job in config["scrape_configs"]}
        assert jobs["forecastd"] == [{"targets": ["forecastd:9464"]}]


class TestDashboards:
    def test_there_is_one(self) -> None:
        assert [path.name for path in DASHBOARDS] == ["forecastd.json"]

    def test_its_rows_follow_the_data_path(self) -> None:
        rows = [panel["title"] for _, panel in panels() if panel["type"] == "row"]
        path = ["Ingest", "Windows", "Forecast", "Quality", "Publish", "State"]
        assert [row for row in rows if row in path] == path

    def test_its_data_source_is_the_provisioned_one(self) -> None:
        provisioned = CONFIG / "grafana" / "provisioning" / "datasources" / "prometheus.yml"
        (source,) = yaml.safe_load(provisioned.read_text(encoding="utf-8"))["datasources"]
        used = {p["datasource"]["uid"] for _, p in panels() if p["type"] != "row"}
        assert used == {source["uid"]}

    def test_its_panels_do_not_overlap(self) -> None:
        taken: set[tuple[int, int]] = set()
        for _, panel in panels():
            at = panel["gridPos"]
            cells = {
                (x, y)
                for x in range(at["x"], at["x"] + at["w"])
                for y in range(at["y"], at["y"] + at["h"])
            }
            assert not cells & taken, panel["title"]
            assert at["x"] + at["w"] <= 24, panel["title"]
            taken |= cells

    def test_its_panels_have_numbers_of_their_own(self) -> None:
        numbers = [panel["id"] for _, panel in panels()]
        assert len(set(numbers)) == len(numbers)
