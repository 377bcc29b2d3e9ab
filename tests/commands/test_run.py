import sys

import pytest

from forecastd.__main__ import main


def test_reads_its_settings_before_it_imports_anything_heavy(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A fault in them is told at once, and not after the seconds that TensorFlow takes."""
    was_there = "tensorflow" in sys.modules
    assert main(["run", "--windows.timesteps=many"]) == 1
    assert "windows.timesteps: 'many' (command line)" in capsys.readouterr().err
    assert ("tensorflow" in sys.modules) == was_there
