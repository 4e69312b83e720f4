"""The fluctuation of a loss curve, on curves whose answer is known."""

import math

import numpy as np
import pytest

from gapscope.numerics.fluctuation import log_residuals, scatter

WINDOW = 5


def curve(spread: float, length: int = 4000) -> np.ndarray:
    """A loss that falls by a factor e in 400 steps, with log-normal noise."""
    return np.exp(-np.arange(length) / 400 + spread * np.random.default_rng(0).standard_normal(length))


def check(found: float, spread: float) -> None:
    """Of normal noise x, Var(x - median of 5) = 1 + 0.28683 - 2/5, since the mean is independent of both differences.

    4,000 values have a deviation to 1.1 %; the margin is 4 times that.
    """
    assert found == pytest.approx((1 + 0.28683 - 2 / 5) ** 0.5 * spread, rel=0.045)


def test_the_scatter_is_that_of_the_noise_and_not_of_the_fall() -> None:
    check(scatter(log_residuals(curve(0.1), WINDOW)), 0.1)
    check(scatter(log_residuals(1000 * curve(0.1), WINDOW)), 0.1)  # whatever the scale of the loss


def test_without_the_median_the_fall_would_count() -> None:
    with pytest.raises(AssertionError):
        check(float(np.log(curve(0.1)).std()), 0.1)


def test_a_smooth_fall_has_next_to_none_and_equal_losses_have_none() -> None:
    assert scatter(log_residuals(curve(0.0), WINDOW)[2:-2]) == pytest.approx(0, abs=1e-12)
    assert scatter(log_residuals(np.full(20, 2.3), WINDOW)) == 0


def test_too_few_values_have_no_scatter() -> None:
    assert math.isnan(scatter(log_residuals(curve(0.1, 4), 3)))


def test_what_has_no_residuals_raises() -> None:
    with pytest.raises(ValueError, match="must be odd, got 4"):
        log_residuals(curve(0.1), 4)
    with pytest.raises(ValueError, match="not above 0"):
        log_residuals(np.array([1.0, 0.0, 1.0]), 3)
