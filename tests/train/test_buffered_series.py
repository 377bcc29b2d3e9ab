from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from forecastd.records import Ints, Observations, TopicPartition
from forecastd.scaling import Anchor
from forecastd.train.buffered_series import Buffered, DataRange, Wanted, buffered_series
from forecastd.train.recorded_series import RecordedSeries
from forecastd.train.sequences import training_data
from forecastd.train.stretches import Layout, Stretch, stretches_of
from forecastd.train.window_record import WindowRecord
from tests.in_memory import P0, P1, make_settings
from tests.train.test_window_buffer import Bench, T, observations, records

STEPS = 30 * T
LAYOUT = Layout(T, T, 3, 37, None, 1, "series", "last")
"""Of the settings of `make_settings`: tails hold nine windows and a step."""


def served(
    names: Sequence[str] = ("a",), steps: int = STEPS, partition: TopicPartition = P0
) -> tuple[list[WindowRecord], list[RecordedSeries]]:
    """What the daemon buffers of series, and the series as a file would hold them."""
    bench = Bench(make_settings())
    fed = observations(range(steps), names, partition, uneven=True)
    # From the first poll on they fall into polls of every size.
    found = [one for part in polls(fed) for one in records(bench.feed(part))]
    whole = [
        RecordedSeries(
            f"{partition}:{name}",
            fed.at_ms[at :: len(names)],
            fed.values[at :: len(names)],
            fed.offsets[at :: len(names)],
        )
        for at, name in enumerate(names)
    ]
    return found, whole


def polls(fed: Observations) -> list[Observations]:
    bounds = [0, 1, 6, *range(50, len(fed.series), 50), len(fed.series)]
    return [
        Observations(
            fed.partition,
            fed.series[start:stop],
            fed.at_ms[start:stop],
            fed.values[start:stop],
            fed.offsets[start:stop],
            fed.recorded_ms[start:stop],
        )
        for start, stop in pairwise(bounds)
    ]


def buffered(found: Sequence[WindowRecord], **wanted: object) -> Buffered:
    usual = Wanted(timesteps=T, features=1, excluded=(), windows_max=10**6)
    return buffered_series(found, replace(usual, **wanted))  # type: ignore[arg-type]  # of Wanted


def assert_same(found: Stretch, wanted: Stretch) -> None:
    for name in ("windows", "actuals", "naive"):
        own, other = getattr(found, name), getattr(wanted, name)
        np.testing.assert_allclose(own, other, rtol=1e-6, atol=1e-6, err_msg=name)
    np.testing.assert_array_equal(found.end_ms, wanted.end_ms)


def between(stretch: Stretch, first_ms: int, last_ms: int) -> Stretch:
    """The windows that end from one time to another."""
    at = np.flatnonzero((stretch.end_ms >= first_ms) & (stretch.end_ms <= last_ms))
    return stretch.part(at[0], at[-1] + 1)


class TestPieces:
    @pytest.mark.parametrize("anchor", ["last", "ewma", "none"])
    def test_are_fed_as_the_whole_series_would_be(self, anchor: Anchor) -> None:
        """Records of a served stream, against the same stream as a file: all phases of both."""
        found, whole = served(["a", "b", "c"])
        layout = replace(LAYOUT, stride=1, anchor=anchor)
        pieces = buffered(found).pieces
        assert [piece.name for piece in pieces] == [series.name for series in whole]
        for piece, series in zip(pieces, whole, strict=True):
            stretches = zip(stretches_of(piece, layout), stretches_of(series, layout), strict=True)
            for one, other in stretches:
                assert_same(one, other)

    @pytest.mark.parametrize("first", [1, 4, 20])
    def test_that_lack_their_beginning_are_fed_as_they_were(self, first: int) -> None:
        """By what each record says it was fed with, until their own steps say the same."""
        found, (whole,) = served()
        (piece,) = buffered(found[first:]).pieces
        (own,) = stretches_of(piece, LAYOUT)
        (all_of_it,) = stretches_of(whole, LAYOUT)
        assert_same(own, all_of_it.part(first, len(all_of_it)))

    def test_that_lack_their_beginning_have_all_phases(self) -> None:
        """Between window ends the scale is that of the end before, until the tail is full."""
        found, (whole,) = served()
        (piece,) = buffered(found[4:]).pieces
        layout = replace(LAYOUT, stride=1)
        known_ms = piece.at_ms[LAYOUT.tail_steps - 1]
        for own, all_of_it in zip(
            stretches_of(piece, layout), stretches_of(whole, layout), strict=True
        ):
            begun = between(all_of_it, own.end_ms[0], own.end_ms[-1])
            np.testing.assert_array_equal(own.end_ms, begun.end_ms)
            last_ms = own.end_ms[-1]
            assert_same(between(own, known_ms, last_ms), between(begun, known_ms, last_ms))
            ratio = own.windows[:, 1:] / begun.windows[:, 1:]
            assert (np.abs(np.log(ratio)) < 0.5).all()

    def test_come_out_the_same_however_the_topic_was_read(self) -> None:
        found, _ = served(["a", "b", "c"])
        shuffled = [found[at] for at in np.random.default_rng(0).permutation(len(found))]
        assert_equal(buffered(shuffled), buffered(found))

    def test_hold_a_repeat_once(self) -> None:
        """After a crash the last windows are written again."""
        found, _ = served(["a", "b"])
        again = buffered([*found, *found[20:40]])
        assert again.repeats == 20
        assert_equal(again, buffered(found))

    def test_end_where_a_window_is_lost(self) -> None:
        """A state must not be carried over a gap that serving did not see."""
        found, (whole,) = served()
        first, second = buffered([*found[:10], *found[11:]]).pieces
        assert (len(first), len(second)) == (10 * T, 19 * T)
        assert first.name == second.name
        assert first.past is None
        (own,) = stretches_of(second, LAYOUT)
        assert_same(own, stretches_of(whole, LAYOUT)[0].part(11, 30))
        assert np.isnan(stretches_of(first, LAYOUT)[0].actuals[-1]).all()

    def test_begin_anew_where_the_series_does(self) -> None:
        found, _ = served(steps=5 * T)
        later = [replace(one, at_ms=one.at_ms + 10**9) for one in found]
        pieces = buffered([*later, *found]).pieces
        assert [(piece.past, len(piece)) for piece in pieces] == [(None, 5 * T)] * 2

    def test_are_not_made_of_windows_that_only_seem_to_follow(self) -> None:
        """Numbers may agree where the steps do not: of two owners at a time, or of a forger."""
        found, _ = served(steps=4 * T)
        other = replace(found[2], before=found[2].before + 1)
        assert [len(piece) for piece in buffered([*found[:2], other]).pieces] == [2 * T, T]

    def test_hold_no_time_twice(self) -> None:
        """A series that was read again from the start, and falls into other windows."""
        found, _ = served(steps=8 * T)
        shifted = [replace(one, at_ms=one.at_ms + 1_500) for one in found]
        read = buffered([*found, *shifted])
        times = np.sort(np.concatenate([piece.at_ms for piece in read.pieces]))
        ends = sorted((piece.at_ms[0], piece.at_ms[-1]) for piece in read.pieces)
        assert all(end < start for (_, end), (start, _) in pairwise(ends))
        assert len(times) >= 8 * T

    def test_of_one_name_in_two_partitions_are_two_series(self) -> None:
        found = [*served()[0], *served(partition=P1)[0]]
        assert [piece.name for piece in buffered(found).pieces] == [f"{P0}:a", f"{P1}:a"]


class TestChoice:
    def test_is_of_the_newest_windows(self) -> None:
        found, _ = served(["a", "b"])
        read = buffered(found, windows_max=21)
        assert (read.windows, read.older) == (21, 39)
        assert sorted(len(piece) for piece in read.pieces) == [10 * T, 11 * T]
        assert min(piece.at_ms[0] for piece in read.pieces) >= found[38].at_ms[0]

    def test_leaves_out_windows_of_another_shape(self) -> None:
        """Somebody changed `windows.timesteps`, or `ingest.values`."""
        found, _ = served()
        wide = [
            replace(one, values=np.repeat(one.values, 2, axis=1), number=number)
            for number, one in enumerate(found)
        ]
        read = buffered([*wide[:7], *found])
        assert (read.misfits, read.windows) == (7, 30)

    def test_leaves_out_windows_that_reach_into_excluded_times(self) -> None:
        found, (whole,) = served()
        outage = (int(whole.at_ms[41]), int(whole.at_ms[44]))  # steps 41 to 43: one window
        read = buffered(found, excluded=[outage])
        assert (read.excluded, [len(piece) for piece in read.pieces]) == (1, [10 * T, 19 * T])

    def test_of_nothing_is_nothing(self) -> None:
        read = buffered([])
        assert (read.pieces, read.ranges, read.windows) == ([], [], 0)

    def test_says_what_it_spans(self) -> None:
        found, (first, _) = served(["a", "b"])
        (span,) = buffered(found[2:]).ranges
        assert span == DataRange(
            P0.topic,
            P0.partition,
            first_offset=T,
            last_offset=STEPS - 1,
            from_ms=int(first.at_ms[T]),
            to_ms=int(first.at_ms[-1]),
            series=2,
            windows=58,
        )


class TestTrainingData:
    def test_is_that_of_a_file(self) -> None:
        """The same series, offline and online, make the same stretches in the same order."""
        found, whole = served(["a", "b", "c"])
        cut_ms = int(whole[0].at_ms[100])
        own = training_data(buffered(found).pieces, LAYOUT, cut_ms, 2)
        file = training_data(whole, LAYOUT, cut_ms, 2)
        for some, others in ((own.training, file.training), (own.held_out, file.held_out)):
            for one, other in zip(some, others, strict=True):
                for name in Stretch.__slots__:
                    np.testing.assert_array_equal(getattr(one, name), getattr(other, name))

    def test_of_a_piece_that_is_cut_sees_nothing_later(self) -> None:
        found, _ = served()
        (piece,) = buffered(found[5:]).pieces
        cut_ms = int(piece.at_ms[50])
        (known,) = stretches_of(piece.until(cut_ms), LAYOUT)
        spoilt = [
            replace(one, median=one.median + 9, spread=one.spread * 9)
            if one.at_ms[-1] > cut_ms
            else one
            for one in found[5:]
        ]
        (other,) = stretches_of(buffered(spoilt).pieces[0].until(cut_ms), LAYOUT)
        assert_same(known, other)


def assert_equal(found: Buffered, wanted: Buffered) -> None:
    for one, other in zip(found.pieces, wanted.pieces, strict=True):
        assert one.name == other.name
        arrays: list[tuple[Ints, Ints]] = [(one.at_ms, other.at_ms), (one.rows, other.rows)]
        for own, theirs in arrays:
            np.testing.assert_array_equal(own, theirs)
        np.testing.assert_array_equal(one.values, other.values)
    assert found.ranges == wanted.ranges
