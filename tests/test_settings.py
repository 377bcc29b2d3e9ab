from typing import Any, get_args

import pytest
from pydantic import SecretStr, ValidationError

from forecastd.settings import KafkaSettings, Settings, all_settings, is_secret
from forecastd.settings_values import SourceText

SETTINGS = all_settings()


def with_(**sections: dict[str, Any]) -> Settings:
    return Settings.model_validate(sections)


class TestDefaults:
    def test_are_values_that_an_operator_could_type(self) -> None:
        """Defaults are not validated where they are defined, so that they can be plain numbers."""
        defaults = Settings()
        assert Settings.model_validate(defaults.model_dump(mode="json")) == defaults

    def test_are_of_the_form_that_the_core_gets(self) -> None:
        assert Settings().kafka.session_timeout == 10_000
        assert Settings().state.bytes_per_second == 32_000_000


class TestEverySetting:
    @pytest.mark.parametrize("name", SETTINGS)
    def test_says_what_it_means(self, name: str) -> None:
        description = SETTINGS[name].description
        assert description
        assert description.endswith((".", "*"))

    def test_is_listed_by_its_dotted_name_in_the_order_of_the_data_path(self) -> None:
        sections = list(dict.fromkeys(name.partition(".")[0] for name in SETTINGS if "." in name))
        assert [name for name in SETTINGS if "." not in name] == [
            "delivery",
            "startup_timeout",
            "shutdown_timeout",
        ]
        assert sections[:5] == ["kafka", "ingest", "windows", "forecast", "publish"]

    def test_refuses_a_neighbour_that_it_does_not_know(self) -> None:
        with pytest.raises(ValidationError):
            with_(windows={"timestep": 3})

    def test_cannot_be_changed(self) -> None:
        with pytest.raises(ValidationError):
            Settings().kafka.group_id = "other"  # type: ignore[misc]  # that is the point


class TestSecrets:
    def test_are_known(self) -> None:
        assert {name for name, field in SETTINGS.items() if is_secret(field)} == {
            "kafka.sasl_password",
            "kafka.oauth_client_secret",
            "kafka.ssl_password",
        }

    def test_are_named_so(self) -> None:
        """A password that is plain text would be printed by `forecastd settings`."""
        for name, field in SETTINGS.items():
            if name.endswith(("password", "secret", "token", "key")):
                assert SecretStr in get_args(field.annotation), name

    def test_are_not_in_a_repr(self) -> None:
        settings = KafkaSettings.model_validate({"sasl_password": "hunter2"})
        assert "hunter2" not in repr(settings) + str(settings) + settings.model_dump_json()

    def test_are_not_in_an_error(self) -> None:
        with pytest.raises(ValidationError) as refused:
            KafkaSettings.model_validate({"sasl_password": ["hunter2"]})
        assert "hunter2" not in str(refused.value)


class TestSegment:
    """The default must not stand in the way of who only changes `windows.timesteps`."""

    @pytest.mark.parametrize(
        ("timesteps", "segment"), [(16, 4), (6, 2), (7, 1), (12, 4), (SourceText("8"), 4)]
    )
    def test_by_default_divides_the_window(self, timesteps: object, segment: int) -> None:
        assert with_(windows={"timesteps": timesteps}).forecast.segment == segment

    def test_that_is_given_is_taken(self) -> None:
        assert with_(windows={"timesteps": 6}, forecast={"segment": 3}).forecast.segment == 3

    @pytest.mark.parametrize("timesteps", ["many", None, float("inf"), 0, [1]])
    def test_does_not_hide_a_window_that_cannot_be_read(self, timesteps: object) -> None:
        with pytest.raises(ValidationError) as refused:
            with_(windows={"timesteps": timesteps})
        assert [error["loc"] for error in refused.value.errors()] == [("windows", "timesteps")]


class TestDerived:
    def test_windows_tumble_unless_told_otherwise(self) -> None:
        assert Settings().windows.phases == 1
        assert with_(windows={"timesteps": 12, "stride": 3}).windows.phases == 4

    def test_a_tail_holds_a_season(self) -> None:
        assert with_(windows={"season": 10_000}).tail_steps == 10_000

    def test_a_state_topic_is_named_after_group_and_input(self) -> None:
        assert with_(kafka={"group_id": "g"}).state_topic("t") == "g-t-state"
