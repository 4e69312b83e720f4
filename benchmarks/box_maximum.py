"""How often a search for the largest value in a box finds it, on functions whose maximum is known.

Run by hand: `python benchmarks/box_maximum.py` prints its tables and writes benchmarks/box_maximum.md. The quadratics
have 14 dimensions. The maximum of a convex one lies in a corner, and all 16,384 corners are tried. That of an
indefinite one is the best of ascents from the 60 best corners and 300 random points. The functions of one dimension
have their maximum on an edge or inside. `box_maximum_lenet5.py` does the same on a network's loss.
"""

import itertools
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch

from gapscope.numerics.loss_surface import box_maximum
from gapscope.numerics.loss_surface.box_maximum import (
    UNTIL_CONVERGED,
    Array,
    Climb,
    Function,
    Solver,
    climb,
    maximise,
    polished,
    uniform,
)

DIMENSIONS, TRIALS, ENOUGH = 14, 60, 0.99
CORNERS = np.array(list(itertools.product((-1.0, 1.0), repeat=DIMENSIONS)))
Search = Callable[[Function, int, torch.Generator], float]  # function, dimensions, starts' generator -> largest value


def few_iterations(function: Function, n: int, draw: torch.Generator) -> float:
    """Return the value of the paper's search: one interior start, ten iterations."""
    return climb(function, uniform(n, draw), Solver(10, 50)).value


def until_agreement(function: Function, n: int, draw: torch.Generator, starts: int = 6) -> float:
    """Return the value of the search that sharpness uses."""
    return maximise(function, n, base=function(np.zeros(n))[0], starts=starts, generator=draw, first=2).value


def repeated(ascend: Callable[[Function, Array], float], starts: int) -> Search:
    """Return the search that takes the best of so many ascents from interior points."""
    return lambda function, n, draw: max(ascend(function, uniform(n, draw)) for _ in range(starts))


def long_climb(function: Function, begin: Array) -> float:
    """Return where L-BFGS-B converges."""
    return climb(function, begin, UNTIL_CONVERGED).value


def corner_climb(function: Function, begin: Array) -> float:
    """Return where L-BFGS-B converges from the corner nearest to a point."""
    return long_climb(function, np.where(begin < 0, -1.0, 1.0))


def annealed_climb(function: Function, begin: Array) -> float:
    """Return where L-BFGS-B converges from an annealed start."""
    return long_climb(function, box_maximum.annealed(function, box_maximum.NEAR * begin)[0])


def sign_steps(function: Function, begin: Array) -> float:
    """Return where L-BFGS-B converges, from the corner that steps u <- sign(gradient) reach while they rise."""
    point, (value, slope) = begin, function(begin)
    while (found := function(corner := np.where(slope < 0, -1.0, 1.0)))[0] > value:
        point, (value, slope) = corner, found
    return long_climb(function, point)


def projected_gradient(function: Function, begin: Array) -> float:
    """Return where projected gradient ascent ends."""
    return polished(function, Climb(-np.inf, begin, 0, 0, converged=False), function(np.zeros(len(begin)))[0]).value


SEARCHES: dict[str, Search] = {
    "one interior start, 10 iterations (the paper's number)": few_iterations,
    "**until 6 starts agree (the default)**": until_agreement,
    "until 3 starts agree": partial(until_agreement, starts=3),
    "30 interior starts": repeated(long_climb, 30),
    "30 corners": repeated(corner_climb, 30),
    "30 annealed starts": repeated(annealed_climb, 30),
    "30 interior starts, sign steps to a corner": repeated(sign_steps, 30),
    "30 interior starts, projected gradient": repeated(projected_gradient, 30),
}


def quadratic(draw: np.random.Generator, convex: bool) -> tuple[Function, float]:
    """Return u^T H u / 2 + g^T u, and its largest value in the box."""
    square = draw.normal(size=(DIMENSIONS, DIMENSIONS))
    H = square @ square.T / DIMENSIONS if convex else (square + square.T) / np.sqrt(2 * DIMENSIONS)
    g = 0.1 * draw.normal(size=DIMENSIONS)

    def function(u: Array) -> tuple[float, Array]:
        return float(u @ H @ u / 2 + g @ u), H @ u + g

    values = (CORNERS @ H * CORNERS).sum(axis=1) / 2 + CORNERS @ g
    largest = float(values.max())
    if not convex:  # where H is negative along an axis, the maximum may lie inside
        starts = [*CORNERS[np.argsort(-values)[:60]], *draw.uniform(-1, 1, (300, DIMENSIONS))]
        largest = max(largest, *(long_climb(function, start) for start in starts))
    return function, largest


def in_one_dimension() -> list[tuple[Function, float]]:
    """Return functions of one coordinate and their maxima: edge, slope; edge, parabola; inside, parabola; wave."""
    wave = max(float(np.sin(9 * v) + 0.2 * v) for v in np.linspace(-1, 1, 2_000_001))
    return [
        (lambda u: (float(u[0]), np.ones(1)), 1.0),
        (lambda u: (float((u[0] - 0.2) ** 2), 2 * (u - 0.2)), 1.44),
        (lambda u: (1 - float((u[0] - 0.3) ** 2), -2 * (u - 0.3)), 1.0),
        (lambda u: (float(np.sin(9 * u[0]) + 0.2 * u[0]), 9 * np.cos(9 * u) + 0.2), wave),
    ]


def rates(problems: list[tuple[Function, float]], n: int, search: Search) -> str:
    """Return how many trials reach ENOUGH of the maximum, the worst, and the mean and largest number of evaluations."""
    parts, spent = [], []
    for number, (function, largest) in enumerate(problems):
        calls = 0

        def counted(u: Array, function: Function = function) -> tuple[float, Array]:
            nonlocal calls
            calls += 1
            return function(u)

        parts.append(search(counted, n, torch.Generator().manual_seed(number)) / largest)
        spent.append(calls)
    good = sum(part >= ENOUGH for part in parts)
    return f"{good} of {len(problems)} | {min(parts):.3f} | {np.mean(spent):.0f} | {max(spent)}"


def table(title: str, problems: list[tuple[Function, float]], n: int) -> list[str]:
    """Return the lines of a table, one row per search."""
    lines = [f"## {title}", "", "| search | reach 99 % of the maximum | worst part of it | evaluations, mean | most |"]
    lines += ["|---|---|---|---|---|"]
    return [*lines, *(f"| {name} | {rates(problems, n, search)} |" for name, search in SEARCHES.items()), ""]


def main() -> None:
    """Run the benchmark."""
    draw = np.random.default_rng(0)
    lines = ["# The largest value in a box, on functions with known maxima", ""]
    lines += [
        "Climbs are by L-BFGS-B until it converges, unless a row says otherwise. The default adds projected gradient.",
        "",
    ]
    for name, convex in (("Convex", True), ("Indefinite", False)):
        problems = [quadratic(draw, convex) for _ in range(TRIALS)]
        lines += table(f"{name} quadratics in {DIMENSIONS} dimensions", problems, DIMENSIONS)
    lines += table("One dimension: on an edge and inside", in_one_dimension() * (TRIALS // 4), 1)
    print("\n".join(lines))
    Path(__file__).with_suffix(".md").write_text("\n".join(lines).rstrip("\n") + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
