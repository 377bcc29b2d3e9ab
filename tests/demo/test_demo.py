"""The demo is its processes, so it is tested as a process: started, watched, interrupted."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from kafka.admin import KafkaAdminClient
from msgspec.structs import replace

from forecastd.commands.demo import add_arguments
from forecastd.demo.errors import DemoError
from forecastd.demo.kafka_feed import MADE_UP, MADE_UP_MS
from forecastd.demo.subprocess_child import Child
from forecastd.demo.subprocess_demo import HISTORY_MINUTES, SETTINGS
from forecastd.demo.summary import Summary
from forecastd.settings import ForecastSettings, TrainingSettings
from forecastd.settings_sources import load_settings
from tests.deadline import until

DEADLINE_S = 180.0

PROMOTION_S = 150.0
"""Within which a model must have been trained, judged and promoted, on a machine with two cores."""


class Demo:
    """`forecastd demo` in a process of its own, with a folder of its own for temporary files."""

    def __init__(self, folder: Path, *words: str) -> None:
        self.temporary = folder / "temporary"
        self.temporary.mkdir()
        self.out, self.err = folder / "stdout", folder / "stderr"
        environment = {
            "PYTHONPATH": os.pathsep.join(sys.path),
            "TMPDIR": str(self.temporary),
            # Settings of somebody's own daemon, which no demo can work with.
            "FORECASTD_WINDOWS__TIMESTEPS": "7",
            "FORECASTD_KAFKA__BOOTSTRAP_SERVERS": "127.0.0.1:1",
        }
        with self.out.open("wb") as out, self.err.open("wb") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "forecastd", "demo", *words],
                stdout=out,
                stderr=err,
                env={**os.environ, **environment},
            )

    def ended(self) -> tuple[int, str]:
        """Exit status and the last line of stdout."""
        status = self.process.wait(DEADLINE_S)
        return status, (self.out.read_text().splitlines() or [""])[-1]

    def complaint(self) -> str:
        """The last line of stderr."""
        return (self.err.read_text().splitlines() or [""])[-1]

    def await_text(self, pattern: str, within_s: float = DEADLINE_S) -> None:
        """Return once stdout has a text of this pattern."""
        until(
            lambda: re.search(pattern, self.out.read_text()),
            f"'{pattern}' on stdout",
            within_s=within_s,
            process=self.process,
            log=self.err,
        )

    def left_behind(self) -> list[str]:
        """Temporary files, and processes that work among them."""
        found = [path.name for path in self.temporary.iterdir()]
        return found + [" ".join(process.cmdline()) for process in self._parts()]

    def part(self, command: str) -> psutil.Process:
        """The process of a part, by its command."""
        return next(one for one in self._parts() if command in one.cmdline())

    def _parts(self) -> Iterator[psutil.Process]:
        for process in psutil.process_iter():
            try:
                if Path(process.cwd()).is_relative_to(self.temporary):
                    yield process
            except psutil.Error:
                continue


@contextmanager
def demo(folder: Path, *words: str) -> Iterator[Demo]:
    """Run it, and leave nothing behind whatever the test does."""
    running = Demo(folder, *words)
    try:
        yield running
    finally:
        running.process.kill()  # its parts are on a leash
        running.process.wait()


def names_on(bootstrap: str) -> list[str]:
    """Topics and groups of demos on a broker."""
    admin = KafkaAdminClient(bootstrap_servers=bootstrap)
    try:
        names = [*admin.list_topics(), *(group["group_id"] for group in admin.list_groups())]
        return [name for name in names if name.startswith("forecastd-demo-")]
    finally:
        admin.close()


@pytest.mark.kafka
@pytest.mark.slow
class TestDemo:
    def test_bounded_it_ends_by_itself_with_forecasts_and_a_summary(self, tmp_path: Path) -> None:
        """The first thing that anybody runs. Its own broker, whatever the session uses."""
        with demo(tmp_path, "--for", "10s", "--json") as running:
            status, line = running.ended()
            assert (status, running.err.read_text()[-300:] if status else "") == (0, "")
            assert running.left_behind() == []
        summary = json.loads(line)
        assert running.out.read_text() == f"{line}\n"
        assert summary["records"] > 0
        assert summary["forecasts"] >= summary["model_forecasts"]
        assert 0 < summary["delay_p50_ms"] <= summary["delay_p99_ms"]
        assert summary["page"].startswith("http://127.0.0.1:")
        assert 10 <= summary["seconds"] < 20
        start = [summary[f"seconds_to_{what}"] for what in ("broker", "ready", "first_forecast")]
        assert start == sorted(start)

    def test_the_daemon_promotes_a_model_that_it_trained_itself(
        self, kafka: str, tmp_path: Path
    ) -> None:
        """What all of it is for: a baseline first, and soon something better."""
        with demo(tmp_path, "--broker", kafka) as running:
            running.await_text("baseline: error ")
            running.await_text("the daemon trains a model on what it has read")
            running.await_text("model 1-[0-9a-f]{6} promoted: error 0", PROMOTION_S)
            running.await_text(r"  model 1-[0-9a-f]{6}: error \d+ % below naive")
            running.process.send_signal(signal.SIGINT)
            status, line = running.ended()
            assert running.left_behind() == []
        assert status == 0
        assert re.search(r" \([1-9][\d,]* by the model\), .*, error \d+ % below naive, ", line)
        assert re.search(r", model 1-[0-9a-f]{6} serves, .*, the first promotion [\d.]+ s ", line)

    def test_ctrl_c_ends_everything_and_leaves_nothing_on_a_broker_of_the_users(
        self, kafka: str, tmp_path: Path
    ) -> None:
        """Whoever tries it on a broker at work must not have to clean up."""
        with demo(tmp_path, "--broker", kafka) as running:
            running.await_text("forecasts  delay")
            assert len(names_on(kafka)) == 7
            running.process.send_signal(signal.SIGINT)
            status, line = running.ended()
            assert status == 0
            assert "forecasts (" in line
            assert running.left_behind() == []
        assert names_on(kafka) == []
        assert "the page is http://127.0.0.1:" in running.out.read_text()

    def test_a_daemon_that_dies_ends_it_with_its_last_words(
        self, kafka: str, tmp_path: Path
    ) -> None:
        """Silence in the terminal would look like a quiet stream."""
        with demo(tmp_path, "--broker", kafka, "--for", "1h") as running:
            running.await_text("the page is")
            running.part("run").kill()
            assert running.ended()[0] == 1
            assert running.left_behind() == []
        assert running.complaint().startswith("forecastd: daemon: ended with SIGKILL, its last ")
        assert running.complaint().endswith(", wanted a daemon that goes on")
        assert "daemon| " in running.err.read_text()
        assert names_on(kafka) == []

    def test_without_a_forecast_it_sums_up_and_fails(self, kafka: str, tmp_path: Path) -> None:
        """Whoever runs it in CI asks whether forecasts come out."""
        with demo(tmp_path, "--broker", kafka, "--for", "0s", "--json") as running:
            status, line = running.ended()
            assert running.left_behind() == []
        assert status == 1
        assert json.loads(line)["forecasts"] == 0
        assert running.complaint().startswith("forecastd: daemon: runs, without a forecast, its ")


class TestRefusals:
    def test_a_broker_that_does_not_answer_is_named(self, tmp_path: Path) -> None:
        """Before anything is started for nothing."""
        with demo(tmp_path, "--broker", "127.0.0.1:1", "--for", "5s") as running:
            assert running.ended() == (1, "")
            assert running.left_behind() == []
        assert running.err.read_text().count("\n") == 1
        assert running.complaint().startswith(
            "forecastd: kafka.bootstrap_servers: nothing answers at 127.0.0.1:1 ("
        )

    def test_a_taken_port_is_named(self, tmp_path: Path) -> None:
        """A daemon that runs already has the port that one knows by heart."""
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen()
            port = listener.getsockname()[1]
            with demo(tmp_path, "--port", str(port)) as running:
                assert running.ended() == (1, "")
                assert running.left_behind() == []
        assert running.complaint().startswith(f"forecastd: port {port}: address already in use, ")

    def test_a_time_without_a_unit_is_refused(self, capsys: pytest.CaptureFixture[str]) -> None:
        """40 could be minutes."""
        from argparse import ArgumentParser

        parser = ArgumentParser()
        add_arguments(parser)
        with pytest.raises(SystemExit):
            parser.parse_args(["--for", "40"])
        assert "argument --for: '40', wanted a duration with a unit" in capsys.readouterr().err


class TestChild:
    def test_that_fails_is_quoted(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """Its log goes with the folder: what it said last must be seen now."""
        with (
            pytest.raises(DemoError) as failed,
            Child("feed", ["feed", "--broker", "kafka"], tmp_path) as feed,
        ):
            until(lambda: feed.check("a feed that goes on"), "end", within_s=DEADLINE_S)
        last = feed.log.read_text().splitlines()[-1]
        assert "--broker: 'kafka'" in last
        assert str(failed.value) == (
            f"feed: ended with status 1, its last words being '{last}', wanted a feed that goes on"
        )
        assert f"feed| {last}\n" in capsys.readouterr().err

    def test_ends_when_the_block_is_left(self, tmp_path: Path) -> None:
        """However it is left."""
        with Child("feed", ["feed", "--broker", "127.0.0.1:1"], tmp_path) as feed:
            until(lambda: "nothing answers" in feed.log.read_text(), "complaint", log=feed.log)
            feed.check("a feed that goes on")
        with pytest.raises(DemoError, match=r"^feed: ended with status 0, "):
            feed.check("a feed that goes on")


class TestSummary:
    SUMMARY = Summary(
        seconds=40.04,
        records=3_600,
        forecasts=1_000,
        model_forecasts=760,
        delay_p50_ms=17.46,
        delay_p99_ms=1_200.0,
        skill=0.3149,
        coverage=0.75,
        series=16,
        source="model",
        model_version="1-abc123",
        promotions=1,
        seconds_to_broker=4.0,
        seconds_to_ready=12.0,
        seconds_to_first_forecast=13.25,
        seconds_to_first_promotion=71.5,
        page="http://127.0.0.1:9464/",
    )

    def test_is_one_sentence_for_a_person(self) -> None:
        """It is the last line: what came of it."""
        assert self.SUMMARY.to_text() == (
            "40 s: 3,600 records, 1,000 forecasts (760 by the model), delay 17 ms, 99 % within "
            "1.2 s, error 31 % below naive, model 1-abc123 serves, the first forecast 13.2 s after "
            "the start, the first promotion 71.5 s after the start"
        )

    def test_progress_says_what_makes_the_forecasts(self) -> None:
        """The moment at which that changes is what a viewer waits for."""
        before = replace(self.SUMMARY, source="baseline", model_version=None, skill=0.0)
        assert before.progress().endswith("delay   17 ms  baseline: error 0 % below naive")
        assert self.SUMMARY.progress().endswith("  model 1-abc123: error 31 % below naive")

    def test_is_one_line_of_json_with_every_field(self) -> None:
        """A program must not have to guess what a missing field means."""
        line = self.SUMMARY.to_json()
        assert "\n" not in line
        assert json.loads(line) == {
            field: getattr(self.SUMMARY, field) for field in Summary.__struct_fields__
        }


class TestSettings:
    def test_the_first_run_has_the_whole_past_and_the_gate_is_that_of_production(
        self, tmp_path: Path
    ) -> None:
        """What is promoted on stage must have earned it as it would at work."""
        settings = load_settings(SETTINGS, tmp_path, {}, []).settings
        training, windows = settings.training, settings.windows
        steps = HISTORY_MINUTES * 60_000 // MADE_UP_MS
        past = len(MADE_UP) * (steps // windows.timesteps)
        assert 0.97 * past < training.min_windows <= past
        changed = training.model_dump() | {"min_windows": 0, "every": 0}
        default = TrainingSettings().model_dump() | {"min_windows": 0, "every": 0}
        assert changed == default
        assert settings.forecast == ForecastSettings()
