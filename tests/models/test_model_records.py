from __future__ import annotations

import msgspec
import pytest

from forecastd.errors import ModelError
from forecastd.models import model_records
from forecastd.models.model_records import (
    Entry,
    Pointer,
    Run,
    decode,
    encode_entry,
    encode_pointer,
    encode_run,
)
from tests.models.some_models import NOW_MS, TOPIC, some_model


class TestEntry:
    def test_comes_after_its_weights(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Whoever has read the entry has read all of its weights."""
        monkeypatch.setattr(model_records, "CHUNK_BYTES", 100)
        entry, messages = encode_entry(TOPIC, some_model(), 7, NOW_MS)
        keys = [(message.key or b"").decode() for message in messages]
        parts = [f"weights/{entry.version}/{part}" for part in range(entry.weights.chunks)]
        assert keys == [*parts, f"entry/{entry.version}"]
        assert entry.weights.chunks == -(-entry.weights.bytes // 100) > 1
        assert max(len(message.value or b"") for message in messages[:-1]) == 100

    def test_version_is_a_number_and_a_hash_of_the_content(self) -> None:
        (one, _), (other, _) = (encode_entry(TOPIC, some_model(s), 7, NOW_MS) for s in (1, 2))
        again, _ = encode_entry(TOPIC, some_model(1, parent="3-abcdef", note=1), 8, NOW_MS + 1)
        assert one.version.startswith("7-")
        assert again.version == one.version.replace("7-", "8-")
        assert one.version != other.version

    def test_is_read_back_as_it_was_written(self) -> None:
        model = some_model(parent="3-abcdef", scores={"skill": 0.25})
        entry, messages = encode_entry(TOPIC, model, 7, NOW_MS)
        assert decode(messages[-1].value or b"", Entry) == entry
        assert (entry.parent, entry.facts) == ("3-abcdef", {"scores": {"skill": 0.25}})

    def test_takes_one_partition_of_the_topic(self) -> None:
        _, messages = encode_entry(TOPIC, some_model(), 7, NOW_MS)
        assert {(message.topic, message.partition) for message in messages} == {(TOPIC, 0)}


class TestPointerAndRun:
    pointer = Pointer(sequence=3, version="7-abcdef", by="trainer", at_ms=1, reason="better")

    def test_are_read_back_as_they_were_written(self) -> None:
        run = Run(number=4, began_ms=1, ended_ms=2, status="rejected", reason="worse")
        assert decode(encode_pointer(TOPIC, self.pointer).value or b"", Pointer) == self.pointer
        assert decode(encode_run(TOPIC, run).value or b"", Run) == run

    def test_of_two_at_once_neither_is_compacted_away(self) -> None:
        """An operator's word must not vanish because the trainer spoke in the same second."""
        operator = msgspec.structs.replace(self.pointer, by="operator")
        assert operator.key != self.pointer.key


class TestDecode:
    @pytest.mark.parametrize(
        ("value", "sentence"),
        [
            (b"\x80\x04", "wanted what forecastd wrote"),
            (b'{"schema":2}', "schema 2, wanted 1; another version of forecastd wrote it"),
            (b'{"schema":1}', "missing required field"),
        ],
    )
    def test_refuses_anything_else(self, value: bytes, sentence: str) -> None:
        with pytest.raises(ModelError, match=sentence):
            decode(value, Pointer)

    def test_reads_over_fields_of_a_newer_version(self) -> None:
        value = msgspec.json.decode(msgspec.json.encode(TestPointerAndRun.pointer))
        assert decode(msgspec.json.encode({**value, "mood": "good"}), Pointer).sequence == 3
