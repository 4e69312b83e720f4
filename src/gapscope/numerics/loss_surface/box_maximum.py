"""The largest value of a function in the box [-1, 1]^n: climbs from several kinds of starts, until starts agree.

To maximise over a box is hard: even a convex quadratic can have a local maximum in many of the box's 2^n corners. The
result is therefore a lower bound, and the spread over the starts shows how safe it is. Keskar et al. 2017 take ten
iterations of L-BFGS-B and do not give the start. Here there are three kinds of starts:

- `interior`: uniform in the box.
- `corner`: a random corner.
- `annealed`: from a small random point, u <- (u + tanh(b g / mean|g|)) / 2 is repeated with a growing b. Coordinates
  move to their bounds one after the other, the steepest first. This is mean-field annealing (Peterson and Anderson
  1987). On random quadratics it finds the best corner far more often than a local ascent does.

Each start is then climbed until L-BFGS-B converges, and from there by projected gradient. On LeNet-5's loss L-BFGS-B
stops short, and projected gradient rises further. New starts are made until several agree with the best one. This
costs few evaluations where all starts lead to one value, and goes on where they do not. Annealed starts come last: they
find the best corner of a quadratic more often, but take the most evaluations on LeNet-5. benchmarks/box_maximum.md
compares searches on functions with known maxima, benchmarks/box_maximum_lenet5.md on LeNet-5.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, cycle, islice, repeat

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import fmin_l_bfgs_b

Array = NDArray[np.float64]
Function = Callable[[Array], tuple[float, Array]]  # u (n,) -> value, gradient (n,): a new array, which is overwritten

# of starts, in turn, after the first ones; chosen on the quadratics of benchmarks/box_maximum.py, as what follows
KINDS = (
    *("corner", "corner", "interior", "corner", "corner"),
    *6 * ("annealed", "interior", "annealed", "corner", "annealed"),
)
NEAR = 0.3  # half-width of the small box in which annealed starts begin
ANNEALING = tuple(np.geomspace(0.3, 3.0, 16).tolist())  # b: from nearly linear to nearly a sign
AGREEMENT = 0.003  # a start agrees with the best one if its rise is at most this part below
MOST = 6  # times as many starts as must agree
STEPS, HALVINGS = 100, 20  # of projected gradient, and of one of its steps, at most
SUFFICIENT = (
    1e-4  # part of the expected rise that a step must make: Armijo's rule, Nocedal and Wright 2006, section 3.1
)
PATIENCE, NEGLIGIBLE = 10, 1e-4  # it ends where so many steps add less than this part of the rise above `base`


@dataclass(frozen=True)
class Solver:
    """L-BFGS-B's limits and tests of convergence.

    Attributes:
        iterations, max_evaluations: limits per climb.
        memory: number of corrections. At 10 the climb takes up to 30 float64 vectors of n beside the function.
        factr: it has converged where the value, over its mean absolute slope at the start, grows by less than this
            many times float64's eps, relatively.
        pgtol: or where no component of the projected gradient of that exceeds this.
        line_search: steps in one iteration, at most.
    """

    iterations: int
    max_evaluations: int
    memory: int = 10  # SciPy's defaults, as the next three; Keskar et al. 2017 give none
    factr: float = 1e7
    pgtol: float = 1e-5
    line_search: int = 20


UNTIL_CONVERGED = Solver(iterations=500, max_evaluations=1000)  # LeNet-5 needed about 50; our choice


@dataclass(frozen=True)
class Climb:
    """Where L-BFGS-B led from one start.

    Attributes:
        value: the largest value found.
        point: u (n,), where it was found.
        evaluations: of the function and its gradient.
        iterations: of L-BFGS-B.
        converged: whether L-BFGS-B met one of its tests; else it used up its iterations or evaluations.
        sooner: where it would have ended with tighter limits, if that was asked for.
    """

    value: float
    point: Array
    evaluations: int
    iterations: int
    converged: bool
    sooner: "Climb | None" = None


@dataclass(frozen=True)
class BoxMaximum:
    """The largest value found, where it was found, and what each start gave.

    Attributes:
        value: a lower bound of the maximum.
        point: u (n,), within the box.
        values: largest value of each start, in order.
        kinds: kind of each start.
        evaluations: of the function and its gradient, over all starts.
        iterations: of L-BFGS-B, over all starts.
        agreeing: number of starts that agree with the best one, itself included.
        converged: whether as many starts agree as were asked for, and the best one's climb converged.
        sooner: where each of the first starts would have ended with tighter limits.
    """

    value: float
    point: Array
    values: tuple[float, ...]
    kinds: tuple[str, ...]
    evaluations: int
    iterations: int
    agreeing: int
    converged: bool
    sooner: tuple[Climb, ...]


def maximise(
    function: Function,
    n: int,
    *,
    base: float,
    starts: int,
    generator: torch.Generator,
    kinds: Sequence[str] = KINDS,
    solver: Solver = UNTIL_CONVERGED,
    first: int = 1,
    sooner: Solver | None = None,
) -> BoxMaximum:
    """Return the largest value of a function in [-1, 1]^n that its starts lead to.

    Starts are made until `starts` of them agree, which means that they rise above `base` by at least 99.7 % of the best
    one's rise. It ends without agreement after `MOST` times as many.

    Args:
        function: u (n,), float64 -> value and gradient (n,), both finite. The gradient is overwritten.
        n: number of coordinates.
        base: value from which a rise counts, that at the centre of the box.
        starts: number that must agree, at least 1.
        generator: CPU generator of the starts.
        kinds: of the starts, in turn, after the first ones.
        solver: for each climb.
        first: number of interior starts that come first.
        sooner: tighter limits. What they would have given is reported of the first starts.

    Raises:
        ValueError: fewer than one start.

    Example:
        A linear function is largest in a corner.

        >>> slope = np.array([1.0, -2.0])
        >>> found = maximise(lambda u: (float(u @ slope), slope.copy()), 2, base=0.0, starts=3,
        ...                  generator=torch.Generator().manual_seed(0))
        >>> found.value, found.point.tolist(), found.agreeing
        (3.0, [1.0, -1.0], 3)
    """
    if starts < 1:
        raise ValueError(f"starts must be at least 1, got {starts}")
    best, evaluations, iterations = None, 0, 0
    values, used, noted = list[float](), list[str](), list[Climb]()
    for number, kind in enumerate(islice(chain(repeat("interior", first), cycle(kinds)), MOST * starts)):
        begin, spent = _start(function, n, kind, generator)
        found = polished(function, climb(function, begin, solver, sooner if number < first else None), base)
        noted += [found.sooner] if found.sooner else []
        values.append(found.value)
        used.append(kind)
        evaluations, iterations = evaluations + spent + found.evaluations, iterations + found.iterations
        if best is None or found.value > best.value:
            best = found
        if (agreeing := number_agreeing(values, base)) >= starts:
            break
    assert best is not None
    converged = best.converged and agreeing >= starts
    return BoxMaximum(
        best.value, best.point, (*values,), (*used,), evaluations, iterations, agreeing, converged, (*noted,)
    )


def number_agreeing(values: Sequence[float], base: float) -> int:
    """Return how many values rise above `base` by at least 99.7 % of the largest rise; none where all lie below it.

    Example:
        >>> number_agreeing([2.0, 2.999, 3.0], base=1.0)
        2
    """
    largest = max(values) - base
    return sum(value - base >= (1 - AGREEMENT) * largest for value in values) if largest >= 0 else 0


def climb(function: Function, begin: Array, solver: Solver, sooner: Solver | None = None) -> Climb:
    """Climb from one point by L-BFGS-B, with the function divided by its mean absolute slope there.

    SciPy's first step is the raw gradient under a unit Hessian. The gradient of a trained network is far smaller than
    1, so an unscaled climb of few iterations would end deep inside the box. A point where the slope is 0 is not left.

    Args:
        function: u (n,) -> value and gradient (n,). The gradient is overwritten.
        begin: (n,), within the box.
        solver: limits and tests of convergence.
        sooner: tighter limits; the result's `sooner` is the end of a climb with them, bit for bit. Its tests are
            those of `solver`.
    """
    value, slope = function(begin)
    scale = float(np.abs(slope).mean())
    del slope
    if scale == 0.0:
        flat = Climb(value, begin, 1, 0, True)
        return replace(flat, sooner=flat if sooner else None)
    depth, evaluated, iterated, noted = 0.0, 0, 0, None

    def scaled(u: Array) -> tuple[float, Array]:
        nonlocal depth, evaluated
        height, slope = function(u)
        slope /= -scale  # in place: a vector of n less
        depth, evaluated = -height / scale, evaluated + 1
        return depth, slope

    def note(u: Array) -> None:
        """Keep where the tighter limits end: after an iteration, whose last evaluation is that at its own point."""
        nonlocal iterated, noted
        iterated += 1
        if sooner and noted is None and (iterated >= sooner.iterations or evaluated > sooner.max_evaluations):
            noted = Climb(-depth * scale, u, 1 + evaluated, iterated, False)

    # not `minimize`, which spells bounds out as n tuples: as much memory as 14 vectors
    point, lowest, report = fmin_l_bfgs_b(
        scaled,
        begin,
        bounds=_Bounds(len(begin)),  # type: ignore[call-overload]  # needs no more of a sequence than it has
        m=solver.memory,
        maxiter=solver.iterations,
        maxfun=solver.max_evaluations,
        factr=solver.factr,
        pgtol=solver.pgtol,
        maxls=solver.line_search,
        callback=note if sooner else None,
    )
    evaluations, iterations = 1 + int(report["funcalls"]), int(report["nit"])
    whole = Climb(-float(lowest) * scale, point, evaluations, iterations, report["warnflag"] == 0)
    return replace(whole, sooner=noted or whole) if sooner else whole


def polished(function: Function, found: Climb, base: float) -> Climb:
    """Go on from where a climb ended by projected gradient, with a step that doubles, or halves until it rises enough.

    It has converged where the projected gradient is zero, no step along it rises, or several steps add a negligible
    part of the rise above `base`. One step does not decide: the first ones are short.
    """
    point, (value, slope) = found.point, function(found.point)
    evaluations, converged, largest = found.evaluations + 1, False, float(np.abs(slope).max())
    step, mark = 1 / largest if largest > 0 else 0.0, value
    for number in range(1, STEPS + 1):
        goal, height, gradient, step, spent = _step(function, point, value, slope, step)
        evaluations += spent
        if converged := goal is point:
            break
        point, value, slope = goal, height, gradient
        if number % PATIENCE == 0:
            if converged := value - mark <= NEGLIGIBLE * abs(value - base):
                break
            mark = value
    if value <= found.value:
        return replace(found, evaluations=evaluations)
    return replace(found, value=value, point=point, evaluations=evaluations, converged=converged)


def _step(
    function: Function, point: Array, value: float, slope: Array, step: float
) -> tuple[Array, float, Array, float, int]:
    """Return where a step leads that rises enough, value and gradient there, the next step, and the evaluations."""
    for halving in range(HALVINGS):
        goal = np.clip(point + step * slope, -1, 1)
        if (goal == point).all():
            return point, value, slope, step, halving
        height, gradient = function(goal)
        if height > value + SUFFICIENT * float(slope @ (goal - point)):
            return goal, height, gradient, 2 * step, halving + 1
        step /= 2
    return point, value, slope, step, HALVINGS


def uniform(n: int, generator: torch.Generator) -> Array:
    """Return a point (n,) drawn uniformly from [-1, 1]^n."""
    return 2 * torch.rand(n, generator=generator, dtype=torch.float64).numpy() - 1


def _start(function: Function, n: int, kind: str, generator: torch.Generator) -> tuple[Array, int]:
    """Return a new start of a kind, and how many evaluations it took."""
    drawn = uniform(n, generator)
    if kind == "annealed":
        return annealed(function, NEAR * drawn)
    return {"interior": drawn, "corner": np.where(drawn < 0, -1.0, 1.0)}[kind], 0


def annealed(function: Function, u: Array) -> tuple[Array, int]:
    """Return where annealing leads from a point u (n,), and how many evaluations it took."""
    for spent, steepness in enumerate(ANNEALING, start=1):
        _, gradient = function(u)
        scale = float(np.abs(gradient).mean())
        if scale == 0.0:
            return u, spent
        u = (u + np.tanh(steepness * gradient / scale)) / 2
    return u, len(ANNEALING)


@dataclass(frozen=True)
class _Bounds:
    """[-1, 1] n times over, as SciPy reads it, once; a list would be another vector, held all along."""

    n: int

    def __len__(self) -> int:
        return self.n

    def __iter__(self) -> Iterator[tuple[float, float]]:
        return repeat((-1.0, 1.0), self.n)
