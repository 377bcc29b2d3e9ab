"""The judge of the chaos suite is itself judged: what it must see, it sees."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from tests.chaos.equivalence import Outcome, faults
from tests.chaos.stream import Stream


def message(name: str, *, first: float = 1.0, **more: Any) -> dict[str, Any]:
    """A forecast of two leads and two quantiles, whose spread is 9."""
    made = {"id": name, "flags": [], "forecasts": {"value": [[first, 2.0], [3.0, 10.0]]}}
    return made | more


def outcome(*messages: Mapping[str, Any], letters: tuple[int, ...] = ()) -> Outcome:
    headers = [
        [
            ("forecastd.topic", b"t"),
            ("forecastd.partition", b"0"),
            ("forecastd.offset", b"%d" % offset),
        ]
        for offset in letters
    ]
    return Outcome.of(messages, headers)


CALM = outcome(message("a"), message("b"), letters=(3, 4))


class TestFaults:
    def test_are_none_where_nothing_differs(self) -> None:
        """A repeat with the same numbers is what at least once may do."""
        hit = outcome(message("b"), message("a"), message("a", first=1.00001), letters=(4, 3, 3))
        assert faults(CALM, hit, exactly_once=False) == []
        assert hit.repeats == 2

    def test_name_what_is_lost_and_what_is_invented(self) -> None:
        hit = outcome(message("a"), message("c"), letters=(4, 5))
        assert faults(CALM, hit, exactly_once=False) == [
            "1 forecasts lost, such as b",
            "1 forecasts invented, such as c",
            "1 dead letters lost, such as ('t', 0, 3)",
            "1 dead letters invented, such as ('t', 0, 5)",
        ]

    def test_name_windows_to_learn_from_that_are_lost_or_changed(self) -> None:
        calm, hit = (Outcome.of((), (), windows) for windows in ((b"a", b"b"), (b"a", b"c", b"a")))
        assert faults(calm, hit, exactly_once=True) == [
            "1 windows lost, such as b'b'",
            "1 windows invented, such as b'c'",
        ]

    @pytest.mark.parametrize("first", [1.001, float("nan")])
    def test_name_other_numbers_in_any_of_the_repeats(self, first: float) -> None:
        hit = outcome(message("a"), message("a", first=first), message("b"), letters=(3, 4))
        (fault,) = faults(CALM, hit, exactly_once=False)
        assert fault.startswith("1 forecasts with other numbers, such as a: off by")

    def test_name_other_facts_but_not_the_restart(self) -> None:
        """`restored` tells of the restart itself; `reset` would be a past that was lost."""
        restored = outcome(message("a", flags=["restored"]), message("b"), letters=(3, 4))
        reset = outcome(message("a", flags=["reset"]), message("b"), letters=(3, 4))
        assert faults(CALM, restored, exactly_once=False) == []
        assert len(faults(CALM, reset, exactly_once=False)) == 1

    def test_name_repeats_where_there_must_be_none(self) -> None:
        hit = outcome(message("a"), message("a"), message("b"), letters=(3, 4, 4))
        assert faults(CALM, hit, exactly_once=True) == [
            "1 forecasts repeated, such as a",
            "1 dead letters repeated, such as ('t', 0, 4)",
        ]


class TestStream:
    def test_is_the_same_for_the_same_seed(self) -> None:
        assert Stream(7, 300).records() == Stream(7, 300).records()
        assert Stream(7, 300).records() != Stream(8, 300).records()

    def test_holds_several_observations_and_bad_records_among_the_good(self) -> None:
        values = [value for _, _, value in Stream(7, 5_000).records()]
        several = sum(value.startswith(b'[{"series": "series-') for value in values)
        assert 150 < several < 350
        bad = sum(b"series-" not in value for value in values)
        assert 20 < bad < 100
