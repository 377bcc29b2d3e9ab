from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from forecastd.train.buffered_series import Wanted, buffered_series
from forecastd.train.excluded_times import without_times
from forecastd.train.recorded_series import RecordedSeries
from forecastd.train.stretches import Stretch, stretches_of
from tests.train.test_buffered_series import LAYOUT, STEPS, served
from tests.train.test_window_buffer import T


def series() -> RecordedSeries:
    _, (whole,) = served()
    return whole


class TestExcludedTimes:
    def test_take_whole_windows_with_them(self) -> None:
        """A window half of which is an outage teaches that outages look like this."""
        whole = series()
        times = whole.at_ms
        first, last = without_times(whole, [(int(times[41]), int(times[48]))], LAYOUT)
        np.testing.assert_array_equal(first.at_ms, times[:40])
        np.testing.assert_array_equal(last.at_ms, times[48:])
        np.testing.assert_array_equal(last.rows, whole.rows[48:])

    @pytest.mark.parametrize("stride", [T, 1])
    def test_leave_what_is_around_them_fed_as_it_was(self, stride: int) -> None:
        whole = series()
        layout = replace(LAYOUT, stride=stride)
        _, last = without_times(whole, [(int(whole.at_ms[41]), int(whole.at_ms[42]))], layout)
        (own, *_), (all_of_it, *_) = stretches_of(last, layout), stretches_of(whole, layout)
        wanted = all_of_it.part(11, len(all_of_it))
        np.testing.assert_array_equal(own.windows, wanted.windows)
        np.testing.assert_array_equal(own.actuals, wanted.actuals)

    def test_are_no_actuals_of_what_was_before(self) -> None:
        whole = series()
        first, _ = without_times(whole, [(int(whole.at_ms[41]), int(whole.at_ms[42]))], LAYOUT)
        assert np.isnan(stretches_of(first, LAYOUT)[0].actuals[-1]).all()

    def test_may_come_several_times_and_at_both_ends(self) -> None:
        whole = series()
        at = whole.at_ms.tolist()
        ranges = [(0, at[0] + 1), (at[20], at[21]), (at[60], at[70]), (at[-1], 2**62)]
        pieces = without_times(whole, ranges, LAYOUT)
        starts = [at.index(int(piece.at_ms[0])) for piece in pieces]
        assert [(start, len(piece)) for start, piece in zip(starts, pieces, strict=True)] == [
            (4, 16),
            (24, 36),
            (72, STEPS - 76),
        ]

    def test_that_are_others_change_nothing(self) -> None:
        whole = series()
        assert without_times(whole, [(0, 1)], LAYOUT) == [whole]
        assert without_times(whole, [(0, 2**62)], LAYOUT) == []

    def test_are_the_same_in_a_file_and_in_what_the_daemon_buffered(self) -> None:
        found, (whole,) = served()
        ranges = [(int(whole.at_ms[41]), int(whole.at_ms[52]))]
        files = without_times(whole, ranges, LAYOUT)
        pieces = buffered_series(found, Wanted(T, 1, ranges, 10**6)).pieces
        for own, other in zip(pieces, files, strict=True):
            for one, two in zip(
                stretches_of(own, LAYOUT), stretches_of(other, LAYOUT), strict=True
            ):
                for name in Stretch.__slots__:
                    np.testing.assert_array_equal(getattr(one, name), getattr(two, name))

    def test_of_a_piece_are_measured_by_its_past(self) -> None:
        found, (whole,) = served()
        (piece,) = buffered_series(found[3:], Wanted(T, 1, (), 10**6)).pieces
        ranges = [(int(whole.at_ms[20]), int(whole.at_ms[21]))]
        _, last = without_times(piece, ranges, LAYOUT)
        (own,), (all_of_it,) = stretches_of(last, LAYOUT), stretches_of(whole, LAYOUT)
        np.testing.assert_array_equal(own.windows, all_of_it.part(6, len(all_of_it)).windows)
