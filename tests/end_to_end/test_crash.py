"""What a crash may do to the forecasts: repeat one, never lose, change or invent one."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

import numpy as np

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


def test_kills_and_stops_in_mid_window_change_no_forecast(
    kafka: str, trained_model: Path, tmp_path: Path
) -> None:
    """The promise of at least once: every id, and with every repeated id the same numbers."""
    records = stream(12_000)
    model = {"MODELS__SERVE": str(trained_model)}
    calm = World(kafka).create()
    calm.produce(records)
    with Daemon(calm, tmp_path / "calm.log", **model) as daemon:
        daemon.until_ready().until_caught_up()
        assert daemon.stop() == 0
    hit = World(kafka).create()
    draw = random.Random(SEED)
    parts = 5
    size = len(records) // parts
    for part in range(parts):
        hit.produce(records[part * size : (part + 1) * size])
        enough = len(hit.read(hit.forecasts)) + draw.randrange(1, size // 20)
        small = {"INGEST__POLL_RECORDS": "30", "STATE__ROW_EVERY": "2"}
        with Daemon(hit, tmp_path / "hit.log", **model, **small) as daemon:
            daemon.until(lambda: len(hit.read(hit.forecasts)) >= enough, "forecasts")  # noqa: B023
            if part % 2:
                assert daemon.stop() == 0
            else:
                daemon.kill()
    with Daemon(hit, tmp_path / "hit.log", **model) as daemon:
        daemon.until_ready().until_caught_up()
        assert daemon.stop() == 0
    expected, found = by_id(calm), by_id(hit)
    assert found.keys() == expected.keys()
    for name, messages in found.items():
        wanted = np.array(expected[name][0]["forecasts"]["value"])
        for message in messages:
            np.testing.assert_allclose(message["forecasts"]["value"], wanted, rtol=1e-5, atol=1e-5)
            assert message["source"] == expected[name][0]["source"]
    assert {m["source"] for messages in found.values() for m in messages} == {"baseline", "model"}
    letters = {record.value for record in hit.read(hit.dead_letters)}
    assert letters == {record.value for record in calm.read(calm.dead_letters)}
