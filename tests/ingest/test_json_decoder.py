from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from forecastd.ingest.json_decoder import Fields, JsonDecoder
from forecastd.memory.log import MemoryRecord
from forecastd.records import EARLIEST_MS, REJECT_REASONS, Decoded, TopicPartition

P3 = TopicPartition("records", 3)
NOW_MS = 1_700_000_000_000
HOUR_MS = 3_600_000
GOOD = b'{"series": "a", "timestamp": 1700000000000, "value": 1.5}'


def decoder(**changed: Any) -> JsonDecoder:
    fields: dict[str, Any] = {
        "series": ("series",),
        "separator": ".",
        "time": "timestamp",
        "time_format": "auto",
        "values": ("value",),
        "max_ahead_ms": HOUR_MS,
    }
    return JsonDecoder(Fields(**{**fields, **changed}))


def record(
    value: bytes | None, offset: int = 7, timestamp: int = NOW_MS, key: bytes | None = b"key"
) -> MemoryRecord:
    return MemoryRecord(offset, timestamp, key, value)


def obs(**changed: Any) -> dict[str, Any]:
    return {"series": "a", "timestamp": NOW_MS, "value": 1.5, **changed}


def decode(*values: bytes | None, **changed: Any) -> Decoded:
    return decoder(**changed).decode(P3, [record(value, at) for at, value in enumerate(values)])


def only_reject(value: bytes, **changed: Any) -> tuple[str, str]:
    """Reason and sentence of the only record, which is bad."""
    decoded = decoder(**changed).decode(P3, [record(value)])
    assert not decoded.observations.series
    (reject,) = decoded.rejects
    assert reject.partition == P3
    assert reject.record.value == value
    return reject.reason, reject.error


class TestGoodRecords:
    def test_give_their_observations_in_order(self) -> None:
        two = json.dumps([obs(series="b", value=2), obs(series="c", value=-3e38)]).encode()
        decoded = decode(GOOD, two, GOOD)
        found = decoded.observations
        assert found.partition == P3
        assert found.series == ["a", "b", "c", "a"]
        assert found.values.tolist() == [[1.5], [2.0], [-3e38], [1.5]]
        assert found.offsets.tolist() == [0, 1, 1, 2]
        assert found.at_ms.tolist() == [NOW_MS] * 4
        assert found.recorded_ms.tolist() == [NOW_MS] * 4
        assert (decoded.rejects, decoded.tombstones) == ([], 0)

    def test_may_be_none(self) -> None:
        decoded = decode()
        assert decoded.observations.series == []
        assert decoded.observations.values.shape == (0, 1)

    def test_may_hold_anything_else_besides(self) -> None:
        more = obs(more={"deep": [1, None, {"x": []}]}, text="é😀\n", none=None, big=10**30)
        assert decode(json.dumps(more).encode()).observations.series == ["a"]

    @pytest.mark.parametrize(
        "value",
        [
            GOOD.replace(b" ", b""),
            b" \r\n\t" + GOOD + b"\n\n",
            json.dumps(obs(), indent=4).encode(),
            json.dumps([obs()], indent=1).encode(),
            GOOD.replace(b"1.5", b"15e-1"),
            GOOD.replace(b'"value": 1.5', b'"value": 9, "value": 1.5'),  # JSON: the last one counts
        ],
    )
    def test_may_be_written_as_json_allows(self, value: bytes) -> None:
        decoded = decode(GOOD, value, GOOD)
        assert decoded.observations.values.ravel().tolist() == [1.5] * 3
        assert decoded.observations.offsets.tolist() == [0, 1, 2]

    def test_come_from_nested_fields(self) -> None:
        value = {
            "tags": {"host": "h1", "cpu": 0},
            "fields": {"a": 1, "b": {"c": 2}},
            "t": "2024-01-01",
        }
        decoded = decode(
            json.dumps(value).encode(),
            series=("tags.host", "tags.cpu"),
            separator="/",
            time="t",
            values=("fields.b.c", "fields.a"),
            max_ahead_ms=10**12,
        )
        assert decoded.observations.series == ["h1/0"]
        assert decoded.observations.values.tolist() == [[2.0, 1.0]]
        assert decoded.observations.at_ms.tolist() == [1_704_067_200_000]

    def test_may_have_fields_that_python_could_not_name(self) -> None:
        value = json.dumps({"my series!": "a", "class": 1, "f0": NOW_MS}).encode()
        changed = {"series": ("my series!",), "values": ("class",), "time": "f0"}
        assert decode(value, **changed).observations.series == ["a"]

    @pytest.mark.parametrize(
        ("series", "name"), [(5, "5"), (-1, "-1"), ("5", "5"), (10**30, "1" + 30 * "0")]
    )
    def test_may_name_their_series_by_a_number(self, series: str | int, name: str) -> None:
        assert decode(json.dumps(obs(series=series)).encode()).observations.series == [name]

    def test_may_name_their_series_by_the_key(self) -> None:
        records = [record(b'{"value": 1}', key="host é".encode())]
        found = decoder(series=(), time=None).decode(P3, records).observations
        assert found.series == ["host é"]
        assert found.at_ms.tolist() == [NOW_MS]

    @pytest.mark.parametrize("name", ["x" * 512, "é" * 256, "😀" * 128, '"\n\\', " ", "a\u0000b"])
    def test_may_have_names_of_512_bytes(self, name: str) -> None:
        assert decode(json.dumps(obs(series=name)).encode(), GOOD).observations.series == [
            name,
            "a",
        ]

    @pytest.mark.parametrize("at_ms", [EARLIEST_MS, NOW_MS + HOUR_MS])
    def test_may_have_times_from_1990_to_an_hour_ahead(self, at_ms: int) -> None:
        assert decode(json.dumps(obs(timestamp=at_ms)).encode()).observations.at_ms == [at_ms]

    def test_may_have_times_of_every_form_in_one_poll(self) -> None:
        forms = [NOW_MS, NOW_MS // 1_000, NOW_MS * 1_000, NOW_MS * 10**6, NOW_MS / 1_000]
        values = [json.dumps(obs(timestamp=form)).encode() for form in [*forms, str(NOW_MS)]]
        values.append(json.dumps(obs(timestamp="2023-11-14T22:13:20+00:00")).encode())
        assert decode(*values).observations.at_ms.tolist() == [NOW_MS] * 7

    def test_of_the_oldest_form_have_no_timestamp_to_be_ahead_of(self) -> None:
        old = record(json.dumps(obs(timestamp=4 * NOW_MS)).encode(), timestamp=-1)
        assert decoder().decode(P3, [old]).observations.at_ms.tolist() == [4 * NOW_MS]

    def test_with_an_absurd_timestamp_of_their_own_still_count(self) -> None:
        """A producer may write any int64; adding `max_ahead` to it must not overflow."""
        absurd = record(GOOD, timestamp=2**63 - 1)
        assert decoder().decode(P3, [absurd]).observations.at_ms.tolist() == [NOW_MS]


NOT = ": not JSON: "
JSON = ", wanted a JSON object or array"
NUMBER = ", wanted a finite number in float32's range"
NAME = ", wanted a series name of 1 to 512"
TIME = ", wanted ISO 8601 or a Unix time"
AHEAD = ", wanted a time at most ingest.max_ahead after the record's own timestamp"


def worth(value: bytes) -> bytes:
    """The good record with another value."""
    return GOOD.replace(b"1.5", value)


def named(series: bytes) -> bytes:
    """The good record with another series."""
    return GOOD.replace(b'"a"', series)


def at(time: bytes) -> bytes:
    """The good record with another time."""
    return GOOD.replace(b"1700000000000", time)


BROKEN: dict[str, tuple[bytes, str, str]] = {
    # what: value, reason, the sentence behind "records[3]@7"
    "no bytes": (b"", "empty", ": no bytes, wanted a JSON object or a non-empty array of them"),
    "empty array": (b"[]", "empty", ": an empty array, wanted at least one observation"),
    "spaces": (b"  ", "json", NOT + "input data was truncated" + JSON),
    "text": (b"broken", "json", NOT + "invalid character (byte 0)" + JSON),
    "cut": (GOOD[:-1], "json", NOT + "input data was truncated" + JSON),
    "two in one": (GOOD + GOOD, "json", NOT + "trailing characters (byte 58)" + JSON),
    "a line each": (GOOD + b"\n" + GOOD, "json", NOT + "trailing characters (byte 59)" + JSON),
    "NUL behind": (GOOD + b"\0", "json", NOT + "trailing characters (byte 58)" + JSON),
    "BOM": (b"\xef\xbb\xbf" + GOOD, "json", NOT + "invalid character (byte 0)" + JSON),
    "UTF-16": (GOOD.decode().encode("utf-16"), "json", NOT + "invalid character (byte 0)" + JSON),
    "Latin-1": (
        named(b'"\xe4"'),
        "json",
        NOT + "'utf-8' codec can't decode byte 0xe4 in position 0: unexpected end of data" + JSON,
    ),
    "half a surrogate pair": (
        named(b'"\\ud83d"'),
        "json",
        NOT + "unexpected end of escaped utf-16 surrogate pair (byte 18)" + JSON,
    ),
    "NaN": (worth(b"NaN"), "json", NOT + "invalid character (byte 53)" + JSON),
    "Infinity": (worth(b"-Infinity"), "json", NOT + "invalid character (byte 54)" + JSON),
    "single quotes": (
        GOOD.replace(b'"', b"'"),
        "json",
        NOT + "object keys must be strings (byte 1)" + JSON,
    ),
    "trailing comma": (
        GOOD[:-1] + b",}",
        "json",
        NOT + "trailing comma in object (byte 57)" + JSON,
    ),
    "leading zero": (worth(b"01"), "json", NOT + "invalid number (byte 54)" + JSON),
    "line feed in text": (named(b'"a\n"'), "json", NOT + "invalid character (byte 13)" + JSON),
    "deep array": (
        GOOD[:-1] + b', "x": ' + b"[" * 200_000 + b"]" * 200_000 + b"}",
        "json",
        ": JSON nested too deeply, wanted an observation",
    ),
    "deep object": (b'{"x":' * 200_000, "json", ": JSON nested too deeply, wanted an observation"),
    "a number": (b"5", "shape", ": a whole number, wanted a JSON object or an array"),
    "a huge number": (b"1e999", "shape", ": a number out of range, wanted an object"),
    "array of huge numbers": (
        b"[" + b"9" * 5000 + b"]",
        "shape",
        "[0]: a number out of range, wanted an object",
    ),
    "string": (b'"x"', "shape", ": text, wanted a JSON object or an array"),
    "null": (b"null", "shape", ": null, wanted a JSON object or an array"),
    "array of numbers": (b"[5]", "shape", "[0]: a whole number, wanted a JSON object"),
    "array in array": (
        b"[" + GOOD + b",[" + GOOD + b"]]",
        "shape",
        "[1]: an array, wanted a JSON object",
    ),
    "null in array": (b"[" + GOOD + b",null]", "shape", "[1]: null, wanted a JSON object"),
    "no value": (b'{"series": "a", "timestamp": 1}', "missing", ": no field 'value', wanted one"),
    "no series": (b'{"value": 1, "timestamp": 1}', "missing", ": no field 'series', wanted one"),
    "no time in array": (
        b"[" + GOOD + b',{"series": "a", "value": 1}]',
        "missing",
        "[1]: no field 'timestamp', wanted one",
    ),
    "other case": (GOOD.replace(b"value", b"Value"), "missing", ": no field 'value', wanted one"),
    "null value": (worth(b"null"), "type", ": field 'value' is null, wanted a number"),
    "value in quotes": (worth(b'"1.5"'), "type", ": field 'value' is text, wanted a number"),
    "n/a in array": (
        b"[" + GOOD + b"," + worth(b'"n/a"') + b"]",
        "type",
        "[1]: field 'value' is text, wanted a number",
    ),
    "true": (worth(b"true"), "type", ": field 'value' is true or false, wanted a number"),
    "value is an array": (
        worth(b"[1.5]"),
        "type",
        ": field 'value' is an array, wanted a number",
    ),
    "series is null": (
        named(b"null"),
        "type",
        ": field 'series' is null, wanted a whole number or text",
    ),
    "series is a float": (
        named(b"1.5"),
        "type",
        ": field 'series' is a number, wanted a whole number or text",
    ),
    "time is an object": (
        at(b"{}"),
        "type",
        ": field 'timestamp' is an object, wanted a number or text",
    ),
    "beyond float64": (worth(b"1e999"), "number", ": field 'value' is out of range" + NUMBER),
    "400 digits": (worth(b"9" * 400), "number", ": field 'value' is out of range" + NUMBER),
    "beyond float32": (worth(b"-3.5e38"), "number", ": field 'value' is -3.5e+38" + NUMBER),
    "second is beyond float32": (
        b"[" + GOOD + b"," + worth(b"4e38") + b"]",
        "number",
        "[1]: field 'value' is 4e+38" + NUMBER,
    ),
    "series of 5000 digits": (
        named(b"9" * 5000),
        "number",
        ": field 'series' is out of range, wanted a number of fewer digits",
    ),
    "empty name": (named(b'""'), "series", ": field 'series' has 0 bytes" + NAME),
    "long name": (
        named(b'"' + b"x" * 513 + b'"'),
        "series",
        ": field 'series' has 513 bytes" + NAME,
    ),
    "name long in bytes alone": (
        GOOD.replace(b'"a"', '"{}"'.format("€" * 171).encode()),
        "series",
        ": field 'series' has 513 bytes" + NAME,
    ),
    "time is no time": (at(b'"soon"'), "time", ": field 'timestamp' is 'soon'" + TIME),
    "time is empty": (at(b'""'), "time", ": field 'timestamp' is ''" + TIME),
    "long text for a time": (
        at(b'"' + b"z" * 99 + b'"'),
        "time",
        ": field 'timestamp' is '" + "z" * 76 + "..." + TIME,
    ),
    "before 1990": (
        at(b"631151999999"),
        "time",
        ": field 'timestamp' is 631151999999, wanted a time from 1990 on",
    ),
    "zero": (at(b"0"), "time", ": field 'timestamp' is 0, wanted a time from 1990 on"),
    "negative": (
        at(b"-1700000000000"),
        "time",
        ": field 'timestamp' is -1700000000000, wanted a time from 1990 on",
    ),
    "huge": (at(b"9" * 40), "time", ": field 'timestamp' is " + "9" * 40 + "" + TIME),
    "an hour and a moment ahead": (
        at(b"1700003600001"),
        "time",
        ": field 'timestamp' is 1700003600001 (1700003600001 ms)" + AHEAD,
    ),
    "ahead, as text": (
        at(b'"2024-01-01"'),
        "time",
        ": field 'timestamp' is '2024-01-01' (1704067200000 ms)" + AHEAD,
    ),
}


class TestBrokenRecords:
    @pytest.mark.parametrize(("value", "reason", "said"), BROKEN.values(), ids=BROKEN.keys())
    def test_are_rejected_with_where_what_and_wanted(
        self, value: bytes, reason: str, said: str
    ) -> None:
        assert only_reject(value) == (reason, f"records[3]@7{said}")
        assert reason in REJECT_REASONS
        assert re.fullmatch(r"records\[3\]@7(\[\d+\])?: .+, wanted .+[^.!]", f"records[3]@7{said}")

    @pytest.mark.parametrize("value", [value for value, _, _ in BROKEN.values()], ids=BROKEN.keys())
    def test_cost_themselves_alone(self, value: bytes) -> None:
        """Whatever its neighbours are, each record is read as what its own sender wrote."""
        array = b"[" + GOOD + b"," + GOOD + b"]"
        decoded = decode(GOOD, value, array, None, b"", value, GOOD)
        assert decoded.observations.offsets.tolist() == [0, 2, 2, 6]
        assert decoded.observations.series == ["a"] * 4
        assert [reject.record.offset for reject in decoded.rejects] == [1, 4, 5]
        assert decoded.tombstones == 1

    @pytest.mark.parametrize("series", [["a", "b"], ["a"] * 1_000])
    def test_are_rejected_whole(self, series: Sequence[str]) -> None:
        """An array with one bad element gives no observation, wherever the element stands."""
        for at in {0, len(series) - 1}:
            items = [obs(series=name) for name in series]
            items[at]["value"] = 1e39
            decoded = decode(GOOD, json.dumps(items).encode(), GOOD)
            assert decoded.observations.offsets.tolist() == [0, 2]
            (reject,) = decoded.rejects
            assert reject.error.startswith(f"records[3]@1[{at}]: field 'value' is 1e+39, wanted")

    def test_are_told_with_their_first_fault(self) -> None:
        items = [obs(), obs(timestamp=5), obs(value=1e39)]
        assert only_reject(json.dumps(items).encode())[1].startswith("records[3]@7[1]: field 'time")

    def test_of_two_halves_do_not_make_a_whole(self) -> None:
        """Joined by a line feed, these three are three good lines of JSON, of other records."""
        cut = GOOD.index(b",") + 1
        decoded = decode(b"[" + GOOD + b",", GOOD + b"]", GOOD + GOOD, GOOD[:cut], GOOD[cut:], b" ")
        assert decoded.observations.series == []
        assert [reject.record.offset for reject in decoded.rejects] == [0, 1, 2, 3, 4, 5]

    def test_in_an_order_of_offsets_come_out_in_that_order(self) -> None:
        late = json.dumps(obs(timestamp=1)).encode()
        decoded = decode(late, b"{", late, b"[]", late)
        assert [reject.record.offset for reject in decoded.rejects] == [0, 1, 2, 3, 4]

    @pytest.mark.parametrize("time_format", ["s", "ms", "us", "ns", "iso8601", "auto"])
    @pytest.mark.parametrize(
        "time", ["9" * 4299, "-" + "9" * 4299, "-1e300", "1e300", '"1e300"', '"-9e99"']
    )
    def test_with_times_of_any_size_are_rejected(self, time: str, time_format: str) -> None:
        """Beyond int64, beyond float64, beyond the digits that Python agrees to print."""
        value = GOOD.replace(b"1700000000000", time.encode())
        reason, error = only_reject(value, time_format=time_format)
        assert reason == "time"
        assert len(error) < 250

    @pytest.mark.parametrize(
        ("time_format", "wanted"),
        [
            ("auto", "ISO 8601 or a Unix time"),
            ("iso8601", "ISO 8601 text"),
            ("s", "a Unix time in seconds"),
            ("ms", "a Unix time in milliseconds"),
            ("us", "a Unix time in microseconds"),
            ("ns", "a Unix time in nanoseconds"),
        ],
    )
    def test_with_no_time_are_told_of_the_form(self, time_format: str, wanted: str) -> None:
        error = only_reject(at(b'"soon"'), time_format=time_format)[1]
        assert error == f"records[3]@7: field 'timestamp' is 'soon', wanted {wanted}"

    @pytest.mark.parametrize(
        ("key", "said"),
        [
            (None, "the key has 0 bytes, wanted a series name of 1 to 512"),
            (b"", "the key has 0 bytes, wanted a series name of 1 to 512"),
            (b"k" * 513, "the key has 513 bytes, wanted a series name of 1 to 512"),
            (b"\xff\xfe", "the key is not UTF-8, wanted a series name"),
        ],
    )
    def test_may_be_so_because_of_their_key(self, key: bytes | None, said: str) -> None:
        bad = record(b'{"value": 1}', key=key)
        (reject,) = decoder(series=(), time=None).decode(P3, [bad]).rejects
        assert (reject.reason, reject.error) == ("series", f"records[3]@7: {said}")

    @pytest.mark.parametrize(
        ("timestamp", "said"),
        [
            (-1, "the record's timestamp is -1, wanted a time from 1990 on"),
            (
                2**63 - 1,
                f"the record's timestamp is {2**63 - 1}, wanted a time before the year 10000",
            ),
        ],
    )
    def test_may_be_so_because_of_their_timestamp(self, timestamp: int, said: str) -> None:
        bad = record(GOOD, timestamp=timestamp)
        (reject,) = decoder(time=None).decode(P3, [bad]).rejects
        assert (reject.reason, reject.error) == ("time", f"records[3]@7: {said}")

    @pytest.mark.parametrize(
        ("a", "host", "said"),
        [
            ({"b": {}}, "", ": no field 'a.b.c', wanted one"),
            (5, "", ": field 'a' is a whole number, wanted an object"),
            ({"b": {"c": 1}}, "x" * 600, ": field 'tags.host+tags.cpu' has 602 bytes" + NAME),
        ],
    )
    def test_name_nested_fields_by_their_path(self, a: Any, host: str, said: str) -> None:
        value = {"a": a, "tags": {"host": host, "cpu": 1}, "timestamp": NOW_MS}
        changed = {"values": ("a.b.c",), "series": ("tags.host", "tags.cpu")}
        assert only_reject(json.dumps(value).encode(), **changed)[1] == f"records[3]@7{said}"

    def test_made_at_random_never_do_more_than_be_rejected(self) -> None:
        """Bytes cut, doubled, flipped and glued together: no exception, no record lost or made."""
        for seed in range(20):
            rng = np.random.default_rng(seed)
            values = []
            for _ in range(30):
                noisy = bytearray(GOOD if rng.random() < 0.5 else b"[" + GOOD + b"," + GOOD + b"]")
                for _ in range(int(rng.integers(0, 3))):
                    at = int(rng.integers(len(noisy)))
                    noisy[at : at + int(rng.integers(0, 3))] = rng.bytes(int(rng.integers(0, 3)))
                values.append(bytes(noisy))
            together = decode(*values)
            offsets = [reject.record.offset for reject in together.rejects]
            assert sorted({*together.observations.offsets.tolist(), *offsets}) == list(range(30)), (
                seed
            )
            assert not set(together.observations.offsets.tolist()) & set(offsets), seed
            for at, value in enumerate(values):
                alone = decoder().decode(P3, [record(value, at)])
                here = together.observations.offsets == at
                assert (
                    alone.observations.values.tolist()
                    == together.observations.values[here].tolist()
                )
                told = [reject.error for reject in together.rejects if reject.record.offset == at]
                assert [reject.error for reject in alone.rejects] == told


class TestTombstones:
    def test_are_counted_and_hold_nothing(self) -> None:
        decoded = decode(None, GOOD, None)
        assert decoded.tombstones == 2
        assert decoded.observations.offsets.tolist() == [1]
        assert decoded.rejects == []
