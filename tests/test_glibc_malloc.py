from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

GROWN_AND_SHRUNK = """
import ctypes, resource
from pathlib import Path
{first}

MB = 2**20

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]

def touched(size):
    block = libc.malloc(size)
    ctypes.memset(block, 1, size)
    return block

libc.free(touched(24 * MB))
blocks = [touched(8 * MB) for _ in range(8)]
above = touched(2 * MB)  # on top of the heap, which keeps it from shrinking
before = resident()
for block in blocks:
    libc.free(block)
print((before - resident()) // MB)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc alone keeps what is freed")
@pytest.mark.parametrize(
    ("first", "environ", "given_back"),
    [
        ("", {}, range(8)),
        ("import forecastd.keras_runtime", {}, range(60, 70)),
        ("import forecastd.keras_runtime", {"MALLOC_MMAP_THRESHOLD_": "33554432"}, range(8)),
    ],
    ids=["glibc alone", "with the model's runtime", "unless told otherwise"],
)
def test_what_is_freed_goes_back_to_the_system(
    first: str, environ: dict[str, str], given_back: range
) -> None:
    """64 MB in blocks of 8, after one that was larger: glibc takes such blocks for usual then."""
    name = "MALLOC_MMAP_THRESHOLD_"
    done = subprocess.run(
        [sys.executable, "-c", GROWN_AND_SHRUNK.format(first=first)],
        env={key: value for key, value in os.environ.items() if key != name} | environ,
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(done.stdout) in given_back
