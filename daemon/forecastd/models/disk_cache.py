"""Copies of the group's models in `models.dir`, each a folder as `forecastd train` writes them."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from forecastd.clock import SystemClock
from forecastd.disk_models import StoredModel, load_model, save_model
from forecastd.errors import ModelError
from forecastd.model_weights import Weights
from forecastd.models.model_log import ModelLog
from forecastd.models.model_records import Entry, NewModel, version_number

ABANDONED_S = 600
"""Age from which on a copy that is not whole is taken for one whose writer was killed."""


@dataclass(frozen=True, slots=True, eq=False)
class Copied:
    """A model as it is written to a folder."""

    entry: Entry
    weights: Weights

    @classmethod
    def of(cls, log: ModelLog, version: str) -> Copied:
        """A model of the group.

        Raises:
            ModelError: there is no such model.
        """
        return cls(log.models.entry(version), log.models.weights(version))

    def write(self, path: Path) -> None:
        """To a folder of its own.

        Raises:
            ModelError: the disk refuses.
        """
        entry = self.entry
        known = {"version": entry.version, "parent": entry.parent, "added_ms": entry.at_ms}
        facts = {**entry.facts, **known, "software": entry.software}
        save_model(path, entry.architecture, self.weights, entry.made_by, facts)


class DiskCache:
    """A folder that may be removed at any time: the topic is the truth.

    Attributes:
        folder: where the copies are, one a version.
        keep: how many versions are kept.
    """

    def __init__(self, folder: Path, keep: int) -> None:
        self.folder = folder
        self.keep = keep
        self._whole: set[str] = set()

    def wanted(self, log: ModelLog) -> list[Copied]:
        """What belongs in the folder: what serves, and the newest models."""
        champion = log.champion
        versions = {entry.version for entry in log.versions[: self.keep]}
        versions |= {champion.version} if champion is not None else set()
        return [Copied.of(log, version) for version in sorted(versions)]

    def update(self, wanted: Sequence[Copied]) -> list[str]:
        """Bring the folder up to date. Returns the versions that were written.

        Folders of other names are left alone. A copy that is damaged is written again.

        Raises:
            ModelError: the disk refuses.
        """
        try:
            versions = {copy.entry.version for copy in wanted}
            self._remove_all_but(versions)  # first: the disk may be full of it
            missing = [copy for copy in wanted if not self._is_whole(copy.entry.version)]
            for copy in missing:
                copy.write(self.folder / copy.entry.version)
            self._whole = versions
        except OSError as error:
            raise ModelError(
                f"{self.folder}: {error.strerror}, wanted copies of models there"
            ) from error
        return [copy.entry.version for copy in missing]

    def load(self, version: str) -> StoredModel:
        """A copy, by its version.

        Raises:
            ModelError: there is none, or it is damaged.
        """
        return replace(load_model(self.folder / version), version=version)

    def _is_whole(self, version: str) -> bool:
        """Whether there is a copy to rely on; read through once."""
        if not (self.folder / version).is_dir():
            return False
        if version in self._whole:
            return True
        try:
            stored = self.load(version)
        except ModelError:
            return False
        return version.endswith(f"-{stored.metadata.version_hash}")

    def _remove_all_but(self, wanted: set[str]) -> None:
        try:
            for path in list(self.folder.iterdir()):
                is_old = version_number(path.name) and path.name not in wanted
                if path.is_dir() and (is_old or _is_abandoned(path)):
                    shutil.rmtree(path)
        except (FileNotFoundError, NotADirectoryError):
            return  # no model yet, or another was faster; whoever writes says that it is no folder


def _is_abandoned(path: Path) -> bool:
    """Whether it is a copy, as `disk_models` writes it beside its place, left by the dead."""
    nothing, _, name = path.name.partition(".")
    version = name.partition(".")[0]
    if nothing or not (name.endswith(".part") and version_number(version)):
        return False
    return SystemClock().now_ms() - 1000 * path.stat().st_mtime > 1000 * ABANDONED_S


class CacheThread:
    """Brings a cache up to date on a thread of its own.

    A disk that is slow, or does not answer, must not keep waiting whoever serves.
    """

    def __init__(self, cache: DiskCache) -> None:
        self._cache = cache
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._wanted: list[Copied] | None = None
        self._faults: list[str] = []

    def update(self, log: ModelLog) -> None:
        """Note what is wanted, and return; what is wanted last is what comes to be."""
        with self._lock:
            self._wanted = self._cache.wanted(log)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="models-dir", daemon=True)
                self._thread.start()

    def take_faults(self) -> list[str]:
        """Why copies could not be written since the last call; a sentence each."""
        with self._lock:
            taken, self._faults = self._faults, []
        return taken

    def wait(self, timeout_s: float) -> None:
        """Give what is under way so much time to end."""
        thread = self._thread
        if thread is not None:
            thread.join(timeout_s)

    def _run(self) -> None:
        while True:
            with self._lock:
                wanted, self._wanted = self._wanted, None
                if wanted is None:
                    self._thread = None
                    return
            try:
                self._cache.update(wanted)
            except ModelError as error:
                with self._lock:
                    self._faults.append(str(error))


def new_model(stored: StoredModel, parent: str | None = None) -> NewModel:
    """A model on disk as one that is to be added to the group's."""
    facts = dict(stored.metadata.facts)
    software = facts.pop("software", None)
    for name in ("version", "parent", "added_ms"):
        facts.pop(name, None)
    return NewModel(
        stored.architecture,
        stored.weights,
        stored.metadata.made_by,
        parent,
        software if isinstance(software, dict) else stored.metadata.software,
        facts,
    )
