"""The models that were added to the group's topic: entries, and the parts of their weights."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from forecastd.errors import ModelError
from forecastd.model_weights import unpack_weights
from forecastd.models.model_records import Entry, decode, entry_key, version_number, weights_key

_NAMED_MAX = 5


class KnownModels:
    """Entries by version. A model counts once its weights are all there, whatever came first.

    Weights of all versions are held in memory: there are `models.keep` of them.

    Attributes:
        topic: where they come from, for sentences.
    """

    def __init__(self, topic: str) -> None:
        self.topic = topic
        self._entries: dict[str, Entry] = {}
        self._parts: defaultdict[str, dict[int, bytes]] = defaultdict(dict)
        self._verdicts: dict[str, str | None] = {}

    def take_part(self, version: str, part: int, value: bytes | None) -> None:
        """Take in a part of a model's weights, or its tombstone."""
        self._verdicts.pop(version, None)
        if value is not None:
            self._parts[version][part] = value
        elif version in self._parts:
            self._parts[version].pop(part, None)
            if not self._parts[version]:
                del self._parts[version]

    def take_entry(self, version: str, value: bytes | None) -> None:
        """Take in an entry, or its tombstone.

        Raises:
            ModelError: it cannot be read.
        """
        self._verdicts.pop(version, None)
        self._entries.pop(version, None)
        if value is None:
            return
        entry = decode(value, Entry)
        if entry.version != version or entry.number != version_number(version):
            raise ModelError(f"entry of {entry.version}, wanted that of its key")
        self._entries[version] = entry

    def named(self) -> list[str]:
        """Versions of which there is anything at all."""
        return [*self._entries, *self._parts]

    def whole(self) -> list[Entry]:
        """Models whose weights are all there, the newest first."""
        found = [entry for version, entry in self._entries.items() if self.is_whole(version)]
        return sorted(found, key=lambda entry: (entry.number, entry.version), reverse=True)

    def is_whole(self, version: str) -> bool:
        """Whether a model can serve."""
        return version in self._entries and self._fault(version) is None

    def faults(self) -> list[str]:
        """Why models do not count; a sentence each."""
        return [fault for version in self._entries if (fault := self._fault(version))]

    def parent(self, version: str) -> str | None:
        """The version that a model's training began with, as far as it is known."""
        entry = self._entries.get(version)
        return entry.parent if entry is not None else None

    def entry(self, version: str) -> Entry:
        """A model by its version.

        Raises:
            ModelError: there is none whose weights are all there.
        """
        if version not in self._entries:
            known = [entry.version for entry in self.whole()]
            more = ", ..." if len(known) > _NAMED_MAX else ""
            wanted = f"one of {', '.join(known[:_NAMED_MAX])}{more}" if known else "one"
            none = "" if known else "; the group has no models yet"
            raise ModelError(f"{self.topic} {version}: no such model, wanted {wanted}{none}")
        if fault := self._fault(version):
            raise ModelError(fault)
        return self._entries[version]

    def weights(self, version: str) -> list[NDArray[np.float32]]:
        """A model's weights, as the network takes them.

        Raises:
            ModelError: there is no such model, or its weights are not all there.
        """
        entry = self.entry(version)
        return unpack_weights(self._at(version), entry.architecture, self._packed(entry))

    def keys_beyond(self, kept: Iterable[str]) -> Iterator[bytes]:
        """Keys of all models but `kept`, an entry before its weights.

        Weights without an entry that are newer than every entry are being written right now.
        """
        kept = set(kept)
        for version in self._entries.keys() - kept:
            yield entry_key(version)
        newest = max((entry.number for entry in self._entries.values()), default=0)
        for version in self._parts.keys() - kept:
            if version in self._entries or (version_number(version) or 0) <= newest:
                yield from (weights_key(version, part) for part in self._parts[version])

    def _fault(self, version: str) -> str | None:
        """Why a model's weights cannot serve; None: they can."""
        if version not in self._verdicts:
            try:
                self._check_whole(self._entries[version])
            except ModelError as error:
                self._verdicts[version] = str(error)
            else:
                self._verdicts[version] = None
        return self._verdicts[version]

    def _check_whole(self, entry: Entry) -> None:
        """Whether a model's weights are all there, and those that were written."""
        at, wanted = self._at(entry.version), entry.weights
        parts = self._parts.get(entry.version, {})
        missing = wanted.chunks - len(parts.keys() & set(range(wanted.chunks)))
        if missing:
            found = f"{missing} of {wanted.chunks} parts of its weights are not there"
            raise ModelError(f"{at}: {found}, wanted all; it is ignored")
        packed = self._packed(entry)
        if hashlib.sha256(packed).hexdigest() != wanted.sha256:
            found = "its weights differ from their checksum"
            raise ModelError(f"{at}: {found}, wanted them as they were written; it is ignored")
        unpack_weights(at, entry.architecture, packed)

    def _packed(self, entry: Entry) -> bytes:
        parts = self._parts[entry.version]
        return b"".join(parts[part] for part in range(entry.weights.chunks))

    def _at(self, version: str) -> str:
        return f"{self.topic} {version}"
