from __future__ import annotations

import numpy as np
import pytest

from forecastd.evaluate.running_error import (
    MEMORY_WINDOWS,
    laplace_offsets,
    last_value_errors,
    learn,
)

FLOAT32_MAX = float(np.finfo(np.float32).max)
NO_LIMIT = np.full((1, 1), np.inf)


class TestLearn:
    def test_is_the_plain_mean_of_the_first_errors(self) -> None:
        errors = np.random.default_rng(0).exponential(3, MEMORY_WINDOWS)
        mean = np.full((1, 1), np.nan, np.float32)
        for count, error in enumerate(errors):
            mean = learn(mean, np.array([[error]]), np.array([count]))
            assert mean.item() == pytest.approx(errors[: count + 1].mean(), rel=1e-5)

    def test_forgets_from_then_on(self) -> None:
        mean = np.zeros((1, 1), np.float32)
        for count in range(MEMORY_WINDOWS, MEMORY_WINDOWS + 500):
            mean = learn(mean, np.ones((1, 1)), np.array([count]))
        assert mean.item() == pytest.approx(1, abs=1e-3)

    def test_counts_each_series_for_itself(self) -> None:
        mean = np.array([[4.0, 4.0], [4.0, 4.0]], np.float32)
        found = learn(mean, np.full((2, 2), 8.0), np.array([0, 3]))
        assert found.tolist() == [[8.0, 8.0], [5.0, 5.0]]

    def test_starts_at_the_first_error_whatever_the_count(self) -> None:
        mean = np.full((1, 1), np.nan, np.float32)
        assert learn(mean, np.full((1, 1), 3.0), np.array([40])).item() == 3.0

    def test_stays_a_number_at_the_end_of_the_range(self) -> None:
        """Two values at the ends of float32 differ by twice what it holds."""
        mean = learn(np.ones((1, 1), np.float32), np.full((1, 1), 2 * FLOAT32_MAX), np.array([0]))
        assert mean.item() == pytest.approx(FLOAT32_MAX)
        assert np.isfinite(learn(mean, np.full((1, 1), 2 * FLOAT32_MAX), np.array([70]))).all()


class TestLastValueErrors:
    def test_are_mean_moves_over_each_lead(self) -> None:
        rng = np.random.default_rng(1)
        steps = rng.normal(size=(3, 6, 2))
        errors = last_value_errors(steps[:, ::-1], np.full((3, 2), np.inf), 5)
        for lead in range(1, 6):
            wanted = np.abs(steps[:, lead:] - steps[:, :-lead]).mean(axis=1)
            np.testing.assert_allclose(errors[:, lead - 1], wanted)

    def test_beyond_the_steps_are_those_of_the_longest_lead(self) -> None:
        errors = last_value_errors(np.array([[[7.0], [3.0], [1.0]]]), NO_LIMIT, 5)
        assert errors.ravel().tolist() == [3.0, 6.0, 6.0, 6.0, 6.0]

    def test_of_a_young_series_use_what_there_is(self) -> None:
        steps = np.array(
            [[[7.0], [3.0], [np.nan], [np.nan]], [[7.0], [np.nan], [np.nan], [np.nan]]]
        )
        errors = last_value_errors(steps, np.full((2, 1), np.inf), 3)
        assert errors[..., 0].tolist() == [[4.0, 4.0, 4.0], [0.0, 0.0, 0.0]]

    def test_count_up_to_the_limit(self) -> None:
        errors = last_value_errors(np.array([[[7.0], [1e9], [5.0]]]), np.array([[10.0]]), 2)
        assert errors.ravel().tolist() == [10.0, 2.0]

    def test_fit_a_float32(self) -> None:
        ends = np.array([[[FLOAT32_MAX], [-FLOAT32_MAX]]])
        errors = last_value_errors(ends, NO_LIMIT, 2).astype(np.float32)
        assert errors.ravel().tolist() == [FLOAT32_MAX] * 2


class TestLaplaceOffsets:
    def test_hold_the_shares_they_promise(self) -> None:
        rng, quantiles = np.random.default_rng(2), (0.05, 0.3, 0.5, 0.7, 0.95)
        errors = rng.laplace(0, 4.0, 400_000)
        mean = np.abs(errors).mean().reshape(1, 1, 1)
        for q, offset in zip(quantiles, laplace_offsets(mean, quantiles).ravel(), strict=True):
            assert (errors <= offset).mean() == pytest.approx(q, abs=0.003)

    def test_never_cross_and_leave_the_median_alone(self) -> None:
        errors = np.random.default_rng(3).exponential(size=(2, 3, 2))
        quantiles = (1e-6, 0.01, 0.25, 0.5, 0.75, 0.99, 1 - 1e-6)
        offsets = laplace_offsets(errors, quantiles)
        assert offsets.shape == (2, 3, 7, 2)
        assert (np.diff(offsets, axis=2) > 0).all()
        assert (offsets[:, :, 3] == 0).all()

    def test_of_no_error_is_no_band(self) -> None:
        assert not laplace_offsets(np.zeros((1, 1, 1)), (0.1, 0.5, 0.9)).any()
