from __future__ import annotations

import pytest

from forecastd.demo.learning_news import LearningNews
from forecastd.observe.snapshot import Learning, Promotion

FIRST = Promotion("1-3fa9c1", "trainer", 2_000, "error 0.412, wanted below 0.820")
BACK = Promotion(None, "rollback", 9_000, "live skill -0.2, wanted at least -0.1")


class TestLearningNews:
    def test_tells_each_thing_once(self) -> None:
        """A line that comes again and again hides the next one."""
        news = LearningNews()
        assert news.tell(Learning()) == []
        running = Learning(running_since_ms=1_000)
        assert news.tell(running) == ["the daemon trains a model on what it has read"]
        assert news.tell(running) == []
        promoted = Learning(promotions=(FIRST,), last_outcome="promoted", last_ended_ms=2_000)
        expected = "model 1-3fa9c1 promoted: error 0.412, wanted below 0.820"
        assert news.tell(promoted) == [expected]
        assert news.tell(promoted) == []

    def test_counts_what_was_trained_here(self) -> None:
        """A rollback is news, and no promotion of something better."""
        news = LearningNews()
        news.tell(Learning(promotions=(FIRST,)))
        assert news.tell(Learning(promotions=(FIRST, BACK))) == [
            "the baseline serves again (rollback): live skill -0.2, wanted at least -0.1"
        ]
        assert news.promoted == 1

    @pytest.mark.parametrize(
        ("outcome", "said"),
        [
            ("rejected", "the training run brought nothing better: why"),
            ("failed", "the training run failed: why"),
        ],
    )
    def test_says_why_there_is_no_model(self, outcome: str, said: str) -> None:
        """Else somebody would wait for one."""
        over = Learning(last_outcome=outcome, last_reason="why", last_ended_ms=5_000)
        assert LearningNews().tell(over) == [said]
