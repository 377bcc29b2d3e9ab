from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import get_args

import numpy as np
import pytest

from forecastd.ingest.event_time import TimeFormat, to_ms, to_ms_or_zero, whole_numbers_to_ms

FORMS: tuple[TimeFormat, ...] = get_args(TimeFormat)
MS = 1_467_331_200_123  # 2016-07-01T00:00:00.123Z


class TestToMs:
    @pytest.mark.parametrize(
        ("time", "form"),
        [
            ("2016-07-01T00:00:00.123Z", "iso8601"),
            ("2016-07-01T00:00:00.123456789Z", "iso8601"),
            ("2016-07-01 00:00:00.123", "iso8601"),  # without an offset: UTC
            ("2016-07-01T02:00:00.123+02:00", "iso8601"),
            ("2016-06-30T18:30:00,123-0530", "iso8601"),
            (" 2016-07-01T00:00:00.123Z\n", "iso8601"),
            ("20160701T000000.123Z", "iso8601"),
            ("2016-07-01t00:00:00.123z", "iso8601"),
            ("2016-W26-5T00:00:00.123Z", "iso8601"),
            ("2016-07-01T00:00:00.123Z", "auto"),
            (1_467_331_200.123, "s"),
            ("1467331200.123", "s"),
            (1_467_331_200_123, "ms"),
            (1_467_331_200_123.9, "ms"),
            ("1467331200123", "ms"),
            (1_467_331_200_123_999, "us"),
            (1_467_331_200_123_999_999, "ns"),
            (1_467_331_200.123, "auto"),
            (1_467_331_200_123, "auto"),
            (1_467_331_200_123_456, "auto"),
            (1_467_331_200_123_456_789, "auto"),
            ("1467331200.123", "auto"),
            ("1467331200123", "auto"),
            ("1467331200123456789", "auto"),
        ],
    )
    def test_reads_one_moment_in_all_its_forms(self, time: float | str, form: TimeFormat) -> None:
        assert to_ms(time, form) == MS

    @pytest.mark.parametrize(
        ("time", "form"),
        [
            ("", "auto"),
            ("yesterday", "auto"),
            ("2016-13-01", "auto"),
            ("2016-07-01T24:00:01Z", "auto"),
            ("2016-12-31T23:59:60Z", "auto"),  # a leap second: Python's calendar has none
            ("1_467_331_200", "auto"),
            ("1_467_331_200", "s"),
            ("nan", "auto"),
            ("inf", "auto"),
            (1e20, "auto"),
            (-(10**30), "auto"),
            (1_467_331_200, "iso8601"),
            ("2016-07-01", "s"),
            ("2016-07-01", "ns"),
            ("", "ms"),
        ],
    )
    def test_refuses_what_is_no_time(self, time: float | str, form: TimeFormat) -> None:
        with pytest.raises(ValueError, match=r".+"):
            to_ms(time, form)

    @pytest.mark.parametrize(
        "time",
        [
            "2016-06-30T24:00:00Z", "2016-06-30T24:00Z", "2016-06-30T24", "20160630T240000.000Z",
            "2016-06-30 24:00:00", "2016-06-30_24:00:00,000", "2016-06-30t24:00:00z",
            "2016-06-30T24:00:00+00:00", "2016-W26-4T24:00", "2016-07-01T02:00+02:00",
        ],
    )  # fmt: skip
    @pytest.mark.parametrize("form", ["auto", "iso8601"])
    def test_reads_the_end_of_a_day(self, time: str, form: TimeFormat) -> None:
        """Whichever Python runs: its own reading of hour 24 changed between versions."""
        assert to_ms(time, form) == 1_467_331_200_000

    @pytest.mark.parametrize(
        ("time", "same"),
        [
            ("2016-06-24T00:24:00Z", "2016-06-24T00:23:60Z"),
            ("2016-06-13T00:00:24Z", "2016-06-13T00:00:23.999+00:00"),
            ("2016-W24", "2016-06-13"),
            ("2016-W24-1", "2016-06-13"),
            ("20160624", "2016-06-24"),
        ],
    )
    def test_takes_no_other_24_for_an_hour(self, time: str, same: str) -> None:
        day = datetime.fromisoformat(same[:10]).replace(tzinfo=UTC)
        since_ms = to_ms(time, "iso8601") - int(day.timestamp()) * 1_000
        assert 0 <= since_ms <= 24 * 60_000

    @pytest.mark.parametrize("time", ["2016-07-01T24:01Z", "2016-07-01T00:00+24:00", "9999-12-32"])
    def test_refuses_what_24_cannot_be(self, time: str) -> None:
        with pytest.raises(ValueError, match=r".+"):
            to_ms(time, "iso8601")

    def test_of_a_basic_date_depends_on_the_form(self) -> None:
        """`20160701` is a date where ISO 8601 is expected, and a number where anything may come."""
        assert to_ms("20160701", "iso8601") == 1_467_331_200_000
        assert to_ms("20160701", "auto") == 20_160_701_000

    def test_rounds_down_before_the_epoch_too(self) -> None:
        assert to_ms("1969-12-31T23:59:59.999999Z", "iso8601") == -1
        assert to_ms(-1, "us") == -1
        assert to_ms(-1.5, "ms") == -2

    @pytest.mark.parametrize("unit_per_s", [1, 1_000, 1_000_000, 1_000_000_000])
    def test_tells_units_apart_from_1990_to_2286(self, unit_per_s: int) -> None:
        for moment in (datetime(1990, 1, 1, tzinfo=UTC), datetime(2286, 11, 20, tzinfo=UTC)):
            seconds = round(moment.timestamp())
            assert to_ms(seconds * unit_per_s, "auto") == seconds * 1_000
            assert to_ms(float(seconds * unit_per_s), "auto") == seconds * 1_000

    def test_of_a_float_of_seconds_is_the_millisecond_that_was_written(self) -> None:
        """1700000000.001 is stored as ...000.0009999: plain truncation would lose a millisecond."""
        for ms in range(1_700_000_000_000, 1_700_000_001_000):
            assert to_ms(ms / 1000, "s") == ms

    def test_reads_back_what_python_writes(self) -> None:
        rng, start = np.random.default_rng(0), datetime(1990, 1, 1, tzinfo=UTC)
        for _ in range(300):
            moment = start + timedelta(microseconds=int(rng.integers(0, 3 * 10**15)))
            wanted = (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
            assert to_ms(moment.isoformat(), "auto") == wanted


class TestToMsOrZero:
    @pytest.mark.parametrize("form", FORMS)
    @pytest.mark.parametrize(
        "time",
        [1e308, -1e308, 10**4000, -(10**4000), "nan", "inf", "-inf", "1e400", "x", "", -1, 2**63],
    )
    def test_fits_an_int64_whatever_it_is_given(self, time: float | str, form: TimeFormat) -> None:
        """One absurd time must cost one record, not the daemon."""
        assert 0 <= to_ms_or_zero(time, form) <= 2**62

    def test_is_zero_where_there_is_no_time(self) -> None:
        assert to_ms_or_zero("n/a", "auto") == 0


class TestWholeNumbersToMs:
    @pytest.mark.parametrize("form", FORMS)
    def test_is_to_ms_or_zero_of_each(self, form: TimeFormat) -> None:
        rng = np.random.default_rng(0)
        sizes = 10.0 ** rng.uniform(0, 18.9, 2_000)
        times = [int(size) * int(rng.choice([-1, 1, 1, 1])) for size in sizes]
        edges = (10**11, 10**14, 10**17, 2**62 // 1_000)
        times += [edge + by for edge in edges for by in (-1, 0, 1)]
        times += [0, -1, 2**63 - 1, -(2**63) + 1]
        found = whole_numbers_to_ms(np.array(times, np.int64), form)
        wanted = [to_ms_or_zero(time, form) for time in times]
        # Beyond 2**62 ms both are absurd, and need not agree to the last digit.
        assert np.minimum(found, 2**61).tolist() == [min(time, 2**61) for time in wanted]
