import json
from pathlib import Path

import pytest

from forecastd.__main__ import main

Out = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


class TestSettings:
    def test_prints_what_is_in_effect_and_from_where(self, capsys: Out) -> None:
        assert main(["settings", "--windows.timesteps", "8"]) == 0
        printed = capsys.readouterr().out.splitlines()
        assert "timesteps = 8  # from command line" in printed
        assert "horizon = 16  # from default" in printed

    def test_prints_the_same_for_programs(self, capsys: Out) -> None:
        assert main(["settings", "--json", "--kafka.ssl_password=hunter2"]) == 0
        printed = json.loads(capsys.readouterr().out)
        assert printed["windows.timesteps"] == {"value": 16, "source": "default"}
        assert printed["kafka.ssl_password"] == {"value": "***", "source": "command line"}

    def test_prints_the_schema_even_where_settings_are_wrong(self, capsys: Out) -> None:
        """Who mends a file wants it most."""
        assert main(["settings", "--schema", "--windows.timesteps=many"]) == 0
        assert json.loads(capsys.readouterr().out)["title"] == "Settings"

    def test_prints_a_file_to_start_from(self, capsys: Out, tmp_path: Path) -> None:
        assert main(["settings", "--template"]) == 0
        (tmp_path / "mine.toml").write_text(capsys.readouterr().out)
        assert main(["settings", "--config", "mine.toml"]) == 0

    def test_refuses_wrong_ones(self, capsys: Out) -> None:
        assert main(["settings", "--windows.timesteps=many"]) == 1
        assert capsys.readouterr().out == ""

    def test_prints_in_one_way_at_a_time(self, capsys: Out) -> None:
        with pytest.raises(SystemExit, match="2"):
            main(["settings", "--json", "--schema"])
        assert "not allowed with" in capsys.readouterr().err
