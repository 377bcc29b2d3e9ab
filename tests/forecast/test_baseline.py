from __future__ import annotations

import numpy as np
import pytest

from forecastd.forecast.baseline import naive_forecast
from forecastd.records import Floats
from forecastd.series_tail import append_steps, tail_columns
from forecastd.state.table import SeriesTable
from tests.in_memory import P0


def table_of(counts: list[int], tail: int = 8) -> tuple[SeriesTable, np.ndarray]:
    """Series whose step number n has the values n and -n."""
    table = SeriesTable(tail_columns(tail, 2))
    slots = table.admit(P0, [f"s{at}" for at in range(len(counts))])
    for slot, count in zip(slots, counts, strict=True):
        numbers = np.arange(1, count + 1)
        values = np.stack([numbers, -numbers], axis=1).astype(np.float64)
        append_steps(table, np.full(count, slot), numbers, numbers, numbers, values)
    return table, slots


def leads(naive: Floats) -> list[list[float]]:
    """The first value of each lead; the second must be its negative."""
    np.testing.assert_array_equal(naive[..., 1], -naive[..., 0])
    found: list[list[float]] = naive[..., 0].tolist()
    return found


class TestNaiveForecast:
    def test_without_a_season_is_the_last_value(self) -> None:
        table, slots = table_of([1, 5, 40])
        assert leads(naive_forecast(table, slots, 3, None)) == [[1] * 3, [5] * 3, [40] * 3]

    def test_is_the_value_one_season_before_each_lead(self) -> None:
        """Beyond a season the same one is repeated: leads of the next have no values yet."""
        table, slots = table_of([40])
        assert leads(naive_forecast(table, slots, 7, 3)) == [[38, 39, 40, 38, 39, 40, 38]]

    @pytest.mark.parametrize(("steps", "wanted"), [(3, [3, 3, 3]), (4, [1, 2, 3]), (5, [2, 3, 4])])
    def test_before_a_season_is_full_is_the_last_value(
        self, steps: int, wanted: list[float]
    ) -> None:
        table, slots = table_of([steps])
        assert leads(naive_forecast(table, slots, 3, 4)) == [wanted]

    def test_of_a_season_as_long_as_the_tail_reads_all_of_it(self) -> None:
        table, slots = table_of([40, 8, 7])
        wanted = [[33.0, 34.0], [1.0, 2.0], [7.0, 7.0]]
        assert leads(naive_forecast(table, slots, 2, 8)) == wanted

    def test_of_a_season_of_one_step_is_the_last_value(self) -> None:
        table, slots = table_of([40])
        assert leads(naive_forecast(table, slots, 3, 1)) == [[40] * 3]

    def test_waits_for_a_season_that_a_shorter_tail_did_not_keep(self) -> None:
        """After a change of `windows.season` the tail has places for steps that nobody kept."""
        table, slots = table_of([40])
        table["tail"][slots[0], :6] = np.nan  # steps 33 to 38
        assert leads(naive_forecast(table, slots, 2, 8)) == [[40.0, 40.0]]
