from __future__ import annotations

import pytest

from forecastd.evaluate.skill_watch import LEADS_JUDGED, SkillWatch
from forecastd.observe.events import ForecastsScored, ModelScored, SkillFell, StateReset
from tests.in_memory import Telemetry


def scored(error: float, leads: int = LEADS_JUDGED) -> ModelScored:
    return ModelScored(1, leads, error * leads, float(leads))


class TestSkillWatch:
    def test_says_once_that_the_model_does_worse(self) -> None:
        heard = Telemetry()
        watch = SkillWatch(heard)
        for _ in range(3):
            watch.emit(scored(1.25))
        (fell,) = heard.heard(SkillFell)
        assert fell.skill == pytest.approx(-0.25)
        assert fell.leads == LEADS_JUDGED

    def test_says_it_again_only_after_it_was_clearly_better(self) -> None:
        """Between 0 and `RECOVERED` nothing is said: a model on the edge is no alarm bell."""
        heard = Telemetry()
        watch = SkillWatch(heard)
        for error in (1.1, 0.95, 1.1, 0.8, 1.1):
            watch.emit(scored(error))
        assert len(heard.heard(SkillFell)) == 2

    def test_says_it_within_hours_even_of_the_smallest_model(self) -> None:
        """Of 10 steps and 1 lead, on a record a second: 500 leads take 5,000 records."""
        heard = Telemetry()
        watch = SkillWatch(heard)
        for _ in range(500):
            watch.emit(scored(1.1, leads=1))
        assert len(heard.heard(SkillFell)) == 1

    def test_judges_on_many_leads_at_a_time(self) -> None:
        heard = Telemetry()
        watch = SkillWatch(heard)
        watch.emit(scored(9.0, leads=LEADS_JUDGED - 1))
        assert not heard.events
        watch.emit(scored(9.0, leads=1))
        assert len(heard.heard(SkillFell)) == 1
        # What was judged does not count again.
        watch.emit(scored(0.5))
        watch.emit(scored(1.1))
        assert len(heard.heard(SkillFell)) == 2

    def test_leaves_the_baseline_and_other_events_alone(self) -> None:
        heard = Telemetry()
        watch = SkillWatch(heard)
        watch.emit(ForecastsScored("baseline", LEADS_JUDGED, 9e9, 1.0, 0, 0))
        watch.emit(StateReset(1))
        assert not heard.events

    def test_says_nothing_where_the_naive_forecast_is_perfect(self) -> None:
        """A flat series: a ratio to an error of nothing is no skill."""
        heard = Telemetry()
        SkillWatch(heard).emit(ModelScored(1, LEADS_JUDGED, 1.0, 0.0))
        assert not heard.events
