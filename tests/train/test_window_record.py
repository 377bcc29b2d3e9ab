from __future__ import annotations

import zlib
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from forecastd.errors import WindowError
from forecastd.records import TopicPartition
from forecastd.train.window_record import WindowRecord, Windows, decode, encode, encode_windows

START_MS = 1_700_000_000_000


def window(number: int = 3, timesteps: int = 4, features: int = 2, seed: int = 0) -> WindowRecord:
    """Steps at uneven times, two months apart at most."""
    rng = np.random.default_rng(seed)
    gaps = rng.integers(1, 2**32, timesteps)
    return WindowRecord(
        partition=TopicPartition("records", 7),
        series="sørie",
        number=number,
        first_offset=10,
        last_offset=13,
        at_ms=START_MS + np.cumsum(gaps),
        values=rng.normal(size=(timesteps, features)) * 1e9,
        before=rng.normal(size=features) if number else np.full(features, np.nan),
        median=rng.normal(size=features),
        spread=rng.uniform(1e-12, 1, features),
    )


def assert_same(found: WindowRecord, wanted: WindowRecord) -> None:
    for name in WindowRecord.__slots__:
        np.testing.assert_array_equal(getattr(found, name), getattr(wanted, name), name)


def refusal(value: bytes) -> WindowError:
    with pytest.raises(WindowError) as refused:
        decode(value)
    return refused.value


def altered(value: bytes, at: int, new: bytes) -> bytes:
    """Other bytes at a place, and a checksum that agrees with them."""
    body = value[:at] + new + value[at + len(new) :]
    return body[:4] + zlib.crc32(body[8:]).to_bytes(4, "little") + body[8:]


class TestWindowRecord:
    @pytest.mark.parametrize("number", [0, 3, 2**40])
    def test_is_read_bit_for_bit_as_it_was_written(self, number: int) -> None:
        assert_same(decode(encode(window(number))), window(number))

    def test_may_hold_a_single_step(self) -> None:
        assert_same(decode(encode(window(timesteps=1))), window(timesteps=1))

    def test_is_the_same_alone_and_among_others(self) -> None:
        """The daemon encodes the windows of a round at once."""
        some = [window(seed=seed) for seed in range(5)]
        arrays = {
            name: np.stack([getattr(one, name) for one in some])
            for name in ("at_ms", "values", "before", "median", "spread")
        }
        numbers = np.arange(5)
        together = Windows(
            partitions=[TopicPartition(f"t{at}", at) for at in range(5)],
            series=[f"s{at}" * at for at in range(5)],
            numbers=numbers + 1,
            first_offsets=numbers * 10,
            last_offsets=numbers * 10 + 9,
            **arrays,
        )
        for at, value in enumerate(encode_windows(together)):
            own = replace(
                some[at],
                partition=TopicPartition(f"t{at}", at),
                series=f"s{at}" * at,
                number=at + 1,
                first_offset=at * 10,
                last_offset=at * 10 + 9,
            )
            assert value == encode(own)

    def test_takes_twelve_bytes_a_step_and_little_else(self) -> None:
        one = window(timesteps=16, features=1)
        assert len(encode(one)) < 16 * 12 + 100

    def test_tells_series_of_all_topics_apart(self) -> None:
        one = replace(window(), partition=TopicPartition("a", 1), series="b")
        assert one.source == "a[1]:b"


class TestRefusal:
    """Whatever is on the topic: no training process ends, or learns, from it."""

    @pytest.mark.parametrize("value", [b"", b"fcw", b"{}" * 40, encode(window())[1:]])
    def test_of_what_is_no_window(self, value: bytes) -> None:
        assert refusal(value).fault == "frame"

    def test_of_another_version(self) -> None:
        value = encode(window())
        error = refusal(value[:3] + b"\x02" + value[4:])
        assert (error.fault, str(error)) == ("schema", "window: schema 2, wanted 1")

    def test_of_every_flipped_byte(self) -> None:
        value = encode(window())
        for at in range(len(value)):
            refusal(value[:at] + bytes([value[at] ^ 1]) + value[at + 1 :])

    def test_of_every_shorter_value(self) -> None:
        value = encode(window())
        for size in range(len(value)):
            refusal(value[:size])

    @pytest.mark.parametrize("timesteps", [0, 5, 2**32 - 1])
    def test_of_a_length_that_its_shape_does_not_have(self, timesteps: int) -> None:
        """A checksum protects against accidents only; nothing of that size is ever allocated."""
        value = altered(encode(window()), 8, timesteps.to_bytes(4, "little"))
        assert refusal(value).fault == "frame"

    @pytest.mark.parametrize(
        "change",
        [
            {"values": np.array([[1.0, 2], [3, np.nan], [1, 2], [1, 2]])},
            {"values": np.array([[1.0, 2], [3, np.inf], [1, 2], [1, 2]])},
            {"values": np.full((4, 2), 1e39)},
            {"median": np.array([np.nan, 1])},
            {"spread": np.array([1.0, 0])},
            {"spread": np.array([1.0, -np.inf])},
            {"before": np.array([np.nan, 1])},
            {"number": 0},
            {"number": -1},
            {"first_offset": 14},
            {"first_offset": -1},
            {"at_ms": START_MS + np.array([0, 1, 1, 2])},
            {"at_ms": np.array([0, 1, 2, 3])},
        ],
    )
    def test_of_numbers_that_cannot_be(self, change: dict[str, Any]) -> None:
        error = refusal(encode(replace(window(), **change)))
        assert error.fault == "content"
        assert "records[7]:sørie@13" in str(error)

    def test_of_names_that_are_no_text(self) -> None:
        at = encode(window()).index("sørie".encode())
        error = refusal(altered(encode(window()), at, b"\xff"))
        assert str(error) == "window: name b'\\xff\\xc3\\xb8rie', wanted UTF-8"
