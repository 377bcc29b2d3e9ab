"""Records that cannot be used cost themselves and nothing else."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from tests.end_to_end.daemons import Daemon, World

START_MS = 1_700_000_000_000
GOOD = '{"series":"a","timestamp":1700000000000,"value":1}'
BROKEN = (
    b"",
    b" ",
    b"\xff\xfe",
    b"not json",
    b"[]",
    b"{}",
    b"42",
    b'"text"',
    b"null",
    GOOD[:-1].encode(),
    (GOOD + GOOD).encode(),
    b"[" + GOOD.encode() + b",{}]",
    GOOD.replace("1}", '"1"}').encode(),
    GOOD.replace("1}", "NaN}").encode(),
    GOOD.replace("1}", "1e999}").encode(),
    GOOD.replace("1}", "true}").encode(),
    GOOD.replace("1700000000000", '"yesterday"').encode(),
    GOOD.replace("1700000000000", "5").encode(),
    GOOD.replace("1700000000000", "9700000000000").encode(),
    GOOD.replace('"a"', '""').encode(),
    GOOD.replace('"a"', '"' + "x" * 513 + '"').encode(),
    GOOD.replace('"a"', "null").encode(),
)
COUNT = 10_000


def test_every_good_record_is_used_and_every_bad_one_is_kept_once(
    kafka: str, tmp_path: Path
) -> None:
    """Also across a restart, and with a bad record of the largest size that the topic takes."""
    world = World(kafka).create()
    largest = b"x" * (1_048_588 - 200)
    records, bad = [], []
    for at in range(COUNT):
        name = f"s{at % 50}"
        value = json.dumps({"series": name, "timestamp": START_MS + at, "value": at}).encode()
        if at % 20 == 7:
            value = BROKEN[at // 20 % len(BROKEN)]
            bad.append(value)
        records.append((at % 50 % 4, name.encode(), value))
    records.insert(COUNT // 2, (0, b"big", largest))
    world.produce(records[: COUNT // 2 + 1])
    with Daemon(world, tmp_path / "log") as daemon:
        daemon.until_ready().until_caught_up()
        world.produce(records[COUNT // 2 + 1 :])
        assert daemon.stop() == 0
    with Daemon(world, tmp_path / "log") as daemon:
        daemon.until_ready().until_caught_up()
        assert daemon.stop() == 0
    letters = world.read(world.dead_letters)
    assert Counter(letter.value for letter in letters) == Counter([*bad, largest])
    sources = [
        _header(letter, "partition") + b"@" + _header(letter, "offset") for letter in letters
    ]
    assert len(set(sources)) == len(letters)
    assert all(_header(letter, "topic") == world.records.encode() for letter in letters)
    assert all(b", wanted " in _header(letter, "error") for letter in letters)
    origins = {message["series"]: message["origin_ms"] for message in world.messages()}
    steps = Counter(f"s{at % 50}" for at in range(COUNT) if at % 20 != 7)
    assert origins.keys() == steps.keys()
    windows = Counter(m["series"] for m in world.messages() if "cold" not in m["flags"])
    assert windows == {name: count // 16 for name, count in steps.items()}


def _header(letter: Any, name: str) -> bytes:
    return bytes(dict(letter.headers)[f"forecastd.{name}"])
