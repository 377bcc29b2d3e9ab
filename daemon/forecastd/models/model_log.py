"""The group's models, as the records of the models topic tell of them.

Every instance folds the same records in the same order and so follows the same champion. What
counts is a function of the last record of each key and of the order of these records, which is
all that compaction leaves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from forecastd.architecture import Architecture
from forecastd.errors import ModelError
from forecastd.models.known_models import KnownModels
from forecastd.models.model_records import (
    By,
    Entry,
    OnProbation,
    Pointer,
    Run,
    decode,
    tombstones,
    version_number,
)
from forecastd.records import Message

_POINTERS_KEPT = 20
_PERSON = ("operator", "release")


class ModelLog:
    """The models topic, folded record by record.

    Attributes:
        topic: its name, for messages and sentences.
        models: those that were added, the champion among them or not.
        last_run: how the last training run ended; None before the first.
    """

    def __init__(self, topic: str) -> None:
        self.topic = topic
        self.models = KnownModels(topic)
        self.last_run: Run | None = None
        self._probation: OnProbation | None = None
        self._pointers: dict[bytes, Pointer] = {}
        self._unread: dict[bytes, str] = {}

    def fold(self, key: bytes | None, value: bytes | None) -> None:
        """Take in the next record; what cannot be read is left out and told by `faults`."""
        key = key or b""
        self._unread.pop(key, None)
        try:
            self._take(key, value)
        except ModelError as error:
            where = self._at(key.decode(errors="replace"))
            self._unread[key] = f"{where}: {error}; it is ignored"

    def _take(self, key: bytes, value: bytes | None) -> None:
        kind, *rest = key.decode(errors="replace").split("/")
        match kind, rest:
            case "weights", [version, part] if part.isdecimal() and version_number(version):
                self.models.take_part(version, int(part), value)
            case "entry", [version] if version_number(version):
                self.models.take_entry(version, value)
            case "pointer", [_]:
                self._pointers.pop(key, None)  # its place is that of its last record
                if value is not None:
                    self._pointers[key] = decode(value, Pointer)
            case "probation", []:
                self._probation = None if value is None else decode(value, OnProbation)
            case "run", []:
                self.last_run = None if value is None else decode(value, Run)
            case _ if value is not None:
                raise ModelError("no key of ours, wanted one")

    @property
    def pointer(self) -> Pointer | None:
        """The one that counts: the last that may stand; None where none ever stood."""
        return self._judge_pointers()[0]

    @property
    def champion(self) -> Entry | None:
        """The model that serves; None: the baseline does."""
        pointer = self.pointer
        if pointer is None or pointer.version is None:
            return None
        return self.models.entry(pointer.version)

    @property
    def is_held(self) -> bool:
        """Whether a person's pointer stands, which nobody else may move."""
        pointer = self.pointer
        return pointer is not None and pointer.is_held

    @property
    def barred(self) -> tuple[str, ...]:
        """Versions that only a person may promote again."""
        pointer = self.pointer
        return () if pointer is None else pointer.barred

    @property
    def on_probation(self) -> OnProbation | None:
        """What serves, while it has to prove itself; what a person let serve has not to."""
        pointer, probation = self.pointer, self._probation
        if pointer is None or probation is None or pointer.by != "trainer":
            return None
        return probation if probation.version == pointer.version else None

    @property
    def versions(self) -> list[Entry]:
        """Models whose weights are all there, the newest first."""
        return self.models.whole()

    def version_of(self, hashed: str) -> str | None:
        """The newest version with weights of this hash; None where there is none."""
        same = (one.version for one in self.versions if one.version.partition("-")[2] == hashed)
        return next(same, None)

    @property
    def faults(self) -> list[str]:
        """What is on the topic and does not count; a sentence each."""
        return [*self._unread.values(), *self.models.faults(), *self._judge_pointers()[1]]

    def next_number(self) -> int:
        """A number that no model of the group has, or had while a pointer remembers it."""
        pointed = (version for p in self._pointers.values() for version in (p.version, *p.barred))
        named = [*self.models.named(), *filter(None, pointed)]
        return 1 + max((version_number(version) or 0 for version in named), default=0)

    def promote(self, version: str, by: By, at_ms: int, reason: str) -> Pointer:
        """The pointer that lets a version serve.

        Raises:
            ModelError: there is no such model, or it may not be promoted by itself.
        """
        self.models.entry(version)
        barred = self.barred
        if by in _PERSON:
            barred = tuple(one for one in barred if one != version)
        elif version in barred:
            found = f"{self._at(version)}: it was rolled back"
            raise ModelError(f"{found}, wanted another; forecastd models promote can let it serve")
        now = self.pointer
        before = now.version if now is not None else None
        if now is not None and before == version:
            before = now.before
        return self._next_pointer(version, by, at_ms, reason, before, barred)

    def rollback(
        self,
        by: By,
        at_ms: int,
        reason: str,
        fits: Callable[[Architecture], bool] = lambda _: True,
    ) -> Pointer:
        """The pointer back to what served before, a barred version never.

        Args:
            by, at_ms, reason: what the pointer tells of itself.
            fits: whether such a network can serve; where it cannot, what came before it may.

        Raises:
            ModelError: the baseline serves, or a person's pointer stands.
        """
        now = self.champion
        if now is None:
            raise ModelError(f"{self.topic}: the baseline serves, wanted a model to roll back")
        barred = tuple(dict.fromkeys((*self.barred, now.version)))
        pointer = self.pointer
        target = self._serviceable(pointer.before if pointer else None, barred, fits)
        before = self.models.entry(target).parent if target is not None else None
        return self._next_pointer(target, by, at_ms, reason, before, barred)

    def release(self, at_ms: int, reason: str) -> Pointer:
        """The pointer that stays where it is and may be moved again.

        Raises:
            ModelError: nobody holds it.
        """
        now = self.pointer
        if now is None or not now.is_held:
            raise ModelError(f"{self.topic}: no version is held, wanted one to release")
        return self._next_pointer(now.version, "release", at_ms, reason, now.before, now.barred)

    def tombstones_beyond(self, keep: int) -> list[Message]:
        """What gives up all but the newest `keep` models, and pointers that no longer count.

        Never what serves, what would after a rollback, and what both came from. The topic must
        have been read to its end: what is given up is gone for all.
        """
        pointer = self.pointer
        kept = {entry.version for entry in self.versions[:keep]}
        for version in (pointer.version, pointer.before) if pointer is not None else ():
            if version is not None and self.models.is_whole(version):
                kept |= {version, self.models.entry(version).parent or version}
        unread = {key.decode(errors="replace").removeprefix("entry/") for key in self._unread}
        keys = [*self.models.keys_beyond(kept | unread), *self._old_pointers(pointer)]
        return tombstones(self.topic, keys)

    def _old_pointers(self, now: Pointer | None) -> Iterator[bytes]:
        """Keys of pointers before the one that counts, without the newest `_POINTERS_KEPT`."""
        for key in list(self._pointers)[:-_POINTERS_KEPT]:
            if self._pointers[key] is now:
                return
            yield key

    def _judge_pointers(self) -> tuple[Pointer | None, list[str]]:
        """The pointer that counts, and why others that came after it do not."""
        now: Pointer | None = None
        refused: list[str] = []
        for key, pointer in self._pointers.items():
            version = pointer.version
            where = self._at(key.decode())
            if now is not None and now.is_held and pointer.by not in _PERSON:
                held = f"an operator holds {now.version or 'the baseline'}"
                refused.append(f"{where}: {held}, wanted a release first; it is ignored")
            elif now is not None and pointer.by == "trainer" and version in now.barred:
                refused.append(f"{where}: {version} was rolled back, wanted another; it is ignored")
            elif version is not None and not self.models.is_whole(version):
                missing = f"{version} is not there with all its weights"
                refused.append(f"{where}: {missing}, wanted it; it is ignored")
            else:
                now, refused = pointer, []
        return now, refused

    def _serviceable(
        self, version: str | None, barred: tuple[str, ...], fits: Callable[[Architecture], bool]
    ) -> str | None:
        """The first of a version and its forebears that may serve; None is the baseline."""
        number = self.next_number()
        while version is not None and (version_number(version) or 0) < number:
            number = version_number(version) or 0  # a parent is older: this comes to an end
            is_there = version not in barred and self.models.is_whole(version)
            if is_there and fits(self.models.entry(version).architecture):
                return version
            version = self.models.parent(version)
        return None

    def _next_pointer(  # noqa: PLR0913  # all that a pointer holds
        self,
        version: str | None,
        by: By,
        at_ms: int,
        reason: str,
        before: str | None,
        barred: tuple[str, ...],
    ) -> Pointer:
        if self.is_held and by not in _PERSON:
            found = f"{self.topic}: an operator holds the pointer"
            raise ModelError(f"{found}, wanted forecastd models release before another moves it")
        return Pointer(
            sequence=1 + max((p.sequence for p in self._pointers.values()), default=0),
            version=version,
            by=by,
            at_ms=at_ms,
            reason=reason,
            before=before,
            is_held=by == "operator",
            barred=tuple(one for one in barred if self.models.is_whole(one)),
        )

    def _at(self, what: str) -> str:
        return f"{self.topic} {what}"
