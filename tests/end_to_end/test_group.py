"""What a group may do to the forecasts while its members come and go: nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.group import group
from tests.chaos.harness import Case, Delivery
from tests.chaos.stream import Stream

pytestmark = [pytest.mark.kafka, pytest.mark.slow]


@pytest.mark.parametrize(
    ("delivery", "is_static"), [("at_least_once", False), ("exactly_once", True)]
)
def test_three_instances_that_come_and_go_change_no_forecast(
    kafka: str,
    served_model: dict[str, str],
    tmp_path: Path,
    delivery: Delivery,
    is_static: bool,  # noqa: FBT001
) -> None:
    """One is killed, one is killed again while it restores, one leaves in order and comes back."""
    stream = Stream(seed=20_262, count=9_000, series=60)
    case = Case(kafka, tmp_path, delivery, stream, served_model, is_static=is_static, ahead=600)
    report = group(case, deeds=3)
    assert not report.faults
    assert report.figures["ended by itself"] == 0
