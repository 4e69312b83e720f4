"""The made-up regression: the same bytes everywhere, the stated moments, and the noise scale in closed form."""

import hashlib

import numpy as np
import pytest
import torch
from torch import nn

from gapscope.data import datasets, made_up, sources
from gapscope.data.images import split_images
from gapscope.numerics.loss_surface.noise_scale import NoiseScale, noise_scale
from gapscope.tasks.regression import Regression
from gapscope.training.objective import Objective

MD5 = "359ef5dcb4ccd7ba512aaedbcf92ce0f"  # of the file that the study regression_made_up was run on
STANDARD_ERRORS = 5  # of the largest of 136 sample covariances
DRAWS = 400_000


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> datasets.Dataset:
    path = tmp_path_factory.mktemp("data") / "linear_gaussian.npz"
    sources.fetch("linear_gaussian", path)
    assert hashlib.md5(path.read_bytes()).hexdigest() == MD5
    return datasets.load(path)


def test_features_and_targets_have_the_stated_moments(data: datasets.Dataset) -> None:
    x, y = (np.concatenate([getattr(data, f"{of}_{split}") for split in ("train", "test")]) for of in "xy")
    found, known = np.cov(np.column_stack([x, y]).T), np.eye(made_up.FEATURES + 1)
    known[:-1, :-1] = made_up.covariance()
    known[-1, :-1] = known[:-1, -1] = made_up.covariance() @ made_up.truth()
    errors = np.sqrt((1 + known**2) / len(x))  # of a product of normal variables of variance 1
    assert (np.abs(found - known) <= STANDARD_ERRORS * errors).all()
    explained = 1 - np.var(y[:, 0] - x @ made_up.truth()) / np.var(y)
    assert explained == pytest.approx(made_up.SIGNAL, abs=0.01)


def expected(weights: np.ndarray, bias: float) -> float:
    """Return the noise scale by drawing gradients, with a spread of a hundredth."""
    draw = np.random.default_rng(1)
    x = draw.standard_normal((DRAWS, made_up.FEATURES)) @ np.linalg.cholesky(made_up.covariance()).T
    noise = np.sqrt(1 - made_up.SIGNAL) * draw.standard_normal(DRAWS)
    gradients = (x @ (weights - made_up.truth()) + bias - noise)[:, None] * np.column_stack([x, np.ones(DRAWS)])
    mean = gradients.mean(0)
    return float(((gradients**2).sum(1).mean() - mean @ mean) / (mean @ mean))


@pytest.mark.parametrize(("scale", "bias"), [(0.0, 0.0), (0.5, 0.3), (-1.0, 2.0)])
def test_the_closed_form_is_that_of_drawn_gradients(scale: float, bias: float) -> None:
    weights = scale * np.cos(np.arange(made_up.FEATURES))
    known = made_up.noise_scale(weights, bias)
    assert known == pytest.approx(expected(weights, bias), rel=0.03)
    assert expected(weights + 0.1, bias) != pytest.approx(known, rel=0.03)


def measured(data: datasets.Dataset, weights: np.ndarray) -> NoiseScale:
    line = nn.Linear(made_up.FEATURES, 1)
    line.weight.data, line.bias.data = torch.from_numpy(weights)[None].float(), torch.zeros(1)
    objective = Objective(line, split_images(data, "train", "cpu"), micro_batch=8, task=Regression())
    return noise_scale(lambda: objective.gradients(objective.weights(), 8), 8)


@pytest.mark.parametrize("scale", [0.0, 0.5])
def test_the_measured_noise_scale_has_the_closed_form_in_its_interval(data: datasets.Dataset, scale: float) -> None:
    found, known = measured(data, scale * made_up.truth()), made_up.noise_scale(scale * made_up.truth())
    assert found.low < known < found.high
    assert found.high < 1.4 * found.low  # it says something
    assert not found.low < 1.5 * known < found.high
