"""The gradient noise scale on Gaussian gradients, of which mean and covariance are known."""

import math

import numpy as np
import oracles
import pytest
import torch
from torch import Tensor

from gapscope.numerics.loss_surface.noise_scale import NoiseScale, noise_scale

STANDARD_ERRORS = 4
SIZE = 20
DEVIATIONS = np.linspace(0.5, 2, SIZE)
MEAN = np.random.default_rng(9).standard_normal(SIZE)


def gradients(seed: int, batch_size: int, batches: int, mean: np.ndarray = MEAN) -> list[Tensor]:
    noise = np.random.default_rng(seed).standard_normal((batches, SIZE)) * DEVIATIONS / math.sqrt(batch_size)
    return [torch.from_numpy(mean + row) for row in noise]


def measured(seed: int, batch_size: int, batches: int, mean: np.ndarray = MEAN, **options) -> NoiseScale:
    drawn = gradients(seed, batch_size, batches, mean)
    return noise_scale(lambda: drawn, batch_size, **options)


def check_estimate(variant: str) -> None:
    found = measured(0, 10, 20000)
    known = oracles.noise_scale(MEAN, DEVIATIONS, variant)
    assert abs(found.noise_scale - known) <= STANDARD_ERRORS * (found.high - found.low) / 4  # 1.96 deviations a side
    assert found.high - found.low < 0.05 * known


def test_the_estimate() -> None:
    check_estimate("right")


@pytest.mark.parametrize("variant", ["deviation for variance", "norm not squared"])
def test_the_estimate_is_not(variant: str) -> None:
    with pytest.raises(AssertionError):
        check_estimate(variant)


def test_its_parts_are_unbiased() -> None:
    many = [measured(seed, 3, 6, 0.3 * MEAN) for seed in range(2000)]
    for values, known, biased in (
        (np.array([f.trace for f in many]), (DEVIATIONS**2).sum(), (DEVIATIONS**2).sum() * 5 / 6),
        (
            np.array([f.squared_gradient for f in many]),
            (0.3 * MEAN) @ (0.3 * MEAN),
            (0.3 * MEAN) @ (0.3 * MEAN) + (DEVIATIONS**2).sum() / 18,
        ),
    ):
        error = values.std() / math.sqrt(len(values))
        assert abs(values.mean() - known) <= STANDARD_ERRORS * error
        assert abs(values.mean() - biased) > STANDARD_ERRORS * error  # divided by K; the squared norm of the mean as is


def test_they_are_the_paper_s_with_the_mean_for_the_large_batch() -> None:
    drawn, small = gradients(0, 10, 8), 10
    found = noise_scale(lambda: drawn, small)
    squares = torch.stack(drawn).square().sum(dim=1).mean().item()  # |G|^2 at b
    large, whole = 8 * small, torch.stack(drawn).mean(dim=0).square().sum().item()  # at K b
    torch.testing.assert_close(found.squared_gradient, (large * whole - small * squares) / (large - small))
    torch.testing.assert_close(found.trace, (squares - whole) / (1 / small - 1 / large))
    assert found.noise_scale == pytest.approx(found.trace / found.squared_gradient)


def test_the_interval_is_a_jackknife() -> None:
    drawn = gradients(0, 10, 8)
    found = noise_scale(lambda: drawn, 10)
    left = [noise_scale(lambda i=i: drawn[:i] + drawn[i + 1 :], 10).noise_scale for i in range(8)]
    inverses = 1 / np.array(left)
    error = math.sqrt(7 / 8 * ((inverses - inverses.mean()) ** 2).sum())
    reach = 2.364624251 * error  # Student's t, 7 degrees, 97.5 %
    known = (1 / (1 / found.noise_scale + reach), 1 / (1 / found.noise_scale - reach))
    torch.testing.assert_close((found.low, found.high), known, rtol=1e-8, atol=0)


def test_the_interval_covers_what_it_claims() -> None:
    known = oracles.noise_scale(MEAN, DEVIATIONS)
    runs = 1000
    for confidence in (0.5, 0.95):
        many = [measured(seed, 20, 32, confidence=confidence) for seed in range(runs)]
        covered = sum(f.low <= known <= f.high for f in many) / runs
        error = math.sqrt(confidence * (1 - confidence) / runs)
        assert abs(covered - confidence) <= STANDARD_ERRORS * error + 0.02  # 0.02: a jackknife's own approximation


def test_no_signal_has_no_upper_end() -> None:
    many = [measured(seed, 4, 16, 0 * MEAN) for seed in range(200)]
    assert np.mean([f.high == math.inf for f in many]) > 0.9
    assert 0.3 < np.mean([f.noise_scale == math.inf for f in many]) < 0.7  # the estimate of 0 is of either sign
    assert all(f.low > 0 for f in many)


def test_what_a_batch_is_worth() -> None:
    found = NoiseScale(100.0, 80.0, 130.0, 1.0, 0.01, 8, 10)
    assert found.critical_batch_size == 100
    assert (found.steps_ratio(100), found.examples_ratio(100)) == (2, 2)
    assert (found.steps_ratio(25), found.examples_ratio(25)) == (5, 1.25)
    for size in (1, 50, 4000):  # the paper's hyperbola
        assert (found.steps_ratio(size) - 1) * (found.examples_ratio(size) - 1) == pytest.approx(1)


def test_equal_gradients_have_no_noise() -> None:
    found = noise_scale(lambda: [torch.ones(3)] * 4, 10)
    assert (found.noise_scale, found.low, found.high, found.squared_gradient) == (0, 0, 0, 3)
    assert (found.steps_ratio(10), found.examples_ratio(10)) == (1, math.inf)


def test_noise_that_is_one_batch_s_is_noise_of_unknown_size() -> None:
    alone, near = (noise_scale(lambda of=of: [torch.tensor([g]) for g in (1.0, 1.0, of, 5.0)], 8) for of in (1, 1.0001))
    assert alone.noise_scale == pytest.approx(near.noise_scale, rel=1e-3)
    assert (alone.low, alone.high) == (0, math.inf)
    assert alone.trace == pytest.approx(8 * 4)


@pytest.mark.parametrize(
    ("drawn", "message"),
    [
        ([], "3.*0"),
        ([torch.ones(2)] * 2, "3.*2"),
        ([torch.zeros(2)] * 5, "zero"),
        ([torch.ones(2), torch.tensor([float("nan"), 0]), torch.ones(2)], "not finite"),
    ],
)
def test_gradients_that_cannot_be_raise(drawn: list[Tensor], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        noise_scale(lambda: drawn, 10)


def test_a_confidence_that_cannot_be_raises() -> None:
    with pytest.raises(ValueError, match="confidence"):
        noise_scale(lambda: [torch.ones(2)] * 5, 10, confidence=95)
