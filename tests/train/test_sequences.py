from __future__ import annotations

import numpy as np
import pytest

from forecastd.train.recorded_series import RecordedSeries
from forecastd.train.sequences import (
    Batch,
    batches,
    cut,
    training_data,
    training_slots,
    training_stride,
)
from forecastd.train.stretches import Layout, Stretch

LAYOUT = Layout(
    timesteps=4,
    stride=4,
    horizon=2,
    tail_steps=8,
    season=None,
    targets=1,
    scaling="none",
    anchor="none",
)


def stretch(series: int, windows: int) -> Stretch:
    """Windows of one step whose value says which series and which window they are."""
    numbers = np.arange(windows, dtype=np.float32)
    fed = (100 * series + numbers).reshape(windows, 1, 1)
    return Stretch(fed, fed.copy(), fed.copy(), numbers.astype(np.int64))


def read_by_slot(passed: list[Batch]) -> dict[int, list[float]]:
    """What each slot has read, in order."""
    read: dict[int, list[float]] = {}
    for batch in passed:
        for row, windows in zip(batch.rows.tolist(), batch.windows, strict=True):
            read.setdefault(row, []).extend(windows.ravel().tolist())
    return read


def ramp(steps: int, name: str = "s", first: int = 0) -> RecordedSeries:
    """A series whose value at time t (in seconds from the epoch) is t."""
    rows = np.arange(first, first + steps, dtype=np.int64)
    return RecordedSeries(name, 1_000 * rows, rows[:, None].astype(np.float64), rows)


class TestBatches:
    def test_let_each_slot_continue_where_it_was(self) -> None:
        stretches = [stretch(1, 7), stretch(2, 7), stretch(3, 7)]
        passed = list(batches(stretches, batch_size=8, row_windows=3))
        assert [batch.rows.tolist() for batch in passed] == [[0, 1, 2]] * 3
        assert read_by_slot(passed) == {
            slot: [100 * series + n for n in range(7)] for slot, series in enumerate((1, 2, 3))
        }

    def test_read_every_window_once_and_in_time_order(self) -> None:
        """No shuffling, no repeats, whatever the lengths."""
        lengths = [1, 9, 4, 0, 17, 8, 8]
        stretches = [stretch(number, length) for number, length in enumerate(lengths)]
        read = read_by_slot(list(batches(stretches, batch_size=3, row_windows=4)))
        assert read == {
            slot: [100 * slot + n for n in range(length)]
            for slot, length in enumerate(lengths)
            if length
        }

    def test_pad_nothing(self) -> None:
        """A short last batch is fed as it is, with its own rows."""
        passed = list(batches([stretch(0, 5), stretch(1, 3), stretch(2, 7)], 8, row_windows=4))
        assert [(batch.rows.tolist(), batch.windows.shape[1]) for batch in passed] == [
            ([0, 2], 4),
            ([1], 3),
            ([2], 3),
            ([0], 1),
        ]

    def test_hold_a_slot_once_and_no_more_rows_than_asked(self) -> None:
        passed = list(batches([stretch(n, 2) for n in range(10)], batch_size=4, row_windows=1))
        assert all(len(batch.rows) <= 4 for batch in passed)
        for moment in (passed[:3], passed[3:]):
            assert sorted(np.concatenate([batch.rows for batch in moment])) == list(range(10))

    def test_count_the_actuals_that_exist(self) -> None:
        one = stretch(0, 3)
        one.actuals[2] = np.nan
        (batch,) = batches([one], batch_size=1, row_windows=3)
        assert batch.actual_count == 2
        assert batch.actuals.shape == (1, 3, 1, 1)

    def test_of_nothing_are_none(self) -> None:
        assert list(batches([], 4, 4)) == []


class TestCut:
    def test_makes_a_contiguous_stretch_a_slot_of_one_long_series(self) -> None:
        pieces = cut([stretch(0, 64)], slots=4, row_windows=2)
        assert [piece.end_ms.tolist() for piece in pieces] == [
            list(range(start, start + 16)) for start in (0, 16, 32, 48)
        ]

    def test_cuts_where_a_row_ends(self) -> None:
        pieces = cut([stretch(0, 41), stretch(1, 3)], slots=4, row_windows=4)
        assert [len(piece) for piece in pieces] == [12, 12, 12, 5, 3]

    def test_leaves_short_stretches_whole(self) -> None:
        pieces = cut([stretch(n, 8) for n in range(9)], slots=4, row_windows=4)
        assert [len(piece) for piece in pieces] == [8] * 9


class TestTrainingSlots:
    @pytest.mark.parametrize(("windows", "slots"), [(8, 4), (80, 4), (1_000, 7), (100_000, 32)])
    def test_are_fewer_where_an_epoch_would_have_few_batches(
        self, windows: int, slots: int
    ) -> None:
        assert training_slots([stretch(0, windows)], batch_size=32, row_windows=8) == slots

    def test_are_never_more_than_asked(self) -> None:
        assert training_slots([stretch(0, 80)], batch_size=1, row_windows=8) == 1


class TestTrainingStride:
    @pytest.mark.parametrize("timesteps", [1, 2, 3, 5, 10, 12, 16, 96, 97])
    def test_makes_at_most_four_phases(self, timesteps: int) -> None:
        stride = training_stride(timesteps)
        assert timesteps % stride == 0
        assert timesteps // stride <= 4


class TestTrainingData:
    cut_ms = 59_000

    def test_lets_nothing_after_the_cut_into_training(self) -> None:
        """Neither a window nor an actual: what follows the last windows is not known yet."""
        data = training_data([ramp(100), ramp(30, "t", first=50)], LAYOUT, self.cut_ms, 3)
        for one in data.training:
            seen = np.concatenate([one.windows.ravel(), one.actuals.ravel()])
            assert np.nanmax(seen) <= 59
            assert one.end_ms.max() <= self.cut_ms
        assert any(np.isnan(one.actuals[-1]).all() for one in data.training)

    def test_holds_out_every_window_that_ends_after_the_cut(self) -> None:
        data = training_data([ramp(100)], LAYOUT, self.cut_ms, warm_windows=3)
        (held,) = data.held_out
        scored = np.isfinite(held.actuals).any(axis=(1, 2))
        assert held.end_ms[~scored][:3].tolist() == [51_000, 55_000, 59_000]
        assert held.end_ms[3:].tolist() == list(range(63_000, 100_000, 4_000))

    def test_warms_the_state_over_the_end_of_training_without_a_score(self) -> None:
        data = training_data([ramp(100)], LAYOUT, self.cut_ms, warm_windows=3)
        (held,) = data.held_out
        assert np.isnan(held.actuals[:3]).all()
        np.testing.assert_array_equal(np.diff(held.windows.ravel()), 1)  # without a seam

    def test_holds_out_a_series_that_began_after_the_cut(self) -> None:
        data = training_data([ramp(20, first=70)], LAYOUT, self.cut_ms, warm_windows=3)
        assert data.training == []
        assert len(data.held_out[0]) == 5
        assert np.isfinite(data.held_out[0].actuals[0]).all()

    def test_trains_on_every_phase_and_holds_out_the_one_that_is_served(self) -> None:
        data = training_data([ramp(100)], LAYOUT, self.cut_ms, 0)
        assert sorted(int(one.windows[0, 0, 0]) for one in data.training) == [0, 1, 2, 3]
        assert len(data.held_out) == 1

    def test_without_a_cut_is_all_training(self) -> None:
        data = training_data([ramp(100)], LAYOUT, None, 3)
        assert data.held_out == []
        assert data.judged == 0
        assert data.learnable == sum(map(len, data.training)) - 1  # the last step has no next
