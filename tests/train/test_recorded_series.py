import numpy as np
import pytest

from forecastd.records import Observations, TopicPartition
from forecastd.train.recorded_series import (
    RecordedSeries,
    holdout_start_ms,
    in_time_order,
    recorded_series,
)


def observations(*items: tuple[str, int, float]) -> Observations:
    """(series, time, value) of one row each."""
    names, times, values = zip(*items, strict=True)
    at_ms = np.array(times, np.int64)
    rows = np.arange(len(items), dtype=np.int64)
    partition = TopicPartition("file", 0)
    return Observations(
        partition, list(names), at_ms, np.array(values, np.float64)[:, None], rows, at_ms
    )


def steps(*at_ms: int) -> RecordedSeries:
    times = np.array(at_ms, np.int64)
    return RecordedSeries("s", times, times[:, None].astype(np.float64), np.arange(len(times)))


class TestRecordedSeries:
    def test_are_told_apart_by_name_and_keep_the_order_of_their_first_rows(self) -> None:
        found, dropped = recorded_series(
            observations(("b", 1, 10), ("a", 1, 20), ("b", 2, 11), ("a", 5, 21), ("a", 6, 22))
        )
        assert dropped == 0
        assert [series.name for series in found] == ["b", "a"]
        assert found[1].at_ms.tolist() == [1, 5, 6]
        assert found[1].values.ravel().tolist() == [20, 21, 22]
        assert found[1].rows.tolist() == [1, 3, 4]

    def test_have_no_observation_that_is_not_later_than_all_before(self) -> None:
        """As in the daemon, which cannot go back; of equal times the first one stays."""
        found, dropped = recorded_series(
            observations(("a", 5, 1), ("a", 9, 2), ("a", 9, 3), ("b", 1, 0), ("a", 7, 4))
        )
        assert dropped == 2
        assert found[0].values.ravel().tolist() == [1, 2]

    def test_of_nothing_are_none(self) -> None:
        none, values = np.empty(0, np.int64), np.empty((0, 1))
        nothing = Observations(TopicPartition("file", 0), [], none, values, none, none)
        assert recorded_series(nothing) == ([], 0)
        assert len(in_time_order("s", none, values, none)[0]) == 0

    def test_as_known_at_a_time_end_with_the_step_at_it(self) -> None:
        assert steps(1, 5, 9).until(5).at_ms.tolist() == [1, 5]
        assert len(steps(1, 5, 9).until(0)) == 0


class TestHoldoutStart:
    @pytest.mark.parametrize(("holdout", "last"), [(0.2, 8), (0.5, 5), (0.05, 10), (0.95, 1)])
    def test_leaves_that_share_of_all_steps_after_it(self, holdout: float, last: int) -> None:
        assert holdout_start_ms([steps(1, 3, 5, 7, 9), steps(2, 4, 6, 8, 10)], holdout) == last

    def test_is_one_time_for_series_of_any_span(self) -> None:
        """A series that ended long ago has no held-out part: the newest share is one of time."""
        assert holdout_start_ms([steps(1, 2, 3, 4, 5), steps(91, 92, 93, 94, 95)], 0.3) == 92

    def test_is_none_where_nothing_is_held_out(self) -> None:
        assert holdout_start_ms([steps(1, 2)], 0) is None
        assert holdout_start_ms([steps()], 0.2) is None
