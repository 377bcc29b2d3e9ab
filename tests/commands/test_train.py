from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from forecastd.__main__ import main
from forecastd.disk_models import load_model

Out = pytest.CaptureFixture[str]

SMALL = ("--windows.timesteps=8", "--forecast.units=8", "--forecast.horizon=4", "--epochs", "2")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def wave(row: int, period: float) -> float:
    return 50 + float(np.sin(row / period))


def csv(name: str, rows: int) -> str:
    lines = [f"{1_600_000_000 + row},{wave(row, 3)},{wave(row, 5)}" for row in range(rows)]
    Path(name).write_text("\n".join(["date,a,b", *lines]) + "\n")
    return name


def json_lines(name: str, rows: int) -> str:
    lines = [
        json.dumps({"series": s, "timestamp": 1_600_000_000 + row, "x": wave(row, 3), "y": row})
        for row in range(rows)
        for s in ("a", "b")
    ]
    Path(name).write_text("\n".join(lines) + "\n")
    return name


def said(capsys: Out, *words: str) -> str:
    """What a refusal says."""
    assert main(["train", *words]) == 1
    return capsys.readouterr().err.removeprefix("forecastd: ").strip()


class TestTrain:
    def test_makes_a_model_that_says_how_it_came_about(self, capsys: Out) -> None:
        assert main(["train", csv("a.csv", 300), "--out", "model", *SMALL]) == 0
        stored = load_model(Path("model"))
        facts = stored.metadata.facts
        assert stored.metadata.made_by == "forecastd train"
        assert stored.architecture.timesteps == 8
        assert [epoch["number"] for epoch in facts["history"]] == [1, 2]
        assert facts["scores"] in facts["history"]
        assert facts["scores"].keys() >= {"train_loss", "validation_loss", "skill", "naive_error"}
        assert facts["settings"]["training"]["epochs"] == 2
        assert facts["settings"]["windows"]["timesteps"] == 8
        assert facts["data"] == {
            "files": ["a.csv"],
            "series": 2,
            "steps": 600,
            "from_ms": 1_600_000_000_000,
            "to_ms": 1_600_000_299_000,
        }
        lines = capsys.readouterr().out.splitlines()
        assert [line.partition(":")[0] for line in lines] == ["epoch 1/2", "epoch 2/2", "model"]
        assert all("validation loss" in line and "skill" in line for line in lines[:2])
        assert stored.version in lines[2]

    def test_reaches_the_shape_that_every_tutorial_shows(self) -> None:
        """10 timesteps, 1 value, LSTM of 32, Dense of 1, Adam, mean squared error, batch 32."""
        settings = (
            "--windows.timesteps=10", "--forecast.horizon=1", "--forecast.units=32",
            "--forecast.segment=1", "--forecast.scaling=none", "--forecast.anchor=none",
            "--training.loss=mse", "--training.batch_size=32", "--epochs=1",
        )  # fmt: skip
        assert main(["train", csv("a.csv", 200), "--out", "model", *settings]) == 0
        shapes = [weight.shape for weight in load_model(Path("model")).weights]
        assert shapes == [(1, 128), (32, 128), (128,), (32, 1), (1,)]

    def test_reads_json_lines_with_several_values(self) -> None:
        values = '--ingest.values=["x", "y"]'
        assert main(["train", json_lines("a.jsonl", 200), "--out", "m", values, *SMALL]) == 0
        architecture = load_model(Path("m")).architecture
        assert architecture.values == ("x", "y")
        assert architecture.head_shape == (4, 3, 2)

    def test_reads_a_pipe(self) -> None:
        """Such as `<(zcat a.csv.gz)`: what was read to tell its form does not come again."""
        os.mkfifo("pipe")
        text = Path(csv("a.csv", 300)).read_text()
        with ThreadPoolExecutor(1) as other_end:
            other_end.submit(Path("pipe").write_text, text)
            assert main(["train", "pipe", "--out", "model", *SMALL]) == 0
        assert load_model(Path("model")).metadata.facts["data"]["steps"] == 600

    def test_takes_series_of_one_name_in_two_files_for_two(self, capsys: Out) -> None:
        """A file is a topic: the second one is not a late part of the first."""
        files = (csv("a.csv", 200), csv("b.csv", 200))
        assert main(["train", *files, "--out", "m", *SMALL]) == 0
        assert load_model(Path("m")).metadata.facts["data"]["series"] == 4
        assert "skipped" not in capsys.readouterr().err

    def test_says_how_many_observations_came_too_late(self, capsys: Out) -> None:
        text = Path(csv("a.csv", 200)).read_text().splitlines()
        Path("a.csv").write_text("\n".join([*text, *text[1:4]]) + "\n")
        assert main(["train", "a.csv", "--out", "m", *SMALL]) == 0
        assert "a.csv: 6 observations with an equal or older time" in capsys.readouterr().err

    def test_holds_nothing_out_where_it_is_told_so(self, capsys: Out) -> None:
        assert main(["train", csv("a.csv", 200), "--out", "m", "--holdout", "0", *SMALL]) == 0
        assert load_model(Path("m")).metadata.facts["scores"]["validation_loss"] is None
        assert "skill" not in capsys.readouterr().out

    def test_warns_of_a_model_that_is_no_better_than_naive(self, capsys: Out) -> None:
        """Noise has nothing to learn; the last value is beaten, so the season is the naive one."""
        noise = np.random.default_rng(0).normal(size=400).cumsum()
        lines = [f"{1_600_000_000 + row},{value}" for row, value in enumerate(noise)]
        Path("a.csv").write_text("\n".join(["date,a", *lines]))
        flags = ("--training.learning_rate=0.5", "--training.patience=1", *SMALL)
        assert main(["train", "a.csv", "--out", "m", *flags]) == 0
        assert "wanted more than 0; the naive forecast is as good" in capsys.readouterr().err


class TestRefusal:
    def test_of_too_little_says_how_much_there_is_and_is_wanted(self, capsys: Out) -> None:
        assert said(capsys, csv("a.csv", 20), "--out", "m") == (
            "training: 0 windows to learn from and 0 held out, wanted at least 8 and 1; a window "
            "is 16 steps of one series (windows.timesteps) and at least one of the 16 after it "
            "(forecast.horizon)"
        )
        assert not Path("m").exists()

    def test_of_no_rows_at_all(self, capsys: Out) -> None:
        assert said(capsys, csv("a.csv", 0), "--out", "m").startswith("training: 0 windows")

    def test_learns_nothing_from_excluded_times(self, capsys: Out) -> None:
        exclude = '--training.exclude=["2020-01-01T00:00Z/2021-01-01T00:00Z"]'
        found = said(capsys, csv("a.csv", 300), "--out", "m", exclude)
        assert found.startswith("training: 0 windows to learn from and 0 held out")

    def test_of_a_target_that_is_no_model_comes_before_the_work(self, capsys: Out) -> None:
        Path("m").mkdir()
        Path("m/notes").write_text("")
        assert said(capsys, "nothing.csv", "--out", "m").startswith("m: it is there and holds no")

    def test_of_a_target_where_no_model_can_be_comes_before_the_work(self, capsys: Out) -> None:
        Path("gen.py").write_text("")
        found = said(capsys, "nothing.csv", "--out", "gen.py/m")
        assert found == "gen.py/m: gen.py is no folder, wanted a path in one"

    def test_names_the_line(self, capsys: Out) -> None:
        Path("a.csv").write_text("date,a\n2020-01-01,?\n")
        assert said(capsys, "a.csv", "--out", "m").startswith("a.csv:2: column 'a' is '?'")
        Path("a.jsonl").write_text('{"series": "a", "timestamp": 1600000000}\n')
        found = said(capsys, "a.jsonl", "--out", "m")
        assert found.startswith("a.jsonl:1: ")
        assert "'value'" in found

    def test_of_csv_for_several_values(self, capsys: Out) -> None:
        found = said(capsys, csv("a.csv", 9), "--out", "m", '--ingest.values=["x", "y"]')
        assert found.startswith("a.csv: CSV, which has one value a series, wanted JSON lines")

    @pytest.mark.parametrize(("name", "lack"), [("series", "key"), ("time", "timestamp")])
    def test_of_lines_for_what_only_a_record_has(self, capsys: Out, name: str, lack: str) -> None:
        found = said(capsys, json_lines("a.jsonl", 1), "--out", "m", f"--ingest.{name}=none")
        assert found == (
            f"a.jsonl: JSON lines, which have no {lack}, wanted a field path in ingest.{name}"
        )

    @pytest.mark.parametrize(
        ("option", "value", "wanted"),
        [
            ("--epochs", "0", "a whole number, at least 1"),
            ("--epochs", "1.5", "a whole number, at least 1"),
            ("--holdout", "1", "a share from 0 to below 1"),
            ("--holdout", "nan", "a share from 0 to below 1"),
            ("--holdout", "x", "a share from 0 to below 1"),
        ],
    )
    def test_of_a_shortcut_that_means_nothing(
        self, option: str, value: str, wanted: str, capsys: Out
    ) -> None:
        with pytest.raises(SystemExit):
            main(["train", "a.csv", "--out", "m", option, value])
        assert f"argument {option}: '{value}', wanted {wanted}" in capsys.readouterr().err
