from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from forecastd.__main__ import main
from forecastd.architecture import Architecture
from forecastd.disk_models import save_model
from forecastd.settings import Settings
from tests.plain_keras import KINDS, plain_architecture, plain_model

Out = pytest.CaptureFixture[str]

STEPS, HORIZON = 4, 2
START_MS = 1_600_000_000_000


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def recorded(rows: int, series: int = 1, seed: int = 0) -> np.ndarray:
    """(rows, series) values that survive the way through text."""
    return np.random.default_rng(seed).normal(size=(rows, series)).astype(np.float32)


def csv(values: np.ndarray) -> str:
    names = [f"s{number}" for number in range(values.shape[1])]
    lines = [
        ",".join([str(START_MS + 1000 * row), *map(repr, cells)])
        for row, cells in enumerate(values.astype(float).tolist())
    ]
    Path("a.csv").write_text("\n".join([",".join(["timestamp", *names]), *lines]) + "\n")
    return "a.csv"


def forecast(capsys: Out, *words: str) -> tuple[list[dict[str, Any]], str]:
    assert main(["forecast", *words]) == 0
    captured = capsys.readouterr()
    return [json.loads(line) for line in captured.out.splitlines()], captured.err


def medians(lines: list[dict[str, Any]], series: str) -> np.ndarray:
    """(windows, H) of one series, in the order of its windows."""
    own = [line for line in lines if line["series"] == series]
    assert [line["origin_ms"] for line in own] == sorted(line["origin_ms"] for line in own)
    return np.array([[lead[1] for lead in line["forecasts"]["value"]] for line in own])


@pytest.fixture(params=KINDS)
def plain(request: pytest.FixtureRequest) -> Any:
    """A plain stateful model, imported into `model` as well."""
    cells = KINDS[request.param]
    model = plain_model(cells, 1)
    random = np.random.default_rng(1)
    model.set_weights([0.5 * random.normal(size=one.shape) for one in model.get_weights()])
    save_model(Path("model"), plain_architecture(cells), model.get_weights(), "a test", {})
    return model


class TestForecast:
    def test_carries_the_state_over_a_series_longer_than_any_training_window(
        self, plain: Any, capsys: Out
    ) -> None:
        """Chunk by chunk; the last forecast is that of one pass over the uncut sequence."""
        values = recorded(203)
        lines, told = forecast(capsys, csv(values), "--model", "model", "--ingest.poll_records=7")
        uncut = plain.predict_on_batch(values[None, : 50 * STEPS])[0]
        np.testing.assert_allclose(medians(lines, "s0"), uncut, rtol=1e-5, atol=1e-6)
        assert told == (
            "forecastd: a.csv: 50 forecasts, 3 rows at the end of 1 series fill no window\n"
        )


@pytest.fixture
def model() -> str:
    """A small quantile model with an anchor, as a trainer would build it, with any weights."""
    settings = Settings.model_validate(
        {"windows": {"timesteps": STEPS}, "forecast": {"horizon": HORIZON, "units": 4}}
    )
    architecture = Architecture.from_settings(settings)
    random = np.random.default_rng(2)
    weights = [random.normal(size=shape).astype(np.float32) for shape in architecture.weight_shapes]
    save_model(Path("model"), architecture, weights, "a test", {})
    return "model"


class TestMessages:
    def test_are_those_of_the_daemon_with_the_file_for_a_topic(
        self, model: str, capsys: Out
    ) -> None:
        lines, _ = forecast(capsys, csv(recorded(9)), "--model", model)
        first, second = lines
        assert first["id"] == f"a.csv-0-s0-{START_MS + 3000}"
        assert second["input"] == {
            "topic": "a.csv", "partition": 0, "first_offset": 4, "last_offset": 7
        }  # fmt: skip
        assert first["source"] == "model"
        assert first["model_version"].startswith("0-")
        assert first["quantiles"] == [0.1, 0.5, 0.9]
        assert np.shape(first["forecasts"]["value"]) == (HORIZON, 3)
        assert (first["step_ms"], first["flags"]) == (1000, [])

    def test_of_a_point_model_have_a_band(self, capsys: Out) -> None:
        architecture = plain_architecture(KINDS["lstm"])
        weights = [np.zeros(shape, np.float32) for shape in architecture.weight_shapes]
        save_model(Path("model"), architecture, weights, "a test", {})
        lines, _ = forecast(capsys, csv(recorded(40)), "--model", "model")
        low, middle, high = lines[-1]["forecasts"]["value"][0]
        assert low < middle == 0 < high

    def test_do_not_depend_on_the_size_of_the_chunks(self, model: str, capsys: Out) -> None:
        file = csv(recorded(61, series=3))
        found = [
            forecast(capsys, file, "--model", model, f"--ingest.poll_records={chunk}")[0]
            for chunk in (1, 10, 5_000)
        ]
        for lines in found[1:]:
            for series in ("s0", "s1", "s2"):
                expected = medians(found[0], series)
                np.testing.assert_allclose(medians(lines, series), expected, rtol=1e-6, atol=1e-6)

    def test_of_json_lines_are_those_of_the_same_csv(self, model: str, capsys: Out) -> None:
        values = recorded(21)
        rows = values[:, 0].astype(float).tolist()
        lines = [
            json.dumps({"series": "s0", "timestamp": START_MS + 1000 * row, "value": value})
            for row, value in enumerate(rows)
        ]
        Path("a.jsonl").write_text("\n".join(lines))
        by_csv, _ = forecast(capsys, csv(values), "--model", model)
        by_json, _ = forecast(capsys, "a.jsonl", "--model", model)
        np.testing.assert_array_equal(medians(by_json, "s0"), medians(by_csv, "s0"))
        assert by_json[0]["id"] == f"a.jsonl-0-s0-{START_MS + 3000}"

    def test_go_to_a_file_where_one_is_given(self, model: str, capsys: Out) -> None:
        lines, told = forecast(capsys, csv(recorded(9)), "--model", model, "--out", "out.jsonl")
        assert lines == []
        assert len(Path("out.jsonl").read_text().splitlines()) == 2
        assert "2 forecasts, 1 rows at the end of 1 series" in told

    def test_with_a_stride_are_one_every_stride(self, model: str, capsys: Out) -> None:
        lines, told = forecast(capsys, csv(recorded(11)), "--model", model, "--windows.stride=2")
        assert [line["input"]["last_offset"] for line in lines] == [3, 5, 7, 9]
        assert "1 rows at the end" in told


class TestLeftOver:
    def test_counts_series_that_never_filled_a_window(self, model: str, capsys: Out) -> None:
        Path("a.csv").write_text(
            "date,a,b\n" + "".join(f"2020-01-0{day},{day},\n" for day in range(1, 8))
            + "2020-01-08,8,1\n"
        )  # fmt: skip
        lines, told = forecast(capsys, "a.csv", "--model", model)
        assert len(lines) == 2
        assert told.endswith("2 forecasts, 1 rows at the end of 1 series fill no window\n")

    def test_counts_observations_that_came_too_late(self, model: str, capsys: Out) -> None:
        rows = Path(csv(recorded(8))).read_text().splitlines()
        Path("a.csv").write_text("\n".join([*rows, *rows[1:3]]))
        assert "2 observations with an equal or older" in forecast(
            capsys, "a.csv", "--model", model
        )[1]  # fmt: skip


class TestSettings:
    def test_that_nobody_set_are_the_models(self, model: str, capsys: Out) -> None:
        """T = 4 and H = 2 are not the defaults."""
        assert len(forecast(capsys, csv(recorded(8)), "--model", model)[0]) == 2

    @pytest.mark.parametrize(
        ("words", "said"),
        [
            (("--windows.timesteps=16",), "windows of 4 steps, wanted windows.timesteps (16)"),
            (("--forecast.horizon=3",), "wanted forecast.horizon (3) leads"),
            (
                ("--windows.stride=8",),
                "windows.stride: 8 (command line), wanted a divisor of windows.timesteps (4)",
            ),
        ],
    )
    def test_that_somebody_set_must_fit(
        self, model: str, capsys: Out, words: tuple[str, ...], said: str
    ) -> None:
        assert main(["forecast", csv(recorded(8)), "--model", model, *words]) == 1
        assert said in capsys.readouterr().err

    def test_must_name_as_many_values_as_the_model_reads(self, model: str, capsys: Out) -> None:
        Path("a.jsonl").write_text('{"series": "a", "timestamp": 1600000000, "x": 1, "y": 2}')
        values = '--ingest.values=["x", "y"]'
        assert main(["forecast", "a.jsonl", "--model", model, values]) == 1
        assert "model: 1 value a step, wanted the 2 of ingest.values" in capsys.readouterr().err


class TestRefusal:
    @pytest.mark.parametrize(
        ("words", "said"),
        [
            (("a.csv", "--model", "nothing"), "nothing: not there, wanted a model"),
            (("none.csv", "--model", "model"), "none.csv: No such file or directory, wanted a CSV"),
            (("a.csv", "--model", "model", "--out", "no/where"), "no/where: No such file"),
            (
                ("a.csv", "--model", "model", "--out", "./a.csv"),
                "a.csv: the file that is read, wanted another one to write to",
            ),
            (
                ("a.csv", "--model", "model", "--out", "link"),
                "link: the file that is read, wanted another one to write to",
            ),
        ],
    )
    def test_is_a_sentence(
        self, model: str, capsys: Out, words: tuple[str, ...], said: str
    ) -> None:
        text = Path(csv(recorded(4))).read_text()
        Path("link").symlink_to("a.csv")
        assert main(["forecast", *words]) == 1
        assert Path("a.csv").read_text() == text
        assert capsys.readouterr().err.startswith(f"forecastd: {said}")
