from __future__ import annotations

import pytest

from forecastd.commit_metadata import metadata_of, read_commit
from forecastd.records import Committed


class TestCommit:
    @pytest.mark.parametrize("has_rows", [False, True])
    def test_reads_back_what_was_written(self, has_rows: bool) -> None:  # noqa: FBT001
        committed = Committed(position=2**40, resume_from=7, has_rows=has_rows)
        assert read_commit(2**40, metadata_of(committed)) == committed

    @pytest.mark.parametrize(
        "metadata",
        [None, "", "by hand", "{}", "[1, 2]", '{"resume_from": 3}', '{"forecastd": 1}'],
    )
    def test_of_another_tool_says_nothing_of_our_rows(self, metadata: str | None) -> None:
        """`kafka-consumer-groups.sh --reset-offsets` leaves none: the rows no longer fit."""
        assert read_commit(5, metadata) == Committed(5, None)

    def test_of_a_later_version_says_nothing_that_we_would_understand(self) -> None:
        assert read_commit(5, '{"forecastd":2,"resume_from":3}') == Committed(5, None)

    def test_may_hold_more_than_we_know(self) -> None:
        assert read_commit(5, '{"forecastd":1,"resume_from":3,"more":0}') == Committed(5, 3)
