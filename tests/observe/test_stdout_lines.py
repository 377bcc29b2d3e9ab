from __future__ import annotations

import io
import json

import pytest

from forecastd.clock import ManualClock
from forecastd.observe.stdout_lines import LogFormat, escape_controls, make_logger

NASTY = "cpu\x1b[2J\r\n{'level': 'error'}\x00\u202e\u2028\ud800é"


class Terminal(io.StringIO):
    """A stream that is a terminal."""

    def isatty(self) -> bool:
        return True


class Broken(io.StringIO):
    """A pipe whose reader has gone."""

    def write(self, _text: str) -> int:
        raise BrokenPipeError


class Ascii(io.TextIOWrapper):
    """A stream of a machine without a locale."""

    def __init__(self) -> None:
        super().__init__(io.BytesIO(), encoding="ascii")


def line_of(log_format: LogFormat, stream: io.StringIO) -> str:
    make_logger(log_format, "info", ManualClock(), stream).info("a series", series=NASTY)
    return stream.getvalue()


class TestForms:
    def test_json_keeps_every_character_escaped(self) -> None:
        line = line_of("json", io.StringIO())
        assert json.loads(line)["series"] == NASTY
        assert line.isascii()
        assert line.count("\n") == 1

    @pytest.mark.parametrize("stream", [io.StringIO(), Terminal()])
    def test_console_lets_no_name_move_the_cursor_or_forge_a_line(
        self, stream: io.StringIO
    ) -> None:
        line = line_of("console", stream)
        value = line[line.index("series") :]
        assert "\x1b[2J" not in line
        assert line.count("\n") == 1
        assert not set("\r\x00\u202e\u2028\ud800") & set(line)
        assert "é" in value, "what is harmless stays readable"

    def test_auto_is_json_unless_a_person_looks(self) -> None:
        json.loads(line_of("auto", io.StringIO()))
        with pytest.raises(json.JSONDecodeError):
            json.loads(line_of("auto", Terminal()))

    def test_a_stream_that_cannot_show_a_character_gets_its_escape(self) -> None:
        stream = Ascii()
        make_logger("console", "info", ManualClock(), stream).info("naïve")
        stream.seek(0)
        assert r"na\xefve" in stream.read()


class TestLineWriter:
    def test_a_broken_stdout_does_not_stop_the_daemon(self) -> None:
        make_logger("json", "info", ManualClock(), Broken()).info("nobody reads this")

    def test_a_closed_stdout_does_not_stop_the_daemon(self) -> None:
        stream = io.StringIO()
        logger = make_logger("json", "info", ManualClock(), stream)
        stream.close()
        logger.info("nobody reads this")


class TestEscapeControls:
    @pytest.mark.parametrize("text", ["", "host.cpu0", "größe °C 温度", "a b"])
    def test_leaves_readable_text_alone(self, text: str) -> None:
        assert escape_controls(text) == text
