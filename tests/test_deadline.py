from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.deadline import until


class TestUntil:
    def test_returns_what_was_found(self) -> None:
        finds = iter([None, "", "an address"])
        assert until(lambda: next(finds), "address") == "an address"

    def test_looks_once_even_without_time(self) -> None:
        assert until(lambda: "there", "address", within_s=0.0) == "there"

    def test_fails_with_what_was_awaited_and_the_end_of_the_log(self, tmp_path: Path) -> None:
        """Whoever reads it has neither the process nor its folder."""
        log = tmp_path / "log"
        log.write_text("x" * 5_000 + "the last word")
        with pytest.raises(AssertionError) as failed:
            until(lambda: False, "address", within_s=0.0, log=log)
        said = str(failed.value)
        assert said.startswith("no address in 0 s:\nxxx")
        assert said.endswith("xxxthe last word")
        assert len(said) < 3_100

    def test_does_not_wait_for_a_process_that_has_ended(self) -> None:
        process = subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"])
        process.wait()
        with pytest.raises(AssertionError, match=r"^no address by .* ended with status 3$"):
            until(lambda: False, "address", process=process)

    def test_finds_what_a_process_did_last(self) -> None:
        """It may end between the look and the question whether it lives."""
        process = subprocess.Popen([sys.executable, "-c", ""])
        process.wait()
        assert until(lambda: True, "end", process=process)
