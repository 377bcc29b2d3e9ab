from collections.abc import Mapping

import pytest

from forecastd.architecture import Architecture, Recurrent
from forecastd.errors import ModelError
from forecastd.settings import Settings


def settings(**sections: Mapping[str, object]) -> Settings:
    return Settings.model_validate(sections)


def imported(**fields: object) -> Architecture:
    """An import of a plain Keras model."""
    known = {"cells": (Recurrent(cell="lstm", units=8),), "timesteps": 10, "features": 1}
    return Architecture(**{**known, "outputs": 1, "anchor": "none", **fields})  # type: ignore[arg-type]  # by name


class TestFromSettings:
    def test_has_the_documented_defaults(self) -> None:
        found = Architecture.from_settings(settings())
        assert found.cells == (Recurrent(cell="lstm", units=64),)
        assert (found.timesteps, found.segment, found.anchor) == (16, 4, "last")
        assert found.head_shape == (16, 3, 1)
        assert found.outputs == 48

    def test_is_a_point_model_unless_the_loss_is_for_quantiles(self) -> None:
        found = Architecture.from_settings(settings(training={"loss": "mse"}))
        assert found.quantiles == ()
        assert found.head_shape == (16, 1, 1)

    def test_reaches_the_shape_that_every_tutorial_shows(self) -> None:
        found = Architecture.from_settings(
            settings(
                windows={"timesteps": 10},
                forecast={
                    "horizon": 1,
                    "units": 32,
                    "segment": 1,
                    "scaling": "none",
                    "anchor": "none",
                },
                training={"loss": "mse"},
            )
        )
        assert found.cells == (Recurrent(cell="lstm", units=32),)
        assert (found.timesteps, found.step_features, found.outputs) == (10, 1, 1)

    def test_has_every_layer_and_every_value(self) -> None:
        found = Architecture.from_settings(
            settings(
                ingest={"values": ["a", "b"]}, forecast={"cell": "gru", "layers": 2, "horizon": 4}
            )
        )
        assert [(layer.cell, layer.state_parts) for layer in found.cells] == [("gru", ("h",))] * 2
        assert found.head_shape == (4, 3, 2)
        assert found.step_features == 2 * (4 + 1)


class TestFit:
    def test_takes_what_an_import_leaves_open_from_the_settings(self) -> None:
        model = imported(timesteps=None, outputs=8, features=2)
        names = {"values": ["a", "b"]}
        all_values = model.fit(settings(forecast={"horizon": 4}, ingest=names))
        assert (all_values.timesteps, all_values.head_shape) == (16, (4, 1, 2))
        first_alone = model.fit(settings(forecast={"horizon": 8}, ingest=names))
        assert first_alone.head_shape == (8, 1, 1)

    def test_says_every_fault_at_once(self) -> None:
        with pytest.raises(ModelError) as raised:
            imported().fit(settings(ingest={"values": ["a", "b"]}))
        assert str(raised.value).splitlines() == [
            "model: windows of 10 steps, wanted windows.timesteps (16)",
            "model: 1 value a step, wanted the 2 of ingest.values (a, b)",
            "model: 1 outputs (1 leads), wanted forecast.horizon (16) leads",
        ]

    def test_compares_names_where_values_could_be_mixed_up(self) -> None:
        made = settings(ingest={"values": ["a", "b"]})
        model = Architecture.from_settings(made)
        model.check_fits(made)
        with pytest.raises(ModelError, match=r"values a, b, wanted ingest.values \(b, a\)"):
            model.check_fits(settings(ingest={"values": ["b", "a"]}))

    def test_does_not_mind_the_name_of_a_single_value(self) -> None:
        model = Architecture.from_settings(settings(ingest={"values": ["value"]}))
        model.check_fits(settings(ingest={"values": ["cpu.load"]}))

    def test_refuses_another_horizon_than_it_was_trained_for(self) -> None:
        model = Architecture.from_settings(settings(ingest={"values": ["a", "b"]}))
        with pytest.raises(ModelError, match=r"96 outputs \(16 leads\), wanted forecast.horizon"):
            model.check_fits(settings(ingest={"values": ["a", "b"]}, forecast={"horizon": 32}))


class TestTargets:
    @pytest.mark.parametrize(("horizon", "targets"), [(4, 2), (8, 1)])
    def test_are_all_values_or_the_first(self, horizon: int, targets: int) -> None:
        assert imported(features=2, outputs=8).targets(horizon) == targets

    def test_of_another_horizon_do_not_exist(self) -> None:
        with pytest.raises(ModelError, match=r"8 outputs \(4 or 8 leads\), wanted .* \(5\) leads"):
            imported(features=2, outputs=8).targets(5)


class TestJson:
    def test_reads_back_what_it_wrote(self) -> None:
        cells = (
            Recurrent(cell="gru", units=3, activation="relu", use_bias=False, reset_after=False),
            Recurrent(cell="lstm", units=5, recurrent_activation="hard_sigmoid"),
        )
        model = imported(cells=cells, timesteps=None, output_activation="sigmoid")
        assert Architecture.from_json(model.to_json()) == model

    @pytest.mark.parametrize(
        "text",
        [
            b"{}",
            b"no json",
            imported().to_json().replace(b'"lstm"', b'"rnn"'),
            imported().to_json().replace(b'"units":8', b'"units":0'),
            imported().to_json().replace(b'"segment":1', b'"segment":3'),
        ],
    )
    def test_refuses_what_it_did_not_write(self, text: bytes) -> None:
        with pytest.raises(ModelError, match="wanted what forecastd wrote"):
            Architecture.from_json(text)
