"""Copies of the group's models in `models.dir`, each a folder as `forecastd train` writes them."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from forecastd.disk_models import StoredModel, load_model, save_model
from forecastd.errors import ModelError
from forecastd.models.model_log import ModelLog
from forecastd.models.model_records import Entry, NewModel, version_number


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

    def update(self, log: ModelLog) -> list[str]:
        """Bring the folder up to date: what serves and the newest models. Returns what was written.

        Folders of other names are left alone. A copy that is damaged is written again.

        Raises:
            ModelError: the disk refuses.
        """
        champion = log.champion
        wanted = {entry.version for entry in log.versions[: self.keep]}
        wanted |= {champion.version} if champion is not None else set()
        written = [version for version in sorted(wanted) if not self._is_whole(version)]
        for version in written:
            export(log, version, self.folder / version)
        self._whole = wanted
        self._remove_all_but(wanted)
        return written

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
            there = [path for path in self.folder.iterdir() if version_number(path.name)]
            for path in there:
                if path.name not in wanted and path.is_dir():
                    shutil.rmtree(path)
        except FileNotFoundError:
            return  # no model yet, or another instance was faster
        except OSError as error:
            raise ModelError(
                f"{self.folder}: {error.strerror}, wanted to remove a copy there"
            ) from error


def export(log: ModelLog, version: str, path: Path) -> Entry:
    """Write a model of the group to a folder of its own.

    Raises:
        ModelError: there is no such model, or the disk refuses.
    """
    entry = log.models.entry(version)
    known = {"version": version, "parent": entry.parent, "added_ms": entry.at_ms}
    facts = {**entry.facts, **known, "software": entry.software}
    save_model(path, entry.architecture, log.models.weights(version), entry.made_by, facts)
    return entry


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
