"""What a machine's own metrics look like, made up: the noise that the demo's model must know.

A model that has only ever seen seasons believes in them and forecasts one for every jump of a
processor. These series teach it when the middle of the window, or the last value, is all there is.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from forecastd.records import Floats

Random = np.random.Generator


def machine_like_series(steps: int, seed: int) -> list[tuple[str, Floats]]:
    """Name and values of one series of each kind: all different, the same for the same seed.

    >>> [name for name, _ in machine_like_series(steps=10, seed=0)]
    ['idle/0', 'busy/0', 'held/0', 'walk/0', 'murmur/0', 'bursts/0']
    """
    random = np.random.default_rng(seed)
    return [(f"{kind.__name__.lstrip('_')}/{seed}", kind(random, steps)) for kind in _KINDS]


def _idle(random: Random, steps: int) -> Floats:
    """A core with little to do: per cent, in the coarse grain of a short interval."""
    busy = random.exponential(random.uniform(3, 15), steps)
    return np.clip(np.round(busy / 4) * 4, 0, 100)


def _busy(random: Random, steps: int) -> Floats:
    """A core that works through jobs: now much to do, now little, never for long."""
    works = _switches(random, steps, mean_steps=random.uniform(8, 60))
    level = np.where(works, random.uniform(55, 95), random.uniform(5, 30))
    return np.clip(level + random.normal(0, random.uniform(5, 15), steps), 0, 100)


def _held(random: Random, steps: int) -> Floats:
    """The load average, which the kernel computes every 5 s: it moves on, and stays."""
    every, keep = 20, 0.92
    target = random.uniform(0.2, 3) * (1 + _switches(random, steps, mean_steps=120))
    load = np.empty(steps)
    now = target[0]
    for step in range(steps):
        if step % every == 0:
            now = keep * now + (1 - keep) * target[step]
        load[step] = now
    return np.round(load, 2)


def _walk(random: Random, steps: int) -> Floats:
    """Memory in use, per cent: it goes where programs take it, mostly in small steps."""
    moves = random.normal(0, 0.02, steps) * (random.random(steps) < 0.5)
    jumps = random.normal(0, 0.5, steps) * (random.random(steps) < 0.02)
    return np.round(random.uniform(20, 70) + np.cumsum(moves + jumps), 2)


def _murmur(random: Random, steps: int) -> Floats:
    """MB a second of a network that carries little, and now and then a transfer."""
    carried = random.exponential(random.uniform(0.02, 0.2), steps)
    transfers = random.exponential(3, steps) * _switches(random, steps, mean_steps=40)
    return _rate(carried + transfers * (random.random() < 0.5))


def _bursts(random: Random, steps: int) -> Floats:
    """MB a second of a disk that does nothing until a cache is written out."""
    starts = random.random(steps) < random.uniform(0.01, 0.05)
    return _rate(np.where(starts, random.exponential(random.uniform(1, 30), steps), 0.0))


def _rate(moved: Floats) -> Floats:
    """As the feed measures it: over the last four steps, in steps of 0.1."""
    return np.round(np.convolve(moved, np.ones(4) / 4)[: len(moved)], 1)


_KINDS: tuple[Callable[[Random, int], Floats], ...] = (_idle, _busy, _held, _walk, _murmur, _bursts)


def _switches(random: Random, steps: int, mean_steps: float) -> Floats:
    """0 and 1 in turn, each for a random time."""
    flips = random.random(steps) < 1 / mean_steps
    return ((np.cumsum(flips) + random.integers(2)) % 2).astype(np.float64)
