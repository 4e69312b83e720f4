"""Sharpness of a minimiser: Keskar et al. 2017, Metric 2.1 (equations 3 and 4).

    phi = 100 (max over z in C_eps of f(x + A z) - f(x)) / (1 + f(x)),   C_eps: |z_i| <= eps (|(A+ x)_i| + 1)

with A = I (full space) or A of shape n x p with random columns (the paper: p = 100), and about ten iterations of
L-BFGS-B. The paper leaves open, and here is chosen:

- *A's law*: entries N(0, 1), columns not normalised ("randomly generated"). Dividing by sqrt(n) changes phi by up to n.
- *The start*: uniform in the box. z = 0 is stationary at an exact minimiser, where L-BFGS-B would stop with phi = 0.
- *Scale*: we maximise over u = z / box in [-1, 1], with f divided by the mean absolute gradient at the start. SciPy's
  first step is the raw gradient under a unit Hessian: unscaled, the gradient of a trained network (1e-5) is far smaller
  than its box (1e-3), and ten iterations end deep inside. For a linear f one scaled iteration reaches the maximum.
- *A floor*: z = 0 is in the box, so phi is never negative.

The box is not invariant to a rescaling of the weights: read phi beside ||x||.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from itertools import repeat
from typing import Any

import numpy as np
import torch
from scipy.optimize import fmin_l_bfgs_b
from torch import Tensor

from gapscope import seeds
from gapscope.errors import InputError
from gapscope.numerics.loss_surface.manifold import RegeneratedBasis, random_basis

ITERATIONS = 10  # Keskar et al. 2017
PRECISIONS = {"float64": torch.float64, "float32": torch.float32}
MEMORY, FACTR, PGTOL, LINE_SEARCH = 10, 1e7, 1e-5, 20  # SciPy's defaults; the paper gives none
DENSE = 2**28  # entries of A that are held, 2 GB; beyond, the same A is drawn anew for each product
EVALUATIONS = 50  # a limit that ten iterations seldom reach; the paper gives none


@dataclass(frozen=True)
class SharpnessSettings:
    """Params of the sharpness stage; `conf/config.yaml` says what each is."""

    epsilons: tuple[float, ...]
    manifold_dimension: int
    restarts: int
    splits: tuple[str, ...]
    images: int | None
    batch_norm_statistics: str
    micro_batch: int
    precision: str
    threads: int

    def __post_init__(self) -> None:
        if self.restarts < 1 or self.manifold_dimension < 1 or self.micro_batch < 1 or not self.epsilons:
            raise InputError("sharpness: restarts, manifold_dimension and micro_batch must be >= 1, epsilons not empty")
        if not self.splits or set(self.splits) - {"train", "test"}:
            raise InputError(f"sharpness.splits must name train, test or both, got {list(self.splits)}")
        if self.precision not in PRECISIONS:
            raise InputError(f"sharpness.precision must be float64 or float32, got {self.precision!r}")
        if min(self.epsilons) <= 0:
            raise InputError(f"sharpness.epsilons must be > 0, got {list(self.epsilons)}")


@dataclass(frozen=True)
class Sharpness:
    """Result of one maximisation.

    Attributes:
        sharpness: phi, per cent.
        base, largest: f at x, and the largest f found in the box.
        point: z of the largest, (n,) or (p,); zero where nothing above `base` was found.
        evaluations, iterations: over all starts.
        converged: whether L-BFGS-B met its own test at the winning start (else it used up its iterations).
        start: which start won; -1 where none rose above `base`.
    """

    sharpness: float
    base: float
    largest: float
    point: Tensor
    evaluations: int
    iterations: int
    converged: bool
    start: int


def keskar_sharpness(
    loss: Callable[[Tensor], Tensor],
    x: Tensor,
    *,
    epsilon: float,
    basis: Tensor | RegeneratedBasis | None = None,
    restarts: int = 1,
    generator: torch.Generator,
    iterations: int = ITERATIONS,
    memory: int = MEMORY,
    max_evaluations: int = EVALUATIONS,
    factr: float = FACTR,
    pgtol: float = PGTOL,
    line_search: int = LINE_SEARCH,
) -> Sharpness:
    """Return the sharpness of `loss` at `x`.

    At x = 0 the box is epsilon wide on either side. A loss that ignores its argument has sharpness 0; one that is flat
    at the start is not climbed, but what it has there above f(x) counts.

    Args:
        loss: flat vector (n,) -> scalar, differentiable once.
        x: (n,), float64 for figures that are to be trusted; the loss runs on its device.
        epsilon: size of the box; the paper uses 1e-3 and 5e-4.
        basis: A (n, p), as a tensor or, where that is too large, regenerated; None is the full space.
        restarts: number of random starts; the best one counts.
        generator: CPU generator of the starts.
        iterations: of L-BFGS-B, a start.
        memory: its number of corrections. At 10 the whole takes up to 30 float64 vectors like x, beside the loss.
        max_evaluations: its limit, a start.
        factr: it has converged where f, over its mean absolute slope at the start, grows by less than this many times
            float64's eps, relatively.
        pgtol: or where no component of the projected gradient of that exceeds this.
        line_search: its steps, at most, in one iteration.

    Raises:
        ValueError: epsilon <= 0, restarts < 1, a basis that is not (n, p) with p <= n; a loss that is not finite at x
            or inside the box, or is <= -1 at x, where the metric's denominator is not positive.

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
    if basis is not None and (len(basis.shape) != 2 or basis.shape[0] != len(x) or basis.shape[1] > len(x)):
        raise ValueError(f"basis must be ({len(x)}, p) with p <= {len(x)}, got {tuple(basis.shape)}")
    x = x.detach()
    base = loss(x).item()
    if not np.isfinite(base):
        raise ValueError(f"the loss at x is {base}: a diverged model has no sharpness")
    if base <= -1:
        raise ValueError(f"the loss at x is {base}: the metric divides by 1 + f(x), which must be positive")
    box = epsilon * (_coordinates(basis, x).abs() + 1)

    def descend(u: np.ndarray) -> tuple[float, np.ndarray]:
        """Minus the loss and its gradient, in the box's own coordinates."""
        z = torch.from_numpy(u).to(x) * box
        # the derivative by x + z is that by z: in full space only the sum is held
        leaf = (z.add_(x) if basis is None else z).requires_grad_()
        value = loss(leaf if basis is None else x + basis @ leaf)
        if value.requires_grad:  # else the loss ignores its argument; it may also have a graph of other parameters
            (gradient,) = torch.autograd.grad(value, leaf, allow_unused=True, materialize_grads=True)
        else:
            gradient = torch.zeros_like(leaf)
        height = value.item()
        if not (np.isfinite(height) and bool(gradient.isfinite().all())):
            raise ValueError(
                f"the loss is {height} inside the box (or its gradient is not finite): reduce epsilon = {epsilon}"
            )
        del z, leaf, value  # with its graph: vectors that need not be there beside the product
        return -height, (gradient * box).neg_().cpu().double().numpy()

    point: Tensor | None = None
    largest, winner, converged = base, -1, False
    evaluated = iterated = 0
    for start in range(restarts):
        u = 2 * torch.rand(len(box), generator=generator, dtype=torch.float64).numpy() - 1
        depth, slope = descend(u)
        scale = float(np.abs(slope).mean())
        del slope
        if scale == 0.0:  # flat at the start, e.g. a loss that ignores x: nothing to climb, but maybe above `base`
            evaluated += 1
            if -depth > largest:
                largest, point, winner, converged = -depth, torch.from_numpy(u).to(x) * box, start, True
            continue

        def scaled(u: np.ndarray, scale: float = scale) -> tuple[float, np.ndarray]:
            depth, slope = descend(u)
            slope /= scale
            return depth / scale, slope

        # not `minimize`, which spells bounds out as n tuples: as much memory as 14 vectors, beside the solver's 26
        u, depth, report = fmin_l_bfgs_b(
            scaled,
            u,
            bounds=_Bounds(len(u)),  # type: ignore[call-overload]  # needs no more of a sequence than it has
            m=memory,
            maxiter=iterations,
            maxfun=max_evaluations,
            factr=factr,
            pgtol=pgtol,
            maxls=line_search,
        )
        evaluated += 1 + report["funcalls"]
        iterated += report["nit"]
        found_height = -float(depth) * scale
        if found_height > largest:
            largest, point, winner = found_height, torch.from_numpy(u).to(x) * box, start
            converged = bool(report["warnflag"] == 0)
    return Sharpness(
        sharpness=100 * (largest - base) / (1 + base),
        base=base,
        largest=largest,
        point=torch.zeros_like(box) if point is None else point,
        evaluations=evaluated + 1,
        iterations=iterated,
        converged=converged,
        start=winner,
    )


@dataclass(frozen=True)
class _Bounds:
    """[-1, 1] n times over, as SciPy reads it, once; a list would be another vector, held all along."""

    n: int

    def __len__(self) -> int:
        return self.n

    def __iter__(self) -> Iterator[tuple[float, float]]:
        return repeat((-1.0, 1.0), self.n)


def _coordinates(basis: Tensor | RegeneratedBasis | None, x: Tensor) -> Tensor:
    """Return A+ x."""
    if isinstance(basis, RegeneratedBasis):
        return basis.coordinates(x)
    return x if basis is None else torch.linalg.lstsq(basis, x[:, None]).solution[:, 0]


def measure(
    loss: Callable[[Tensor], Tensor],
    x: Tensor,
    settings: SharpnessSettings,
    *,
    seed: int,
) -> Iterator[dict[str, Any]]:
    """Yield a row for each epsilon, in full space and in the manifold of the seed, one for all batch sizes."""
    p = settings.manifold_dimension
    draw = seeds.generator(seed, "manifold")
    basis: Tensor | RegeneratedBasis
    if len(x) * p > DENSE:
        basis = RegeneratedBasis(len(x), p, generator=draw)
    else:
        basis = random_basis(len(x), p, generator=draw).to(x)  # the same A in any precision
    for space, columns in (("full", None), (f"random{p}", basis)):
        for epsilon in settings.epsilons:
            starts = seeds.generator(seed, "sharpness", space)
            found = keskar_sharpness(
                loss,
                x,
                epsilon=epsilon,
                basis=columns,
                restarts=settings.restarts,
                generator=starts,
            )
            row = {field.name: getattr(found, field.name) for field in fields(found) if field.name != "point"}
            yield {"space": space, "epsilon": epsilon, **row}
