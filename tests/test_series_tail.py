from __future__ import annotations

import numpy as np
import pytest

from forecastd.series_tail import append_steps, median_step_ms, steps_back, steps_kept, tail_columns
from forecastd.state.table import SeriesTable
from tests.in_memory import P0

LENGTH = 5


def table_of(*counts: int, length: int = LENGTH) -> tuple[SeriesTable, np.ndarray]:
    """A table whose series have seen steps 1, 2, ... `count`, each worth its number."""
    table = SeriesTable(tail_columns(length, 1))
    slots = table.admit(P0, [f"s{at}" for at in range(len(counts))])
    for slot, count in zip(slots, counts, strict=True):
        for number in range(1, count + 1):
            append(table, [int(slot)], [number], [1_000 * number])
    return table, slots


def append(table: SeriesTable, slots: list[int], numbers: list[int], at_ms: list[int]) -> None:
    times, gaps = np.array(at_ms), np.full(len(slots), 1_000)
    gaps[np.array(numbers) == 1] = 0
    values = np.array(numbers, np.float64)[:, None]
    append_steps(table, np.array(slots, np.int32), np.array(numbers), times, gaps, values)


class TestAppendSteps:
    @pytest.mark.parametrize("count", [1, 4, 5, 6, 23])
    def test_at_once_leaves_what_one_by_one_does(self, count: int) -> None:
        """A poll may bring more steps of a series than its tail holds."""
        one_by_one, slots = table_of(count)
        at_once, _ = table_of(0)
        numbers = list(range(1, count + 1))
        append(at_once, [int(slots[0])] * count, numbers, [1_000 * number for number in numbers])
        for name in ("steps", "at_ms", "tail", "gap_ms"):
            np.testing.assert_array_equal(at_once[name][slots], one_by_one[name][slots])

    def test_of_several_series_do_not_touch_each_other(self) -> None:
        table, slots = table_of(3, 7)
        append(table, [*slots.tolist(), int(slots[0])], [4, 8, 5], [4_000, 8_000, 5_000])
        assert steps_back(table, slots, range(2))[..., 0].tolist() == [[5.0, 4.0], [8.0, 7.0]]

    def test_after_two_months_of_silence_caps_the_gap(self) -> None:
        table, slots = table_of(1)
        days = np.array([60 * 86_400_000])
        append_steps(table, slots, np.array([2]), days, days, np.ones((1, 1)))
        assert table["gap_ms"][slots[0]].max() == 2**32 - 1


class TestStepsBack:
    def test_count_from_the_last_step(self) -> None:
        table, slots = table_of(7, 2)
        found = steps_back(table, slots, range(LENGTH))[..., 0]
        np.testing.assert_array_equal(found, [[7, 6, 5, 4, 3], [2, 1, np.nan, np.nan, np.nan]])

    def test_may_be_asked_for_in_any_order(self) -> None:
        table, slots = table_of(7)
        assert steps_back(table, slots, np.array([2, 0, 2]))[0, :, 0].tolist() == [5, 7, 5]


class TestStepsKept:
    def test_are_those_of_a_young_series_or_the_length(self) -> None:
        table, slots = table_of(0, 3, 5, 6, 100)
        assert steps_kept(table, slots).tolist() == [0, 3, 5, 5, 5]

    def test_are_fewer_where_a_longer_tail_took_over_a_shorter_one(self) -> None:
        table, slots = table_of(100)
        places = (np.arange(98, 101) - 1) % LENGTH
        kept = table["tail"][slots[0], places].copy()
        table["tail"][slots[0]] = np.nan
        table["tail"][slots[0], places] = kept
        assert steps_kept(table, slots).tolist() == [3]


class TestMedianStepMs:
    @pytest.mark.parametrize("length", [2, 3, 8])
    def test_is_the_median_of_the_differences_within_the_tail(self, length: int) -> None:
        rng = np.random.default_rng(length)
        table, slots = table_of(0, length=length)
        times: list[int] = []
        for number in range(1, 40):
            times.append((times[-1] if times else 10**12) + int(rng.integers(1, 10_000)))
            gap = times[-1] - times[-2] if number > 1 else 0
            append_steps(
                table,
                slots,
                np.array([number]),
                np.array(times[-1:]),
                np.array([gap]),
                np.ones((1, 1)),
            )
            inside = np.diff(times[-length:])
            wanted = round(float(np.median(inside))) if len(inside) else 0
            assert median_step_ms(table, slots).tolist() == [wanted]

    def test_is_zero_for_a_single_step(self) -> None:
        table, slots = table_of(1, 2)
        assert median_step_ms(table, slots).tolist() == [0, 1_000]
