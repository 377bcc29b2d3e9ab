from typing import Any

import pytest
from pydantic import ValidationError

from forecastd.settings import Settings
from forecastd.settings_rules import RULES, Fault, broken_rules, hints


def faults(**sections: dict[str, Any]) -> list[str]:
    """What the rules say of these settings, one sentence each."""
    with pytest.raises(ValidationError) as refused:
        Settings.model_validate(sections)
    (error,) = refused.value.errors()
    return error["msg"].splitlines()


class TestRules:
    def test_hold_for_the_defaults(self) -> None:
        assert not list(broken_rules(Settings().value_of))

    def test_read_settings_that_exist(self) -> None:
        defaults = Settings()
        for rule in RULES:
            for name in rule.reads:
                defaults.value_of(name)

    def test_are_judged_together(self) -> None:
        """One restart for each fault is what an operator must not need."""
        found = faults(windows={"stride": 5}, forecast={"quantiles": [0.9]})
        assert found == [
            "windows.stride: 5, wanted a divisor of windows.timesteps (16)",
            "forecast.quantiles: 0.9, wanted ascending quantiles with 0.5 among them",
        ]

    def test_about_what_cannot_be_read_are_left_out(self) -> None:
        """A default in the place of a bad value would make faults that are not there."""
        values = {**{name: None for rule in RULES for name in rule.reads}, "windows.stride": 5}
        unreadable = {name for name in values if not name.startswith("windows.")}
        values["windows.timesteps"] = 16
        assert [fault.where for fault in broken_rules(values.get, unreadable)] == ["windows.stride"]
        assert not list(broken_rules(values.get, unreadable | {"windows"}))

    def test_say_where_a_value_came_from(self) -> None:
        fault = Fault("windows.stride", "5", "a divisor of 16")
        assert fault.sentence("command line") == (
            "windows.stride: 5 (command line), wanted a divisor of 16"
        )


class TestLogin:
    def test_needs_a_mechanism_where_the_protocol_has_one(self) -> None:
        assert faults(kafka={"security_protocol": "SASL_SSL"}) == [
            "kafka.sasl_mechanism: none, wanted a mechanism with kafka.security_protocol SASL_SSL"
        ]

    def test_needs_a_protocol_that_has_one(self) -> None:
        """Without this rule the password would be ignored, and the connection in the clear."""
        (sentence,) = faults(
            kafka={"sasl_mechanism": "PLAIN", "sasl_username": "a", "sasl_password": "b"}
        )
        assert sentence.startswith("kafka.sasl_mechanism: PLAIN with kafka.security_protocol PLAIN")

    @pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
    def test_with_a_password_needs_one(self, mechanism: str) -> None:
        found = faults(kafka={"security_protocol": "SASL_SSL", "sasl_mechanism": mechanism})
        assert [sentence.partition(":")[0] for sentence in found] == [
            "kafka.sasl_username",
            "kafka.sasl_password",
        ]

    def test_with_tokens_needs_who_gives_them_to_whom(self) -> None:
        found = faults(kafka={"security_protocol": "SASL_SSL", "sasl_mechanism": "OAUTHBEARER"})
        assert [sentence.partition(":")[0] for sentence in found] == [
            "kafka.oauth_token_url",
            "kafka.oauth_client_id",
            "kafka.oauth_client_secret",
        ]

    def test_at_msk_needs_tls(self) -> None:
        (sentence,) = faults(
            kafka={"security_protocol": "SASL_PLAINTEXT", "sasl_mechanism": "AWS_MSK_IAM"}
        )
        assert sentence.endswith("wanted SASL_SSL with AWS_MSK_IAM")


class TestCertificate:
    def test_needs_its_key(self) -> None:
        found = faults(kafka={"security_protocol": "SSL", "ssl_certfile": "a.pem"})
        assert found == ["kafka.ssl_keyfile: none, wanted the key of kafka.ssl_certfile"]

    def test_is_not_ignored(self) -> None:
        """A connection in the clear with a file of authorities looks safe, and is not."""
        (sentence,) = faults(kafka={"ssl_cafile": "ca.pem"})
        assert sentence.startswith("kafka.ssl_cafile: a file with kafka.security_protocol PLAIN")


class TestTimeouts:
    def test_of_a_request_is_one_that_the_client_takes(self) -> None:
        for request in ("500ms", "9m"):
            kafka = {"request_timeout": request, "delivery_timeout": "10m"}
            (sentence,) = faults(kafka={**kafka, "max_poll_interval": "20m"})
            assert sentence.endswith("wanted more than 500ms and less than 9m")

    def test_nest(self) -> None:
        found = faults(kafka={"delivery_timeout": "5s", "max_poll_interval": "4s"})
        assert found == [
            "kafka.max_poll_interval: 4s, wanted at least kafka.session_timeout (10s)",
            "kafka.delivery_timeout: 5s, wanted at least kafka.request_timeout (10s)",
            "kafka.max_poll_interval: 4s, wanted more than kafka.delivery_timeout (5s)",
        ]


class TestTopics:
    def test_of_input_differ(self) -> None:
        (sentence,) = faults(ingest={"topics": ["a", "b", "a"]})
        assert sentence == "ingest.topics: 'a' twice, wanted different topics"

    def test_of_output_are_no_input(self) -> None:
        """The daemon would forecast its own forecasts, for ever."""
        (sentence,) = faults(publish={"topic": "records"})
        assert sentence.startswith("publish.topic: 'records', which is an input topic too")

    def test_of_output_are_no_state_topic(self) -> None:
        (sentence,) = faults(ingest={"dead_letter_topic": "forecastd-records-state"})
        assert "which is the state topic of records too" in sentence

    def test_of_state_are_no_input(self) -> None:
        (sentence,) = faults(ingest={"topics": ["records", "forecastd-records-state"]})
        assert sentence.startswith("kafka.group_id: 'forecastd', whose state topic of records is")

    @pytest.mark.parametrize("purpose", ["models", "windows"])
    def test_of_training_are_no_other(self, purpose: str) -> None:
        topic = f"forecastd-{purpose}"
        (sentence,) = faults(ingest={"topics": [topic]})
        assert sentence.startswith(
            f"kafka.group_id: 'forecastd', whose {purpose} topic is an input topic"
        )
        (sentence,) = faults(publish={"topic": topic})
        assert f"which is the {purpose} topic too" in sentence

    def test_of_output_and_dead_letters_differ(self) -> None:
        (sentence,) = faults(publish={"topic": "dead-letters"})
        assert "which is the dead-letter topic too" in sentence

    def test_of_state_have_names_that_kafka_allows(self) -> None:
        (sentence,) = faults(kafka={"group_id": "g" * 200}, ingest={"topics": ["t" * 100]})
        assert "58 characters too long" in sentence


class TestPaths:
    def test_differ(self) -> None:
        (sentence,) = faults(ingest={"values": ["a", "b", "a"]})
        assert sentence == "ingest.values: 'a' twice, wanted different paths"

    def test_are_not_shared_by_two_settings(self) -> None:
        """A field that is a series name cannot be its value as well."""
        (sentence,) = faults(ingest={"values": ["a"], "series": ["a"]})
        wanted = "ingest.series: 'a', which is in ingest.values too, wanted a path of its own"
        assert sentence == wanted

    def test_do_not_lead_into_each_others_values(self) -> None:
        """`a` cannot be a number and a table with a field `b`."""
        found = faults(ingest={"values": ["a.b.c"], "series": ["a"], "time": "a.b"})
        assert found == [
            "ingest.time: 'a.b' inside 'a', wanted no path inside another's value",
            "ingest.values: 'a.b.c' inside 'a', wanted no path inside another's value",
            "ingest.values: 'a.b.c' inside 'a.b', wanted no path inside another's value",
        ]


class TestSteps:
    def test_of_a_stride_divide_the_window(self) -> None:
        Settings.model_validate({"windows": {"timesteps": 12, "stride": 4}})
        (sentence,) = faults(windows={"timesteps": 12, "stride": 24})
        assert sentence == "windows.stride: 24, wanted a divisor of windows.timesteps (12)"

    def test_of_a_segment_divide_the_window(self) -> None:
        (sentence,) = faults(windows={"timesteps": 12}, forecast={"segment": 5})
        assert sentence == "forecast.segment: 5, wanted a divisor of windows.timesteps (12)"


class TestQuantiles:
    @pytest.mark.parametrize("quantiles", [[0.1, 0.9], [0.5, 0.1], [0.5, 0.5], []])
    def test_ascend_and_have_a_median(self, quantiles: list[float]) -> None:
        (sentence,) = faults(forecast={"quantiles": quantiles})
        assert sentence.endswith("wanted ascending quantiles with 0.5 among them")


class TestHints:
    def test_are_none_for_the_defaults(self) -> None:
        assert not list(hints(Settings().value_of))

    def test_name_steps_that_nobody_forecasts(self) -> None:
        settings = Settings.model_validate({"forecast": {"horizon": 4}})
        (hint,) = hints(settings.value_of)
        assert hint == (
            "forecast.horizon: 4, less than the 16 steps from one window to the next,"
            " so that 12 of them are forecast by nobody"
        )
