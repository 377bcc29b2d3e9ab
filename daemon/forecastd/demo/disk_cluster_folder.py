"""The data folder of an embedded Kafka: claimed by one process, remembering which cluster it is."""

from __future__ import annotations

import errno
import fcntl
import json
import os
from pathlib import Path

from forecastd.demo.errors import EmbeddedKafkaError
from forecastd.patience import looks

_PATIENCE_S = 3.0
"""A predecessor that was just killed may be on its way out a moment longer."""


def claim(folder: Path) -> int:
    """Make the folder, lock it, and return the descriptor that holds the lock.

    The Java processes inherit the descriptor, so the lock lasts as long as any of them. Kafka's own
    lock is no help: it is taken after the metadata log was opened and written to, which two nodes
    on one folder ruin for each other.

    Raises:
        EmbeddedKafkaError: another broker has it, or it cannot be written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT)
    except OSError as fault:
        raise _unwritable(folder, fault) from fault
    for _ in looks(_PATIENCE_S):
        if _locks(lock):
            return lock
    os.close(lock)
    raise EmbeddedKafkaError(
        str(folder),
        "the data of a broker that is running",
        "a folder of its own",
        "stop that broker, or give another --data",
    )


def read_cluster(folder: Path) -> tuple[str, int, int] | None:
    """Cluster id, number of nodes and first client port that this folder is used with, if any."""
    file = folder / "cluster.json"
    try:
        kept = json.loads(file.read_text())
        return str(kept["cluster_id"]), int(kept["nodes"]), int(kept["port"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, LookupError, TypeError) as fault:
        raise EmbeddedKafkaError(
            str(file), f"unreadable ({fault})", "what an earlier start wrote", "give another --data"
        ) from fault


def write_cluster(folder: Path, cluster_id: str, nodes: int, port: int) -> None:
    """Remember these for the next start; whole or not at all."""
    kept = json.dumps({"cluster_id": cluster_id, "nodes": nodes, "port": port})
    try:
        (folder / "cluster.json.new").write_text(kept + "\n")
        (folder / "cluster.json.new").replace(folder / "cluster.json")
    except OSError as fault:
        raise _unwritable(folder, fault) from fault


def _locks(lock: int) -> bool:
    """Take the lock now, or say no."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as refused:
        if refused.errno not in (errno.EWOULDBLOCK, errno.EACCES):
            raise
        return False
    return True


def _unwritable(folder: Path, fault: OSError) -> EmbeddedKafkaError:
    found = (fault.strerror or str(fault)).lower()
    return EmbeddedKafkaError(str(folder), found, "a folder to write to", "give another --data")
