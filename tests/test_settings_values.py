from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from forecastd.settings_values import (
    Count,
    Duration,
    FieldPaths,
    Flag,
    Number,
    OptionalCount,
    OptionalSecret,
    OptionalText,
    OptionalUrl,
    Quantiles,
    Replicas,
    Season,
    Servers,
    Size,
    SourceText,
    Start,
    Timeout,
    Topic,
    Topics,
    Whole,
    format_bytes,
    format_duration,
    not_built,
    parse_bytes,
    parse_duration_ms,
)


def read(kind: Any, value: object) -> Any:
    return TypeAdapter(kind).validate_python(value)


def wanted(kind: Any, value: object) -> str:
    """What the one fault of a value says it wants."""
    with pytest.raises(ValidationError) as refused:
        read(kind, value)
    (error,) = refused.value.errors()
    return error["msg"]


class TestDuration:
    @pytest.mark.parametrize(
        ("text", "ms"),
        [("250ms", 250), ("15s", 15_000), ("1.5m", 90_000), ("2 h", 7_200_000), ("0s", 0)],
    )
    def test_is_whole_milliseconds(self, text: str, ms: int) -> None:
        assert read(Duration, text) == ms

    @pytest.mark.parametrize("value", ["15", 15, 1.5, True, None, "", "s", "-1s", "1e3s", "5 days"])
    def test_needs_a_number_and_a_unit(self, value: object) -> None:
        """A bare 15 would be read as seconds by one operator and as ms by the next."""
        assert wanted(Duration, value) == "a duration with a unit, such as 15s, 5m or 2h"

    def test_has_an_end(self) -> None:
        assert wanted(Duration, "521w") == "a duration of at most 520w"

    @given(st.integers(0, 520 * 7 * 24 * 3_600_000))
    def test_is_shown_as_text_that_reads_back(self, ms: int) -> None:
        assert parse_duration_ms(format_duration(ms)) == ms

    @pytest.mark.parametrize("text", ["0s", "25d"])
    def test_of_a_timeout_is_above_0_and_fits_the_protocol(self, text: str) -> None:
        assert wanted(Timeout, text) == "a duration above 0 and of at most 24d"


class TestSize:
    @pytest.mark.parametrize(
        ("value", "size"), [("900kB", 900_000), ("8MiB", 8_388_608), ("1 B", 1), (512, 512)]
    )
    def test_is_whole_bytes(self, value: object, size: int) -> None:
        assert read(Size, value) == size

    @pytest.mark.parametrize("value", ["8", "0MB", 0, -1, True, 1.5, "8 GB", ""])
    def test_needs_a_unit_and_is_above_0(self, value: object) -> None:
        assert wanted(Size, value) == "a size above 0 with a unit, such as 900kB or 8MB"

    @given(st.integers(1, 10**12 - 1))
    def test_is_shown_as_text_that_reads_back(self, size: int) -> None:
        assert parse_bytes(format_bytes(size)) == size


class TestList:
    @pytest.mark.parametrize(
        "value", ['["a", "b"]', "a,b", "a, b", ["a", "b"], ("a", "b"), ' ["a","b"]']
    )
    def test_is_json_or_parts_between_commas(self, value: object) -> None:
        assert read(Topics, value) == ("a", "b")

    def test_may_be_a_single_text(self) -> None:
        assert read(Topics, "a") == ("a",)

    @pytest.mark.parametrize("value", ["", "none", "None", []])
    def test_may_be_empty_where_that_means_something(self, value: object) -> None:
        assert read(FieldPaths, value) == ()

    def test_that_looks_like_json_must_be_json(self) -> None:
        sentence = 'a JSON list such as ["a", "b"], or parts between commas'
        assert wanted(Topics, '["a"') == sentence


class TestNumber:
    @pytest.mark.parametrize("value", [True, False, "1", "0.5", None, []])
    @pytest.mark.parametrize(
        ("kind", "wish"),
        [
            (Count, "a whole number"), (Whole, "a whole number"), (Replicas, "a whole number"),
            (Number, "a number"),
        ],
    )  # fmt: skip
    def test_is_nothing_else(self, kind: Any, wish: str, value: object) -> None:
        """Pydantic reads true as 1, and text as the number that it holds."""
        assert wanted(kind, value) == wish

    @pytest.mark.parametrize("kind", [Count, Whole, Replicas])
    def test_that_is_whole_is_written_so(self, kind: Any) -> None:
        assert wanted(kind, 16.0) == "a whole number"

    def test_may_be_whole_where_it_need_not(self) -> None:
        assert read(Number, 1) == 1.0

    @pytest.mark.parametrize("value", [SourceText("nan"), SourceText("inf"), float("nan")])
    def test_is_finite(self, value: object) -> None:
        assert "finite" in wanted(Number, value)

    def test_fits_what_it_is_stored_in(self) -> None:
        assert read(Count, 2**31 - 1) == 2**31 - 1
        assert "less than or equal" in wanted(Count, 2**31)

    def test_of_replicas_is_not_0(self) -> None:
        assert read(Replicas, -1) == -1
        assert wanted(Replicas, 0) == "at least 1, or -1 for the broker's default"


class TestFlag:
    @pytest.mark.parametrize("value", ["yes", "true", 1, 0, 1.0, None])
    def test_is_true_or_false(self, value: object) -> None:
        """Pydantic reads 1 and "yes" as true."""
        assert wanted(Flag, value) == "true or false"
        assert [read(Flag, value) for value in (True, False)] == [True, False]


class TestSourceText:
    """The environment, a secrets directory and the command line know nothing but text."""

    @pytest.mark.parametrize(
        ("kind", "text", "value"),
        [
            (Count, "16", 16), (Replicas, "-1", -1), (Number, "0.5", 0.5), (Flag, "yes", True),
            (Flag, "false", False), (Season, "24", 24), (OptionalCount, "4", 4),
            (Quantiles, "0.1, 0.5", (0.1, 0.5)), (Quantiles, "[0.1, 0.5]", (0.1, 0.5)),
        ],
    )  # fmt: skip
    def test_is_read_as_what_is_wanted(self, kind: Any, text: str, value: object) -> None:
        assert read(kind, SourceText(text)) == value

    def test_stays_in_no_value(self) -> None:
        """What is made of it is plain text, which every encoder knows."""
        for kind in (Topic, Start, OptionalText):
            assert type(read(kind, SourceText("latest"))) is str

    def test_between_commas_is_that_of_a_file_too(self) -> None:
        assert read(Quantiles, "0.1, 0.5") == (0.1, 0.5)


class TestNone:
    @pytest.mark.parametrize("value", ["", "none", "None", None])
    @pytest.mark.parametrize("kind", [OptionalCount, OptionalSecret, OptionalUrl, Season])
    def test_can_be_written_where_there_is_no_null(self, kind: Any, value: object) -> None:
        """Neither TOML nor an environment has one, and a file's value must be revocable."""
        assert read(kind, value) is None


class TestName:
    @pytest.mark.parametrize("name", ["a", "a.b-c_D9", "x" * 249])
    def test_of_a_topic_is_what_kafka_allows(self, name: str) -> None:
        assert read(Topic, name) == name

    @pytest.mark.parametrize("name", ["", ".", "..", "a b", "ü", "x" * 250, "a/b"])
    def test_that_kafka_would_refuse_is_refused(self, name: str) -> None:
        assert "letters, digits" in wanted(Topic, name)

    @pytest.mark.parametrize("server", ["a:1", "10.0.0.1:9092", "[::1]:9092", "a.b-c:65535"])
    def test_of_a_server_has_a_port(self, server: str) -> None:
        assert read(Servers, server) == (server,)

    @pytest.mark.parametrize("server", ["a", "a:", ":1", "a:0", "a:65536", "kafka://a:1", "::1:5"])
    def test_of_a_server_is_nothing_else(self, server: str) -> None:
        assert wanted(Servers, server) == "host:port, such as localhost:9092"

    @pytest.mark.parametrize("path", ["", ".", "a.", ".a", "a..b"])
    def test_of_a_field_has_no_empty_part(self, path: str) -> None:
        assert wanted(FieldPaths, [path]) == "a field path such as value or fields.value"

    @pytest.mark.parametrize("url", ["ftp://a/", "login.example/token", "https://"])
    def test_of_a_token_server_is_http(self, url: str) -> None:
        """Whatever else urllib opens, files included, is not for a setting to choose."""
        assert "https://" in wanted(OptionalUrl, url)


class TestStart:
    @pytest.mark.parametrize("text", ["earliest", "latest", "6h"])
    def test_is_an_end_or_a_duration_back(self, text: str) -> None:
        assert read(Start, text) == text

    def test_is_nothing_else(self) -> None:
        assert wanted(Start, "soon") == "earliest, latest or a duration back, such as 6h"


class TestNotBuilt:
    def test_names_what_is_built(self) -> None:
        zone = Annotated[str, not_built("another zone", "UTC")]
        assert read(zone, "UTC") == "UTC"
        assert wanted(zone, "CET") == "UTC (another zone is not built yet)"

    @pytest.mark.parametrize("value", ["1d", "24h", "24", 1.5, True])
    def test_is_a_season_as_a_duration(self, value: object) -> None:
        assert "a duration needs windows.step, which is not built yet" in wanted(Season, value)

    @pytest.mark.parametrize("value", [24, SourceText("24")])
    def test_is_not_said_of_a_season_in_steps(self, value: object) -> None:
        assert read(Season, value) == 24
