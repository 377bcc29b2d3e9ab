from __future__ import annotations

from random import Random

from prometheus_client import CollectorRegistry, Histogram, generate_latest

from forecastd.observe.prometheus_histogram import BulkHistogram

BUCKETS = (0.005, 0.1, 1, 60)


class TestBulkHistogram:
    def test_exports_exactly_what_prometheus_client_would(self) -> None:
        """Bounds are inclusive, buckets cumulative, numbers written alike."""
        values = [Random(3).lognormvariate(-2, 2) for _ in range(300)] + [0.005, 1.0, 60.0, 1e9]
        theirs, ours = CollectorRegistry(), CollectorRegistry()
        one_by_one = Histogram("delay_seconds", "Delay", registry=theirs, buckets=BUCKETS)
        for value in values:
            one_by_one.observe(value)
        BulkHistogram("delay_seconds", "Delay", BUCKETS, ours).observe_many(values)
        wanted = [line for line in generate_latest(theirs).splitlines() if b"_created" not in line]
        found = generate_latest(ours).splitlines()
        is_sum = [line.startswith(b"delay_seconds_sum") for line in wanted]
        assert sorted(
            line for line, summed in zip(wanted, is_sum, strict=True) if not summed
        ) == sorted(line for line in found if not line.startswith(b"delay_seconds_sum"))

    def test_sums_over_calls(self) -> None:
        registry = CollectorRegistry()
        histogram = BulkHistogram("delay_seconds", "Delay", BUCKETS, registry)
        histogram.observe_many((0.5, 0.25))
        histogram.observe_many(())
        histogram.observe_many((2.0,))
        assert registry.get_sample_value("delay_seconds_sum") == 2.75
        assert registry.get_sample_value("delay_seconds_count") == 3
        assert registry.get_sample_value("delay_seconds_bucket", {"le": "1.0"}) == 2

    def test_exists_before_the_first_value(self) -> None:
        registry = CollectorRegistry()
        BulkHistogram("delay_seconds", "Delay", BUCKETS, registry)
        assert registry.get_sample_value("delay_seconds_bucket", {"le": "+Inf"}) == 0
