"""The search in a box, against all corners in 14 dimensions and closed forms in one."""

import itertools
from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
import torch

from gapscope.numerics.loss_surface import box_maximum
from gapscope.numerics.loss_surface.box_maximum import (
    UNTIL_CONVERGED,
    Array,
    BoxMaximum,
    Function,
    Solver,
    climb,
    maximise,
    number_agreeing,
    polished,
)

CORNERS = np.array(list(itertools.product((-1.0, 1.0), repeat=14)))
TIGHT = 1e-6  # L-BFGS-B stops where its value grows by less than 2e-9 of itself


def search(function: Function, n: int, starts: int = 6, base: float = 0.0, **options) -> BoxMaximum:
    draw = torch.Generator().manual_seed(3)
    return maximise(function, n, base=base, starts=starts, generator=draw, **options)


def convex(seed: int) -> tuple[Function, float]:
    """A random convex quadratic, whose maximum lies in a corner, and that maximum by trying every corner."""
    draw = np.random.default_rng(seed)
    root, g = draw.normal(size=(14, 14)), 0.1 * draw.normal(size=14)
    H = root @ root.T / 14
    return lambda u: (float(u @ H @ u / 2 + g @ u), H @ u + g), float(
        ((CORNERS @ H * CORNERS).sum(axis=1) / 2 + CORNERS @ g).max()
    )


def indefinite(seed: int) -> tuple[Function, float]:
    """A random indefinite quadratic, and the best of ascents from the 20 best corners and 60 random points."""
    draw = np.random.default_rng(seed)
    square, g = draw.normal(size=(14, 14)), 0.1 * draw.normal(size=14)
    H = (square + square.T) / 28**0.5

    def function(u: Array) -> tuple[float, Array]:
        return float(u @ H @ u / 2 + g @ u), H @ u + g

    corners = CORNERS[np.argsort(-((CORNERS @ H * CORNERS).sum(axis=1) / 2 + CORNERS @ g))[:20]]
    begins = [*corners, *draw.uniform(-1, 1, (60, 14))]
    return function, max(climb(function, begin, UNTIL_CONVERGED).value for begin in begins)


@pytest.mark.parametrize("problem", [convex, indefinite])
def test_quadratics_reach_their_maximum(problem: Callable[[int], tuple[Function, float]]) -> None:
    found = [(search(function, 14), largest) for function, largest in map(problem, range(20))]
    parts = [each.value / largest for each, largest in found]
    assert sum(part >= 0.99 for part in parts) >= 19
    assert max(parts) <= 1 + TIGHT  # a point of the box, so never above the maximum
    # the planted fault: the last start instead of the best one
    assert sum(each.values[-1] / largest >= 0.99 for each, largest in found) < 19


def test_interior_starts_alone_miss_best_corners() -> None:
    # the planted fault: a search without corners and annealing
    parts = [search(function, 14, kinds=("interior",)).value / largest for function, largest in map(convex, range(20))]
    assert sum(part >= 0.99 for part in parts) < 19


@pytest.mark.parametrize(
    ("function", "largest", "at"),
    [
        (lambda u: (float(u[0]), np.ones(1)), 1.0, 1.0),
        (lambda u: (float((u[0] - 0.2) ** 2), 2 * (u - 0.2)), 1.44, -1.0),
        (lambda u: (1 - float((u[0] - 0.3) ** 2), -2 * (u - 0.3)), 1.0, 0.3),
        (lambda u: (1e-5 * float(u[0]), 1e-5 * np.ones(1)), 1e-5, 1.0),  # as small as a trained network's slope
    ],
    ids=["slope", "edge", "inside", "small slope"],
)
def test_one_dimension(function: Function, largest: float, at: float) -> None:
    found = search(function, 1, base=function(np.zeros(1))[0])
    assert found.value == pytest.approx(largest, rel=TIGHT)
    assert found.point == pytest.approx([at], abs=1e-3)


def test_every_start_is_recorded_and_the_best_one_counts() -> None:
    function, _ = convex(0)
    calls = []

    def counted(u: Array) -> tuple[float, Array]:
        calls.append(u)
        return function(u)

    found = search(counted, 14, first=2, starts=2)
    assert found.kinds == ("interior", "interior", *box_maximum.KINDS)[: len(found.kinds)]
    assert found.value == max(found.values)
    assert function(found.point)[0] == pytest.approx(found.value, rel=1e-12)
    assert found.evaluations == len(calls)
    assert found.agreeing == number_agreeing(found.values, 0.0) == 2
    assert found.converged


def test_more_starts_never_lower_the_value() -> None:
    function, _ = convex(1)
    values = [search(function, 14, starts=starts).value for starts in (1, 3, 6)]
    assert values == sorted(values)


def test_a_search_without_agreement_ends_and_says_so() -> None:
    heights = iter(range(1, 100))

    def taller(u: Array) -> tuple[float, Array]:
        """A flat function that doubles with each start."""
        return 2.0 ** next(heights), np.zeros_like(u)

    found = search(taller, 3, starts=2)
    assert (len(found.values), found.agreeing, found.converged) == (2 * box_maximum.MOST, 1, False)


@pytest.mark.parametrize("iterations", [1, 3, 10])
def test_tighter_limits_end_a_climb_where_they_would_alone(iterations: int) -> None:
    for seed, problem in product(range(5), (convex, indefinite)):
        function, _ = problem(seed)
        begin = np.random.default_rng(seed).uniform(-1, 1, 14)
        for limits in (Solver(iterations, 50), Solver(1000, 2 * iterations)):
            alone, noted = climb(function, begin, limits), climb(function, begin, UNTIL_CONVERGED, limits).sooner
            assert noted is not None
            assert (alone.value, alone.evaluations, alone.iterations) == (
                noted.value, noted.evaluations, noted.iterations,
            )  # fmt: skip
            assert alone.converged == noted.converged
            np.testing.assert_array_equal(alone.point, noted.point)


def test_projected_gradient_goes_on_where_a_climb_stopped_short() -> None:
    H = np.diag(np.geomspace(1, 100, 14))
    summit = np.linspace(-0.5, 0.5, 14)

    def hill(u: Array) -> tuple[float, Array]:
        return 5 - float((u - summit) @ H @ (u - summit)) / 2, -H @ (u - summit)

    short = climb(hill, np.full(14, 0.9), Solver(1, 50))
    found = polished(hill, short, 0.0)
    assert short.value < 4
    assert 4.95 < found.value <= 5  # it ends where ten steps add 1e-4 of the rise
    assert found.evaluations > short.evaluations
    assert polished(hill, climb(hill, summit, UNTIL_CONVERGED), 0.0).value == 5


def test_a_flat_function_has_its_value_and_no_climb() -> None:
    found = search(lambda u: (2.0, np.zeros_like(u)), 3)
    assert (found.value, found.iterations) == (2.0, 0)


def test_values_below_the_base_agree_on_nothing() -> None:
    assert number_agreeing([0.5, 0.5, 0.4], 1.0) == 0
    assert number_agreeing([0.5, 1.0, 1.0], 1.0) == 2


def test_no_start_is_refused() -> None:
    with pytest.raises(ValueError, match="0"):
        search(lambda u: (0.0, u), 1, starts=0)
