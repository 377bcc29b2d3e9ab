from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from kafka import KafkaConsumer

from forecastd.demo.feed_record import feed_record
from forecastd.demo.kafka_feed import MADE_UP
from forecastd.demo.psutil_machine import Machine
from forecastd.demo.restless_series import RESTLESS_SERIES, RestlessSeries
from forecastd.demo.seasonal_series import SEASONAL_SERIES, SeasonalSeries
from forecastd.memory.log import MemoryRecord
from forecastd.records import TopicPartition
from forecastd.settings import Settings
from forecastd.wiring import json_decoder
from tests.deadline import DEADLINE_S, until

NOW_MS = 1_790_000_000_000
STEP_MS = 200
MINUTE_MS = NOW_MS + STEP_MS * np.arange(300)


def decode(records: Sequence[MemoryRecord]) -> dict[str, list[float]]:
    """Values by series, as the daemon reads them by default; none may be rejected."""
    decoded = json_decoder(Settings()).decode(TopicPartition("records", 0), records)
    assert decoded.rejects == []
    found: dict[str, list[float]] = {}
    observations = decoded.observations
    for name, values in zip(observations.series, observations.values, strict=True):
        found.setdefault(name, []).append(float(values[0]))
    return found


class TestSeasonalSeries:
    def test_are_eight_and_all_have_a_season_that_can_be_watched(self) -> None:
        """Somebody who looks for 20 s must have seen a whole one of each."""
        assert len(SEASONAL_SERIES) >= 8
        assert len({series.name for series in SEASONAL_SERIES}) == len(SEASONAL_SERIES)
        assert all(series.season_ms < 20_000 for series in SEASONAL_SERIES)
        assert len({series.shape for series in SEASONAL_SERIES}) >= 6

    @pytest.mark.parametrize("series", SEASONAL_SERIES, ids=lambda series: series.name)
    def test_a_value_depends_on_its_time_alone(self, series: SeasonalSeries) -> None:
        """Past and present are made in chunks of any size, and must be one series."""
        together = series.values(MINUTE_MS)
        one_by_one = [series.values(MINUTE_MS[at : at + 1])[0] for at in range(300)]
        np.testing.assert_array_equal(together, one_by_one)

    @pytest.mark.parametrize("series", SEASONAL_SERIES, ids=lambda series: series.name)
    def test_are_plausible_for_days(self, series: SeasonalSeries) -> None:
        """Nobody orders a negative number of loaves; nor may a drift run away."""
        values = series.values(NOW_MS + 60_007 * np.arange(3 * 24 * 60))
        highest = series.level + 2 * series.swing + 10 * series.drift_per_minute
        assert np.isfinite(values).all()
        assert values.min() >= max(series.lowest, 0)
        assert values.max() < highest + 6 * series.noise

    @pytest.mark.parametrize("series", SEASONAL_SERIES, ids=lambda series: series.name)
    def test_the_season_is_what_is_large_in_them(self, series: SeasonalSeries) -> None:
        """Else there would be nothing to forecast."""
        season_later = series.values(MINUTE_MS + series.season_ms)
        half_later = series.values(MINUTE_MS + series.season_ms // 2)
        values = series.values(MINUTE_MS)
        drift = series.drift_per_minute * series.season_ms / 60_000
        assert np.abs(season_later - values).mean() < 2 * series.noise + drift
        assert np.abs(half_later - values).mean() > 4 * series.noise

    def test_one_of_them_drifts(self) -> None:
        """What never left its range would not show that the forecast follows."""
        (drifting,) = [series for series in SEASONAL_SERIES if series.drift_per_minute]
        minutes = drifting.values(MINUTE_MS).mean(), drifting.values(MINUTE_MS + 60_000).mean()
        assert abs(minutes[1] - minutes[0]) == pytest.approx(drifting.drift_per_minute, rel=0.1)


class TestRestlessSeries:
    def test_no_two_have_a_name_in_common(self) -> None:
        """Neither among themselves nor with those that have a season: a name is a series."""
        names = [series.name for series in MADE_UP]
        assert len(set(names)) == len(names)

    @pytest.mark.parametrize("series", RESTLESS_SERIES, ids=lambda series: series.name)
    def test_a_value_depends_on_its_time_alone(self, series: RestlessSeries) -> None:
        """Past and present are made in chunks of any size, and must be one series."""
        one_by_one = [series.values(MINUTE_MS[at : at + 1])[0] for at in range(300)]
        np.testing.assert_array_equal(series.values(MINUTE_MS), one_by_one)

    @pytest.mark.parametrize("series", RESTLESS_SERIES, ids=lambda series: series.name)
    def test_are_plausible_for_days(self, series: RestlessSeries) -> None:
        """Nobody has less than nothing to do."""
        values = series.values(NOW_MS + 60_007 * np.arange(3 * 24 * 60))
        assert np.isfinite(values).all()
        assert values.min() >= 0
        assert values.max() < 1_000

    def test_one_of_them_never_moves(self) -> None:
        """Some series of a machine do not, either; without an example a model makes them move."""
        moves = {one.name: np.ptp(one.values(MINUTE_MS)) for one in RESTLESS_SERIES}
        assert [name for name, moved in moves.items() if moved == 0] == ["boiler.alarms"]


class TestMachine:
    def test_measures_every_core_memory_and_load(self) -> None:
        """Disk and network are there where the kernel shows them: some containers hide them."""
        values = Machine().sample()
        cores = os.cpu_count() or 1
        assert {f"host.cpu{core}" for core in range(cores)} <= values.keys()
        assert {"host.memory", "host.load"} <= values.keys()
        assert all(math.isfinite(value) and value >= 0 for value in values.values())
        assert all(values[f"host.cpu{core}"] <= 100 for core in range(cores))

    def test_its_records_are_read_by_default_settings(self) -> None:
        """`forecastd feed` and `forecastd run` must meet without a setting."""
        values = Machine().sample()
        records = [
            MemoryRecord(at, NOW_MS, *feed_record(name, NOW_MS, value))
            for at, (name, value) in enumerate(values.items())
        ]
        assert decode(records) == {name: [value] for name, value in values.items()}


@contextmanager
def feeding(folder: Path, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """`forecastd feed` in a process of its own; its stderr goes to a file."""
    with (folder / "stderr").open("wb") as err:
        process = subprocess.Popen(
            [sys.executable, "-m", "forecastd", "feed", *arguments],
            stderr=err,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.mark.kafka
class TestFeed:
    def test_creates_the_topic_fills_it_and_ends_on_sigterm(
        self, kafka: str, tmp_path: Path
    ) -> None:
        """What docker-compose relies on."""
        topic = f"feed-{uuid.uuid4().hex[:8]}"
        words = ["--broker", kafka, "--topic", topic, "--partitions", "3"]
        wanted = {series.name for series in MADE_UP} | Machine().sample().keys()
        with feeding(tmp_path, *words) as feed:
            records = read_until(kafka, topic, wanted)
            feed.terminate()
            assert feed.wait(DEADLINE_S) == 0
        values = decode(records)
        assert values.keys() == wanted
        assert {record.key for record in records} == {name.encode() for name in wanted}
        assert (tmp_path / "stderr").read_text() == ""

    def test_a_history_goes_on_into_the_present_without_a_gap(
        self, kafka: str, tmp_path: Path
    ) -> None:
        """A gap, or a step back in time, would be in everything that is learnt from it."""
        topic = f"feed-{uuid.uuid4().hex[:8]}"
        words = ["--broker", kafka, "--topic", topic, "--partitions", "1", "--history", "2m"]
        started_ms = time.time() * 1000
        with feeding(tmp_path, *words):
            records = read_until(kafka, topic, {"host.load"})
        series = SEASONAL_SERIES[0]
        sent = [json.loads(record.value or b"") for record in records]
        ours = [one for one in sent if one["series"] == series.name]
        at_ms = np.array([one["timestamp"] for one in ours])
        assert started_ms - 120_000 <= at_ms[0] <= started_ms - 100_000
        # The machine has no past: its series appear with the present.
        host_ms = next(one["timestamp"] for one in sent if one["series"] == "host.load")
        past = at_ms <= host_ms - 300
        assert set(np.diff(at_ms[past])) == {STEP_MS}
        assert past.sum() > 500
        assert 0 < np.diff(at_ms).min() <= np.diff(at_ms).max() < 1_000
        assert [one["value"] for one in ours] == series.values(at_ms).tolist()

    def test_waits_for_a_broker_says_so_once_and_can_be_ended(self, tmp_path: Path) -> None:
        """A container that starts before its broker must neither crash nor fill the log."""
        with feeding(tmp_path, "--broker", "127.0.0.1:1") as feed:
            log = tmp_path / "stderr"
            until(lambda: log.read_text().endswith("\n"), "whole line", process=feed, log=log)
            said = log.read_text()
            feed.send_signal(signal.SIGINT)
            assert feed.wait(DEADLINE_S) == 0
        assert said.startswith(
            "forecastd: kafka.bootstrap_servers: nothing answers at 127.0.0.1:1 ("
        )
        assert (tmp_path / "stderr").read_text() == said

    def test_an_address_that_is_none_is_refused(self, tmp_path: Path) -> None:
        """At once: no waiting would mend it."""
        with feeding(tmp_path, "--broker", "kafka") as feed:
            assert feed.wait(DEADLINE_S) == 1
        said = (tmp_path / "stderr").read_text()
        assert said == ("forecastd: --broker: 'kafka', wanted host:port, such as localhost:9092\n")


def read_until(bootstrap: str, topic: str, wanted: set[str]) -> list[MemoryRecord]:
    """Records from the topic's start until every wanted series was seen twice."""
    consumer = KafkaConsumer(
        topic,
        bootstrap_servers=bootstrap,
        auto_offset_reset="earliest",
        consumer_timeout_ms=DEADLINE_S * 1000,
        metadata_max_age_ms=500,
    )
    found: list[MemoryRecord] = []
    seen: dict[str, int] = {}
    try:
        for at, record in enumerate(consumer):
            found.append(MemoryRecord(at, record.timestamp, record.key, record.value))
            series = json.loads(record.value)["series"]
            seen[series] = seen.get(series, 0) + 1
            if all(seen.get(name, 0) > 1 for name in wanted):
                break
    finally:
        consumer.close()
    return found
