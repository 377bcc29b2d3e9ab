"""Stretches of windows become batches in which the state carries on.

Every stretch has a training slot, a bank row of its own. All slots move on together, a row of a
few windows at a time, so that slot j of one round continues slot j of the round before; where
there are more slots than a batch holds, a round is several batches. Nothing is shuffled and
nothing padded: rows with fewer windows than the others go in a call of their own.

    slot 0  │ a a a a │ a a a a │ a a │
    slot 1  │ b b b b │ b b b b │ b b b b │
    slot 2  │ c c c c │ c │
              round 0   round 1   round 2

(Slicing windows i to i + B of one series into a batch, the usual mistake, gives each slot every
B-th window of it.)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from forecastd.records import Float32s, Ints, Slots
from forecastd.train.recorded_series import RecordedSeries
from forecastd.train.stretches import Layout, Stretch, stretches_of

_PHASES_MAX = 4
_BATCHES_MIN, _SLOTS_MIN = 16, 4


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """One call: B rows of W consecutive windows.

    Attributes:
        rows: (B,) training slots, distinct.
        windows: float32 (B, W * T, F).
        actuals: float32 (B, W, H, targets), NaN where there is none.
        actual_count: actuals that exist; what a mean over this batch weighs.
    """

    rows: Slots
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
    def learnable(self) -> int:
        """Windows to learn from: those with an actual."""
        return _with_actuals(self.training)

    @property
    def judged(self) -> int:
        """Windows to be judged by."""
        return _with_actuals(self.held_out)


def training_data(
    recorded: Sequence[RecordedSeries], layout: Layout, cut_ms: int | None, warm_windows: int
) -> TrainingData:
    """Windows of all series, divided at one event time.

    Training stretches are cut at the phases of `training_stride`, held-out ones at those that are
    served.

    Args:
        cut_ms: of the last step that training may see; None trains on everything.
        warm_windows: windows before the cut that a held-out stretch begins with.
    """
    own = replace(layout, stride=training_stride(layout.timesteps))
    if cut_ms is None:
        return TrainingData([stretch for one in recorded for stretch in stretches_of(one, own)], [])
    training, held_out = [], []
    for series in recorded:
        # What was known at the cut is a series of its own: no later step can reach into it.
        training += stretches_of(series.until(cut_ms), own)
        for whole in stretches_of(series, layout):
            first = first_scored(series, whole.end_ms, cut_ms, warm_windows)
            if first < len(whole):
                warm = whole.part(max(0, first - warm_windows), first).unscored()
                held_out.append(warm.then(whole.part(first, len(whole))))
    return TrainingData(training, held_out)


def first_scored(series: RecordedSeries, end_ms: Ints, cut_ms: int, warm_windows: int) -> int:
    """Number of the first window that counts, of those that end at `end_ms`.

    A piece that begins in the midst of its series is read from a zero state, and is served with one
    that knows more: its first windows, at most half of them, only warm the state.
    """
    first = int(np.searchsorted(end_ms, cut_ms, side="right"))
    return first if series.past is None else max(first, min(warm_windows, len(end_ms) // 2))


def training_stride(timesteps: int) -> int:
    """Steps between the phases that are trained on: a divisor of `timesteps`, at most four phases.

    The steps of a series make as many stretches of tumbling windows as there are phases. A series'
    first step decides which one is served, so all are as good to learn from (ETTh1 with four in
    place of one, at the same number of steps of Adam: error against naive 0.96 for 0.98).

    >>> training_stride(16), training_stride(10), training_stride(7), training_stride(1)
    (4, 5, 7, 1)
    """
    least = -(-timesteps // _PHASES_MAX)
    return next(stride for stride in range(least, timesteps + 1) if timesteps % stride == 0)


def training_slots(stretches: Sequence[Stretch], batch_size: int, row_windows: int) -> int:
    """Slots to divide stretches for: `batch_size`, fewer where an epoch would have few batches."""
    rows = sum(-(-len(stretch) // row_windows) for stretch in stretches)
    return min(batch_size, max(_SLOTS_MIN, rows // _BATCHES_MIN))


def cut(stretches: Sequence[Stretch], slots: int, row_windows: int) -> list[Stretch]:
    """Divide long stretches so that there are at least `slots` slots, all with much to do.

    The pieces of a stretch are contiguous and, but for the last, whole rows of `row_windows`; no
    piece is longer than what `slots` slots would have to do each.
    """
    rows = sum(-(-len(stretch) // row_windows) for stretch in stretches)
    longest = -(-rows // slots) * row_windows
    return [
        stretch.part(start, min(start + longest, len(stretch)))
        for stretch in stretches
        for start in range(0, len(stretch), longest)
    ]


def batches(stretches: Sequence[Stretch], batch_size: int, row_windows: int) -> Iterator[Batch]:
    """One pass over all windows, those of each stretch in time order.

    Slot j is that of stretch j; all of them are to begin with a zeroed row.
    """
    longest = max(map(len, stretches), default=0)
    for start in range(0, longest, row_windows):
        counts = [min(len(stretch) - start, row_windows) for stretch in stretches]
        for count in sorted({count for count in counts if count > 0}, reverse=True):
            slots = np.array([j for j, found in enumerate(counts) if found == count], np.int32)
            for some in np.array_split(slots, -(-len(slots) // batch_size)):
                yield _batch([stretches[j].part(start, start + count) for j in some], some)


def _with_actuals(stretches: Sequence[Stretch]) -> int:
    have = (np.isfinite(stretch.actuals).any(axis=(1, 2)) for stretch in stretches)
    return sum(int(np.count_nonzero(some)) for some in have)


def _batch(parts: Sequence[Stretch], slots: Slots) -> Batch:
    windows = np.stack([part.windows for part in parts])
    actuals = np.stack([part.actuals for part in parts])
    batch, count, timesteps, features = windows.shape
    return Batch(
        rows=slots,
        windows=windows.reshape(batch, count * timesteps, features),
        actuals=actuals,
        actual_count=int(np.isfinite(actuals).sum()),
    )
