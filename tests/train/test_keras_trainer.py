"""Training against what is usually said of stateful Keras models, each in plain Keras.

Reset the state after each epoch, do not shuffle, keep training and validation apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from forecastd.architecture import Architecture
from forecastd.errors import ModelError
from forecastd.keras_network import BatchScore
from forecastd.records import Float32s, Floats
from forecastd.settings import TrainingSettings
from forecastd.train import keras_trainer
from forecastd.train.keras_trainer import Epoch, Trained, Trainer, naive_error
from forecastd.train.sequences import TrainingData
from forecastd.train.stretches import Stretch
from tests.plain_keras import KINDS, LSTM, forget, learn, plain_architecture, plain_model

STEPS, ROWS, WARM = 4, 4, 2
SETTINGS = TrainingSettings(epochs=3, batch_size=ROWS, bptt_windows=2, loss="mse")


def stretches(windows: int, seed: int = 0, count: int = ROWS) -> list[Stretch]:
    """Windows with two leads each, which have something to do with what came before."""
    found = []
    for number in range(count):
        random = np.random.default_rng([seed, number])
        values = np.sin(np.arange((windows + 1) * STEPS) / (2 + number)) + 0.1 * random.normal(
            size=(windows + 1) * STEPS
        )
        cut = values.astype(np.float32).reshape(windows + 1, STEPS, 1)
        actuals = np.ascontiguousarray(cut[1:, :2])
        naive = np.repeat(cut[:-1, -1:], 2, axis=1)
        found.append(Stretch(cut[:-1], actuals, naive, np.arange(windows)))
    return found


def data(windows: int = 12, held_out: int = 4) -> TrainingData:
    whole = stretches(windows + held_out)
    return TrainingData(
        [one.part(0, windows) for one in whole],
        [
            one.part(windows - WARM, windows).unscored().then(one.part(windows, len(one)))
            for one in whole
        ],
    )


def rows_of(given: Sequence[Stretch], start: int) -> tuple[Float32s, Float32s]:
    """Windows `start` and `start + 1` of every stretch, and their actuals."""
    parts = [one.part(start, start + 2) for one in given]
    windows = np.stack([one.windows for one in parts]).reshape(len(parts), -1, 1)
    return windows, np.stack([one.actuals for one in parts])[..., 0]


def plain_epochs(model: Any, given: TrainingData, rates: Sequence[float]) -> Floats:
    """[training loss, validation loss] an epoch, as one writes it by hand in plain Keras."""
    epochs = []
    for rate in rates:
        model.optimizer.learning_rate = rate
        forget(model)
        trained = [
            model.train_on_batch(*rows_of(given.training, start))
            for start in range(0, len(given.training[0]), 2)
        ]
        forget(model)
        model.predict_on_batch(rows_of(given.held_out, 0)[0])  # warms the state, unscored
        tested = [
            model.test_on_batch(*rows_of(given.held_out, start))
            for start in range(WARM, len(given.held_out[0]), 2)
        ]
        epochs.append([np.mean(trained), np.mean(tested)])
    return np.array(epochs, np.float64)


def cosine(settings: TrainingSettings) -> list[float]:
    at = np.arange(settings.epochs) / settings.epochs
    rates = settings.learning_rate * (0.5 + 0.5 * np.cos(np.pi * at))
    return [float(rate) for rate in rates]


def losses(history: Sequence[Epoch]) -> Floats:
    """(epochs, 2)."""
    return np.array([[epoch.train_loss, epoch.validation_loss] for epoch in history], np.float64)


def nobody(_: object) -> None:
    pass


class TestAgainstPlainKeras:
    @pytest.mark.parametrize("kind", KINDS)
    def test_trains_and_validates_as_a_stateful_model_does_by_hand(self, kind: str) -> None:
        """In time order, state reset before each epoch and before validation, then warmed."""
        cells, given = KINDS[kind], data()
        trainer = Trainer(plain_architecture(cells), given, SETTINGS)
        plain = learn(plain_model(cells, ROWS), 1.0)
        plain.set_weights(trainer.network.weights())
        expected = plain_epochs(plain, given, cosine(SETTINGS))
        history = trainer.train(nobody).history
        np.testing.assert_allclose(losses(history), expected, rtol=1e-5)


@pytest.fixture(scope="module")
def trainer() -> Trainer:
    return Trainer(plain_architecture(LSTM), data(), SETTINGS)


@pytest.fixture(scope="module")
def run() -> tuple[Trained, list[int]]:
    """One run over all epochs, and what it said while it advanced."""
    advanced: list[int] = []
    trained = Trainer(plain_architecture(LSTM), data(), SETTINGS).train(nobody, advanced.append)
    return trained, advanced


class TestState:
    """What the numbers of the comparison above prove, each shown to matter."""

    def test_of_training_does_not_reach_validation(self, trainer: Trainer) -> None:
        given = data()
        score = trainer.evaluate(given.held_out, nobody)
        trainer.network.predict(rows_of(stretches(2, seed=9), 0)[0], np.arange(4, dtype=np.int32))
        assert trainer.evaluate(given.held_out, nobody) == score

    def test_of_validation_is_warm(self, trainer: Trainer) -> None:
        given = data()
        cold = [one.part(WARM, len(one)) for one in given.held_out]
        warm = trainer.evaluate(given.held_out, nobody)
        assert warm != trainer.evaluate(cold, nobody)

    def test_depends_on_the_order_of_the_windows(self, trainer: Trainer) -> None:
        given = data()
        backwards = [
            Stretch(one.windows[::-1], one.actuals[::-1], one.naive, one.end_ms)
            for one in given.held_out
        ]
        assert trainer.evaluate(given.held_out, nobody) != trainer.evaluate(backwards, nobody)

    def test_is_begun_anew_in_every_epoch(self) -> None:
        """With weights that hardly move, the second epoch loses what the first one lost."""
        settings = SETTINGS.model_copy(update={"learning_rate": 1e-12})
        history = Trainer(plain_architecture(LSTM), data(), settings).train(nobody).history
        assert history[1].train_loss == pytest.approx(history[0].train_loss, rel=1e-6)
        assert history[1].validation_loss == pytest.approx(history[0].validation_loss, rel=1e-6)


class TestScores:
    def test_weigh_batches_by_the_actuals_that_exist(self, trainer: Trainer) -> None:
        """A short last batch counts for its own rows, not as much as a full one."""
        uneven = [one.part(0, 5 - number) for number, one in enumerate(stretches(6))]
        uneven[0].actuals[1, 1] = np.nan
        found = trainer.evaluate(uneven, nobody)
        total = np.zeros(2)
        for number, one in enumerate(uneven):
            trainer.network.zero_rows(np.array([number], np.int32))
            windows = one.windows.reshape(1, -1, 1)
            outputs = trainer.network.predict(windows, np.array([number], np.int32))
            error = one.actuals - outputs[0, :, :, 0]
            total += [np.nansum(np.square(error)), np.nansum(np.abs(error))]
        count = sum(int(np.isfinite(one.actuals).sum()) for one in uneven)
        assert found == pytest.approx(tuple(total / count), rel=1e-5)

    def test_of_the_naive_forecast_are_of_the_same_actuals(self) -> None:
        given = stretches(3)
        given[0].actuals[1] = np.nan
        errors = np.concatenate([np.abs(one.actuals - one.naive).ravel() for one in given])
        assert naive_error(given) == pytest.approx(np.nanmean(errors))
        assert naive_error([one.unscored() for one in given]) is None

    def test_skill_is_one_minus_error_by_naive_error(self, run: tuple[Trained, list[int]]) -> None:
        best = run[0].best
        assert best.error is not None
        assert best.naive_error is not None
        assert best.skill == pytest.approx(1 - best.error / best.naive_error)


@pytest.fixture(scope="module")
def patient() -> Trainer:
    settings = SETTINGS.model_copy(update={"epochs": 4, "patience": 2})
    return Trainer(plain_architecture(LSTM), data(), settings)


class TestStopping:
    """Validation losses are prescribed; what is tested is what is made of them."""

    @pytest.fixture
    def told(self, monkeypatch: pytest.MonkeyPatch) -> list[float]:
        validation: list[float] = []

        def evaluate(self: Trainer, *_: object) -> BatchScore:
            return BatchScore(validation.pop(0), 1.0)

        monkeypatch.setattr(keras_trainer.Trainer, "evaluate", evaluate)
        return validation

    def test_keeps_the_weights_of_the_best_epoch(self, told: list[float], patient: Trainer) -> None:
        told += [3.0, 1.0, 2.0, 1.5]
        after: list[list[Float32s]] = []
        trained = patient.train(lambda _: after.append(patient.network.weights()))
        assert trained.best.number == 2
        assert len(trained.history) == 4
        np.testing.assert_array_equal(trained.weights[0], after[1][0])
        assert not np.array_equal(after[2][0], after[1][0])

    def test_ends_after_patience_epochs_that_were_no_better(
        self, told: list[float], patient: Trainer
    ) -> None:
        told += [2.0, 2.0, 3.0, 1.0]
        trained = patient.train(nobody)
        assert (len(trained.history), trained.best.number) == (3, 1)

    def test_refuses_a_loss_that_is_no_number(self, told: list[float], patient: Trainer) -> None:
        told += [1.0, float("nan")]
        with pytest.raises(ModelError, match="loss of epoch 2 is not a number, wanted a finite"):
            patient.train(nobody)


class TestTrainer:
    def test_goes_on_from_given_weights(self) -> None:
        """A challenger starts from the champion."""
        first = Trainer(plain_architecture(LSTM), data(), SETTINGS)
        given = [weight + 1 for weight in first.network.weights()]
        second = Trainer(plain_architecture(LSTM), data(), SETTINGS, given)
        np.testing.assert_array_equal(second.network.weights()[0], given[0])

    def test_without_held_out_windows_keeps_the_epoch_that_lost_least(self) -> None:
        given = TrainingData(data().training, [])
        trained = Trainer(plain_architecture(LSTM), given, SETTINGS).train(nobody)
        assert trained.best.validation_loss is None
        assert trained.best.train_loss == min(epoch.train_loss for epoch in trained.history)

    def test_advances_by_every_window(
        self, trainer: Trainer, run: tuple[Trained, list[int]]
    ) -> None:
        assert trainer.windows == ROWS * (12 + WARM + 4)
        assert sum(run[1]) == SETTINGS.epochs * trainer.windows

    def test_refuses_windows_that_nothing_follows(self) -> None:
        given = TrainingData([one.unscored() for one in stretches(3)], [])
        with pytest.raises(ModelError, match="no window is followed by an actual"):
            Trainer(plain_architecture(LSTM), given, SETTINGS).train(nobody)

    def test_repeats_itself_with_the_same_seed(self, run: tuple[Trained, list[int]]) -> None:
        again = Trainer(plain_architecture(LSTM), data(), SETTINGS).train(nobody)
        np.testing.assert_array_equal(losses(again.history), losses(run[0].history))


def test_learns_a_season_that_the_naive_forecast_misses() -> None:
    """The network that settings build, on waves whose period it is not told."""
    from forecastd.settings import Settings
    from forecastd.train.recorded_series import RecordedSeries, holdout_start_ms
    from forecastd.train.sequences import training_data
    from forecastd.train.stretches import Layout

    settings = Settings.model_validate(
        {"forecast": {"units": 32}, "training": {"epochs": 8, "learning_rate": 0.03}}
    )
    rows = np.arange(1_500)
    recorded = [
        RecordedSeries(
            f"wave {period}", rows, 50 + np.sin(2 * np.pi * rows / period)[:, None], rows
        )
        for period in (20, 27, 33, 41)
    ]
    architecture = Architecture.from_settings(settings)
    layout = Layout.of(architecture, settings)
    given = training_data(recorded, layout, holdout_start_ms(recorded, 0.2), 8)
    best = Trainer(architecture, given, settings.training).train(nobody).best
    assert best.skill is not None
    assert best.skill > 0.5
