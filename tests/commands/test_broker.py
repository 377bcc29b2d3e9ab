import pytest

from forecastd.__main__ import main


@pytest.mark.parametrize("words", [["--nodes", "2"], ["--port", "x"], ["--data"]])
def test_refuses_what_it_cannot_start(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["broker", *words])
    assert "usage: forecastd broker" in capsys.readouterr().err


def test_says_why_it_does_not_start(capsys: pytest.CaptureFixture[str]) -> None:
    """The broker's own sentence and exit status reach the shell."""
    assert main(["broker", "--port", "70000"]) == 1
    assert capsys.readouterr().err.startswith("forecastd: --port: 70000, wanted ")
