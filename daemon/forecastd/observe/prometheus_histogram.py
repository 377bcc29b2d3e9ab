"""A histogram that takes many values in one call.

prometheus-client's own takes one value at a time, each under a lock and through a Python loop over
the buckets, which adds up where every forecast brings a delay.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

import numpy as np
from prometheus_client import CollectorRegistry
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from forecastd.records import Floats, Ints


class BulkHistogram(Collector):
    """A Prometheus histogram without labels, observed many values at a time.

    One thread observes and any thread collects: what is collected is replaced as a whole and
    never written to.
    """

    def __init__(
        self, name: str, meaning: str, buckets: Sequence[float], registry: CollectorRegistry
    ) -> None:
        self._name = name
        self._meaning = meaning
        self._bounds: Floats = np.asarray(buckets, dtype=np.float64)
        self._state: tuple[Ints, float] = (np.zeros(len(buckets) + 1, dtype=np.int64), 0.0)
        registry.register(self)

    def observe_many(self, values: Sequence[float]) -> None:
        """Count every value in the first bucket whose upper bound is not below it."""
        if not values:
            return
        observed = np.asarray(values, dtype=np.float64)
        buckets = np.searchsorted(self._bounds, observed, side="left")
        counts, total = self._state
        counted = np.bincount(buckets, minlength=len(counts))
        self._state = (counts + counted, total + float(observed.sum()))

    def collect(self) -> Iterable[Metric]:
        """The one family, with cumulative buckets as the format wants them."""
        counts, total = self._state
        bounds = [*(floatToGoString(bound) for bound in self._bounds), "+Inf"]
        cumulative = itertools.accumulate(counts.tolist())
        buckets = [(bound, float(count)) for bound, count in zip(bounds, cumulative, strict=True)]
        yield HistogramMetricFamily(self._name, self._meaning, buckets=buckets, sum_value=total)
