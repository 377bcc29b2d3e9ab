"""A broker that is not there: at the start, and later."""

from __future__ import annotations

import json
from pathlib import Path

from forecastd.demo.kafka_broker import EmbeddedKafka
from tests.chaos.broker import broker
from tests.chaos.harness import Case
from tests.chaos.stream import Stream
from tests.end_to_end.daemons import Daemon, World

START_MS = 1_700_000_000_000


def records(first: int, last: int) -> list[tuple[int, bytes, bytes]]:
    """Steps `first` to `last` of eight series."""
    return [
        (
            number % 4,
            b"",
            json.dumps(
                {"series": f"s{number}", "timestamp": START_MS + at * 1000, "value": at % 7}
            ).encode(),
        )
        for at in range(first, last)
        for number in range(8)
    ]


def test_an_unreachable_broker_at_the_start_is_said_in_one_sentence(tmp_path: Path) -> None:
    """Nothing listens on port 9; the start waits `startup_timeout` and ends with 1."""
    world = World("127.0.0.1:9")
    with Daemon(world, tmp_path / "log", STARTUP_TIMEOUT="3s") as daemon:
        assert daemon.process.wait(timeout=60) == 1
        fatal = json.loads(daemon.log.splitlines()[-1])
    assert "127.0.0.1:9" in json.dumps(fatal)
    assert "startup_timeout" in json.dumps(fatal)


def test_a_broker_that_dies_and_comes_back_loses_nothing(kafka: str, tmp_path: Path) -> None:
    """Meanwhile the process lives, and says that it is not ready."""
    with EmbeddedKafka(data=tmp_path / "kafka") as own:
        world = World(own.bootstrap).create()
        world.produce(records(0, 40))
        with Daemon(world, tmp_path / "log") as daemon:
            daemon.until_ready().until_caught_up()
            own.kill()
            daemon.until(lambda: daemon.get("readyz")[0] == 503, "unreadiness")
            assert daemon.get("healthz")[0] == 200
            own.start()
            world.produce(records(40, 80))
            daemon.until_caught_up().until_ready()
            assert daemon.stop() == 0
        found = [m["id"] for m in world.messages() if "cold" not in m["flags"]]
    expected = {
        f"{world.records}-{number % 4}-s{number}-{START_MS + (16 * window - 1) * 1000}"
        for number in range(8)
        for window in range(1, 6)
    }
    assert set(found) == expected


def test_a_broker_that_is_frozen_or_killed_in_mid_stream_changes_no_forecast(
    served_model: dict[str, str], tmp_path: Path
) -> None:
    """Frozen for longer than the session: nothing refuses, nothing answers."""
    stream = Stream(seed=20_264, count=8_000, series=60)
    with EmbeddedKafka(data=tmp_path / "kafka") as own:
        case = Case(own.bootstrap, tmp_path, "at_least_once", stream, served_model, ahead=600)
        report = broker(case, own, kills=1, pauses=1)
    assert not report.faults
    assert report.figures["ended by itself"] == 0
