import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forecastd import settings_sources
from forecastd.errors import SettingsError
from forecastd.settings import Settings, all_settings, is_secret
from forecastd.settings_sources import Loaded, load_settings, split_overrides

SETTINGS = all_settings()


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder without `config/`, on a machine without secrets of ours."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(settings_sources, "DEFAULT_SECRETS", tmp_path / "run-secrets")


def toml(text: str, name: str = "mine.toml") -> Path:
    """A TOML file, given as an operator would: relative."""
    Path(name).parent.mkdir(exist_ok=True)
    Path(name).write_text(text)
    return Path(name)


def secrets(folder: str = "secrets", **files: str) -> Path:
    """A directory with these files."""
    Path(folder).mkdir(exist_ok=True)
    for name, text in files.items():
        (Path(folder) / name).write_text(text)
    return Path(folder)


def load(
    *overrides: str, config: Path | None = None, files: Path | None = None, **environ: str
) -> Loaded:
    return load_settings(config, files, environ, overrides)


def faults(
    *overrides: str, config: Path | None = None, files: Path | None = None, **environ: str
) -> Sequence[str]:
    with pytest.raises(SettingsError) as refused:
        load(*overrides, config=config, files=files, **environ)
    return refused.value.faults


class TestOrder:
    def test_lets_the_later_source_win(self) -> None:
        config = toml('[kafka]\ngroup_id = "1"\nclient_id = "1"\ninstance_id = "1"\n')
        files = secrets(
            kafka__client_id="2", kafka__instance_id="2", kafka__sasl_username="2", other="2"
        )
        environ = {
            "FORECASTD_KAFKA__INSTANCE_ID": "3",
            "FORECASTD_KAFKA__SASL_USERNAME": "3",
            "FORECASTD_OBSERVE__HOST": "3",
        }
        found = load(
            "--kafka.sasl_username=4", "--observe.port=4", config=config, files=files, **environ
        )
        kafka = found.settings.kafka
        assert (kafka.group_id, kafka.client_id, kafka.instance_id) == ("1", "2", "3")
        assert (kafka.sasl_username, found.settings.observe.port) == ("4", 4)
        assert {name: found.sources[name] for name in found.sources if "kafka." in name} | {
            "observe.port": "command line",
            "observe.host": "environment FORECASTD_OBSERVE__HOST",
        } == {
            **{name: "default" for name in SETTINGS if name.startswith("kafka.")},
            "kafka.group_id": "mine.toml",
            "kafka.client_id": "secrets secrets/kafka__client_id",
            "kafka.instance_id": "environment FORECASTD_KAFKA__INSTANCE_ID",
            "kafka.sasl_username": "command line",
            "observe.port": "command line",
            "observe.host": "environment FORECASTD_OBSERVE__HOST",
        }

    def test_begins_with_defaults(self) -> None:
        found = load()
        assert found.settings == Settings()
        assert found.sources == dict.fromkeys(SETTINGS, "default")

    def test_lets_a_good_value_hide_a_bad_one(self) -> None:
        """What is not in effect cannot be wrong; a file that many share may be overridden."""
        config = toml('[windows]\ntimesteps = "many"\n')
        assert load("--windows.timesteps=8", config=config).settings.windows.timesteps == 8

    def test_lets_a_later_source_take_a_value_back(self) -> None:
        config = toml('[kafka]\ninstance_id = "a"\n')
        assert load("--kafka.instance_id=none", config=config).settings.kafka.instance_id is None


class TestFile:
    def test_is_found_where_it_is_expected(self) -> None:
        toml("[observe]\nport = 1\n", "config/forecastd.toml")
        found = load()
        assert found.settings.observe.port == 1
        assert found.sources["observe.port"] == "config/forecastd.toml"

    def test_that_is_named_stands_alone(self) -> None:
        toml("[observe]\nport = 1\n", "config/forecastd.toml")
        assert load(config=toml("")).settings.observe.port == 9464

    def test_that_is_named_must_be_there(self) -> None:
        assert faults(config=Path("no.toml")) == (
            "--config: no.toml (no such file or directory), wanted a TOML file that can be read",
        )

    @pytest.mark.parametrize(
        ("text", "where"),
        [
            ("[kafka]\ngroup_id = \n", "line 2, column 12"),
            ("[kafka]\ngroup_id: 1\n", "line 2, column 9"),
            ("[kafka", "the last line"),
        ],
    )
    def test_that_is_no_toml_is_told_with_its_place(self, text: str, where: str) -> None:
        (sentence,) = faults(config=toml(text))
        assert re.fullmatch(rf"mine\.toml, {where}: [a-z].*, wanted TOML", sentence)

    def test_that_is_no_text_is_told(self) -> None:
        Path("mine.toml").write_bytes(b"a = '\xff'")
        assert faults(config=Path("mine.toml")) == ("mine.toml: byte 5 is not UTF-8, wanted TOML",)

    def test_must_have_tables_where_there_are_sections(self) -> None:
        assert faults(config=toml("kafka = 3\n")) == (
            "kafka: a single value (mine.toml), wanted a table, written [kafka]",
        )

    def test_says_of_each_value_what_it_is(self) -> None:
        """A number in quotes is a slip that would show where another program reads the file."""
        config = toml(
            """
            [kafka]
            create_topics = "yes"
            ssl_check_hostname = 1
            [windows]
            timesteps = "16"
            stride = 4.0
            [forecast]
            quantiles = ["0.1", 0.5, 0.9]
            [training]
            holdout = "0.2"
            """
        )
        assert faults(config=config) == (
            "kafka.create_topics: 'yes' (mine.toml), wanted true or false",
            "kafka.ssl_check_hostname: 1 (mine.toml), wanted true or false",
            "windows.timesteps: '16' (mine.toml), wanted a whole number",
            "windows.stride: 4.0 (mine.toml), wanted a whole number",
            "forecast.quantiles[0]: '0.1' (mine.toml), wanted a number",
            "training.holdout: '0.2' (mine.toml), wanted a number",
        )

    def test_holds_text_where_a_unit_belongs_to_the_value(self) -> None:
        config = toml(
            """
            startup_timeout = "5s"
            [ingest]
            topics = "a, b"
            [state]
            bytes_per_second = "1MB"
            [windows]
            season = "none"
            """
        )
        settings = load(config=config).settings
        assert settings.state.bytes_per_second == 1_000_000
        assert settings.ingest.topics == ("a", "b")
        assert settings.windows.season is None

    def test_holds_root_settings_at_its_top(self) -> None:
        assert load(config=toml('startup_timeout = "5s"\n')).settings.startup_timeout == 5_000


class TestEnvironment:
    def test_names_sections_and_root_settings(self) -> None:
        found = load(FORECASTD_OBSERVE__PORT="1", FORECASTD_SHUTDOWN_TIMEOUT="5s")
        assert found.settings.observe.port == 1
        assert found.settings.shutdown_timeout == 5_000

    def test_may_be_written_in_lower_case(self) -> None:
        assert load(forecastd_observe__port="1").settings.observe.port == 1

    @pytest.mark.parametrize("text", ['["a","b"]', "a,b", "a, b"])
    def test_holds_lists_as_json_or_with_commas(self, text: str) -> None:
        assert load(FORECASTD_INGEST__TOPICS=text).settings.ingest.topics == ("a", "b")

    def test_holds_numbers_and_flags_as_text(self) -> None:
        files = secrets(forecastd_training__holdout="0.1\n")
        found = load(
            "--kafka.create_topics=no", files=files, FORECASTD_WINDOWS__TIMESTEPS="8"
        ).settings
        assert (found.windows.timesteps, found.training.holdout) == (8, 0.1)
        assert found.kafka.create_topics is False

    def test_leaves_alone_what_an_orchestrator_adds(self) -> None:
        """Kubernetes sets these for a service called forecastd; with them nothing would start."""
        load(
            FORECASTD_PORT="tcp://10.0.0.1:9464",
            FORECASTD_PORT_9464_TCP_ADDR="10.0.0.1",
            FORECASTD_SERVICE_HOST="10.0.0.1",
            FORECASTD_KAFKA="x",
            PATH="/bin",
            OTHER__NAME="x",
        )

    @pytest.mark.parametrize(
        ("variable", "closest"),
        [
            ("FORECASTD_WINDOWS__TIMESTEP", "windows.timesteps"),
            ("FORECASTD_KAFKA__SASL__PASSWORD", "kafka.sasl_password"),
            ("FORECASTD_KAFAK__GROUP_ID", "kafka.group_id"),
            ("FORECASTD_FORECAST__LEARNING_RATE", "training.learning_rate"),
            ("FORECASTD__DELIVERY", "delivery"),
        ],
    )
    def test_must_mean_a_setting_and_is_told_which(self, variable: str, closest: str) -> None:
        environ: dict[str, Any] = {variable: "x"}
        (sentence,) = faults(**environ)
        assert sentence.endswith(f": no such setting (environment {variable}), wanted {closest}")

    def test_that_means_nothing_near_is_told_where_to_look(self) -> None:
        (sentence,) = faults(FORECASTD_XYZZY__PLUGH="x")
        assert sentence.endswith("wanted a name that `forecastd settings` lists")


class TestSecrets:
    @pytest.mark.parametrize(
        "name",
        ["FORECASTD_KAFKA__SSL_PASSWORD", "forecastd_kafka__ssl_password", "KAFKA__ssl_password"],
    )
    @pytest.mark.parametrize("text", ["hunter2", "hunter2\n", "hunter2\r\n"])
    def test_are_files_named_like_the_variables(self, name: str, text: str) -> None:
        password = load(files=secrets(**{name: text})).settings.kafka.ssl_password
        assert password is not None
        assert password.get_secret_value() == "hunter2"

    def test_keep_their_spaces(self) -> None:
        """Only what an editor adds at the end is not part of a password."""
        password = load(files=secrets(kafka__ssl_password=" a \n\n")).settings.kafka.ssl_password
        assert password is not None
        assert password.get_secret_value() == " a \n"

    def test_are_found_where_orchestrators_put_them(self, tmp_path: Path) -> None:
        secrets("run-secrets", FORECASTD_KAFKA__CLIENT_ID="a", kafka__group_id="b")
        kafka = load().settings.kafka
        assert (kafka.client_id, kafka.group_id) == ("a", "b")

    def test_of_others_are_left_alone(self) -> None:
        """Every pod has files there, and one may be a keystore, or unreadable."""
        folder = secrets("run-secrets", db_password="x", kafka__theirs="x", delivery="x")
        (folder / "keystore.jks").write_bytes(b"\xfe\xed")
        (folder / "kubernetes.io").mkdir()
        assert load().settings == Settings()

    def test_that_claim_to_be_ours_must_be(self) -> None:
        secrets("run-secrets", FORECASTD_KAFKA__SASL_PASWORD="hunter2")
        (sentence,) = faults()
        assert sentence.startswith("kafka.sasl_pasword: no such setting (secrets ")
        assert sentence.endswith("FORECASTD_KAFKA__SASL_PASWORD), wanted kafka.sasl_password")

    def test_in_a_directory_of_our_own_must_be_ours(self) -> None:
        (sentence,) = faults(files=secrets(kafka__sasl_pasword="hunter2", **{"ca.pem": "x"}))
        assert sentence.endswith("wanted kafka.sasl_password")

    def test_may_be_links_as_kubernetes_makes_them(self) -> None:
        folder = secrets("secrets")
        (folder / "..data").mkdir()
        (folder / "..data" / "kafka__group_id").write_text("linked")
        (folder / "kafka__group_id").symlink_to("..data/kafka__group_id")
        assert load(files=folder).settings.kafka.group_id == "linked"

    def test_must_be_text(self) -> None:
        folder = secrets("secrets")
        (folder / "kafka__ssl_password").write_bytes(b"\xff")
        (sentence,) = faults(files=folder)
        assert sentence.startswith("kafka.ssl_password: a file that cannot be read: not UTF-8 (se")

    def test_must_be_in_a_directory(self) -> None:
        assert faults(files=Path("nowhere")) == (
            "--secrets: nowhere (no such file or directory), wanted a directory that can be read",
        )


class TestCommandLine:
    @pytest.mark.parametrize(
        "words",
        [
            ("--kafka.group_id=a",),
            ("--kafka.group_id", "a"),
            ("--kafka.group-id", "a"),
            ("--KAFKA.GROUP-ID=a",),
        ],
    )
    def test_takes_a_value_in_one_word_or_two(self, words: tuple[str, ...]) -> None:
        assert load(*words).settings.kafka.group_id == "a"

    def test_takes_a_negative_number(self) -> None:
        assert load("--kafka.replication_factor", "-1").settings.kafka.replication_factor == -1

    def test_takes_a_value_with_equals_signs_and_spaces(self) -> None:
        assert load("--ingest.series_separator= = ").settings.ingest.series_separator == " = "

    def test_takes_settings_of_the_root(self) -> None:
        assert load("--startup-timeout", "5s").settings.startup_timeout == 5_000

    def test_needs_a_value(self) -> None:
        assert faults("--kafka.group_id", "--kafka.client_id") == (
            "kafka.group_id: nothing (command line), wanted a value",
            "kafka.client_id: nothing (command line), wanted a value",
        )

    def test_needs_a_name(self) -> None:
        assert faults("a") == ("command line: 'a', wanted --section.name=value",)

    def test_leaves_to_the_parser_what_is_its_own(self) -> None:
        """`x` is the setting's value here, and not the file that the command wants."""
        words = ["forecast", "--kafka.group_id", "x", "a.csv", "--out", "b.c", "--", "--a.b=c"]
        rest, overrides = split_overrides(words)
        assert rest == ["forecast", "a.csv", "--out", "b.c", "--", "--a.b=c"]
        assert overrides == ["--kafka.group_id=x"]

    @given(st.lists(st.sampled_from(["run", "--x", "--a.b", "--a.b=c", "-v", "--delivery", "--"])))
    def test_loses_no_word(self, words: list[str]) -> None:
        rest, overrides = split_overrides(words)
        kept = [part for word in rest + overrides for part in word.split("=")]
        assert sorted(kept) == sorted(part for word in words for part in word.split("="))


class TestDefaultsOfACommand:
    def test_are_what_the_rules_are_held_to(self) -> None:
        """A model of 10 steps is forecast every 5 although 5 does not divide our own default."""
        overrides = ["--windows.stride=5"]
        loaded = load_settings(None, None, {}, overrides, {"windows.timesteps": 10})
        assert loaded.settings.windows.timesteps == 10
        assert loaded.settings.forecast.segment == 2

    def test_give_way_to_every_source(self) -> None:
        known = {"windows.timesteps": 10}
        loaded = load_settings(None, None, {"FORECASTD_WINDOWS__TIMESTEPS": "12"}, [], known)
        assert loaded.settings.windows.timesteps == 12


class TestFaults:
    def test_come_all_at_once(self) -> None:
        """A type, a name, a combination and what is not built, each in a place of its own."""
        config = toml('[windows]\nstride = 5\n[forecast]\nunit = 3\n[publish]\ntopic = "records"\n')
        found = faults(
            "--state.row_every",
            "0",
            "--windows.step=10s",
            config=config,
            FORECASTD_TRAINING__EPOCHS="many",
        )
        assert found == (
            "forecast.unit: no such setting (mine.toml), wanted forecast.units",
            ("windows.step: '10s' (command line), wanted none (a regular grid is not built yet)"),
            "state.row_every: '0' (command line), wanted at least 1",
            (
                "training.epochs: 'many' (environment FORECASTD_TRAINING__EPOCHS),"
                " wanted a whole number"
            ),
            (
                "publish.topic: 'records', which is an input topic too (mine.toml),"
                " wanted another topic"
            ),
            "windows.stride: 5 (mine.toml), wanted a divisor of windows.timesteps (16)",
        )

    def test_are_none_that_follow_from_another(self) -> None:
        """With timesteps unread nobody knows whether 5 divides them, not even by their default."""
        for bad in ("--windows.timesteps=x", "--windows.timestep=20"):
            (sentence,) = faults("--windows.stride=5", bad)
            assert sentence.startswith("windows.timestep")

    def test_of_a_file_do_not_hide_those_of_the_environment(self) -> None:
        found = faults(config=toml("["), FORECASTD_WINDOWS__TIMESTEPS="many")
        assert [sentence.partition(":")[0] for sentence in found] == [
            "mine.toml, the last line",
            "windows.timesteps",
        ]

    @pytest.mark.parametrize(
        ("setting", "sentence"),
        [
            ("windows.timesteps=many", "'many' (command line), wanted a whole number"),
            ("windows.timesteps=1.5", "'1.5' (command line), wanted a whole number"),
            ("windows.timesteps=9999", "'9999' (command line), wanted at most 4096"),
            ("windows.season=1d", "'1d' (command line), wanted a count of steps (a duration needs"),
            ("windows.step=10s", "'10s' (command line), wanted none (a regular grid is not built"),
            ("windows.step=fast", "'fast' (command line), wanted a duration with a unit"),
            ("windows.timezone=CET", "'CET' (command line), wanted UTC (another zone is not built"),
            ("training.enabled=maybe", "'maybe' (command line), wanted true or false"),
            ("training.learning_rate=0", "'0' (command line), wanted more than 0"),
            ("training.learning_rate=nan", "'nan' (command line), wanted a finite number"),
            ("training.holdout=1", "'1' (command line), wanted less than 1"),
            ("training.loss=l2", "'l2' (command line), wanted pinball, huber, mse or mae"),
            ("kafka.client_id=", "'' (command line), wanted text"),
            ("kafka.bootstrap_servers=", "'' (command line), wanted at least 1 of them"),
        ],
    )
    def test_name_setting_value_source_and_wish(self, setting: str, sentence: str) -> None:
        (found,) = faults(f"--{setting}")
        assert found.startswith(f"{setting.partition('=')[0]}: {sentence}")

    def test_name_the_item_of_a_list(self) -> None:
        assert faults("--kafka.bootstrap_servers=a:1,b") == (
            (
                "kafka.bootstrap_servers[1]: 'b' (command line),"
                " wanted host:port, such as localhost:9092"
            ),
        )

    def test_are_short(self) -> None:
        (sentence,) = faults(f"--windows.timesteps={'9' * 10_000}")
        assert len(sentence) < 250

    @pytest.mark.parametrize(
        "value", ["true", "1.5", "-7", '"\\u0000 x"', "[]", "[[1]]", "{}", "2026-01-01", "inf"]
    )
    def test_are_all_in_our_words(self, value: str) -> None:
        """Pydantic's own words (`Input should be`) name no unit and no setting."""
        lines = [f"{name} = {value}" for name in SETTINGS]  # dotted keys are tables
        for sentence in faults(config=toml("\n".join(lines))):
            assert re.fullmatch(r"[a-z_.]+(\[\d+\])?: .+, wanted \S.*", sentence)
            assert "nput" not in sentence.partition(", wanted")[2]
            assert "{" not in sentence.partition(", wanted")[2]


class TestSecretsInFaults:
    @pytest.mark.parametrize("name", [name for name in SETTINGS if is_secret(SETTINGS[name])])
    @pytest.mark.parametrize("value", ['["hunter2"]', '{ a = "hunter2" }', "1234567"])
    def test_are_never_shown(self, name: str, value: str) -> None:
        section, _, key = name.rpartition(".")
        found = faults(config=toml(f"[{section}]\n{key} = {value}\n"))
        assert found == (f"{name}: '***' (mine.toml), wanted text",)

    @pytest.mark.parametrize(
        "text",
        [
            '[kafka]\nsasl_pasword = "hunter2"\n',
            '[kafka.sasl]\npassword = "hunter2"\n',
            '[ingest]\nsasl_password = "hunter2"\n',
            'sasl_password = "hunter2"\n',
            'kafka = "hunter2"\n',
            '[kafka]\nsasl_password = "hunter2',
        ],
    )
    def test_are_not_shown_in_a_wrong_place(self, text: str) -> None:
        assert "hunter2" not in "\n".join(faults(config=toml(text)))

    def test_are_not_in_the_error_that_led_to_ours(self) -> None:
        """Python prints causes, and pydantic's holds what was typed."""
        with pytest.raises(SettingsError) as refused:
            load(config=toml('[kafka]\nsasl_password = ["hunter2"]\n'))
        assert refused.value.__cause__ is None
        assert refused.value.__context__ is None

    def test_are_not_in_what_was_loaded(self) -> None:
        assert "hunter2" not in repr(load(FORECASTD_KAFKA__SSL_PASSWORD="hunter2"))
