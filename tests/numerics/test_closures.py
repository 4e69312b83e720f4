"""Losses that cannot be measured: random at the same weights, or following the weights without a graph."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from gapscope.numerics.loss_surface import curvature
from gapscope.numerics.loss_surface.closures import check_ignored, check_steady
from gapscope.numerics.loss_surface.noise_scale import noise_scale
from gapscope.numerics.loss_surface.sharpness import keskar_sharpness

X = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)


def squares(x: Tensor) -> Tensor:
    return x.square().sum()


def noisy(x: Tensor) -> Tensor:
    return squares(x) + 1e-9 * torch.rand((), dtype=x.dtype)


def test_a_loss_that_draws_is_refused_and_another_order_of_sums_is_not() -> None:
    value = float(squares(X))
    check_steady(squares, X, value)
    check_steady(squares, X, value * (1 + 10 * torch.finfo(X.dtype).eps))
    with pytest.raises(ValueError, match="draws at random"):
        check_steady(noisy, X, float(noisy(X)))


def test_a_loss_that_follows_the_weights_without_a_graph_is_refused_and_a_constant_is_not() -> None:
    check_ignored(lambda _: torch.tensor(3.0), X, 3.0)
    with pytest.raises(ValueError, match="no graph"):
        check_ignored(lambda x: squares(x.detach()), X, float(squares(X)))


@torch.no_grad()
def evaluated(x: Tensor) -> Tensor:
    return squares(x)


MEASURES: dict[str, Callable[[Callable[[Tensor], Tensor]], object]] = {
    "sharpness": lambda loss: keskar_sharpness(loss, X, epsilon=1e-3, generator=draws()),
    "eigenvalues": lambda loss: curvature.hessian_eigenvalues(loss, X, 1, generator=draws()),
    "trace": lambda loss: curvature.hessian_trace(loss, X, probes=2, generator=draws()),
    "density": lambda loss: curvature.spectral_density(loss, X, steps=2, generator=draws()),
}


def draws() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize(
    ("loss", "said"), [(noisy, "draws at random"), (lambda x: squares(x.detach()), "no graph"), (evaluated, "no graph")]
)
def test_every_measure_refuses_such_losses(measure: str, loss: Callable[[Tensor], Tensor], said: str) -> None:
    MEASURES[measure](squares)
    with pytest.raises(ValueError, match=said):
        MEASURES[measure](loss)


def test_gradients_that_are_shuffled_anew_have_no_noise_scale() -> None:
    generator = draws()
    fixed = list(torch.randn(4, 3, dtype=torch.float64, generator=generator) + 1)
    noise_scale(lambda: fixed, 5)
    with pytest.raises(ValueError, match="other gradients"):
        noise_scale(lambda: list(torch.randn(4, 3, dtype=torch.float64, generator=generator) + 1), 5)
