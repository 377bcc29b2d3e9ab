import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from pydantic import ValidationError

from forecastd.settings import Settings, all_settings
from forecastd.settings_sources import Loaded, load_settings
from forecastd.settings_text import as_json, as_toml, json_schema, template

CONFIG = Path(__file__).parent.parent / "config" / "forecastd.toml"


def loaded(*overrides: str, **environ: str) -> Loaded:
    return load_settings(CONFIG, None, environ, overrides)


class TestShippedFile:
    def test_is_what_the_models_say(self) -> None:
        """Names, defaults and meaning are written down once, in settings.py.

        After a change there: `forecastd settings --template > config/forecastd.toml`.
        """
        assert CONFIG.read_text() == template()

    def test_changes_nothing_as_it_is(self) -> None:
        found = loaded()
        assert found.settings == Settings()
        assert set(found.sources.values()) == {"default"}

    def test_holds_every_default_behind_a_mark(self, tmp_path: Path) -> None:
        """An operator takes the mark off a line; that alone must change nothing."""
        config = tmp_path / "all.toml"
        config.write_text(re.sub(r"(?m)^#(?=\w+ = )", "", template()))
        found = load_settings(config, None, {}, ())
        assert found.settings == Settings()
        assert {name for name, source in found.sources.items() if source == "default"} == {
            "kafka.instance_id"
        }

    def test_fits_the_page(self) -> None:
        assert max(map(len, template().splitlines())) <= 100


class TestToml:
    def test_gives_each_value_a_line_with_its_source(self) -> None:
        found = loaded("--windows.timesteps=8", FORECASTD_KAFKA__GROUP_ID="g")
        lines = as_toml(found).splitlines()
        assert 'group_id = "g"  # from environment FORECASTD_KAFKA__GROUP_ID' in lines
        assert "timesteps = 8  # from command line" in lines
        assert 'startup_timeout = "1m"  # from default' in lines
        assert sum("  # from " in line for line in lines) == len(all_settings())

    def test_is_toml_that_means_the_same(self, tmp_path: Path) -> None:
        before = loaded('--ingest.values=["a \\"b\\"", "ü"]', "--kafka.instance_id=7")
        config = tmp_path / "again.toml"
        config.write_text(as_toml(before))
        assert tomllib.loads(config.read_text())["ingest"]["values"] == ['a "b"', "ü"]
        assert load_settings(config, None, {}, ()).settings == before.settings

    def test_shows_no_secret(self) -> None:
        found = loaded(FORECASTD_KAFKA__SSL_PASSWORD="hunter2")
        assert "hunter2" not in as_toml(found) + json.dumps(as_json(found))
        assert 'ssl_password = "***"  # from environment' in as_toml(found)


class TestJson:
    def test_holds_value_and_source_by_name(self) -> None:
        assert as_json(loaded("--kafka.bootstrap_servers=a:1,b:2"))["kafka.bootstrap_servers"] == {
            "value": ["a:1", "b:2"],
            "source": "command line",
        }


class TestJsonSchema:
    schema = json_schema()

    def test_is_one(self) -> None:
        Draft202012Validator.check_schema(self.schema)

    def test_fits_the_defaults_as_an_operator_types_them(self) -> None:
        Draft202012Validator(self.schema).validate(Settings().model_dump(mode="json"))

    def test_tells_what_every_setting_means_and_its_default(self) -> None:
        kafka = self.schema["$defs"]["KafkaSettings"]["properties"]
        assert kafka["group_id"]["description"].startswith("Consumer group.")
        assert kafka["session_timeout"]["default"] == "10s"
        assert self.schema["properties"]["startup_timeout"]["default"] == "1m"

    @pytest.mark.parametrize(
        "bad",
        [
            {"windows": {"timestep": 1}}, {"windows": {"timesteps": 0}},
            {"windows": {"timesteps": 4097}}, {"windows": {"stride": -1}},
            {"kafka": {"session_timeout": "10"}}, {"kafka": {"replication_factor": -2}},
            {"forecast": {"quantiles": [0.5, 1]}}, {"observe": {"port": 65_536}},
            {"training": {"learning_rate": 0}}, {"ingest": {"topics": []}},
        ],
    )  # fmt: skip
    def test_refuses_what_the_daemon_refuses(self, bad: dict[str, Any]) -> None:
        assert not Draft202012Validator(self.schema).is_valid(bad)
        with pytest.raises(ValidationError):
            Settings.model_validate(bad)

    def test_takes_lists_as_text_which_the_daemon_takes(self) -> None:
        lists = {"ingest": {"series": "none", "values": "a, b"}, "forecast": {"quantiles": "0.5"}}
        Draft202012Validator(self.schema).validate(lists)
        assert Settings.model_validate(lists).ingest.values == ("a", "b")

    def test_uses_only_words_of_json_schema(self) -> None:
        """A strict validator refuses a schema with others."""
        for section in self.schema["$defs"].values():
            for name, setting in section["properties"].items():
                assert not re.search(r'"(ge|gt|le|lt)":', json.dumps(setting)), name
