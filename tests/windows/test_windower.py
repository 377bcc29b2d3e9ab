from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import pytest

from forecastd.observe.events import SeriesLosesObservations
from forecastd.records import Observations, TopicPartition
from forecastd.series_tail import steps_back
from forecastd.state.table import NOT_IN_ROW, SeriesTable
from forecastd.windows.admission import Admission
from forecastd.windows.windower import COLD, SEEN_BEFORE_WARNING, Windower
from tests.in_memory import P0, P1, Telemetry

TAIL = 11


class Origin(NamedTuple):
    """One forecast origin, as the table stood when its round was yielded."""

    partition: TopicPartition
    series: str
    phase: int
    origin_ms: int
    first_offset: int
    last_offset: int
    is_silent: bool
    tail: tuple[float, ...]  # newest first


def new_windower(
    timesteps: int = 4,
    stride: int = 4,
    max_series: int = 1_000,
    features: int = 1,
    series_ttl_ms: int = 10**12,
) -> Windower:
    heard = Telemetry()
    table = SeriesTable(Windower.columns(timesteps, stride, TAIL, features))
    return Windower(
        table, Admission(table, max_series, heard), timesteps, stride, series_ttl_ms, heard
    )


def heard(windower: Windower) -> Telemetry:
    assert isinstance(windower.telemetry, Telemetry)
    return windower.telemetry


def part(
    partition: TopicPartition, rows: Sequence[tuple[int, str, int]], features: int = 1
) -> Observations:
    """Observations of (offset, series, time); the value of each is its time."""
    offsets, series, times = zip(*rows, strict=True) if rows else ((), (), ())
    at_ms = np.array(times, np.int64)
    return Observations(
        partition,
        list(series),
        at_ms,
        np.repeat(at_ms[:, None], features, axis=1).astype(np.float64),
        np.array(offsets, np.int64),
        np.array(offsets, np.int64) + 5,
    )


def origins(
    windower: Windower,
    *parts: Observations,
    silent_below: Mapping[TopicPartition, int] | None = None,
) -> list[list[Origin]]:
    """The origins of each round, read while the table stands as the round found it."""
    table, found = windower.table, []
    for one in windower.rounds(parts, silent_below or {}):
        assert len(set(one.slots.tolist())) == len(one.slots), "a slot twice in a round"
        np.testing.assert_array_equal(table["at_ms"][one.slots], one.origin_ms)
        np.testing.assert_array_equal(one.recorded_ms, one.last_offsets + 5)
        tails = steps_back(table, one.slots, range(TAIL))[..., 0]
        columns = zip(
            table.partitions(one.slots),
            table.names(one.slots),
            one.phases.tolist(),
            one.origin_ms.tolist(),
            one.first_offsets.tolist(),
            one.last_offsets.tolist(),
            one.is_silent.tolist(),
            [tuple(tail[~np.isnan(tail)].tolist()) for tail in tails],
            strict=True,
        )
        found.append([Origin(*column) for column in columns])
    return found


@dataclass
class Slow:
    """The same, one observation at a time."""

    timesteps: int
    stride: int
    steps: dict[tuple[TopicPartition, str], list[tuple[int, int]]] = field(default_factory=dict)
    late: int = 0

    def read(self, partition: TopicPartition, rows: Sequence[tuple[int, str, int]]) -> list[Origin]:
        found: list[Origin] = []
        for at, (offset, series, at_ms) in enumerate(rows):
            steps = self.steps.setdefault((partition, series), [])
            if steps and at_ms <= steps[-1][1]:
                self.late += 1
            else:
                steps.append((offset, at_ms))
                found.extend(self.window(partition, series, steps))
            ends_record = at + 1 == len(rows) or rows[at + 1][0] != offset
            if ends_record:
                names = dict.fromkeys(name for o, name, _ in rows if o == offset)
                for name in names:
                    found.extend(self.cold(partition, name, offset))
        return found

    def window(
        self, partition: TopicPartition, series: str, steps: list[tuple[int, int]]
    ) -> list[Origin]:
        over = len(steps) - self.timesteps
        if over < 0 or over % self.stride:
            return []
        phase = over // self.stride % (self.timesteps // self.stride)
        return [self.origin(partition, series, steps, phase, steps[-self.timesteps][0])]

    def cold(self, partition: TopicPartition, series: str, offset: int) -> list[Origin]:
        steps = self.steps[partition, series]
        if not steps or steps[-1][0] != offset or len(steps) >= self.timesteps:
            return []
        return [self.origin(partition, series, steps, COLD, steps[0][0])]

    def origin(
        self,
        partition: TopicPartition,
        series: str,
        steps: list[tuple[int, int]],
        phase: int,
        first: int,
    ) -> Origin:
        offset, at_ms = steps[-1]
        tail = tuple(float(at) for _, at in steps[: -TAIL - 1 : -1])
        return Origin(partition, series, phase, at_ms, first, offset, is_silent=False, tail=tail)


def random_rows(rng: np.random.Generator, first_offset: int) -> list[tuple[int, str, int]]:
    """Records of one poll: up to six observations each, of four series, some of them late."""
    rows, at_ms = [], 1_000 * first_offset
    for offset in range(first_offset, first_offset + int(rng.integers(0, 25))):
        for _ in range(int(rng.integers(1, 7))):
            at_ms += int(rng.integers(-3, 9))
            rows.append((offset, f"s{min(rng.integers(0, 8), 3)}", at_ms))
    return rows


class TestRounds:
    @pytest.mark.parametrize(("timesteps", "stride"), [(4, 4), (4, 2), (4, 1), (1, 1), (6, 3)])
    def test_hold_the_origins_of_one_observation_at_a_time(
        self, timesteps: int, stride: int
    ) -> None:
        for seed in range(6):
            rng = np.random.default_rng(seed)
            windower, slow = new_windower(timesteps, stride), Slow(timesteps, stride)
            found: list[Origin] = []
            wanted: list[Origin] = []
            offsets = {P0: 0, P1: 40}
            for _ in range(4):
                polled = []
                for partition in (P0, P1):
                    rows = random_rows(rng, offsets[partition])
                    offsets[partition] += 30
                    wanted.extend(slow.read(partition, rows))
                    polled.append(part(partition, rows))
                for one in origins(windower, *polled):
                    found.extend(one)
            assert sorted(found) == sorted(wanted), seed
            assert windower.late == slow.late > 0
            assert windower.accepted == sum(map(len, slow.steps.values()))

    def test_of_a_series_come_in_order_and_nobody_waits_for_another(self) -> None:
        """Two windows of `a` in one poll are in two rounds; `b`'s only one is in the first."""
        windower = new_windower(2, 2)
        rows = [(0, "a", 1), (1, "a", 2), (2, "a", 3), (3, "a", 4), (4, "b", 5)]
        rounds = origins(windower, part(P0, rows))
        assert [[(one.series, one.origin_ms) for one in each] for each in rounds] == [
            [("a", 1), ("b", 5)],
            [("a", 2)],
            [("a", 4)],
        ]

    def test_do_not_see_what_the_record_held_behind_the_window(self) -> None:
        windower = new_windower(2, 2)
        (window,), (later,) = origins(windower, part(P0, [(0, "a", at) for at in range(1, 6)]))
        assert window.tail == (2.0, 1.0)
        assert later.tail == (4.0, 3.0, 2.0, 1.0)
        assert windower.table["steps"][windower.table.find(P0, ["a"])] == 5

    def test_of_several_values_keep_them_together(self) -> None:
        windower = new_windower(2, 2, features=3)
        list(windower.rounds([part(P0, [(0, "a", 1), (1, "a", 2)], features=3)], {}))
        slots = windower.table.find(P0, ["a"])
        assert steps_back(windower.table, slots, range(2)).tolist() == [[[2.0] * 3, [1.0] * 3]]

    def test_name_the_records_that_the_window_spans(self) -> None:
        """With phases each window has its own first record."""
        windower = new_windower(4, 2)
        rows = [(10 * at, "a", at) for at in range(1, 9)]
        flat = [one for each in origins(windower, part(P0, rows)) for one in each]
        spans = [(one.phase, one.first_offset, one.last_offset) for one in flat if one.phase >= 0]
        assert spans == [(0, 10, 40), (1, 30, 60), (0, 50, 80)]

    def test_keep_the_same_name_in_two_partitions_apart(self) -> None:
        windower = new_windower(2, 2)
        rounds = origins(windower, part(P0, [(0, "a", 1)]), part(P1, [(0, "a", 7), (1, "a", 8)]))
        assert sorted((one.partition.partition, one.origin_ms) for e in rounds for one in e) == [
            (0, 1),
            (1, 7),
            (1, 8),
        ]

    def test_of_nothing_are_none(self) -> None:
        assert origins(new_windower(), part(P0, [])) == []
        assert origins(new_windower()) == []


class TestSilence:
    def test_covers_records_below_the_committed_position(self) -> None:
        windower = new_windower(2, 2)
        rows = [(at, "a", at + 1) for at in range(8)]
        found = origins(windower, part(P0, rows), silent_below={P0: 5})
        assert [one.is_silent for (one,) in found] == [True, True, True, False, False][: len(found)]
        assert [one.last_offset for (one,) in found] == [0, 1, 3, 5, 7]

    def test_of_one_partition_is_not_that_of_another(self) -> None:
        windower = new_windower(1, 1)
        polled = part(P0, [(0, "a", 1)]), part(P1, [(0, "a", 1)])
        (both,) = origins(windower, *polled, silent_below={P1: 9})
        assert {one.partition: one.is_silent for one in both} == {P0: False, P1: True}

    def test_counts_nothing(self) -> None:
        windower = new_windower(2, 2)
        rows = [(0, "a", 5), (1, "a", 5), (2, "a", 6), (3, "a", 1), (4, "a", 9)]
        origins(windower, part(P0, rows), silent_below={P0: 3})
        assert (windower.accepted, windower.late) == (1, 1)


class TestRecordsSeenBefore:
    def test_are_skipped_by_the_series_whose_row_has_them(self) -> None:
        """After a restart the input is read from the series that is furthest behind."""
        windower = new_windower(2, 2)
        origins(windower, part(P0, [(at, "a", at) for at in range(3)]))
        table = windower.table
        before = {name: table[name].copy() for name in ("steps", "seen", "late", "tail", "offset")}
        both = [(1, "b", 1), (1, "a", 1), (2, "a", 2), (2, "b", 2)]
        assert [[one.series for one in each] for each in origins(windower, part(P0, both))] == [
            ["b"],
            ["b"],
        ]
        slot = table.find(P0, ["a"])
        for name, cells in before.items():
            np.testing.assert_array_equal(table[name][slot], cells[slot])


class TestTouched:
    def test_are_the_series_that_fell_behind_their_rows(self) -> None:
        windower = new_windower()
        table = windower.table
        origins(windower, part(P0, [(5, "a", 1), (6, "b", 1), (7, "a", 2)]))
        slots = table.find(P0, ["a", "b"])
        assert sorted(np.concatenate(windower.touched).tolist()) == sorted(slots.tolist())
        assert table["unsaved_from"][slots].tolist() == [5, 6]
        assert table["offset"][slots].tolist() == [7, 6]
        windower.touched.clear()
        table["unsaved_from"][slots[:1]] = NOT_IN_ROW  # the row of `a` was saved
        origins(windower, part(P0, [(8, "b", 2), (9, "a", 3)]))
        assert np.concatenate(windower.touched).tolist() == slots[:1].tolist()
        assert table["unsaved_from"][slots].tolist() == [9, 6]

    def test_are_also_those_that_only_lost_an_observation(self) -> None:
        """What was counted is part of the row, so the row is behind."""
        windower = new_windower()
        slot = windower.admission.table.admit(P0, ["a"])
        windower.table["at_ms"][slot] = 100
        origins(windower, part(P0, [(3, "a", 50)]))
        assert windower.table["late"][slot] == 1
        assert np.concatenate(windower.touched).tolist() == slot.tolist()


class TestLateObservations:
    def test_are_equal_or_older_than_the_newest_and_counted(self) -> None:
        windower = new_windower()
        times = [10, 10, 9, 11, 5, 12, 12]
        origins(windower, part(P0, [(at, "a", time) for at, time in enumerate(times)]))
        slot = windower.table.find(P0, ["a"])
        assert steps_back(windower.table, slot, range(3))[0, :, 0].tolist() == [12, 11, 10]
        assert windower.table["late"][slot].tolist() == [4]
        assert windower.table["seen"][slot].tolist() == [7]
        assert (windower.accepted, windower.late) == (3, 4)

    def test_make_no_forecast(self) -> None:
        windower = new_windower()
        assert len(origins(windower, part(P0, [(0, "a", 10)]))) == 1
        assert origins(windower, part(P0, [(1, "a", 10), (2, "a", 3)])) == []

    @pytest.mark.parametrize(
        ("late", "seen", "is_told"), [(3, 299, True), (3, 301, False), (2, 21, False)]
    )
    def test_above_one_percent_are_told(self, late: int, seen: int, is_told: bool) -> None:  # noqa: FBT001
        windower = new_windower()
        times = [*range(1, seen - late + 1), *[1] * late]
        origins(windower, part(P0, [(at, "a", time) for at, time in enumerate(times)]))
        told = [SeriesLosesObservations(P0, "a", late, seen)] if is_told else []
        assert heard(windower).heard(SeriesLosesObservations) == told

    def test_are_told_once_a_series(self) -> None:
        windower = new_windower()
        for offset in range(100):
            origins(windower, part(P0, [(offset, name, 5) for name in ("a", "b")]))
        told = heard(windower).heard(SeriesLosesObservations)
        assert [(event.series, event.seen) for event in told] == [
            ("a", SEEN_BEFORE_WARNING),
            ("b", SEEN_BEFORE_WARNING),
        ]


class TestColumns:
    def test_have_distinct_names(self) -> None:
        columns: list[Any] = Windower.columns(4, 2, TAIL, 2)
        assert len({column.name for column in columns}) == len(columns)


class TestExpiry:
    def test_a_series_begins_anew_after_its_ttl_wherever_the_poll_ends(self) -> None:
        """Forgetting is a function of the input, so the cut between polls has no say in it."""
        rows = [(at, "a", 10 * at) for at in range(6)]
        rows += [(6 + at, "a", 1_000 + 10 * at) for at in range(6)]
        rows += [(12, "b", 5), (13, "b", 2_000)]
        whole = new_windower(series_ttl_ms=500)
        found = [origin for one in origins(whole, part(P0, rows)) for origin in one]
        for cut in range(1, len(rows)):
            halves = new_windower(series_ttl_ms=500)
            again = origins(halves, part(P0, rows[:cut])) + origins(halves, part(P0, rows[cut:]))
            assert sorted(origin for one in again for origin in one) == sorted(found)
        windows = [origin for origin in found if origin.phase != COLD]
        assert [origin.origin_ms for origin in windows] == [30, 1_030]
        assert list(windows[1].tail) == [1_030, 1_020, 1_010, 1_000]
        assert whole.expired == 2

    def test_an_expired_series_keeps_its_place_and_says_so(self) -> None:
        """It is flagged, and its row still knows which records it has seen."""
        windower = new_windower(series_ttl_ms=500)
        origins(windower, part(P0, [(at, "a", 10 * at) for at in range(5)]))
        origins(windower, part(P0, [(9, "a", 10_000)]))
        (slot,) = windower.table.slots(P0)
        table = windower.table
        assert table["reset"][slot]
        assert (table["offset"][slot], table["unsaved_from"][slot]) == (9, 0)
        assert (table["steps"][slot], table["seen"][slot]) == (1, 6)

    def test_a_series_that_expires_within_a_record_makes_one_cold_origin_for_it(self) -> None:
        """One record, one baseline: what the series was before the gap is not forecast from."""
        windower = new_windower(series_ttl_ms=500)
        (cold,) = [
            o for one in origins(windower, part(P0, [(0, "a", 5), (0, "a", 900)])) for o in one
        ]
        assert (cold.phase, cold.origin_ms, cold.tail) == (COLD, 900, (900.0,))

    def test_a_silence_by_the_timestamps_of_its_records_is_one_too(self) -> None:
        """Its row may be gone by then, so it must not matter whether it is.

        Times that go on where they ended, or begin earlier, are those of a new series, too.
        """
        windower = new_windower(series_ttl_ms=500)
        rows = [(at, "a", 1_000 + at) for at in range(5)] + [(600, "a", 900), (601, "a", 1_010)]
        found = [origin for one in origins(windower, part(P0, rows)) for origin in one]
        assert [(o.origin_ms, o.phase) for o in found[-2:]] == [(900, COLD), (1_010, COLD)]
        assert (windower.expired, windower.late) == (1, 0)
        again = new_windower(series_ttl_ms=500)
        halves = origins(again, part(P0, rows[:5])) + origins(again, part(P0, rows[5:]))
        assert sorted(origin for one in halves for origin in one) == sorted(found)

    def test_a_silence_that_no_timestamp_tells_of_is_none(self) -> None:
        """A row of an earlier release does not say when its last record was."""
        windower = new_windower(series_ttl_ms=500)
        origins(windower, part(P0, [(0, "a", 5)]))
        windower.table["recorded_ms"][windower.table.slots(P0)] = -1
        origins(windower, part(P0, [(9_000, "a", 6)]))
        assert windower.expired == 0

    def test_a_gap_of_exactly_the_ttl_is_no_expiry(self) -> None:
        windower = new_windower(series_ttl_ms=500)
        origins(windower, part(P0, [(0, "a", 0), (1, "a", 500)]))
        assert windower.expired == 0

    def test_a_replayed_expiry_is_not_counted_again(self) -> None:
        windower = new_windower(series_ttl_ms=500)
        origins(windower, part(P0, [(0, "a", 0), (1, "a", 501)]), silent_below={P0: 2})
        assert windower.expired == 0
