from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from forecastd.forecast.forecaster import Forecaster
from forecastd.forecast.scoring import Scoring
from forecastd.observe.events import SeriesNotLearnt
from forecastd.records import Message, Observations, TopicPartition
from forecastd.scaling import tail_spread
from forecastd.settings import Settings
from forecastd.state.row_codec import RowCodec
from forecastd.state.table import SeriesTable
from forecastd.train.window_buffer import BUCKET_S, WindowBuffer, series_hash
from forecastd.train.window_record import WindowRecord, decode
from forecastd.windows.admission import Admission
from forecastd.windows.windower import Windower
from forecastd.wiring import window_shape
from tests.in_memory import P0, P1, START_MS, Telemetry, make_settings

T = 4


class Bench:
    """The daemon from windows to forecasts, and the buffer behind it."""

    def __init__(self, settings: Settings | None = None, sample_rate: float = 1e9) -> None:
        settings = settings or make_settings()
        windows, forecast = settings.windows, settings.forecast
        features = len(settings.ingest.values)
        shape = window_shape(settings)
        self.telemetry = Telemetry()
        self.table = SeriesTable(
            [
                *Windower.columns(
                    windows.timesteps, windows.stride_steps, settings.tail_steps, features
                ),
                *Scoring.columns(shape.horizon, shape.stride, features),
                *Forecaster.columns(shape, features, []),
                *WindowBuffer.columns(),
            ]
        )
        self.windower = Windower(
            self.table,
            Admission(self.table, windows.max_series, self.telemetry),
            windows.timesteps,
            windows.stride_steps,
            settings.state.series_ttl,
            self.telemetry,
        )
        scoring = Scoring(
            self.table,
            shape.horizon,
            shape.stride,
            features,
            has_intervals=True,
            telemetry=self.telemetry,
        )
        self.forecaster = Forecaster(
            self.table,
            shape,
            forecast.quantiles,
            model=None,
            falls_back=True,
            scoring=scoring,
            telemetry=self.telemetry,
        )
        self.buffer = self.buffer_of(sample_rate, windows.timesteps, windows.stride_steps)

    def buffer_of(self, sample_rate: float, timesteps: int = T, stride: int = T) -> WindowBuffer:
        """A buffer as a process has it that has just begun."""
        return WindowBuffer(self.table, "w", timesteps, stride, sample_rate, self.telemetry)

    def feed(self, *polled: Observations, silent_below: int = 0) -> list[Message]:
        """Serve observations; returns what goes to the windows topic."""
        below = {part.partition: silent_below for part in polled}
        messages: list[Message] = []
        for origins in self.windower.rounds(polled, below):
            list(self.forecaster.forecast(origins))
            messages += self.buffer.finished(origins)
        return messages

    def learnt(self, partition: TopicPartition = P0) -> dict[str, int]:
        """What was told to each series."""
        slots = self.table.slots(partition)
        told = self.table["buffered"][slots].tolist()
        return dict(zip(self.table.names(slots), told, strict=True))


def observations(
    steps: range,
    series: Sequence[str] = ("a",),
    partition: TopicPartition = P0,
    *,
    step_ms: int = 1_000,
    recorded_ms: int | None = None,
    features: int = 1,
    uneven: bool = False,
) -> Observations:
    """A record a step, with one observation of each series."""
    rng = np.random.default_rng(7)
    numbers = np.repeat(np.arange(steps.stop), len(series))
    at_ms = START_MS + step_ms * numbers
    if uneven:
        at_ms = at_ms + np.repeat(rng.integers(0, step_ms, steps.stop), len(series))
    values = rng.normal(size=(len(numbers), features)).cumsum(axis=0)
    kept = numbers >= steps.start
    written_ms = at_ms if recorded_ms is None else np.full(len(numbers), recorded_ms)
    return Observations(
        partition,
        [name for number in steps for name in series],
        at_ms[kept],
        values[kept],
        numbers[kept],
        written_ms[kept],
    )


def records(messages: Sequence[Message]) -> list[WindowRecord]:
    return [decode(message.value or b"") for message in messages]


def overload(bench: Bench, hours: float, names: Sequence[str]) -> Iterator[list[Message]]:
    """One window a minute and series: what is written in each minute."""
    for minute in range(round(60 * hours)):
        yield bench.feed(observations(range(minute * T, (minute + 1) * T), names, step_ms=15_000))


class TestWindows:
    def test_are_what_the_series_was_fed_with(self) -> None:
        bench = Bench(make_settings(ingest={"values": ["v0", "v1"]}))
        fed = observations(range(11), features=2, uneven=True)
        first, second = records(bench.feed(fed))
        for number, found in enumerate((first, second)):
            part = slice(number * T, (number + 1) * T)
            np.testing.assert_array_equal(found.values, fed.values[part])
            np.testing.assert_array_equal(found.at_ms, fed.at_ms[part])
            assert (found.first_offset, found.last_offset) == (part.start, part.stop - 1)
            tail = fed.values[None, : part.stop]
            median, spread = tail_spread(tail, np.array([part.stop]))
            np.testing.assert_array_equal(found.median, median[0])
            np.testing.assert_array_equal(found.spread, spread[0])
            assert (found.partition, found.series, found.number) == (P0, "a", number)
        assert np.isnan(first.before).all()
        np.testing.assert_array_equal(second.before, fed.values[T - 1])

    def test_have_the_name_of_the_series_as_key(self) -> None:
        """So that all of a series lie in one partition, in their order."""
        (message,) = Bench().feed(observations(range(T), ["sø"]))
        assert (message.topic, message.key, message.partition) == ("w", "sø".encode(), None)
        assert message.timestamp_ms is None, "of writing, so that retention counts from there"

    def test_hold_each_step_once_and_follow_each_other(self) -> None:
        """However often a series is forecast, and however its records fall into polls."""
        bench = Bench(make_settings(windows={"stride": 1}))
        messages = [
            message
            for start in range(0, 41, 3)
            for message in bench.feed(observations(range(start, min(start + 3, 41)), ["a", "b"]))
        ]
        found = [one for one in records(messages) if one.series == "b"]
        assert [one.number for one in found] == list(range(10))
        fed = observations(range(40), ["a", "b"]).values[1::2]
        np.testing.assert_array_equal(np.concatenate([one.values for one in found]), fed)

    def test_of_a_replay_were_written_before(self) -> None:
        messages = Bench().feed(observations(range(12)), silent_below=8)
        assert [one.number for one in records(messages)] == [2]

    def test_are_counted_anew_where_the_series_begins_anew(self) -> None:
        bench = Bench(make_settings(state={"series_ttl": "10s"}))
        fed = observations(range(20))
        fed.at_ms[10:] += 11_000
        found = records(bench.feed(fed))
        assert [one.number for one in found] == [0, 1, 0, 1]
        assert [bool(np.isnan(one.before).all()) for one in found] == [True, False, True, False]

    def test_of_cold_series_are_none(self) -> None:
        assert Bench().feed(observations(range(T - 1))) == []


class TestRate:
    NAMES = tuple(f"s{number}" for number in range(40))

    def test_is_kept_in_record_time(self) -> None:
        """A replayed month must not write more than a month that was lived through."""
        bench = Bench(sample_rate=10 / 60)
        per_minute = [len(messages) for messages in overload(bench, 3, self.NAMES)]
        assert set(per_minute[:10]) == {40}, "an hour's worth at once, to begin with"
        assert max(per_minute[-60:]) <= 10
        assert min(per_minute[-60:]) >= 10 / 2

    def test_leaves_out_whole_series_for_good(self) -> None:
        bench = Bench(sample_rate=10 / 60)
        minutes = [records(messages) for messages in overload(bench, 3, self.NAMES)]
        last = {name for name, told in bench.learnt().items() if told == 1}
        for minute in minutes[-30:]:
            assert {one.series for one in minute} == last
        for name in last:
            mine = [one.number for minute in minutes for one in minute if one.series == name]
            assert mine == list(range(180))
        heard = bench.telemetry.heard(SeriesNotLearnt)
        assert sum(event.left_out for event in heard) == len(self.NAMES) - len(last)
        assert heard[-1].kept == len(last)

    def test_goes_by_the_hash_of_the_name(self) -> None:
        """Every instance that ever owns the partition chooses the same."""
        bench = Bench(sample_rate=10 / 60)
        list(overload(bench, 1, self.NAMES))
        told = bench.learnt()
        hashes = {name: series_hash(P0, name) for name in self.NAMES}
        kept = [hashes[name] for name in self.NAMES if told[name] == 1]
        out = [hashes[name] for name in self.NAMES if told[name] == -1]
        assert kept
        assert max(kept) < min(out)

    def test_is_one_of_each_partition(self) -> None:
        bench = Bench(sample_rate=10 / 60)
        list(overload(bench, 1, self.NAMES))
        bench.feed(observations(range(T), self.NAMES, P1))
        assert set(bench.learnt(P1).values()) == {1}

    def test_never_leaves_out_the_last_series(self) -> None:
        """Else a daemon with one fast series would never learn."""
        bench = Bench(sample_rate=0.1 / 60)
        messages = list(overload(bench, 0.5, ["a", "b"]))
        assert sorted(bench.learnt().values()) == [-1, 1]
        assert messages[-1]

    def test_of_a_copied_history_leaves_much_of_it(self) -> None:
        """All its records have one timestamp: nothing measures how fast it once came."""
        bench = Bench(sample_rate=0.1)  # 360 windows an hour; 8,000 come at once
        names = [f"s{number}" for number in range(200)]
        written: Counter[str] = Counter()
        for start in range(0, 40 * T, T):
            fed = observations(range(start, start + T), names, recorded_ms=START_MS)
            written.update(one.series for one in records(bench.feed(fed)))
        assert written.total() > 3 * 0.1 * BUCKET_S
        assert max(written.values()) == 40

    def test_outlives_a_timestamp_from_the_future(self) -> None:
        bench = Bench(sample_rate=10 / 60)
        bench.feed(observations(range(T), ["odd"], recorded_ms=START_MS + 10**12))
        per_minute = [len(messages) for messages in overload(bench, 2, self.NAMES)]
        assert 10 / 2 <= per_minute[-1] <= 10


class TestRestart:
    def test_does_not_readmit_a_series(self) -> None:
        bench = Bench(sample_rate=10 / 60)
        list(overload(bench, 1, TestRate.NAMES))
        before = bench.learnt()
        slots = bench.table.slots(P0)
        names = bench.table.names(slots)
        rows = RowCodec(bench.table, "m").encode(slots)
        again = Bench(sample_rate=10 / 60)
        admitted = again.table.admit(P0, names)
        RowCodec(again.table, "m").decode(rows, admitted)
        assert again.learnt() == before
        again.feed(observations(range(60 * T, 61 * T), TestRate.NAMES))
        assert again.learnt() == before

    def test_keeps_out_new_series_that_the_rate_had_no_room_for(self) -> None:
        bench = Bench(sample_rate=10 / 60)
        list(overload(bench, 1, TestRate.NAMES))
        new = [f"new{number}" for number in range(100)]
        fed: dict[str, Any] = {"series": new, "partition": P0}
        bench.feed(observations(range(60 * T, 61 * T), **fed))
        wanted = {name: told for name, told in bench.learnt().items() if name in new}
        assert {-1, 1} == set(wanted.values())
        for name in new:
            bench.table.drop(bench.table.find(P0, [name]))
        bench.buffer = bench.buffer_of(10 / 60)
        bench.feed(observations(range(61 * T, 62 * T), **fed))
        assert {name: bench.learnt()[name] for name in new} == wanted


def test_most_rounds_of_a_daemon_that_forecasts_often_are_of_other_phases() -> None:
    bench = Bench(make_settings(windows={"stride": 1}))
    assert bench.feed(observations(range(2 * T - 1)))
    assert bench.learnt() == {"a": 1}
    assert len(bench.feed(observations(range(2 * T - 1, 3 * T - 1)))) == 1
