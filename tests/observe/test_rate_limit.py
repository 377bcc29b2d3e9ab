from __future__ import annotations

from forecastd.observe.rate_limit import OncePer


class TestOncePer:
    def test_says_the_first_at_once_and_counts_the_rest_in_silence(self) -> None:
        limit = OncePer[str](period_s=60)
        assert limit.admit("json", 4, "a", now_s=0) == 4
        assert limit.admit("json", 1, "b", now_s=59) is None

    def test_a_count_that_is_said_includes_the_silent_ones(self) -> None:
        limit = OncePer[str](period_s=60)
        limit.admit("json", 4, "a", now_s=0)
        limit.admit("json", 1, "b", now_s=30)
        assert limit.admit("json", 2, "c", now_s=60) == 3

    def test_one_kind_does_not_silence_another(self) -> None:
        limit = OncePer[str](period_s=60)
        limit.admit("json", 1, "a", now_s=0)
        assert limit.admit("time", 1, "b", now_s=1) == 1

    def test_what_was_silent_falls_due_although_nothing_further_happens(self) -> None:
        """Otherwise a burst that ends within its minute is never reported in full."""
        limit = OncePer[str](period_s=60)
        limit.admit("json", 1, "a", now_s=0)
        limit.admit("json", 499, "b", now_s=1)
        assert limit.due(now_s=59) == []
        assert limit.due(now_s=60) == [("json", 499, "b")]
        assert limit.due(now_s=61) == []

    def test_what_fell_due_is_a_word_of_its_own_minute(self) -> None:
        limit = OncePer[str](period_s=60)
        limit.admit("json", 1, "a", now_s=0)
        limit.admit("json", 1, "b", now_s=1)
        limit.due(now_s=60)
        assert limit.admit("json", 1, "c", now_s=61) is None
        assert limit.due(now_s=120) == [("json", 1, "c")]
