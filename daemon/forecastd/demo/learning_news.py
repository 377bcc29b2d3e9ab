"""What is new of a daemon's learning, from one look at it to the next, in words."""

from __future__ import annotations

from forecastd.observe.snapshot import Learning, Promotion


class LearningNews:
    """Remembers what was told.

    Attributes:
        promoted: how many models the daemon has trained and promoted.
    """

    def __init__(self) -> None:
        self.promoted = 0
        self._told = Learning()

    def tell(self, now: Learning) -> list[str]:
        """One sentence for each thing that was not there at the look before."""
        told, self._told = self._told, now
        news = []
        if now.running_since_ms not in (None, told.running_since_ms):
            news.append("the daemon trains a model on what it has read")
        if now.last_ended_ms != told.last_ended_ms and now.last_outcome != "promoted":
            news.append(f"the training run {_ended(now.last_outcome)}: {now.last_reason}")
        fresh = [one for one in now.promotions if one not in told.promotions]
        self.promoted += sum(one.by == "trainer" for one in fresh)
        return news + [_promotion_text(one) for one in fresh]


def _ended(outcome: str | None) -> str:
    return "failed" if outcome == "failed" else "brought nothing better"


def _promotion_text(promotion: Promotion) -> str:
    """That another version serves, and why.

    >>> _promotion_text(Promotion("1-3fa9c1", "trainer", 0, "error 0.4, wanted below 0.8"))
    'model 1-3fa9c1 promoted: error 0.4, wanted below 0.8'
    >>> _promotion_text(Promotion(None, "rollback", 0, "live skill -0.2, wanted at least -0.1"))
    'the baseline serves again (rollback): live skill -0.2, wanted at least -0.1'
    """
    if promotion.by == "trainer":
        return f"model {promotion.version} promoted: {promotion.reason}"
    serves = "the baseline" if promotion.version is None else f"model {promotion.version}"
    return f"{serves} serves again ({promotion.by}): {promotion.reason}"
