from __future__ import annotations

from collections import OrderedDict

import numpy as np
import pytest

from forecastd.observe.events import SeriesEvicted
from forecastd.records import Observations, TopicPartition
from forecastd.state.table import SeriesTable
from forecastd.windows.admission import Admission
from tests.in_memory import P0, P1, Telemetry


def new_admission(max_series: int) -> Admission:
    return Admission(SeriesTable([], capacity=2), max_series, Telemetry())


def part(records: list[list[str]], first: int = 0, partition: TopicPartition = P0) -> Observations:
    """One observation for each name of each record."""
    series = [name for record in records for name in record]
    offsets = np.repeat(np.arange(first, first + len(records)), [len(r) for r in records])
    zeros = np.zeros(len(series), np.int64)
    return Observations(partition, series, zeros, np.zeros((len(series), 1)), offsets, zeros)


def apply(admission: Admission, *parts: Observations) -> list[list[str]]:
    """Admit what was polled, as the windower does; the series of each chunk."""
    chunks = []
    for chunk in admission.chunks(parts):
        for piece in chunk:
            slots = admission.slots(piece, 0)
            assert admission.table.names(slots) == piece.series
            admission.table["offset"][slots] = piece.offsets  # of several, the last stays
        chunks.append([name for piece in chunk for name in piece.series])
    return chunks


def names(admission: Admission, partition: TopicPartition = P0) -> set[str]:
    return set(admission.table.names(admission.table.slots(partition)))


class TestSlots:
    def test_of_a_series_stay_the_same(self) -> None:
        admission = new_admission(10)
        first = admission.slots(part([["a"], ["b"], ["a"]]), 0)
        assert first[0] == first[2] != first[1]
        assert admission.slots(part([["b"], ["a"]]), 0).tolist() == [first[1], first[0]]
        assert not admission.evicted

    def test_of_the_longest_idle_series_go_to_the_new_ones(self) -> None:
        admission = new_admission(3)
        apply(admission, part([["a"], ["b"], ["c"], ["a"]]))
        apply(admission, part([["d"]], first=4))
        assert names(admission) == {"a", "c", "d"}
        apply(admission, part([["e", "f"]], first=5))
        assert names(admission) == {"d", "e", "f"}
        assert [(at, name) for at, name, _ in admission.evicted][:1] == [(P0, "b")]
        assert {name for _, name, _ in admission.evicted} == {"a", "b", "c"}

    def test_tell_which_slot_an_evicted_series_had(self) -> None:
        admission = new_admission(1)
        slot = admission.slots(part([["a"]]), 0).item()
        assert admission.slots(part([["b"]]), 0).item() == slot
        assert admission.evicted == [(P0, "a", slot)]

    def test_of_what_the_poll_itself_holds_are_not_taken(self) -> None:
        """`a` has been idle longest, and comes in the same record as the new one."""
        admission = new_admission(2)
        apply(admission, part([["a"], ["b"]]))
        apply(admission, part([["c", "a"]], first=2))
        assert names(admission) == {"a", "c"}

    def test_are_bounded_by_partition(self) -> None:
        admission = new_admission(2)
        apply(admission, part([["a", "b"]]), part([["a", "b"]], partition=P1))
        apply(admission, part([["c"]], first=1, partition=P1))
        assert names(admission, P0) == {"a", "b"}
        assert len(names(admission, P1)) == 2

    def test_that_were_evicted_are_told_by_count(self) -> None:
        admission = new_admission(2)
        apply(admission, part([["a", "b"]]))
        apply(admission, part([["c", "d"]], first=1))
        assert isinstance(admission.telemetry, Telemetry)
        assert admission.telemetry.events == [SeriesEvicted(P0, 2)]


class TestChunks:
    def test_of_a_poll_that_fits_is_one(self) -> None:
        admission = new_admission(4)
        polled = part([["a"], ["b"]]), part([["a"]] * 50, partition=P1)
        assert apply(admission, *polled) == [["a", "b", *["a"] * 50]]
        assert apply(admission, part([["a"], ["b"], ["c"], ["d"]], first=2)) == [list("abcd")]

    def test_end_where_a_record_ends(self) -> None:
        """A record is applied whole, whatever must make place for it."""
        admission = new_admission(3)
        chunks = apply(admission, part([["a", "b"], ["c", "d"], ["d", "c", "e"], ["f"]]))
        assert chunks == [["a", "b"], ["c", "d", "d", "c", "e"], ["f"]]

    @pytest.mark.parametrize("seed", range(20))
    def test_give_places_as_if_records_came_one_by_one(self, seed: int) -> None:
        """Never more than `max_series`, and it is always the longest idle that go."""
        rng, admission = np.random.default_rng(seed), new_admission(5)
        kept: OrderedDict[str, None] = OrderedDict()  # the longest idle first
        for poll in range(20):
            records = []
            for _ in range(int(rng.integers(1, 8))):
                record = [f"s{rng.integers(0, 12)}" for _ in range(rng.integers(1, 4))]
                records.append(list(dict.fromkeys(record)))
            for record in records:
                for name in record:
                    kept[name] = None
                    kept.move_to_end(name)
            apply(admission, part(records, first=100 * poll))
            assert admission.table.count(P0) <= 5
            newest = list(kept)[-3:]
            # Series of one record are equally idle, and several may share the last place.
            assert set(newest) <= names(admission), poll

    def test_with_more_series_in_a_record_than_the_bound_exceed_it_until_the_next(self) -> None:
        admission = new_admission(2)
        apply(admission, part([list("abcde")]))
        assert names(admission) == set("abcde")
        apply(admission, part([["a"]], first=1))
        assert len(names(admission)) == 2
        assert "a" in names(admission)
        assert len(admission.evicted) == 3
