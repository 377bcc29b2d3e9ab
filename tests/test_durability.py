from __future__ import annotations

import pytest

from forecastd.durability import Durability, hollow_promises


class TestHollowPromises:
    def test_are_none_with_three_copies_of_which_two_must_have_a_message(self) -> None:
        assert not list(hollow_promises({"a": Durability(3, 2), "b": Durability(5, 3)}))

    @pytest.mark.parametrize("found", [Durability(2, 2), Durability(3, 1), Durability(1, 1)])
    def test_are_named_with_what_was_found_and_what_was_wanted(self, found: Durability) -> None:
        (sentence,) = hollow_promises({"forecasts": found, "fine": Durability(3, 2)})
        assert sentence == (
            f"delivery: exactly_once, and replication factor {found.replicas} with"
            f" min.insync.replicas {found.in_sync} of forecasts, wanted at least 3 and 2; the"
            " death of one broker can break the promise"
        )

    def test_are_one_sentence_for_topics_that_are_alike(self) -> None:
        """On a lone broker all are; five lines would say the same."""
        alike = dict.fromkeys(["forecasts", "dead-letters", "__consumer_offsets"], Durability(1, 1))
        (sentence,) = hollow_promises(alike)
        assert "of __consumer_offsets, dead-letters, forecasts, wanted" in sentence
