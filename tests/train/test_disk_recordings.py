from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from forecastd.errors import FileError
from forecastd.ingest.event_time import to_ms
from forecastd.records import Decoded, Observations, Record, Reject, TopicPartition
from forecastd.train.disk_recordings import Decode, ParseTime, opened, read_csv, read_json_lines


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "host.csv"


def read(file: Path, text: str) -> Observations:
    file.write_text(text, encoding="utf-8")
    return read_table(file, lambda time: to_ms(time, "auto"))


def read_table(file: Path, parse_time: ParseTime) -> Observations:
    with opened(file) as recording:
        return read_csv(recording, parse_time)


def read_lines(file: Path, decode: Decode) -> Observations:
    with opened(file) as recording:
        return read_json_lines(recording, decode)


def is_json_lines(file: Path) -> bool:
    with opened(file) as recording:
        return recording.is_json_lines


def fault(file: Path, text: str) -> str:
    """What is said of a file, without the folder that it lies in."""
    with pytest.raises(FileError) as raised:
        read(file, text)
    return str(raised.value).removeprefix(f"{file.parent}/")


class TestCsv:
    def test_is_one_observation_a_cell_row_by_row(self, file: Path) -> None:
        found = read(file, "date,cpu,mem\n2020-01-01 00:00:00,1,2\n2020-01-01 00:00:10,3,4.5\n")
        assert found.partition == TopicPartition("host.csv", 0)
        assert found.series == ["cpu", "mem", "cpu", "mem"]
        assert found.values.tolist() == [[1], [2], [3], [4.5]]
        assert found.offsets.tolist() == [0, 0, 1, 1]
        assert np.unique(found.at_ms).tolist() == [1577836800000, 1577836810000]
        assert found.recorded_ms.tolist() == found.at_ms.tolist()

    @pytest.mark.parametrize("empty", ["", " ", "NaN", "nan"])
    def test_has_no_observation_in_an_empty_cell(self, file: Path, empty: str) -> None:
        found = read(file, f"date,a,b\n2020-01-01,{empty},2\n2020-01-02,3,{empty}\n")
        assert found.series == ["b", "a"]
        assert found.offsets.tolist() == [0, 1]

    @pytest.mark.parametrize(
        "time",
        [
            "2020-01-01 00:00:00", "2020-01-01T00:00:00Z", "2020-01-01T02:00:00+02:00",
            "1577836800", "1577836800.0", "1577836800000", "1577836800000000",
            "1577836800000000000",
        ],
    )  # fmt: skip
    def test_reads_time_in_any_common_form(self, file: Path, time: str) -> None:
        assert read(file, f"timestamp,a\n{time},1\n").at_ms.tolist() == [1577836800000]

    @pytest.mark.parametrize("header", ["date,a", "Timestamp, a ", '"date","a"', "\ufeffdate,a"])
    def test_takes_its_header_as_people_write_it(self, file: Path, header: str) -> None:
        assert read(file, f"{header}\r\n2020-01-01,1\r\n").series == ["a"]

    def test_skips_empty_lines_and_counts_rows_without_them(self, file: Path) -> None:
        found = read(file, "date,a\n2020-01-01,1\n\n2020-01-02,2\n")
        assert found.offsets.tolist() == [0, 1]

    def test_may_have_no_rows(self, file: Path) -> None:
        assert read(file, "date,a\n").values.shape == (0, 1)


HEADER = "wanted a header that begins with date or timestamp"
TIME = "wanted ISO 8601 or a Unix time in s, ms, us or ns, from 1990 on"
NUMBER = "wanted a number in float32's range, or an empty cell"


class TestCsvFaults:
    """Where, found, wanted: the line as an editor counts it."""

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("", f"1: first column '', {HEADER}"),
            ("time,a\n", f"1: first column 'time', {HEADER}"),
            ("date\n", "1: no column but the time, wanted one column a series"),
            ("date,a,a\n", "1: column 'a' twice, wanted one column a series"),
            ("date,a,\n", "1: a column name of 0 bytes, wanted a series name of 1 to 512"),
            ("date,a\n2020-01-01,1\nsoon,2\n", f"3: time 'soon', {TIME}"),
            ("date,a\n20200101,1\n", f"2: time '20200101', {TIME}"),
            ("date,a\n2020-01-01,1\n\n2020-01-02,n/a\n", f"4: column 'a' is 'n/a', {NUMBER}"),
            ("date,a\n2020-01-01,inf\n", f"2: column 'a' is 'inf', {NUMBER}"),
            ("date,a\n2020-01-01,1_5\n", f"2: column 'a' is '1_5', {NUMBER}"),
            ("date,a\n1_577_836_800,1\n", f"2: time '1_577_836_800', {TIME}"),
            ("date,a\n2020-01-01,1e40\n", f"2: column 'a' is '1e40', {NUMBER}"),
            ("date,a\n2020-01-01,1,2\n", "2: 3 cells, wanted 2, as in the header"),
            ("date,a\n2020-01-01\n", "2: 1 cell, wanted 2, as in the header"),
            (f"date,a\n2020-01-01,{'x' * 99}\n", f"2: column 'a' is '{'x' * 40}...', {NUMBER}"),
            ('date,a\n2020-01-01,"1\n', "2: unexpected end of data, wanted CSV"),
        ],
    )
    def test_name_the_line(self, file: Path, text: str, said: str) -> None:
        assert fault(file, text) == f"host.csv:{said}"

    def test_of_a_file_that_is_not_there(self, file: Path) -> None:
        with pytest.raises(FileError, match="No such file or directory, wanted a CSV"):
            is_json_lines(file)

    def test_of_a_file_that_is_no_text(self, file: Path) -> None:
        file.write_bytes(b"date,a\n\xff\xfe")
        with pytest.raises(FileError, match="not UTF-8 at byte 7, wanted UTF-8 text"):
            read_table(file, int)


class TestJsonLines:
    def test_are_told_by_their_first_character_that_is_no_space(self, file: Path) -> None:
        """Empty lines are left out when the file is read, so they say nothing of its form."""
        for text, told in [
            ('{"a": 1}\n', True),
            ('\n \r\n  {"a": 1}\n', True),
            ("[{}]\n", True),
            ("date,a\n", False),
            ("\n", False),
            ("", False),
        ]:
            file.write_text(text)
            assert is_json_lines(file) is told

    def test_are_records_without_key_and_timestamp(self, file: Path) -> None:
        file.write_text('{"a": 1}\n\n  {"a": 2}  \r\n')
        given: list[Record] = []

        def decode(partition: TopicPartition, records: Sequence[Record]) -> Decoded:
            given.extend(records)
            none = np.empty(0, np.int64)
            empty = Observations(partition, [], none, np.empty((0, 1)), none, none)
            return Decoded(empty, [], 0)

        assert read_lines(file, decode).partition == TopicPartition("host.csv", 0)
        assert [(record.offset, record.value) for record in given] == [
            (0, b'{"a": 1}'),
            (2, b'{"a": 2}'),
        ]
        assert {(record.key, record.timestamp) for record in given} == {(None, -1)}

    def test_end_the_reading_at_the_first_that_cannot_be_used(self, file: Path) -> None:
        file.write_text('{"a": 1}\n[{"a": 1}, {"a": "x"}]\n')

        def decode(partition: TopicPartition, records: Sequence[Record]) -> Decoded:
            error = f"{partition}@1[1]: field 'a' is 'x', wanted a number"
            reject = Reject(partition, records[1], "type", error)
            none = np.empty(0, np.int64)
            return Decoded(
                Observations(partition, [], none, np.empty((0, 1)), none, none), [reject], 0
            )

        with pytest.raises(FileError) as raised:
            read_lines(file, decode)
        assert str(raised.value) == f"{file}:2[1]: field 'a' is 'x', wanted a number"


@pytest.mark.parametrize(
    "text", ["\ndate,a\n2020-01-01,1\n", '\n{"a": 1}\n', "date,a\n" + "2020-01-01,1\n" * 9_999]
)
def test_a_pipe_is_read_as_the_file_would_be(file: Path, text: str) -> None:
    """What came through it does not come again, so one opening must do for form and contents."""
    os.mkfifo(file)
    with ThreadPoolExecutor(1) as other_end:
        other_end.submit(file.write_text, text)
        with opened(file) as recording:
            assert "".join(recording.lines) == text
