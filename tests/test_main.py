import argparse
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from forecastd import __main__, __version__
from forecastd.__main__ import COMMANDS, main
from forecastd.commands import Command, LoadSettings, add_settings_arguments
from forecastd.errors import BrokerError, TopicError

HEAVY = ("tensorflow", "keras", "kafka", "numpy", "uvicorn", "plotly")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder without `config/`, and an environment without settings."""
    monkeypatch.chdir(tmp_path)
    for variable in list(os.environ):
        if variable.startswith("FORECASTD_"):
            monkeypatch.delenv(variable)


class Probe:
    """A command that does what a test wants."""

    NAME = "probe"
    HELP = "do what a test wants"

    def __init__(self, does: Callable[[LoadSettings], object]) -> None:
        self._does = does

    def add_arguments(self, parser: argparse.ArgumentParser, /) -> None:
        add_settings_arguments(parser)
        parser.add_argument("file", nargs="?")

    def main(self, args: argparse.Namespace, load: LoadSettings, /) -> int:
        self._does(load)
        sys.stdout.write(f"file {args.file}\n")
        return 3


@pytest.fixture
def probe(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Runs a command line whose command does the first argument."""

    def run(does: Callable[[LoadSettings], object], *words: str) -> int:
        monkeypatch.setattr(__main__, "COMMANDS", (Probe(does),))
        return main(["probe", *words])

    return run


def raiser(error: BaseException) -> Callable[[LoadSettings], object]:
    def does(load: LoadSettings) -> object:
        raise error

    return does


Run = Callable[..., int]
Out = pytest.CaptureFixture[str]


class TestCommandLine:
    def test_tells_its_version(self, capsys: Out) -> None:
        with pytest.raises(SystemExit, match="0"):
            main(["--version"])
        assert capsys.readouterr().out == f"forecastd {__version__}\n"

    @pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.NAME)
    def test_explains_every_command(self, command: Command, capsys: Out) -> None:
        with pytest.raises(SystemExit, match="0"):
            main([command.NAME, "--help"])
        explained = " ".join(capsys.readouterr().out.split())
        assert f"usage: forecastd {command.NAME} " in explained
        assert command.HELP[1:] in explained

    @pytest.mark.parametrize(
        "words", [[], ["nonsense"], ["run", "--no-such"], ["run", "extra"], ["run", "--conf", "x"]]
    )
    def test_that_is_wrong_ends_with_2(self, words: list[str], capsys: Out) -> None:
        with pytest.raises(SystemExit, match="2"):
            main(words)
        assert "usage: forecastd" in capsys.readouterr().err

    def test_holds_settings_anywhere_behind_the_command(self, probe: Run, capsys: Out) -> None:
        """A setting's value must not be taken for the command's file."""
        ports: list[int] = []
        status = probe(
            lambda load: ports.append(load().settings.observe.port),
            "--observe.port",
            "7",
            "a.csv",
        )
        assert (status, ports) == (3, [7])
        assert capsys.readouterr().out == "file a.csv\n"

    def test_with_settings_for_a_command_that_reads_none_is_wrong(self, capsys: Out) -> None:
        with pytest.raises(SystemExit, match="2"):
            main(["broker", "--kafka.group_id=x"])
        assert capsys.readouterr().err.endswith("reads no settings, found --kafka.group_id\n")

    @pytest.mark.parametrize("words", [("run", "extra"), ("schema", "forecast")])
    def test_shows_no_secret_when_it_is_wrong(self, words: tuple[str, str], capsys: Out) -> None:
        with pytest.raises(SystemExit, match="2"):
            main([*words, "--kafka.sasl_password", "hunter2"])
        assert "hunter2" not in capsys.readouterr().err

    def test_reads_file_secrets_and_environment(
        self, probe: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "a.toml").write_text("[observe]\nport = 7\n")
        (tmp_path / "secrets").mkdir()
        (tmp_path / "secrets" / "kafka__client_id").write_text("from-secret")
        monkeypatch.setenv("FORECASTD_KAFKA__GROUP_ID", "from-environment")
        found = []
        probe(lambda load: found.append(load().settings), "--config=a.toml", "--secrets=secrets")
        (settings,) = found
        assert settings.observe.port == 7
        assert settings.kafka.client_id == "from-secret"
        assert settings.kafka.group_id == "from-environment"


class TestErrors:
    def test_that_an_operator_can_mend_are_sentences_and_end_with_1(
        self, probe: Run, capsys: Out
    ) -> None:
        assert probe(raiser(TopicError("a: x, wanted y\nb: x, wanted y"))) == 1
        assert capsys.readouterr().err == "forecastd: a: x, wanted y\nforecastd: b: x, wanted y\n"

    def test_of_settings_come_all_at_once(self, probe: Run, capsys: Out) -> None:
        words = ("--windows.timesteps=many", "--training.epochs=0")
        assert probe(lambda load: load(), *words) == 1
        assert [line.split(": ")[:2] for line in capsys.readouterr().err.splitlines()] == [
            ["forecastd", "windows.timesteps"],
            ["forecastd", "training.epochs"],
        ]

    def test_that_nobody_foresaw_are_one_line_and_end_with_70(
        self, probe: Run, capsys: Out
    ) -> None:
        assert probe(raiser(KeyError("two\nlines"))) == 70
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("forecastd: test_main.py:")
        assert "KeyError: 'two\\nlines', wanted no error; this is a defect" in line

    def test_that_nobody_foresaw_come_with_their_trace_when_debugging(
        self, probe: Run, capsys: Out
    ) -> None:
        def does(load: LoadSettings) -> object:
            load()
            raise ValueError("odd")

        assert probe(does, "--observe.log_level=debug") == 70
        assert "Traceback (most recent call last)" in capsys.readouterr().err
        assert probe(does, "--observe.log_level=info") == 70
        assert "Traceback" not in capsys.readouterr().err

    def test_are_not_made_of_ctrl_c(self, probe: Run, capsys: Out) -> None:
        assert probe(raiser(KeyboardInterrupt())) == 130
        assert capsys.readouterr().err == ""

    def test_of_a_broker_end_with_1(self, probe: Run) -> None:
        assert probe(raiser(BrokerError("gone"))) == 1


ENVIRON = {**os.environ, "PYTHONPATH": str(Path(__main__.__file__).parents[1])}
"""Where a process finds the package, installed or not."""


def process(*words: str) -> subprocess.CompletedProcess[str]:
    """The command line as a process of its own."""
    return subprocess.run(
        [sys.executable, *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env=ENVIRON,
    )


class TestProcess:
    @pytest.mark.parametrize("words", [["--help"], ["settings"], ["run", "--help"]])
    def test_imports_nothing_heavy_to_say_something(self, words: list[str]) -> None:
        """TensorFlow takes seconds, and kafka-python longer than all the rest of a `--help`."""
        code = (
            "import sys, forecastd.__main__ as m\n"
            f"try: m.main({words!r})\n"
            "except SystemExit: pass\n"
            f"print([name for name in {HEAVY!r} if name in sys.modules])"
        )
        assert process("-c", code).stdout.splitlines()[-1] == "[]"

    def test_ends_quietly_when_its_reader_has_enough(self) -> None:
        """`forecastd settings | head -1`."""
        reader, writer = os.pipe()
        os.close(reader)
        ended = subprocess.run(
            [sys.executable, "-m", "forecastd", "settings", "--schema"],
            stdout=writer,
            stderr=subprocess.PIPE,
            check=False,
            timeout=60,
            env=ENVIRON,
        )
        os.close(writer)
        assert ended.stderr == b""
        assert ended.returncode == 141

    def test_gives_its_exit_status_to_the_shell(self) -> None:
        ended = process("-m", "forecastd", "run", "--windows.timesteps=many")
        assert ended.returncode == 1
        assert ended.stderr == (
            "forecastd: windows.timesteps: 'many' (command line), wanted a whole number\n"
        )
