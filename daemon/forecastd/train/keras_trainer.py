"""Trains the keyed network: epochs of truncated back-propagation, with the state carried.

It does not know where windows come from: `forecastd train` cuts them from files, and whoever
retrains from a topic hands in the same `TrainingData`.
"""

from __future__ import annotations

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
from forecastd.train.sequences import Batch, TrainingData, batches, cut
from forecastd.train.stretches import Stretch

Weights = Sequence[NDArray[np.float32]]
Report = Callable[[float], None]


class Epoch(msgspec.Struct, frozen=True):
    """One pass over the training windows and what it led to.

    Attributes:
        train_loss: mean over the training actuals, while the weights moved.
        validation_loss: mean over the held-out actuals, after it; None where nothing is held out.
        error: mean absolute error of the median on the held-out actuals, in spreads.
        naive_error: of the naive forecast on the same actuals.
        seconds: that it took.
    """

    number: int
    train_loss: float
    validation_loss: float | None
    error: float | None
    naive_error: float | None
    seconds: float

    @property
    def skill(self) -> float | None:
        """1 - error / naive error: 0 is no better than naive, 1 is perfect."""
        if self.error is None or not self.naive_error:
            return None
        return 1 - self.error / self.naive_error


class Trained(msgspec.Struct, frozen=True):
    """The weights of the best epoch, and how it came to them."""

    weights: list[Any]  # arrays, in the order of `KeyedNetwork.weights`
    best: Epoch
    history: list[Epoch]


class Trainer:
    """One network with a bank of its own, one row a training slot.

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
        self._slots = settings.batch_size
        self._pieces = cut(data.training, self._slots, settings.bptt_windows)
        self._naive_error = naive_error(data.held_out)
        self.network = KeyedNetwork(
            architecture, self._slots, settings.learning_rate, settings.loss, seed=settings.seed
        )
        if weights is not None:
            self.network.set_weights(weights)

    @property
    def windows(self) -> int:
        """Windows of one epoch, the held-out ones included."""
        return self._data.window_count + sum(map(len, self._data.held_out))

    def train(self, each: Callable[[Epoch], None], advance: Report = lambda _: None) -> Trained:
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

    def evaluate(self, stretches: Sequence[Stretch], advance: Report) -> BatchScore | None:
        """Scores on `stretches`, read from zeroed rows; None where they hold no actual."""
        return self._pass(stretches, self.network.test_on_batch, advance)

    def _epoch(self, number: int, advance: Report) -> Epoch:
        start = time.monotonic()
        trained = self._pass(self._pieces, self.network.train_on_batch, advance)
        judged = self.evaluate(self._data.held_out, advance)
        if trained is None:
            raise ModelError("training: no window is followed by an actual, wanted a longer series")
        if not np.isfinite([trained.loss, judged.loss if judged else 0.0]).all():
            raise ModelError(
                f"training: the loss of epoch {number} is not a number, wanted a finite one; "
                "lower training.learning_rate"
            )
        return Epoch(
            number,
            trained.loss,
            judged.loss if judged else None,
            judged.error if judged else None,
            self._naive_error if judged else None,
            time.monotonic() - start,
        )

    def _pass(
        self,
        stretches: Sequence[Stretch],
        call: Callable[..., BatchScore],
        advance: Report,
    ) -> BatchScore | None:
        """One pass, from zeroed rows, with means weighed by the actuals of each batch."""
        self.network.zero_rows(np.arange(self._slots, dtype=np.int32))
        scores = []
        for batch in batches(stretches, self._slots, self._settings.bptt_windows):
            if batch.begins.any():
                self.network.zero_rows(batch.rows[batch.begins])
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
    return batch.actuals.shape[0] * batch.actuals.shape[1]
