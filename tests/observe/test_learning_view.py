from __future__ import annotations

import pytest

from forecastd.observe.events import Event, StageTimed
from forecastd.observe.learning_events import (
    FallbackCounted,
    ModelPromoted,
    ModelsRead,
    PastRun,
    RunBegan,
    RunEnded,
    RunGivenUp,
)
from forecastd.observe.learning_view import PROMOTIONS_SHOWN, LearningFold
from forecastd.observe.snapshot import Learning, Promotion


def fold(*events: Event) -> Learning:
    folded = LearningFold()
    for event in events:
        folded.emit(event)
    return folded.view


class TestPromotions:
    def test_are_kept_oldest_first(self) -> None:
        view = fold(
            ModelPromoted("1-aa", "trainer", "better", 5), ModelPromoted(None, "rollback", "bad", 9)
        )
        assert view.promotions == (
            Promotion("1-aa", "trainer", 5, "better"),
            Promotion(None, "rollback", 9, "bad"),
        )

    def test_begin_with_what_serves_at_the_start(self) -> None:
        """Who restarts a daemon wants to know since when its model serves, and by whom."""
        view = fold(ModelsRead("1-aa", "operator", "mine", 5, is_held=True))
        assert view.promotions == (Promotion("1-aa", "operator", 5, "mine"),)
        assert view.is_held

    def test_are_told_once_however_often_the_topic_is_read(self) -> None:
        read = ModelsRead("1-aa", "trainer", "better", 5)
        assert len(fold(read, ModelPromoted("1-aa", "trainer", "better", 5), read).promotions) == 1

    def test_are_none_where_nobody_ever_promoted(self) -> None:
        assert fold(ModelsRead(None)) == Learning()

    def test_are_bounded(self) -> None:
        events = [ModelPromoted(f"{n}-aa", "trainer", "better", n) for n in range(100)]
        view = fold(*events)
        assert len(view.promotions) == PROMOTIONS_SHOWN
        assert view.promotions[-1].version == "99-aa"


class TestTraining:
    def test_is_under_way_since_it_began(self) -> None:
        assert fold(RunBegan(7)).running_since_ms == 7

    @pytest.mark.parametrize("end", [RunEnded("failed", "so", None, 0, 1.0, 0.0), RunGivenUp()])
    def test_is_no_longer_under_way_when_it_has_ended(self, end: Event) -> None:
        assert fold(RunBegan(7), end).running_since_ms is None

    def test_of_the_whole_group_is_told(self) -> None:
        """The run may have been on another instance, or before a restart."""
        view = fold(ModelsRead(None, run=PastRun("rejected", "no better", 9, 0)))
        assert (view.last_outcome, view.last_reason, view.last_ended_ms) == (
            "rejected",
            "no better",
            9,
        )

    def test_series_in_fallback_are_counted(self) -> None:
        assert fold(FallbackCounted(3)).series_in_fallback == 3

    def test_other_events_are_ignored(self) -> None:
        assert fold(StageTimed("poll", 1.0)) == Learning()
