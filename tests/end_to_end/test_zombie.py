"""What an instance may do that was frozen past its session and comes back: no harm."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.harness import Case, Delivery
from tests.chaos.stream import Stream
from tests.chaos.zombie import zombie

pytestmark = [pytest.mark.kafka, pytest.mark.slow]


@pytest.mark.parametrize("delivery", ["at_least_once", "exactly_once"])
def test_an_instance_that_comes_back_to_life_changes_no_forecast(
    kafka: str, served_model: dict[str, str], tmp_path: Path, delivery: Delivery
) -> None:
    """Exactly once nothing it does is visible; at least once no restore uses what it left."""
    stream = Stream(seed=20_263, count=9_000, series=60)
    case = Case(kafka, tmp_path, delivery, stream, served_model, ahead=600)
    assert not zombie(case, times=2).faults
