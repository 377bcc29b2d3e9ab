from __future__ import annotations

import pytest

from forecastd.errors import RowError
from forecastd.state.row_key import decode_key, encode_key


class TestRowKey:
    @pytest.mark.parametrize("series", ["host.cpu0", "", 'a"]\n\\', "é😀", "x" * 512, "a\x00b"])
    def test_reads_back_whatever_the_name(self, series: str) -> None:
        assert decode_key(encode_key(series, "5f0c9a3e")) == (series, "5f0c9a3e")

    def test_can_be_read_in_a_console(self) -> None:
        assert encode_key("host.cpu0", "5f0c9a3e") == b'["host.cpu0","5f0c9a3e"]'

    def test_of_two_writers_differs(self) -> None:
        """Compaction must not let an older row of one take the place of the other's."""
        assert encode_key("a", "w1") != encode_key("a", "w2")

    @pytest.mark.parametrize(
        "key", [b"", b"a", b"[]", b'["a"]', b'["a","b","c"]', b"[1,2]", b"\xff"]
    )
    def test_of_another_form_is_refused(self, key: bytes) -> None:
        with pytest.raises(RowError, match=r"row key: b.*, wanted \[series, writer\]"):
            decode_key(key)
