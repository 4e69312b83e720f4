"""Worst rise within a ball: linear losses, quadratics of either sign, and the adaptive form's invariance."""

import numpy as np
import oracles
import pytest
import torch
from torch import Tensor

from gapscope.numerics.loss_surface.sam_sharpness import ball_sharpness

DIRECT = 1e-9
SPECTRUM = np.array([9.0, 2.0, 1.0, 0.5, -3.0])
MATRIX = torch.from_numpy(oracles.symmetric(SPECTRUM)[0])
ZERO = torch.zeros(5, dtype=torch.float64)
POINT = torch.tensor([0.5, -2.0, 0.0, 1.0, 3.0], dtype=torch.float64)
SLOPE = torch.tensor([1.0, -2.0, 0.5, 3.0, -1.0], dtype=torch.float64)
RHO = 0.3


def find(loss, x: Tensor, **options):
    return ball_sharpness(loss, x, **{"rho": RHO, "generator": torch.Generator().manual_seed(0), **options})


def equal(found: float, known: float, tolerance: float = DIRECT) -> None:
    torch.testing.assert_close(found, known, rtol=tolerance, atol=0)


def linear(w: Tensor) -> Tensor:
    return 2 + SLOPE @ w


def quadratic(w: Tensor) -> Tensor:
    return 2 + w @ MATRIX @ w / 2


def test_a_linear_loss_rises_by_the_norm_of_its_slope() -> None:
    found = find(linear, POINT)
    equal(found.rise, RHO * SLOPE.norm().item())
    torch.testing.assert_close(found.displacement, RHO * SLOPE / SLOPE.norm(), rtol=DIRECT, atol=0)
    with pytest.raises(AssertionError):  # a box instead of a ball
        equal(found.rise, RHO * SLOPE.abs().sum().item())


@pytest.mark.parametrize("eta", [0.0, 0.01])
def test_the_adaptive_ball_is_scaled_by_the_weights(eta: float) -> None:
    found = find(linear, POINT, adaptive=True, eta=eta)
    equal(found.rise, RHO * ((POINT.abs() + eta) * SLOPE).norm().item())
    assert (found.displacement[2] == 0) == (eta == 0)  # the weight that is zero
    with pytest.raises(AssertionError):  # the plain ball
        equal(found.rise, find(linear, POINT).rise)


def test_the_adaptive_form_is_invariant_to_rescaled_weights() -> None:
    factors = torch.tensor([2.0, 10.0, 1.0, 0.1, 5.0], dtype=torch.float64)
    plain, adaptive = (
        [find(loss, x, adaptive=kind, eta=0.0).rise for loss, x in ((linear, POINT), (scaled, POINT / factors))]
        for kind in (False, True)
        for scaled in [lambda w: linear(factors * w)]
    )
    equal(*adaptive)
    with pytest.raises(AssertionError):
        equal(*plain)


def test_a_quadratic_at_its_stationary_point_rises_by_its_top_eigenvalue() -> None:
    found = find(quadratic, ZERO, steps=30)
    equal(found.rise, 9 * RHO**2 / 2)
    equal(found.displacement.norm().item(), RHO)
    equal(find(lambda w: 1 + w @ w, ZERO, steps=1).rise, RHO**2)
    assert find(quadratic, ZERO, restarts=0).rise == 0  # the papers' own start sees no gradient there


def test_the_highest_point_may_be_inside() -> None:
    hill = SLOPE / SLOPE.norm() * 0.1
    found = find(lambda w: 5 - (w - hill).square().sum(), ZERO, steps=200)
    equal(found.rise, 0.01, 1e-3)  # Frank & Wolfe's rate inside the ball is slow
    summit = find(lambda w: 5 - w.square().sum(), ZERO)
    assert (summit.rise, summit.displacement.abs().max()) == (0, 0)


def test_the_result_describes_its_point() -> None:
    calls = []

    def bumpy(w: Tensor) -> Tensor:
        calls.append(w)
        return 2 + (5 * w).sin().sum()

    found = find(bumpy, POINT, restarts=3)
    assert found.evaluations == len(calls) - 1  # the loss at x is taken twice, to see that it is the same
    equal(found.largest, bumpy(POINT + found.displacement).item())
    assert found.base == bumpy(POINT).item()
    assert found.rise == found.largest - found.base > 0
    assert found.displacement.norm() <= RHO * (1 + DIRECT)
    assert found.rise >= find(bumpy, POINT, restarts=0, steps=1).rise


@pytest.mark.parametrize("own_graph", [False, True])
def test_a_loss_that_ignores_x_has_none(own_graph: bool) -> None:
    other = torch.ones((), dtype=torch.float64, requires_grad=own_graph)  # a parameter that is no part of x
    found = find(lambda w: 1 * other, POINT)
    assert (found.rise, found.displacement.tolist()) == (0, [0] * 5)


def test_all_zero_weights_cannot_move_unless_eta_lets_them() -> None:
    assert find(linear, ZERO, adaptive=True, eta=0.0).rise == 0
    equal(find(linear, ZERO, adaptive=True, eta=0.01).rise, 0.01 * RHO * SLOPE.norm().item())


@pytest.mark.parametrize(
    "options", [{"rho": 0.0}, {"rho": -1.0}, {"rho": float("nan")}, {"steps": 0}, {"restarts": -1}]
)
def test_arguments_that_cannot_be_raise(options: dict) -> None:
    with pytest.raises(ValueError, match="rho"):
        find(linear, POINT, **options)


@pytest.mark.parametrize("loss", [lambda w: w.sum() * float("nan"), lambda w: 1 / w.square().sum()])
def test_a_loss_that_is_not_finite_raises(loss) -> None:
    with pytest.raises(ValueError, match="rho"):
        find(loss, ZERO)
