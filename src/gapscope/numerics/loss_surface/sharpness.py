"""Sharpness of a minimiser: Keskar et al. 2017, Metric 2.1 (equations 3 and 4).

    phi = 100 (max over z in C_eps of f(x + A z) - f(x)) / (1 + f(x)),   C_eps: |z_i| <= eps (|(A+ x)_i| + 1)

A is the identity (full space), or n x p with random columns (the paper: p = 100). The paper takes about ten iterations
of L-BFGS-B. A second search can be asked for, which climbs from several starts until it converges (`box_maximum`).
Both numbers are lower bounds of phi. The paper leaves open, and here is chosen:

- *A's law*: entries N(0, 1), columns not normalised ("randomly generated"). Dividing by sqrt(n) changes phi by up to n.
- *The start*: uniform in the box. z = 0 is stationary at an exact minimiser, where L-BFGS-B would stop with phi = 0.
- *Scale*: we maximise over u = z / box in [-1, 1], with f divided by its mean absolute slope at the start. Unscaled,
  ten iterations would end deep inside the box. For a linear f one scaled iteration reaches the maximum.
- *A floor*: z = 0 is in the box, so phi is never negative.

The box is not invariant to a rescaling of the weights: read phi beside ||x||.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from gapscope.numerics.loss_surface.box_maximum import (
    UNTIL_CONVERGED,
    Array,
    BoxMaximum,
    Climb,
    Function,
    Solver,
    climb,
    maximise,
    uniform,
)
from gapscope.numerics.loss_surface.closures import check_ignored, check_steady
from gapscope.numerics.loss_surface.manifold import RegeneratedBasis

PRECISIONS = {"float64": torch.float64, "float32": torch.float32}
# ten iterations: Keskar et al. 2017; the limit of evaluations is ours, and ten iterations seldom reach it
TEN_ITERATIONS = Solver(iterations=10, max_evaluations=50)


@dataclass(frozen=True)
class Search:
    """Result of the search that goes on until it converges.

    Attributes:
        sharpness: phi, per cent: a lower bound, and never below that of the few iterations.
        by_start: phi of each start, per cent. Below 0 where a climb ended below f(x).
        kinds: kind of each start, as in `box_maximum`.
        agreeing: number of starts within 0.3 % of the best one, itself included.
        converged: whether as many starts agree as were asked for, and the best one's climb converged.
        evaluations: over all starts.
        iterations: of L-BFGS-B, over all starts.
    """

    sharpness: float
    by_start: tuple[float, ...]
    kinds: tuple[str, ...]
    agreeing: int
    converged: bool
    evaluations: int
    iterations: int

    @property
    def starts(self) -> int:
        """Number of starts."""
        return len(self.by_start)

    @property
    def least(self) -> float:
        """The least phi of a start, per cent."""
        return min(self.by_start)

    @property
    def median(self) -> float:
        """The median phi of the starts, per cent."""
        return float(np.median(self.by_start))


@dataclass(frozen=True)
class Sharpness:
    """Result of a maximisation of few iterations, and of one that goes on until it converges where it was asked for.

    Attributes:
        sharpness: phi, per cent: a lower bound.
        base, largest: f at x, and the largest f found in the box.
        point: z of the largest, (n,) or (p,); zero where nothing above `base` was found.
        evaluations, iterations: over all starts.
        converged: whether L-BFGS-B met its own test at the winning start (else it used up its iterations).
        start: which start won; -1 where none rose above `base`.
        search: the search that goes on until it converges; None where it was not asked for.
    """

    sharpness: float
    base: float
    largest: float
    point: Tensor
    evaluations: int
    iterations: int
    converged: bool
    start: int
    search: Search | None = None


def keskar_sharpness(
    loss: Callable[[Tensor], Tensor],
    x: Tensor,
    *,
    epsilon: float,
    basis: Tensor | RegeneratedBasis | None = None,
    restarts: int = 1,
    converged_starts: int = 0,
    generator: torch.Generator,
    solver: Solver = TEN_ITERATIONS,
) -> Sharpness:
    """Return the sharpness of `loss` at `x`.

    At x = 0 the box is epsilon wide on either side. A loss that ignores its argument has sharpness 0. A loss that is
    flat at the start is not climbed, but counts if it is above f(x) there.

    Args:
        loss: flat vector (n,) -> scalar, differentiable once. It runs on x's device.
        x: (n,), float64 for figures that are to be trusted.
        epsilon: size of the box; the paper uses 1e-3 and 5e-4.
        basis: A (n, p), as a tensor or, where that is too large, regenerated; None is the full space.
        restarts: number of random starts of few iterations; the best one counts.
        converged_starts: a second search climbs these starts on until they converge, and then others, corners of the
            box among them, until so many agree within 0.3 % (at most six times as many). 0: no such search.
        generator: CPU generator of the starts.
        solver: limits of the few iterations, and L-BFGS-B's other settings.

    Raises:
        ValueError: epsilon <= 0, restarts < 1, 0 < converged_starts < restarts, a basis that is not (n, p) with
            p <= n; a loss that is not finite at x or inside the box, or is <= -1 at x, where the metric's denominator
            is not positive; a loss that is random, or has no graph to x.

    Example:
        >>> linear = keskar_sharpness(lambda w: 1 + w.sum(), torch.zeros(3, dtype=torch.float64), epsilon=0.1,
        ...                           generator=torch.Generator().manual_seed(0))
        >>> round(linear.sharpness, 9)  # 100 * (3 * 0.1) / (1 + 1)
        15.0
    """
    if not epsilon > 0:
        raise ValueError(f"epsilon must be > 0, got {epsilon}")
    if restarts < 1:
        raise ValueError(f"restarts must be >= 1, got {restarts}")
    if converged_starts and converged_starts < restarts:
        raise ValueError(f"converged_starts must be 0 or >= restarts = {restarts}, got {converged_starts}")
    if basis is not None and (len(basis.shape) != 2 or basis.shape[0] != len(x) or basis.shape[1] > len(x)):
        raise ValueError(f"basis must be ({len(x)}, p) with p <= {len(x)}, got {tuple(basis.shape)}")
    x = x.detach()
    base = _base(loss, x)
    box = epsilon * (_coordinates(basis, x).abs() + 1)
    function = in_the_box(loss, x, box, basis, epsilon)
    if not converged_starts:
        climbs = (climb(function, uniform(len(box), generator), solver) for _ in range(restarts))
        return _best(climbs, base, x, box)
    found = maximise(
        function,
        len(box),
        base=base,
        starts=converged_starts,
        generator=generator,
        solver=replace(solver, iterations=UNTIL_CONVERGED.iterations, max_evaluations=UNTIL_CONVERGED.max_evaluations),
        first=restarts,
        sooner=solver,
    )
    return replace(_best(found.sooner, base, x, box), search=_search(found, base))


def _base(loss: Callable[[Tensor], Tensor], x: Tensor) -> float:
    base = loss(x).item()
    if not np.isfinite(base):
        raise ValueError(f"the loss at x is {base}: a diverged model has no sharpness")
    if base <= -1:
        raise ValueError(f"the loss at x is {base}: the metric divides by 1 + f(x), which must be positive")
    check_steady(loss, x, base)
    return base


def _coordinates(basis: Tensor | RegeneratedBasis | None, x: Tensor) -> Tensor:
    """Return A+ x."""
    if isinstance(basis, RegeneratedBasis):
        return basis.coordinates(x)
    return x if basis is None else torch.linalg.lstsq(basis, x[:, None]).solution[:, 0]


def in_the_box(
    loss: Callable[[Tensor], Tensor],
    x: Tensor,
    box: Tensor,
    basis: Tensor | RegeneratedBasis | None,
    epsilon: float,
) -> Function:
    """Return the loss as a function of u in [-1, 1], with its gradient there."""

    def function(u: Array) -> tuple[float, Array]:
        z = torch.from_numpy(u).to(x) * box
        # the derivative by x + z is that by z: in full space only the sum is held
        leaf = (z.add_(x) if basis is None else z).requires_grad_()
        value = loss(leaf if basis is None else x + basis @ leaf)
        gradient = None
        if value.requires_grad:  # else the loss ignores its argument; it may also have a graph of other parameters
            (gradient,) = torch.autograd.grad(value, leaf, allow_unused=True)
        height = value.item()
        if gradient is None:
            check_ignored(loss, leaf if basis is None else x + basis @ leaf.detach(), height)
            gradient = torch.zeros_like(leaf)
        if not (np.isfinite(height) and bool(gradient.isfinite().all())):
            raise ValueError(
                f"the loss is {height} inside the box (or its gradient is not finite): reduce epsilon = {epsilon}"
            )
        del z, leaf, value  # with its graph: vectors that need not be there beside the product
        return height, (gradient * box).cpu().double().numpy()

    return function


def _best(climbs: Iterable[Climb], base: float, x: Tensor, box: Tensor) -> Sharpness:
    """Return the largest of several climbs, or `base` where none of them rises above it."""
    best, winner, evaluations, iterations = Climb(base, np.zeros(len(box)), 1, 0, converged=False), -1, 1, 0
    for start, each in enumerate(climbs):
        evaluations, iterations = evaluations + each.evaluations, iterations + each.iterations
        if each.value > best.value:
            best, winner = each, start
    return Sharpness(
        sharpness=_phi(best.value, base),
        base=base,
        largest=best.value,
        point=torch.from_numpy(best.point).to(x) * box,
        evaluations=evaluations,
        iterations=iterations,
        converged=best.converged,
        start=winner,
    )


def _search(found: BoxMaximum, base: float) -> Search:
    return Search(
        sharpness=_phi(max(found.value, base), base),
        by_start=tuple(_phi(value, base) for value in found.values),
        kinds=found.kinds,
        agreeing=found.agreeing,
        converged=found.converged,
        evaluations=found.evaluations,
        iterations=found.iterations,
    )


def _phi(largest: float, base: float) -> float:
    return 100 * (largest - base) / (1 + base)
