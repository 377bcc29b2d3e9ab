"""Stretches of windows become batches in which the state carries on.

A training slot is a bank row. Slot j of one batch continues slot j of the batch before, as long as
its stretch lasts; a new stretch begins with a zeroed row. Nothing is shuffled and nothing padded:
rows with fewer windows than the others go in a call of their own.

    slot 0  │ a a a a │ a a a a │ a a │ d d d d │ ...
    slot 1  │ b b b b │ b b b b │ c c c c │ ...
              batch 0   batch 1   ...

(Slicing windows i to i + B of one series into a batch, the usual mistake, gives each slot every
B-th window of it.)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from forecastd.records import Bools, Float32s, Slots
from forecastd.train.recorded_series import RecordedSeries
from forecastd.train.stretches import Layout, Stretch, stretches_of


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """One call: B rows of W consecutive windows.

    Attributes:
        rows: (B,) training slots, distinct.
        begins: (B,) True where a stretch begins: the slot's state is to be zeroed first.
        windows: float32 (B, W * T, F).
        actuals: float32 (B, W, H, targets), NaN where there is none.
        actual_count: actuals that exist; what a mean over this batch weighs.
    """

    rows: Slots
    begins: Bools
    windows: Float32s
    actuals: Float32s
    actual_count: int


@dataclass(frozen=True, slots=True, eq=False)
class TrainingData:
    """What is trained on, and what the result is judged by.

    Attributes:
        training: stretches that end before the held-out time, actuals included.
        held_out: stretches whose windows end after it. Each begins with the end of its training
            stretch, unscored, so that the state is warm when it counts.
    """

    training: list[Stretch]
    held_out: list[Stretch]

    @property
    def window_count(self) -> int:
        """Windows that are trained on."""
        return sum(map(len, self.training))


def training_data(
    recorded: Sequence[RecordedSeries], layout: Layout, cut_ms: int | None, warm_windows: int
) -> TrainingData:
    """Windows of all series, divided at one event time.

    Args:
        cut_ms: of the last step that training may see; None trains on everything.
        warm_windows: windows before the cut that a held-out stretch begins with.
    """
    if cut_ms is None:
        return TrainingData([s for one in recorded for s in stretches_of(one, layout)], [])
    training, held_out = [], []
    for series in recorded:
        # What was known at the cut is a series of its own: no later step can reach into it.
        training += stretches_of(series.until(cut_ms), layout)
        for whole in stretches_of(series, layout):
            first = int(np.searchsorted(whole.end_ms, cut_ms, side="right"))
            if first < len(whole):
                warm = whole.part(max(0, first - warm_windows), first).unscored()
                held_out.append(warm.then(whole.part(first, len(whole))))
    return TrainingData(training, held_out)


def cut(stretches: Sequence[Stretch], slots: int, row_windows: int) -> list[Stretch]:
    """Divide long stretches so that `slots` slots have about the same to do.

    The pieces of a stretch are contiguous and, but for the last, whole rows of `row_windows`.
    """
    rows = sum(-(-len(stretch) // row_windows) for stretch in stretches)
    longest = -(-rows // slots) * row_windows
    return [
        stretch.part(start, min(start + longest, len(stretch)))
        for stretch in stretches
        for start in range(0, len(stretch), longest)
    ]


def batches(stretches: Sequence[Stretch], slots: int, row_windows: int) -> Iterator[Batch]:
    """One pass over all windows of all stretches, the windows of each in time order."""
    queues = [_rows_of(queue, row_windows) for queue in _share_out(stretches, slots)]
    while True:
        due = [(slot, row) for slot, queue in enumerate(queues) if (row := next(queue, None))]
        if not due:
            return
        for count in sorted({len(stretch) for _, (_, stretch) in due}, reverse=True):
            yield _batch([item for item in due if len(item[1][1]) == count])


def _share_out(stretches: Sequence[Stretch], slots: int) -> list[list[Stretch]]:
    """Stretches of each slot: the longest first to whoever has least, then by time."""
    queues: list[list[Stretch]] = [[] for _ in range(min(slots, len(stretches)))]
    for stretch in sorted(stretches, key=len, reverse=True):
        min(queues, key=lambda queue: sum(map(len, queue))).append(stretch)
    return [sorted(queue, key=lambda stretch: int(stretch.end_ms[0])) for queue in queues]


def _rows_of(queue: Sequence[Stretch], row_windows: int) -> Iterator[tuple[bool, Stretch]]:
    """The rows of one slot in order, and whether each begins a stretch."""
    for stretch in queue:
        for start in range(0, len(stretch), row_windows):
            yield start == 0, stretch.part(start, min(start + row_windows, len(stretch)))


def _batch(due: Sequence[tuple[int, tuple[bool, Stretch]]]) -> Batch:
    windows = np.stack([stretch.windows for _, (_, stretch) in due])
    actuals = np.stack([stretch.actuals for _, (_, stretch) in due])
    batch, count, timesteps, features = windows.shape
    return Batch(
        rows=np.array([slot for slot, _ in due], np.int32),
        begins=np.array([begins for _, (begins, _) in due], np.bool_),
        windows=windows.reshape(batch, count * timesteps, features),
        actuals=actuals,
        actual_count=int(np.isfinite(actuals).sum()),
    )
