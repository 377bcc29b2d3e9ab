"""Becomes the command it is given, after tying its life to that of its parent (Linux).

Run as a script: `kafka_leash.py PARENT_PID COMMAND ARGUMENT...`. It is a process of its own and not
a `preexec_fn`, because code between fork and exec can deadlock in a parent with threads. The tie
survives the exec: the kernel kills the command when the parent is gone, however that happened.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main(parent: int, command: list[str]) -> None:
    """Replace this process by `command`, unless the parent is gone already."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() == parent:
        os.execv(command[0], command)  # noqa: S606  there is no shell to want


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
