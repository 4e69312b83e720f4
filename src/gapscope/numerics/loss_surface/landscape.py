"""The loss around and between solutions: lines, planes, and how steep random directions are beside eigenvectors.

Here `evaluate` maps a flat vector (n,) to one or more numbers, e.g. `Objective.loss_and_error`; what it returns is kept
as it is, infinities too. Every function walks over fixed points: nothing is drawn but directions.

*Batch norm*: a path in weight space does not say what the running statistics are in between; those of either end are
wrong at the other. Give an Objective with `batch_norm_statistics="batch"`, which has no such state: statistics then
belong to the weights at every point. Keskar et al.'s published plotting code takes the batch's statistics too. (With
"running" the whole path has one model's statistics: right near that model, wrong for the line to another.)
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Evaluate = Callable[[Tensor], Tensor | float | Sequence[float]]

ALPHAS = tuple(-1 + i / 8 for i in range(25))  # Keskar et al. 2017, Figure 3: [-1, 2]; 25 points in their code


def between(evaluate: Evaluate, small: Tensor, large: Tensor, alphas: Sequence[float] = ALPHAS) -> Tensor:
    """Return the values at alpha large + (1 - alpha) small, Keskar et al. 2017, Figure 3: (points, numbers).

    Args:
        evaluate: flat vector (n,) -> numbers.
        small: the small-batch solution (n,), alpha = 0.
        large: the large-batch solution (n,), alpha = 1.
        alphas: places on the line.
    """
    return torch.stack([values_at(evaluate, alpha * large + (1 - alpha) * small) for alpha in alphas])


def along(evaluate: Evaluate, x: Tensor, direction: Tensor, steps: Sequence[float]) -> Tensor:
    """Return the values at x + step direction: (points, numbers). The direction (n,) is taken as long as it is."""
    return torch.stack([values_at(evaluate, x + step * direction) for step in steps])


def plane(
    evaluate: Evaluate, x: Tensor, directions: tuple[Tensor, Tensor], first: Sequence[float], second: Sequence[float]
) -> Tensor:
    """Return the values at x + a directions[0] + b directions[1], for contours: (a's, b's, numbers)."""
    return torch.stack([along(evaluate, x + a * directions[0], directions[1], second) for a in first])


def filter_normalised(direction: Tensor, x: Tensor, shapes: Sequence[torch.Size]) -> Tensor:
    """Return the direction with each filter scaled to the norm of that filter in x, Li et al. 2018, section 4.

    A filter is what makes one output channel (or unit): a row of a parameter's first axis. Parameters of one axis
    (biases, batch norm) get zero, as in the paper's published code; so do filters that are zero in x.

    Args:
        direction: (n,), usually N(0, 1).
        x: (n,).
        shapes: of the parameters, in the order in which x holds them: `Objective.shapes`.

    Raises:
        ValueError: the shapes do not make n entries.
    """
    sizes = [shape.numel() for shape in shapes]
    if not sum(sizes) == len(x) == len(direction):
        raise ValueError(f"shapes of {sum(sizes)} entries for {len(x)} weights and a direction of {len(direction)}")
    pieces = []
    for shape, drawn, weights in zip(shapes, direction.split(sizes), x.split(sizes), strict=True):
        if len(shape) < 2:
            pieces.append(torch.zeros_like(drawn))
            continue
        filters, target = drawn.view(shape[0], -1), weights.view(shape[0], -1).norm(dim=1, keepdim=True)
        # a filter of no length keeps it: 0 / 1
        length = filters.norm(dim=1, keepdim=True)
        pieces.append((filters * target / length.where(length > 0, 1)).reshape(-1))
    return torch.cat(pieces)


def random_direction(x: Tensor, shapes: Sequence[torch.Size] | None = None, *, generator: torch.Generator) -> Tensor:
    """Return a random direction (n,): filter-normalised where shapes are given, else of unit length."""
    drawn = torch.randn(len(x), generator=generator, dtype=torch.float64).to(x)
    return drawn / drawn.norm() if shapes is None else filter_normalised(drawn, x, shapes)


@dataclass(frozen=True)
class Rises:
    """How far the loss rises at distance `radius` from x, f(x +- radius v) - f(x), the mean of both signs.

    Attributes:
        radius: the distance, for every direction alike.
        eigenvectors: (k,), along each given vector.
        random: (directions,), along random directions of unit length.
    """

    radius: float
    eigenvectors: Tensor
    random: Tensor


def rises(
    loss: Callable[[Tensor], Tensor],
    x: Tensor,
    eigenvectors: Tensor,
    radius: float,
    *,
    directions: int,
    generator: torch.Generator,
) -> Rises:
    """Measure whether the loss is steep in a small subspace only, as Keskar et al. 2017 observed.

    They sampled a neighbourhood of sharp minimisers, found the loss hardly raised, and concluded that it rises steeply
    in a small subspace alone. For a quadratic the rise is radius^2 lambda / 2 along an eigenvector, and radius^2
    trace / (2 n) on average along a random direction. Both signs are averaged, so that a gradient at x cancels.

    Args:
        loss: flat vector (n,) -> scalar.
        x: (n,).
        eigenvectors: (n, k), e.g. of `hessian_eigenvalues`.
        radius: distance from x, > 0.
        directions: how many random ones.
        generator: CPU generator of them.

    Raises:
        ValueError: radius <= 0; eigenvectors that are not (n, k).
    """
    if not radius > 0:
        raise ValueError(f"radius must be > 0, got {radius}")
    if eigenvectors.ndim != 2 or len(eigenvectors) != len(x):
        raise ValueError(f"eigenvectors must be ({len(x)}, k), got {tuple(eigenvectors.shape)}")
    base = values_at(loss, x)

    def rise(v: Tensor) -> Tensor:
        return (along(loss, x, v / v.norm(), (-radius, radius)).mean(dim=0) - base)[0]

    drawn = (random_direction(x, generator=generator) for _ in range(directions))
    return Rises(radius, torch.stack([rise(v) for v in eigenvectors.T]), torch.stack([rise(v) for v in drawn]))


def values_at(evaluate: Evaluate, x: Tensor) -> Tensor:
    """Return the values at x as float64 on the CPU: (numbers,)."""
    with torch.no_grad():
        return torch.as_tensor(evaluate(x), dtype=torch.float64).detach().cpu().reshape(-1)
