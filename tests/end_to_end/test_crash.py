"""What a crash may do to the forecasts: repeat one, never lose, change or invent one."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.end_to_end.daemons import Daemon, World

SEED = 20_261
SERIES = 40
START_MS = 1_700_000_000_000


def stream(count: int) -> list[tuple[int, bytes, bytes]]:
    """Records of interleaved series; some hold several observations, some cannot be used."""
    draw = random.Random(SEED)
    records = []
    for at in range(count):
        number = draw.randrange(SERIES)
        name = f"series-{number}"
        observations = [
            {
                "series": name,
                "timestamp": START_MS + 100 * at + part,
                "value": round(math.sin(at / 40 + number) + draw.gauss(0, 0.1), 4),
            }
            for part in range(draw.choice([1] * 9 + [3]))
        ]
        value = json.dumps(observations if len(observations) > 1 else observations[0])
        if draw.random() < 0.02:
            value = f"not a record {at}"
        records.append((number % 4, name.encode(), value.encode()))
    return records


def by_id(world: World) -> dict[str, list[dict[str, Any]]]:
    """Forecasts by their id, less the name of the topic, which differs between worlds."""
    found: dict[str, list[dict[str, Any]]] = {}
    for message in world.messages():
        found.setdefault(message["id"].removeprefix(world.records), []).append(message)
    return found


@pytest.mark.parametrize("delivery", ["at_least_once", "exactly_once"])
def test_kills_and_stops_in_mid_window_change_no_forecast(
    kafka: str, trained_model: Path, tmp_path: Path, delivery: str
) -> None:
    """Every id, and with every repeated id the same numbers; exactly once, no id is repeated."""
    records = stream(6_000)
    settings = {
        "MODELS__SERVE": str(trained_model),
        "DELIVERY": delivery,
        "KAFKA__INSTANCE_ID": "one",
    }
    calm = World(kafka).create()
    calm.produce(records)
    with Daemon(calm, tmp_path / "calm.log", **settings) as daemon:
        daemon.until_ready().until_caught_up()
        assert daemon.stop() == 0
    hit = World(kafka).create()
    kill_and_stop(hit, records, tmp_path / "hit.log", settings)
    expected, found = by_id(calm), by_id(hit)
    assert found.keys() == expected.keys()
    for name, messages in found.items():
        wanted = np.array(expected[name][0]["forecasts"]["value"])
        for message in messages:
            np.testing.assert_allclose(message["forecasts"]["value"], wanted, rtol=1e-5, atol=1e-5)
            assert message["source"] == expected[name][0]["source"]
    assert {m["source"] for messages in found.values() for m in messages} == {"baseline", "model"}
    letters = [record.value for record in hit.read(hit.dead_letters)]
    assert set(letters) == {record.value for record in calm.read(calm.dead_letters)}
    if delivery == "exactly_once":
        assert {len(messages) for messages in found.values()} == {1}
        assert len(letters) == len(set(letters))


def kill_and_stop(
    world: World, records: list[tuple[int, bytes, bytes]], log: Path, settings: dict[str, str]
) -> None:
    """Read the records in parts, each ended by a signal at a random place, then to the end."""
    draw = random.Random(SEED)
    parts = 4
    size = len(records) // parts
    small = settings | {"INGEST__POLL_RECORDS": "60", "STATE__ROW_EVERY": "2"}
    for part in range(parts):
        world.produce(records[part * size : (part + 1) * size])
        enough = len(world.read(world.forecasts)) + draw.randrange(1, size // 20)
        with Daemon(world, log, **small) as daemon:
            daemon.until(lambda: len(world.read(world.forecasts)) >= enough, "forecasts")  # noqa: B023
            if part % 2:
                assert daemon.stop() == 0
            else:
                daemon.kill()
    with Daemon(world, log, **settings) as daemon:
        daemon.until_ready().until_caught_up()
        assert daemon.stop() == 0
