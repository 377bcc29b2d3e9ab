"""Trains the keyed network: epochs of truncated back-propagation, with the state carried.

It does not know where windows come from: `forecastd train` cuts them from files, and whoever
retrains from a topic hands in the same `TrainingData`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from forecastd.architecture import Architecture
from forecastd.errors import ModelError
from forecastd.keras_network import BatchScore, KeyedNetwork
from forecastd.settings import TrainingSettings
from forecastd.train.sequences import Batch, TrainingData, batches, cut, training_slots
from forecastd.train.stretches import Stretch

Weights = Sequence[NDArray[np.float32]]
Advance = Callable[[int], None]


class Epoch(msgspec.Struct, frozen=True, kw_only=True):
    """One pass over the training windows and what it led to.

    Attributes:
        train_loss: mean over the training actuals, while the weights moved.
        validation_loss: mean over the held-out actuals, after it; None where nothing is held out.
        error: mean absolute error of the median on the held-out actuals, in spreads.
        naive_error: of the naive forecast on the same actuals.
        skill: 1 - error / naive_error: 0 is no better than naive, 1 is perfect.
        seconds: that it took.
    """

    number: int
    train_loss: float
    validation_loss: float | None = None
    error: float | None = None
    naive_error: float | None = None
    skill: float | None = None
    seconds: float


class Trained(msgspec.Struct, frozen=True):
    """The weights of the best epoch, and how it came to them."""

    weights: list[Any]  # arrays, in the order of `KeyedNetwork.weights`
    best: Epoch
    history: list[Epoch]


class Trainer:
    """One network with a bank of its own, one row a training slot. It is for these data alone.

    Args:
        architecture: of the network.
        data: what it learns from and is judged by.
        settings: how.
        weights: to start from; None starts from `settings.seed`.
    """

    def __init__(
        self,
        architecture: Architecture,
        data: TrainingData,
        settings: TrainingSettings,
        weights: Weights | None = None,
    ) -> None:
        self._data, self._settings = data, settings
        row_windows = settings.bptt_windows
        slots = training_slots(data.training, settings.batch_size, row_windows)
        self._pieces = cut(data.training, slots, row_windows)
        self._naive_error = naive_error(data.held_out)
        self.network = KeyedNetwork(
            architecture,
            max(len(self._pieces), len(data.held_out)),
            settings.learning_rate,
            settings.loss,
            seed=settings.seed,
        )
        if weights is not None:
            self.network.set_weights(weights)

    @property
    def windows(self) -> int:
        """Windows of one epoch, the held-out ones included."""
        return sum(map(len, [*self._data.training, *self._data.held_out]))

    def train(self, each: Callable[[Epoch], None], advance: Advance = lambda _: None) -> Trained:
        """Epochs until `patience` of them were no better than the best one.

        Args:
            each: is told of every epoch.
            advance: is told of every batch, with the number of its windows.

        Raises:
            ModelError: the loss is no longer a number.
        """
        history: list[Epoch] = []
        best, weights = None, self.network.weights()
        for number in range(1, self._settings.epochs + 1):
            epoch = self._epoch(number, advance)
            history.append(epoch)
            each(epoch)
            if best is None or _score(epoch) < _score(best):
                best, weights = epoch, self.network.weights()
            if epoch.number - best.number >= self._settings.patience:
                break
        assert best is not None, "no epoch"
        return Trained(weights, best, history)

    def evaluate(self, stretches: Sequence[Stretch], advance: Advance) -> BatchScore | None:
        """Scores on `stretches`, read from zeroed rows; None where they hold no actual."""
        return self._pass(stretches, self.network.test_on_batch, advance)

    def _epoch(self, number: int, advance: Advance) -> Epoch:
        start = time.monotonic()
        self.network.learning_rate = self._learning_rate(number)
        trained = self._pass(self._pieces, self.network.train_on_batch, advance)
        judged = self.evaluate(self._data.held_out, advance)
        if trained is None:
            raise ModelError("training: no window is followed by an actual, wanted a longer series")
        losses = [trained.loss] if judged is None else [trained.loss, judged.loss]
        if not np.isfinite(losses).all():
            raise ModelError(
                f"training: the loss of epoch {number} is not a number, wanted a finite one; "
                "lower training.learning_rate"
            )
        seconds = time.monotonic() - start
        if judged is None or self._naive_error is None:
            return Epoch(number=number, train_loss=trained.loss, seconds=seconds)
        return Epoch(
            number=number,
            train_loss=trained.loss,
            validation_loss=judged.loss,
            error=judged.error,
            naive_error=self._naive_error,
            skill=1 - judged.error / self._naive_error if self._naive_error else None,
            seconds=seconds,
        )

    def _learning_rate(self, number: int) -> float:
        """Of an epoch: a cosine that falls to zero after the last one.

        Large steps find the seasons within a few epochs; small ones at the end are worth 0.1 to
        0.2 of skill on spiky series. (Loshchilov and Hutter, SGDR, ICLR 2017, without restarts.)
        """
        return self._settings.learning_rate * (
            0.5 + 0.5 * math.cos(math.pi * (number - 1) / self._settings.epochs)
        )

    def _pass(
        self,
        stretches: Sequence[Stretch],
        call: Callable[..., BatchScore],
        advance: Advance,
    ) -> BatchScore | None:
        """One pass, from zeroed rows, with means weighed by the actuals of each batch."""
        settings = self._settings
        self.network.zero_rows(np.arange(self.network.rows, dtype=np.int32))
        scores = []
        for batch in batches(stretches, settings.batch_size, settings.bptt_windows):
            if batch.actual_count:
                score = call(batch.windows, batch.rows, batch.actuals)
                scores.append((batch.actual_count, score))
            else:
                self.network.predict(batch.windows, batch.rows)
            advance(_window_count(batch))
        return _weighted_mean(scores)


def naive_error(stretches: Iterable[Stretch]) -> float | None:
    """Mean absolute error of the naive forecast on the actuals that exist; None without any."""
    errors = [np.abs(stretch.actuals - stretch.naive).ravel() for stretch in stretches]
    known = np.concatenate([error[np.isfinite(error)] for error in errors] or [np.empty(0)])
    return float(known.mean(dtype=np.float64)) if len(known) else None


def _score(epoch: Epoch) -> float:
    """What the best epoch has least of."""
    return epoch.train_loss if epoch.validation_loss is None else epoch.validation_loss


def _weighted_mean(scores: Sequence[tuple[int, BatchScore]]) -> BatchScore | None:
    if not scores:
        return None
    counts = np.array([count for count, _ in scores], np.float64)
    means = np.average([score for _, score in scores], axis=0, weights=counts)
    return BatchScore(float(means[0]), float(means[1]))


def _window_count(batch: Batch) -> int:
    rows, windows = batch.actuals.shape[:2]
    return int(rows * windows)
