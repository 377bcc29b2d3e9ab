"""Declares metrics in a registry and remembers them, so that their table is never guessed."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info

from forecastd.observe.prometheus_histogram import BulkHistogram

Labelled = TypeVar("Labelled", Counter, Gauge, Histogram)


@dataclass(frozen=True, slots=True)
class MetricDeclared:
    """One row of the metrics table; no values at a label means that its list is open."""

    name: str
    kind: str
    labels: Mapping[str, Sequence[str]]
    meaning: str


class Declarer:
    """Creates metrics in a registry and remembers what it declared, in order."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self.declared: list[MetricDeclared] = []

    def counter(
        self, name: str, meaning: str, labels: Mapping[str, Sequence[str]] | None = None
    ) -> Counter:
        """A counter; its name ends in `_total`."""
        names = self._declare(name, "counter", labels, meaning)
        return _with_all_labels(Counter(name, meaning, names, registry=self._registry), labels)

    def gauge(
        self, name: str, meaning: str, labels: Mapping[str, Sequence[str]] | None = None
    ) -> Gauge:
        """A gauge."""
        names = self._declare(name, "gauge", labels, meaning)
        return _with_all_labels(Gauge(name, meaning, names, registry=self._registry), labels)

    def histogram(
        self,
        name: str,
        meaning: str,
        buckets: Sequence[float],
        labels: Mapping[str, Sequence[str]] | None = None,
    ) -> Histogram:
        """A histogram that is observed a value at a time."""
        names = self._declare(name, "histogram", labels, meaning)
        made = Histogram(name, meaning, names, registry=self._registry, buckets=buckets)
        return _with_all_labels(made, labels)

    def bulk_histogram(self, name: str, meaning: str, buckets: Sequence[float]) -> BulkHistogram:
        """A histogram that is observed many values at a time."""
        self._declare(name, "histogram", None, meaning)
        return BulkHistogram(name, meaning, buckets, self._registry)

    def info(self, name: str, meaning: str, labels: Iterable[str]) -> Info:
        """A gauge that is always 1 and whose labels are the fact; `name` ends in `_info`."""
        self._declare(name, "gauge", dict.fromkeys(labels, ()), meaning)
        return Info(name.removesuffix("_info"), meaning, registry=self._registry)

    def _declare(
        self, name: str, kind: str, labels: Mapping[str, Sequence[str]] | None, meaning: str
    ) -> tuple[str, ...]:
        self.declared.append(MetricDeclared(name, kind, labels or {}, meaning))
        return tuple(labels or ())


def _with_all_labels(metric: Labelled, labels: Mapping[str, Sequence[str]] | None) -> Labelled:
    if labels and all(labels.values()):
        for values in itertools.product(*labels.values()):
            metric.labels(*values)
    return metric
