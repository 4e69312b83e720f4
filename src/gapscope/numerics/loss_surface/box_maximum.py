"""The largest value of a function in the box [-1, 1]^n: several kinds of starts, each climbed until it converges.

To maximise over a box is hard in general: even a convex quadratic has a local maximum in many of the box's 2^n corners.
What is returned is therefore a lower bound, and the spread over the starts says how much hangs on them. Keskar et al.
2017 take "10 iterations of L-BFGS-B" and do not say from where. Here a start is one of three kinds, in turn:

- `interior`: uniform in the box;
- `annealed`: from a small random point the step u <- (u + tanh(b g / mean|g|)) / 2 is repeated while b grows, so that
  coordinates move to their bounds one after the other, those with the steepest slope first. This is mean-field
  annealing (Peterson and Anderson 1987); on random quadratics it finds the best corner far more often than a local
  ascent from a random point does;
- `corner`: a random corner.

Each is then climbed by L-BFGS-B, over the mean absolute slope at its start: SciPy's first step is the raw gradient
under a unit Hessian, which at a trained network is far shorter than the box. benchmarks/box_maximum.md compares the
kinds on functions with known maxima.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import repeat

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import fmin_l_bfgs_b

Array = NDArray[np.float64]
Function = Callable[[Array], tuple[float, Array]]  # u (n,) -> value, gradient (n,)

KINDS = ("interior", "annealed", "annealed", "corner", "annealed")  # in turn; the first alone is the plain search
NEAR = 0.3  # half-width of the small box in which annealed starts begin; our choice, as the next line
ANNEALING = tuple(np.geomspace(0.3, 3.0, 16).tolist())  # b: from nearly linear to nearly a sign
MEMORY, FACTR, PGTOL, LINE_SEARCH = 10, 1e7, 1e-5, 20  # SciPy's defaults; Keskar et al. give none


@dataclass(frozen=True)
class Climb:
    """One start and where it led.

    Attributes:
        kind: of `KINDS`.
        value: the largest value found.
        evaluations: of the function and its gradient.
        iterations: of L-BFGS-B.
        converged: whether L-BFGS-B met its own test; else it used up its iterations or evaluations.
    """

    kind: str
    value: float
    evaluations: int
    iterations: int
    converged: bool


@dataclass(frozen=True)
class BoxMaximum:
    """The largest value found, where it was found, and every climb.

    Attributes:
        value: a lower bound of the maximum.
        point: u (n,), within the box.
        climbs: one per start, in order.
    """

    value: float
    point: Array
    climbs: tuple[Climb, ...]


def maximise(
    function: Function,
    n: int,
    *,
    starts: int,
    generator: torch.Generator,
    iterations: int,
    max_evaluations: int,
) -> BoxMaximum:
    """Return the largest value of a function in [-1, 1]^n that the starts lead to.

    Args:
        function: u (n,), float64 -> value and gradient (n,); finite in the box.
        n: number of coordinates.
        starts: of the kinds `KINDS` in turn. The first is uniform in the box.
        generator: CPU generator of the starts.
        iterations: of L-BFGS-B per start, at most.
        max_evaluations: of L-BFGS-B per start, at most.

    Raises:
        ValueError: fewer than one start.

    Example:
        A linear function is largest in a corner.

        >>> slope = np.array([1.0, -2.0])
        >>> found = maximise(lambda u: (float(u @ slope), slope), 2, starts=1, iterations=10, max_evaluations=50,
        ...                  generator=torch.Generator().manual_seed(0))
        >>> found.value, found.point.tolist()
        (3.0, [1.0, -1.0])
    """
    if starts < 1:
        raise ValueError(f"starts must be at least 1, got {starts}")
    best: tuple[float, Array] | None = None
    climbs: list[Climb] = []
    for number in range(starts):
        kind = KINDS[number % len(KINDS)]
        begin = 2 * torch.rand(n, generator=generator, dtype=torch.float64).numpy() - 1
        climb, point = _climb(function, begin, kind, iterations, max_evaluations)
        climbs.append(climb)
        if best is None or climb.value > best[0]:
            best = climb.value, point
    assert best is not None
    return BoxMaximum(*best, tuple(climbs))


def _climb(function: Function, begin: Array, kind: str, iterations: int, max_evaluations: int) -> tuple[Climb, Array]:
    evaluations = 0

    def counted(u: Array) -> tuple[float, Array]:
        nonlocal evaluations
        evaluations += 1
        return function(u)

    begin = {"interior": begin, "corner": np.where(begin < 0, -1.0, 1.0), "annealed": NEAR * begin}[kind]
    if kind == "annealed":
        begin = _annealed(counted, begin)
    value, gradient = counted(begin)
    scale = float(np.abs(gradient).mean())
    if scale == 0.0:  # flat here: nothing to climb
        return Climb(kind, value, evaluations, 0, True), begin

    def scaled(u: Array) -> tuple[float, Array]:
        height, slope = counted(u)
        return -height / scale, slope / -scale

    # not `minimize`, which spells bounds out as n tuples: as much memory as 14 vectors
    point, depth, report = fmin_l_bfgs_b(
        scaled, begin, bounds=Bounds(len(begin)), m=MEMORY, maxiter=iterations, maxfun=max_evaluations,  # type: ignore[call-overload]
        factr=FACTR, pgtol=PGTOL, maxls=LINE_SEARCH,
    )  # fmt: skip
    reached = -float(depth) * scale
    if value > reached:  # a line search that failed leaves the start
        reached, point = value, begin
    return Climb(kind, reached, evaluations, int(report["nit"]), report["warnflag"] == 0), point


def _annealed(function: Function, u: Array) -> Array:
    for steepness in ANNEALING:
        _, gradient = function(u)
        scale = float(np.abs(gradient).mean())
        if scale == 0.0:
            return u
        u = (u + np.tanh(steepness * gradient / scale)) / 2
    return u


@dataclass(frozen=True)
class Bounds:
    """[-1, 1] n times over, as SciPy reads it, once; a list would be another vector, held all along."""

    n: int

    def __len__(self) -> int:
        return self.n

    def __iter__(self) -> Iterator[tuple[float, float]]:
        return repeat((-1.0, 1.0), self.n)
