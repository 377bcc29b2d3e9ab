from __future__ import annotations

import numpy as np

from forecastd.evaluate.live_skill import (
    BLOCK_FORECASTS,
    KNOWN_BLOCKS,
    RECENT_BLOCKS,
    LiveSkill,
    Probation,
)


def feed(live: LiveSkill, skill: float, blocks: int, *, noise: float = 0.05, seed: int = 0) -> None:
    rng = np.random.default_rng(seed)
    for _ in range(blocks):
        live.add(BLOCK_FORECASTS, 1 - (skill + noise * rng.normal()), 1.0)


class TestLiveSkill:
    def test_says_nothing_before_it_knows_its_own_mean(self) -> None:
        live = LiveSkill()
        feed(live, 0.3, KNOWN_BLOCKS + RECENT_BLOCKS - 1)
        known = [live.mean is not None]
        feed(live, -5.0, 1)
        known.append(live.mean is not None)
        assert known == [False, True]
        assert abs((live.mean or 0.0) - 0.3) < 0.1

    def test_drops_when_it_falls_below_its_mean_by_more_than_its_noise(self) -> None:
        live = LiveSkill()
        feed(live, 0.3, 40)
        assert not live.has_dropped
        feed(live, 0.0, RECENT_BLOCKS)
        assert live.has_dropped

    def test_of_a_noisy_model_does_not_drop_by_chance(self) -> None:
        alarms = 0
        for seed in range(20):
            live = LiveSkill()
            feed(live, 0.3, 40, noise=0.2, seed=seed)
            feed(live, 0.2, RECENT_BLOCKS, noise=0.2, seed=100 + seed)
            alarms += live.has_dropped
        assert alarms <= 2

    def test_gets_used_to_what_stays(self) -> None:
        """A stream that is harder for good is no drop for ever."""
        live = LiveSkill()
        feed(live, 0.3, 40)
        feed(live, 0.1, 150, seed=1)
        assert not live.has_dropped

    def test_of_flat_series_is_not_known(self) -> None:
        live = LiveSkill()
        for _ in range(100):
            live.add(BLOCK_FORECASTS, 0.0, 0.0)
        assert live.mean is None


class TestProbation:
    def test_fails_on_a_drop_once_enough_is_scored(self) -> None:
        probation = Probation(before=0.3, drop=0.1, forecasts=500)
        probation.add(499, 0.85, 1.0)
        failed = [probation.has_failed]
        probation.add(1, 0.0, 0.0)
        failed.append(probation.has_failed)
        assert failed == [False, True]
        assert abs(probation.skill - 0.15) < 1e-9

    def test_is_passed_within_the_allowed_drop(self) -> None:
        probation = Probation(before=0.3, drop=0.1, forecasts=10)
        probation.add(10, 0.79, 1.0)
        assert probation.is_over
        assert not probation.has_failed

    def test_that_is_over_hears_no_more(self) -> None:
        """A later drop is for the next training run, not for a rollback."""
        probation = Probation(before=0.3, drop=0.1, forecasts=10)
        probation.add(10, 0.7, 1.0)
        probation.add(1_000, 5_000.0, 1.0)
        assert not probation.has_failed
