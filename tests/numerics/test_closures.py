"""Losses that cannot be measured: random at the same weights, or following the weights without a graph."""

import pytest
import torch
from torch import Tensor

from gapscope.numerics.loss_surface.closures import check_ignored, check_steady

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
