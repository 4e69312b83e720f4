"""How often the search for the largest value in a box finds it, on functions whose maximum is known.

Run by hand: `python benchmarks/box_maximum.py` prints its tables and writes benchmarks/box_maximum.md. Quadratics in 14
dimensions: the maximum of a convex one lies in a corner and all 16,384 corners are tried; that of an indefinite one is
the best of ascents from the 60 best corners and 300 random points. One dimension: the maximum on an edge and inside.
"""

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from scipy.optimize import fmin_l_bfgs_b

from gapscope.numerics.loss_surface import box_maximum
from gapscope.numerics.loss_surface.box_maximum import Array, Function, maximise

DIMENSIONS, TRIALS, ENOUGH = 14, 20, 0.99
CORNERS = np.array(list(itertools.product((-1.0, 1.0), repeat=DIMENSIONS)))
SEARCHES = {  # name -> kinds of starts, their number, iterations
    "one interior start, 10 iterations (as in version 0.1)": (("interior",), 1, 10),
    "5 starts of all kinds": (box_maximum.KINDS, 5, 50),
    "30 interior starts": (("interior",), 30, 50),
    "30 corners": (("corner",), 30, 50),
    "30 annealed starts": (("annealed",), 30, 50),
    "30 starts of all kinds": (box_maximum.KINDS, 30, 50),
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
        largest = max(largest, *(climbed(function, start) for start in starts))
    return function, largest


def climbed(function: Function, start: Array) -> float:
    """Return where a plain ascent ends."""
    bounds = [(-1.0, 1.0)] * len(start)
    _, depth, _ = fmin_l_bfgs_b(lambda u: tuple(-part for part in function(u)), start, bounds=bounds, maxiter=500)
    return -float(depth)


def in_one_dimension() -> dict[str, tuple[Function, float]]:
    """Return functions of one coordinate and their maxima."""
    return {
        "edge, slope": (lambda u: (float(u[0]), np.ones(1)), 1.0),
        "edge, parabola": (lambda u: (float((u[0] - 0.2) ** 2), 2 * (u - 0.2)), 1.44),
        "inside, parabola": (lambda u: (-float((u[0] - 0.3) ** 2), -2 * (u - 0.3)), 0.0),
        "inside, wave": (
            lambda u: (float(np.sin(9 * u[0]) + 0.2 * u[0]), 9 * np.cos(9 * u) + 0.2),
            float(np.max([np.sin(9 * v) + 0.2 * v for v in np.linspace(-1, 1, 2_000_001)])),
        ),
    }


def rates(problems: list[tuple[Function, float]], kinds: tuple[str, ...], starts: int, iterations: int) -> str:
    """Return how many trials reach ENOUGH of the maximum, the worst, and the mean number of evaluations."""
    before, box_maximum.KINDS = box_maximum.KINDS, kinds
    reached, spent = [], []
    for number, (function, largest) in enumerate(problems):
        draw = torch.Generator().manual_seed(number)
        n = DIMENSIONS if largest > 2 else 1  # all quadratics' maxima are above 2
        found = maximise(function, n, starts=starts, generator=draw, iterations=iterations, max_evaluations=50)
        reached.append(found.value - largest if largest == 0 else found.value / largest - 1)
        spent.append(sum(climb.evaluations for climb in found.climbs))
    box_maximum.KINDS = before
    good = sum(value >= ENOUGH - 1 for value in reached)
    return f"{good} of {len(problems)} | {1 + min(reached):.3f} | {np.mean(spent):.0f}"


def table(title: str, make: Callable[[], list[tuple[Function, float]]]) -> list[str]:
    """Return one table."""
    problems = make()
    head = f"reach {ENOUGH:.0%} of the maximum"
    lines = [f"## {title}", "", f"| search | {head} | worst part of it | evaluations |", "|---|---|---|---|"]
    return [*lines, *(f"| {name} | {rates(problems, *search)} |" for name, search in SEARCHES.items()), ""]


def main() -> None:
    """Run the benchmark."""
    draw = np.random.default_rng(0)
    lines = ["# The largest value in a box, on functions with known maxima", ""]
    lines += table("Convex quadratics in 14 dimensions", lambda: [quadratic(draw, True) for _ in range(TRIALS)])
    lines += table("Indefinite quadratics in 14 dimensions", lambda: [quadratic(draw, False) for _ in range(TRIALS)])
    lines += table("One dimension", lambda: list(in_one_dimension().values()) * 5)
    print("\n".join(lines))
    Path(__file__).with_suffix(".md").write_text("\n".join(lines).rstrip("\n") + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
