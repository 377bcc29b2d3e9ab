"""Noise that is a function of its time: the same whenever, and by whomever, it is asked for."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from forecastd.records import Floats, Ints


def seed_of(name: str) -> int:
    """The seed of a series, so that no two have the same noise."""
    return int.from_bytes(name.encode()[-7:], "big")


def normal(times: Ints, seed: int) -> Floats:
    """Normal noise of mean 0 and deviation 1 (Box and Muller, 1958)."""
    first, second = (uniform(times, seed + part) for part in (0, 1 << 60))
    return np.asarray(np.sqrt(-2 * np.log(first)) * np.cos(2 * np.pi * second))


def uniform(times: Ints, seed: int) -> Floats:
    """Numbers in (0, 1], by hashing time and seed (SplitMix64; Steele et al., OOPSLA 2014)."""
    mixed: NDArray[np.uint64] = times.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    mixed ^= np.uint64(seed)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    mixed ^= mixed >> np.uint64(31)
    numbers: Floats = ((mixed >> np.uint64(11)).astype(np.float64) + 1) / 2**53
    return numbers
