"""What a crash may do to the forecasts: repeat one, never lose, change or invent one."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from tests.chaos.crash import crash
from tests.chaos.harness import Case, Delivery
from tests.chaos.learning import SETTINGS, serve_group_model
from tests.chaos.stream import Stream

pytestmark = [pytest.mark.kafka, pytest.mark.slow]


@pytest.mark.parametrize("delivery", ["at_least_once", "exactly_once"])
def test_kills_in_mid_window_change_no_forecast(
    kafka: str, served_model: dict[str, str], tmp_path: Path, delivery: Delivery
) -> None:
    """Every id, and with every repeated id the same numbers; exactly once, no id is repeated."""
    stream = Stream(seed=20_261, count=8_000, series=60)
    report = crash(Case(kafka, tmp_path, delivery, stream, served_model, ahead=600), kills=3)
    assert not report.faults
    assert report.figures["ended by itself"] == 0


def test_kills_of_a_daemon_that_trains_change_no_forecast(kafka: str, tmp_path: Path) -> None:
    """Nor a window to learn from; its training processes die with it.

    Exactly once, windows are in the transaction like all the rest; `make chaos` has both.
    """
    stream, prepare = (
        Stream(seed=20_263, count=8_000, series=60),
        partial(serve_group_model, tmp_path),
    )
    case = Case(kafka, tmp_path, "at_least_once", stream, SETTINGS, ahead=600, prepare=prepare)
    report = crash(case, kills=3)
    assert not report.faults
    assert report.figures["ended by itself"] == 0
    assert report.figures["windows"] > 500
    (log,) = tmp_path.glob("*-one.log")
    assert "training begins" in log.read_text()
