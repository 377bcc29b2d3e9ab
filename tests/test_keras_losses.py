from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from forecastd.keras_losses import Loss, loss_function, median_error
from forecastd.keras_network import KeyedNetwork
from tests.plain_keras import LSTM, first, part, plain_architecture, windows


class TestLosses:
    actual = np.array([1.0, -2.0, 0.5, np.nan]).reshape(1, 1, 4, 1, 1).astype(np.float32)

    def test_pinball_is_summed_over_quantiles(self) -> None:
        quantiles = (0.1, 0.5, 0.9)
        output = np.random.default_rng(0).normal(size=(1, 1, 4, 3, 1)).astype(np.float32)
        error = self.actual - output
        levels = np.reshape(quantiles, (3, 1))
        each = np.maximum(levels * error, (levels - 1) * error).sum(axis=3)
        found = loss_function("pinball", quantiles)(self.actual, output)
        np.testing.assert_allclose(found, np.nanmean(each), rtol=1e-6)

    @pytest.mark.parametrize(
        ("loss", "expected"),
        [("mae", 3.5 / 3), ("mse", (1 + 4 + 0.25) / 3), ("huber", (0.5 + 1.5 + 0.125) / 3)],
    )
    def test_of_one_output(self, loss: Loss, expected: float) -> None:
        output = np.zeros((1, 1, 4, 1, 1), np.float32)
        found = loss_function(loss, ())(self.actual, output)
        np.testing.assert_allclose(found, expected, rtol=1e-6)

    def test_median_error_is_that_of_the_quantile_in_the_middle_after_sorting(self) -> None:
        """As it is published: raw quantiles may cross."""
        output = np.array([3.0, 1.0, 2.0], np.float32).reshape(1, 1, 1, 3, 1)
        actual = np.full((1, 1, 1, 1, 1), 5, np.float32)
        assert float(median_error((0.1, 0.5, 0.9))(actual, output)) == pytest.approx(3.0)

    @pytest.mark.parametrize("loss", ["pinball", "huber"])
    def test_learns_nothing_from_actuals_that_do_not_exist(self, loss: Loss) -> None:
        quantiles = (0.1, 0.5, 0.9) if loss == "pinball" else ()
        fields: dict[str, Any] = {"outputs": 2 * max(1, len(quantiles)), "quantiles": quantiles}
        network = KeyedNetwork(plain_architecture(LSTM, **fields), 2, 1e-2, loss)
        actuals, read = np.ones((2, 2, 2, 1), np.float32), windows(2, count=2)
        actuals[:, 1] = np.nan
        score = network.test_on_batch(read, first(2), actuals)
        network.zero_rows(first(2))
        without = network.test_on_batch(part(read, 0), first(2), actuals[:, :1])
        assert score == pytest.approx(without, rel=1e-6)
        network.train_on_batch(read, first(2), actuals)
        assert all(np.isfinite(weight).all() for weight in network.weights())
