"""Decides whether a newly trained model may serve.

What would be published is what is compared: the median forecasts of the challenger, of the champion
and of the naive candidates, on the same held-out actuals. Every series counts once, whatever its
unit and however many windows it has; one that has only just begun counts for less:

    scaled error of a series = min(its mean absolute error / its scale, ERROR_CAP)
    weight of a series       = min(its held-out windows / SERIES_WINDOWS, 1)
    error of a candidate     = weighted mean of these over the series (and over the values of each)

The scale of a series is the error of its last-value forecast on the same actuals, so that 1 means
"as wrong as repeating the last value" (the relative mean absolute error of Hyndman and Koehler,
"Another look at measures of forecast accuracy", 2006).
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import msgspec
import numpy as np

from forecastd.records import Floats, Ints

ERROR_CAP = 3.0
"""Scaled error from which on a series is simply bad: one odd series, on which a model is a thousand
times as wrong as the last value, must not outweigh hundreds on which it is right. Nor can it be
what wins: a candidate cannot be rewarded for more than being bad there no longer."""

SERIES_WINDOWS = 30
"""Held-out windows from which on a series counts in full: a few, the first after a start from
nothing among them, say little about a series, and many new series must not outvote the others."""

WINDOWS_MIN = 30
"""Held-out windows below which an error says little about the next ones."""


class Scores(msgspec.Struct, frozen=True, kw_only=True):
    """What the candidates were judged by; all errors are means of scaled errors over the series.

    Attributes:
        challenger: error of the new model.
        champion: error of the serving one; None where none serves.
        naive: error of each naive candidate, by its name.
        best_naive: the name of the least of these.
        series, windows: held-out ones that were scored.
    """

    challenger: float
    champion: float | None
    naive: dict[str, float]
    best_naive: str
    series: int
    windows: int

    @property
    def gain(self) -> float:
        """Share by which the challenger's error is less than the best other one's."""
        naive = self.naive[self.best_naive]
        best = naive if self.champion is None else min(naive, self.champion)
        return 1 - self.challenger / best if best > 0 else 0.0


class Verdict(msgspec.Struct, frozen=True):
    """What became of a challenger, and why in one sentence; no scores where nothing was scored."""

    is_promoted: bool
    reason: str
    scores: Scores | None = None


def judge(
    challenger: Floats,
    champion: Floats | None,
    naive: Mapping[str, Floats],
    windows: Ints,
    min_gain: float,
) -> Verdict:
    """Promote the challenger if it is better than both by `min_gain`, else reject it.

    Nor may it be worse than the champion by `min_gain` on all series but the one on which it gains
    most.

    Args:
        challenger, champion: (S,) scaled errors of S series, or (S, V) of their V values; not yet
            capped.
        naive: the same of the naive candidates, at least one.
        windows: (S,) held-out windows of each series.
        min_gain: `training.min_gain`.

    >>> def each(error):
    ...     return np.full(4, error)
    >>> judge(each(0.5), each(0.6), {"last value": each(1.0)}, each(20), 0.02).reason
    'error 0.500, wanted below 0.588; champion 0.600, last value 1.000 on 80 windows of 4 series'
    """
    if unfit := _why_unfit(challenger, windows):
        return Verdict(is_promoted=False, reason=unfit)
    scores = _scores(challenger, champion, naive, windows)
    others = {"champion": scores.champion, scores.best_naive: scores.naive[scores.best_naive]}
    known = {name: error for name, error in others.items() if error is not None}
    wanted = (1 - min_gain) * min(known.values())
    told = ", ".join(f"{name} {error:.3f}" for name, error in known.items())
    reason = f"error {scores.challenger:.3f}, wanted below {wanted:.3f}; {told} on {_told(windows)}"
    is_promoted = scores.challenger < wanted
    if is_promoted and champion is not None:
        mine, theirs = without_best(challenger, champion, windows)
        is_promoted = mine <= (1 + min_gain) * theirs
        if not is_promoted:
            reason += f"; without the series of the largest gain {mine:.3f} for {theirs:.3f}"
    return Verdict(is_promoted=is_promoted, reason=reason, scores=scores)


def _why_unfit(challenger: Floats, windows: Ints) -> str | None:
    """Why nothing can be compared; None where it can."""
    if windows.sum() < WINDOWS_MIN:
        return f"{_told(windows)} held out, wanted at least {WINDOWS_MIN} windows to judge by"
    is_bad = ~np.isfinite(challenger).reshape(len(windows), -1).all(axis=1)
    if is_bad.any():
        bad = f"{int(is_bad.sum())} of {len(windows)} series"
        return f"forecasts that are no numbers for {bad}, wanted finite ones"
    return None


def _scores(
    challenger: Floats, champion: Floats | None, naive: Mapping[str, Floats], windows: Ints
) -> Scores:
    naive_errors = {name: mean_capped(errors, windows) for name, errors in naive.items()}
    return Scores(
        challenger=mean_capped(challenger, windows),
        champion=None if champion is None else mean_capped(champion, windows),
        naive=naive_errors,
        best_naive=min(naive_errors, key=lambda name: naive_errors[name]),
        series=len(windows),
        windows=int(windows.sum()),
    )


def without_best(challenger: Floats, champion: Floats, windows: Ints) -> tuple[float, float]:
    """Errors of both without the series on which the challenger gains most.

    What it gains on one odd series must not pay for what it loses on the others; of a single
    series both are 0.

    >>> without_best(np.array([0.1, 0.7, 0.7]), np.array([3.0, 0.6, 0.6]), np.full(3, 30))
    (0.7, 0.6)
    """
    if len(windows) == 1:
        return 0.0, 0.0
    gains = (_of_series(champion) - _of_series(challenger)) * _weights(windows)
    others = np.arange(len(windows)) != int(np.argmax(gains))
    mine, theirs = (
        mean_capped(errors[others], windows[others]) for errors in (challenger, champion)
    )
    return mine, theirs


def mean_capped(errors: Floats, windows: Ints) -> float:
    """Weighted mean of scaled errors over the series, each at most `ERROR_CAP`.

    What is no number is as bad as it gets: a champion that forecasts none must not be kept.

    >>> mean_capped(np.array([0.5, 1e9, np.nan]), np.array([40, 30, 300]))
    2.1666666666666665
    >>> mean_capped(np.array([0.5, 1.5]), np.array([30, 10]))
    0.75
    """
    return float(np.average(_of_series(errors), weights=_weights(windows)))


def _of_series(errors: Floats) -> Floats:
    """(S,) capped errors of series, means over their values."""
    capped = np.minimum(np.where(np.isnan(errors), math.inf, errors), ERROR_CAP)
    means: Floats = capped.reshape(len(errors), -1).mean(axis=1)
    return means


def _weights(windows: Ints) -> Ints:
    return np.minimum(windows, SERIES_WINDOWS)


def _told(windows: Ints) -> str:
    return f"{int(windows.sum())} windows of {len(windows)} series"
