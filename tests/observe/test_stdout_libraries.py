from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from forecastd.clock import ManualClock
from forecastd.observe.stdout_libraries import KINDS_MAX, LibraryLines, install_library_lines


class Library:
    """A library's logger whose lines are caught."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.stream = io.StringIO()
        self.handler = LibraryLines("json", "info", self.clock, self.stream)
        self.logger = logging.Logger("kafka.conn")  # noqa: LOG001  # of this test alone
        self.logger.addHandler(self.handler)

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.stream.getvalue().splitlines()]


@pytest.fixture
def library() -> Library:
    return Library()


@pytest.fixture
def root() -> Iterator[logging.Logger]:
    """The root logger, as it was afterwards."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield root
    root.handlers, root.level = handlers, level


class TestLibraryLines:
    def test_is_one_line_in_our_form(self, library: Library) -> None:
        library.logger.error("node %s is gone", 3)
        (line,) = library.lines
        assert line["event"] == "node 3 is gone"
        assert line["library"] == "kafka.conn"

    def test_is_never_above_warning(self, library: Library) -> None:
        """A library cannot know whether data is lost; an alert on ERROR lines must mean it."""
        library.logger.critical("all is lost")
        assert library.lines[0]["level"] == "warning"

    def test_information_is_left_out(self, library: Library) -> None:
        library.logger.info("connected")
        assert library.lines == []

    def test_the_same_template_is_said_once_a_minute(self, library: Library) -> None:
        """A client without a broker says it for every node, several times a second."""
        for attempt in range(300):
            library.logger.warning("attempt %d refused", attempt)
        library.clock.advance(60)
        library.logger.warning("attempt %d refused", 301)
        assert [line["count"] for line in library.lines] == [1, 300]

    def test_a_stack_becomes_its_last_line(self, library: Library) -> None:
        library.logger.error("send", exc_info=ConnectionResetError("by peer"))
        assert library.lines[0]["cause"] == "ConnectionResetError: by peer"

    def test_memory_is_bounded_where_every_template_differs(self, library: Library) -> None:
        for number in range(KINDS_MAX + 100):
            library.logger.warning(f"message {number}")  # noqa: G004  # what such a library does
        assert len(library.lines) == KINDS_MAX + 1


class TestInstall:
    def test_libraries_write_to_nothing_else(
        self, library: Library, root: logging.Logger, capsys: pytest.CaptureFixture[str]
    ) -> None:
        install_library_lines(library.handler)
        logging.getLogger("some.library").warning("gone")
        assert [line["event"] for line in library.lines] == ["gone"]
        assert capsys.readouterr() == ("", "")
