from __future__ import annotations

import platform
import subprocess
import sys

import pytest

GROWN_AND_SHRUNK = """
import ctypes
from pathlib import Path
from forecastd.glibc_malloc import LARGE_BYTES, give_back_large_blocks

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]

def touched(size):
    block = libc.malloc(size)
    ctypes.memset(block, 1, size)
    return block

if {asked}:
    assert give_back_large_blocks()
libc.free(touched(24 * LARGE_BYTES))
blocks = [touched(8 * LARGE_BYTES) for _ in range(8)]
above = touched(2 * LARGE_BYTES)  # on top of the heap, which keeps it from shrinking
before = resident()
for block in blocks:
    libc.free(block)
print((before - resident()) // LARGE_BYTES)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc alone keeps what is freed")
@pytest.mark.parametrize(("asked", "given_back"), [(False, range(8)), (True, range(60, 70))])
def test_what_is_freed_goes_back_to_the_system(asked: bool, given_back: range) -> None:  # noqa: FBT001
    """64 MB in blocks of 8, after one that was larger: glibc takes such blocks for usual then."""
    program = GROWN_AND_SHRUNK.format(asked=asked)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) in given_back
