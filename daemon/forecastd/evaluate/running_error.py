"""How wrong a forecast has been, lead by lead, and the band that this makes.

All of it is a closed-form function of a series' own steps: no clock, no gradient. Errors are kept
as float32; two values at its opposite ends differ by more than it holds, so they stop at its end.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from forecastd.records import Float32s, Floats, Ints

MEMORY_WINDOWS = 50
"""Scored forecasts after which the running mean begins to forget."""

_FLOAT32_MAX = float(np.finfo(np.float32).max)


def learn(mean: Float32s, errors: Floats, counts: Ints) -> Float32s:
    """A running mean after one more error: the plain mean at first, then one that forgets.

        mean + (error - mean) / min(count + 1, MEMORY_WINDOWS)

    Args:
        mean: (B, ...) so far; NaN before the first error.
        errors: (B, ...) absolute errors, in the series' unit.
        counts: (B,) errors in the mean so far.
    """
    weights = 1.0 / np.minimum(counts + 1, MEMORY_WINDOWS)
    weights = weights.reshape((-1,) + (1,) * (errors.ndim - 1))
    errors = np.minimum(errors, _FLOAT32_MAX)
    moved = mean + weights * (errors - mean)
    return np.where(np.isnan(mean), errors, moved).astype(np.float32)


def last_value_errors(newest_first: Floats, limit: Floats, horizon: int) -> Floats:
    """What the last-value forecast would have been wrong by within the steps at hand.

    Args:
        newest_first: (B, N, F) last steps, NaN where there is none.
        limit: (B, F) what a single error counts at most.
        horizon: leads wanted; those longer than the steps reach take the longest there is.

    Returns:
        (B, horizon, F) mean absolute errors; 0 where a single step tells nothing.
    """
    batch, steps, features = newest_first.shape
    errors = np.zeros((batch, horizon, features))
    known = np.zeros((batch, features))
    for lead in range(1, horizon + 1):
        if lead < steps:
            moves = np.abs(newest_first[:, :-lead] - newest_first[:, lead:])
            moves = np.minimum(moves, limit[:, None])
            exists = ~np.isnan(moves)
            counts = exists.sum(axis=1)
            sums = np.where(exists, moves, 0.0).sum(axis=1)
            known = np.where(counts > 0, sums / np.maximum(counts, 1), known)
        errors[:, lead - 1] = known
    return np.minimum(errors, _FLOAT32_MAX)


def laplace_offsets(errors: Float32s | Floats, quantiles: Sequence[float]) -> Floats:
    """Offsets of quantiles from the median, given the mean absolute error.

    The Laplace distribution is the one of greatest entropy with a given mean absolute deviation E:
    its quantile q is at E ln(2 q) below the median and at -E ln(2 (1 - q)) above it.

    Args:
        errors: (B, H, F) mean absolute errors.
        quantiles: (Q,).

    Returns:
        (B, H, Q, F).

    >>> laplace_offsets(np.array([[[1.0]]]), [0.1, 0.5, 0.9]).ravel().round(3)
    array([-1.609,  0.   ,  1.609])
    """
    q = np.asarray(quantiles)
    below, above = np.log(2 * np.minimum(q, 0.5)), np.log(2 * (1 - np.maximum(q, 0.5)))
    units = np.where(q < 0.5, below, 0.0 - above)
    offsets: Floats = np.asarray(errors, np.float64)[:, :, None] * units[:, None]
    return offsets
