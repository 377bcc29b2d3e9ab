from __future__ import annotations

import json
from typing import Any

import jsonschema
import numpy as np
import pytest

from forecastd.publish.message import encode_forecasts, forecast_schema, round_to_spread
from forecastd.records import Floats, Forecasts, TopicPartition

P2 = TopicPartition("records", 2)


def forecasts(**changed: Any) -> Forecasts:
    """One forecast of two leads, two quantiles and one value, unless told otherwise."""
    values = np.asarray(changed.pop("values", [[[[1.0], [2.0]], [[3.0], [4.0]]]]), np.float64)
    batch = len(values)
    told: dict[str, Any] = {
        "partitions": [P2] * batch,
        "series": [f"host.cpu{at}" for at in range(batch)],
        "origin_ms": np.full(batch, 1_790_000_000_000),
        "step_ms": np.full(batch, 10_000),
        "first_offsets": np.full(batch, 970),
        "last_offsets": np.full(batch, 1_041),
        "recorded_ms": np.full(batch, 1_790_000_000_100),
        "quantiles": (0.1, 0.5),
        "values": values,
        "spread": np.ones((batch, values.shape[3])),
        "is_cold": False,
        "is_model": np.full(batch, True),  # noqa: FBT003  # an array of them
        "model_version": "7-3fa9c1",
        "flags": [()] * batch,
    }
    return Forecasts(**{**told, **changed})


def only(made: Forecasts, targets: tuple[str, ...] = ("value",)) -> dict[str, Any]:
    (message,) = encode_forecasts(made, "forecasts", targets)
    read: dict[str, Any] = json.loads(message.value or b"")
    jsonschema.validate(read, forecast_schema())
    return read


class TestEncodeForecasts:
    def test_gives_the_message_of_the_contract(self) -> None:
        """DESIGN.md section 7, name by name."""
        (message,) = encode_forecasts(forecasts(flags=[("primed",)]), "forecasts", ("value",))
        assert message.topic == "forecasts"
        assert message.key == b"host.cpu0"
        assert json.loads(message.value or b"") == {
            "schema": 1,
            "id": "records-2-host.cpu0-1790000000000",
            "series": "host.cpu0",
            "origin_ms": 1_790_000_000_000,
            "step_ms": 10_000,
            "quantiles": [0.1, 0.5],
            "forecasts": {"value": [[1.0, 2.0], [3.0, 4.0]]},
            "source": "model",
            "model_version": "7-3fa9c1",
            "input": {"topic": "records", "partition": 2, "first_offset": 970, "last_offset": 1041},
            "flags": ["primed"],
        }

    def test_of_no_window_is_cold_and_nothing_else(self) -> None:
        read = only(forecasts(is_cold=True, is_model=np.array([False])))
        assert read["id"] == "records-2-host.cpu0-1790000000000-cold"
        assert read["flags"] == ["cold"]
        assert (read["source"], read["model_version"]) == ("baseline", None)

    def test_of_a_baseline_names_no_model_though_one_serves(self) -> None:
        read = only(forecasts(is_model=np.array([False])))
        assert (read["source"], read["model_version"]) == ("baseline", None)

    def test_of_a_single_step_has_no_step_ms(self) -> None:
        assert only(forecasts(step_ms=np.array([0])))["step_ms"] is None

    def test_puts_every_number_under_its_target_lead_and_quantile(self) -> None:
        values = np.arange(3 * 4 * 2 * 2, dtype=np.float64).reshape(3, 4, 2, 2)
        messages = encode_forecasts(forecasts(values=values), "forecasts", ("a", "b"))
        for batch, message in enumerate(messages):
            read = json.loads(message.value or b"")["forecasts"]
            assert read == {
                "a": values[batch, ..., 0].tolist(),
                "b": values[batch, ..., 1].tolist(),
            }

    @pytest.mark.parametrize(
        "name", ["x" * 512, "😀" * 128, '"quoted"\n\\ \u0000\u2028', "a-b-1", "<script>", "é"]
    )
    def test_carries_any_series_name(self, name: str) -> None:
        made = forecasts(series=[name])
        (message,) = encode_forecasts(made, "forecasts", ("value",))
        assert (message.key or b"").decode() == name
        read = only(made)
        assert read["series"] == name
        assert read["id"] == f"records-2-{name}-1790000000000"

    def test_numbers_read_back_as_they_were_rounded(self) -> None:
        rng = np.random.default_rng(0)
        values = rng.choice([-1, 1], (50, 3, 2, 1)) * 10.0 ** rng.uniform(-40, 38, (50, 3, 2, 1))
        spread = 10.0 ** rng.uniform(-40, 38, (50, 1))
        made = forecasts(values=values, spread=spread)
        rounded = round_to_spread(values, spread)
        for at, message in enumerate(encode_forecasts(made, "forecasts", ("value",))):
            read = json.loads(message.value or b"")
            assert read["forecasts"]["value"] == rounded[at, ..., 0].tolist()


class TestForecastSchema:
    def test_is_a_valid_schema(self) -> None:
        jsonschema.Draft202012Validator.check_schema(forecast_schema())

    @pytest.mark.parametrize(
        "changed",
        [
            {"schema": 2},
            {"flags": ["other"]},
            {"source": "guess"},
            {"step_ms": "10s"},
            {"forecasts": {"value": [[None]]}},
            {"input": {"topic": "records"}},
        ],
    )
    def test_refuses_what_is_no_such_message(self, changed: dict[str, Any]) -> None:
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**only(forecasts()), **changed}, forecast_schema())


def random_case(seed: int) -> tuple[Floats, Floats]:
    """Values of all sizes, some of them close together, and a spread that need not fit them."""
    rng = np.random.default_rng(seed)
    size = 10.0 ** rng.uniform(-40, 38.5)
    near = rng.choice([1e-16, 1e-9, 1e-3, 1.0])
    values = size * (rng.choice([-1, 0, 1]) + near * rng.normal(size=(4, 3, 5, 2)))
    return np.sort(values, axis=2), size * 10.0 ** rng.uniform(-30, 5, (4, 2))


class TestRoundToSpread:
    def test_keeps_quantiles_in_order(self) -> None:
        """Rounded one by one, at digits that differ with their size."""
        for seed in range(500):
            values, spread = random_case(seed)
            assert (np.diff(round_to_spread(values, spread), axis=2) >= 0).all(), seed

    def test_loses_nothing_that_matters(self) -> None:
        """A billionth of the value at most, and where that is coarser a millionth of the spread."""
        for seed in range(500):
            values, spread = random_case(seed)
            lost = np.abs(round_to_spread(values, spread) - values)
            allowed = np.minimum(5e-9 * np.abs(values), 5e-7 * spread[:, None, None])
            assert (lost <= allowed + 4e-16 * np.abs(values)).all(), seed

    def test_is_short_to_read(self) -> None:
        values = np.array([1 / 3, 2e9 / 3, 2e-9 / 3, 123456789.123456789, 0.1 + 0.2])
        found = round_to_spread(values.reshape(1, 1, 5, 1), np.array([[1e9]]))
        assert found.ravel().tolist() == [
            0.333333333,
            666666667.0,
            6.66666667e-10,
            123456789.0,
            0.3,
        ]

    def test_shows_a_small_move_of_a_large_counter(self) -> None:
        counter = 123_456_789_012.25
        found = round_to_spread(np.full((1, 1, 1, 1), counter), np.full((1, 1), 0.5))
        assert found.item() == counter

    def test_twice_changes_nothing(self) -> None:
        """A message that is read, and written again, is the same message."""
        for seed in range(200):
            values, spread = random_case(seed)
            once = round_to_spread(values, spread)
            np.testing.assert_array_equal(round_to_spread(once, spread), once)

    @pytest.mark.parametrize("value", [0.0, -0.0, 3.4e38, -3.4e38, 5e-324, 1e39])
    @pytest.mark.parametrize("spread", [5e-324, 1e-300, 1.0, 3e38])
    def test_leaves_the_ends_of_the_range_alone(self, value: float, spread: float) -> None:
        found = round_to_spread(np.full((1, 1, 1, 1), value), np.full((1, 1), spread)).item()
        assert found == pytest.approx(value, rel=1e-8)
