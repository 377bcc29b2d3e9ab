from __future__ import annotations

import pytest

from forecastd.memory.log import MemoryRecord
from forecastd.publish.dead_letter import ROOM_BYTES, dead_letter, truncated
from forecastd.records import Message, Reject, TopicPartition

PROVENANCE = [
    ("forecastd.topic", b"records"),
    ("forecastd.partition", b"3"),
    ("forecastd.offset", b"42"),
    ("forecastd.timestamp", b"1700000000000"),
    ("forecastd.stage", b"decode"),
    ("forecastd.reason", b"json"),
    ("forecastd.error", b"records[3]@42: not JSON, wanted JSON"),
]


def reject(
    value: bytes = b"\x00broken",
    key: bytes | None = b"\xffkey",
    headers: list[tuple[str, bytes]] | None = None,
    error: str = "records[3]@42: not JSON, wanted JSON",
) -> Reject:
    record = MemoryRecord(42, 1_700_000_000_000, key, value, headers or [])
    return Reject(TopicPartition("records", 3), record, "json", error)


def size(message: Message) -> int:
    headers = sum(len(name) + len(text) for name, text in message.headers)
    return len(message.key or b"") + len(message.value or b"") + headers


class TestDeadLetter:
    def test_is_the_record_as_it_was_and_says_where_it_came_from(self) -> None:
        message = dead_letter(reject(headers=[("trace", b"\x01")]), "dead-letters", 2**21)
        assert message.topic == "dead-letters"
        assert (message.key, message.value) == (b"\xffkey", b"\x00broken")
        assert message.headers == [("trace", b"\x01"), *PROVENANCE]

    def test_keeps_a_missing_key_missing(self) -> None:
        assert dead_letter(reject(key=None), "dead-letters", 2**21).key is None

    def test_of_a_dead_letter_keeps_the_old_story_in_front(self) -> None:
        message = dead_letter(reject(headers=PROVENANCE[:2]), "dead-letters", 2**21)
        assert message.headers == [*PROVENANCE[:2], *PROVENANCE]

    def test_has_an_error_of_bounded_length(self) -> None:
        message = dead_letter(reject(error="é\ud800" * 5_000), "dead-letters", 2**21)
        assert len(dict(message.headers)["forecastd.error"]) == 2048


class TestTruncated:
    def test_loses_the_end_of_its_value_and_says_so(self) -> None:
        cut = truncated(dead_letter(reject(value=b"x" * 1_000), "dead-letters", 2**21), 100)
        assert cut.value == b"x" * 100
        assert cut.key == b"\xffkey"
        assert cut.headers == [*PROVENANCE, ("forecastd.truncated", b"1000")]

    def test_again_still_tells_the_first_length(self) -> None:
        message = dead_letter(reject(value=b"x" * 1_000), "dead-letters", 2**21)
        cut = truncated(truncated(message, 100), 0)
        assert cut.value == b""
        assert cut.headers == [*PROVENANCE, ("forecastd.truncated", b"1000")]

    def test_keeps_a_missing_key_missing(self) -> None:
        assert truncated(dead_letter(reject(key=None), "dead-letters", 2**21), 0).key is None

    @pytest.mark.parametrize(
        "name", ["trace", "forecastd.x", "forecastd.error", "forecastd.truncated"]
    )
    def test_to_nothing_fits_the_room_whatever_came_with_it(self, name: str) -> None:
        """A sender must not be able to make a dead letter that no topic takes: it is fatal."""
        bad = reject(b"x" * 10**6, b"k" * 10**6, [(name, b"h" * 10**6)], "e" * 10**6)
        cut = truncated(dead_letter(bad, "dead-letters", 2**21), 0)
        assert size(cut) < ROOM_BYTES / 2
        assert [pair for pair in PROVENANCE if pair not in cut.headers] == [PROVENANCE[-1]]
