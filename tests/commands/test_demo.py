from __future__ import annotations

import pytest

from forecastd.__main__ import main


class TestRefuses:
    """Before anything is started: `forecastd demo` takes seconds to get going."""

    @pytest.mark.parametrize(
        ("option", "value", "wanted"),
        [
            ("--port", "65536", "a port from 0 (a free one) to 65535"),
            ("--port", "-1", "a port from 0 (a free one) to 65535"),
            ("--port", "x", "a port from 0 (a free one) to 65535"),
            ("--for", "40", "a duration with a unit, such as 15s, 5m or 2h"),
        ],
    )
    def test_what_no_demo_can_do(
        self, option: str, value: str, wanted: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with pytest.raises(SystemExit) as raised:
            main(["demo", option, value])
        assert raised.value.code == 2
        assert f"argument {option}: '{value}', wanted {wanted}" in capsys.readouterr().err
