"""What stands beside a committed offset: where a restart must resume, in JSON.

The daemon writes it with every commit, and tools that move offsets write it too, or leave it out: a
commit without it says that the saved rows no longer fit.
"""

from __future__ import annotations

import msgspec

from forecastd.records import Committed

METADATA_VERSION = 1
"""Version of what we write."""


class _Metadata(msgspec.Struct, frozen=True, omit_defaults=True):
    forecastd: int
    resume_from: int
    has_rows: bool = False


def metadata_of(committed: Committed) -> str:
    """What to write beside a position.

    >>> metadata_of(Committed(position=120, resume_from=100))
    '{"forecastd":1,"resume_from":100}'
    >>> metadata_of(Committed(position=120, resume_from=100, has_rows=True))
    '{"forecastd":1,"resume_from":100,"has_rows":true}'
    """
    assert committed.resume_from is not None, "a commit of ours says where a restart resumes"
    metadata = _Metadata(METADATA_VERSION, committed.resume_from, committed.has_rows)
    return msgspec.json.encode(metadata).decode()


def read_commit(position: int, metadata: str | None) -> Committed:
    """A commit as the broker holds it; what is not ours, or of another version, says nothing."""
    try:
        found = msgspec.json.decode(metadata or "", type=_Metadata)
    except msgspec.MsgspecError:
        return Committed(position, None)
    if found.forecastd != METADATA_VERSION:
        return Committed(position, None)
    return Committed(position, found.resume_from, found.has_rows)
