"""How far a small change of the input moves the solution of a linear problem: Oyedotun et al. 2022, Proposition 3.

Y = theta X, with theta (h, h) invertible and X (h, b). The proof multiplies Delta theta X = -theta Delta X (eq. 8) by
the pseudo-inverse of X and takes X X^+ = I: that needs full row rank, b >= h. It then bounds the norm of
X^+ = sum 1/sigma_i v_i u_i^T by the sum of the terms' norms (eq. 5), where 1/sigma_min, the norm itself, is enough.
All norms are spectral; the paper does not say which it means.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from gapscope import seeds
from gapscope.errors import InputError


@dataclass(frozen=True)
class PerturbationSettings:
    """Params of the perturbation stage."""

    units: int
    samples: tuple[int, ...]
    size: float
    repetitions: int
    seed: int

    def __post_init__(self) -> None:
        if min((self.units, self.repetitions, *self.samples), default=0) < 1 or not self.samples:
            raise InputError("perturbation: units, repetitions and every entry of samples must be at least 1")
        if not 0 < self.size < 1:
            raise InputError(f"perturbation.size must be between 0 and 1, got {self.size}")


@dataclass(frozen=True)
class SolutionChange:
    """Relative changes ||Delta theta|| / ||theta||, and what is to bound them.

    Attributes:
        estimate: of the least-squares solution of smallest norm, Y (X + Delta X)^+, against theta.
        smallest: of the smallest Delta theta that fits eq. 6 in the least-squares sense. With b >= h the same; with
            b < h many fit, and the estimate is another of them.
        bound: right side of eq. 5, ||Delta X|| sum 1 / sigma_i.
        tight: ||Delta X|| / sigma_min, what eq. 10 has before the sum is taken.
    """

    estimate: float
    smallest: float
    bound: float
    tight: float


def solution_change(theta: Tensor, X: Tensor, change: Tensor) -> SolutionChange:
    """Return how far theta moves when X moves by `change` and Y = theta X stays.

    Args:
        theta: shape (h, h), float64, invertible.
        X: shape (h, b), float64.
        change: Delta X, shape (h, b). The bounds are of first order: they hold up to a factor of
            1 / (1 - ||Delta X|| / sigma_min).
    """
    inverse, values = torch.linalg.pinv(X + change), torch.linalg.svdvals(X)
    size, scale = _norm(change), _norm(theta)
    return SolutionChange(
        estimate=_norm(theta @ X @ inverse - theta) / scale,
        smallest=_norm(theta @ change @ inverse) / scale,
        bound=float(size * (1 / values).sum()),
        tight=float(size / values[-1]),
    )


def worst_change(theta: Tensor, X: Tensor, size: float) -> Tensor:
    """Return the Delta X (h, b) of spectral norm `size` that moves theta most: by ||theta|| size / sigma_min (b >= h).

    It maps X's weakest right singular vector onto theta's strongest: eq. 10 is then an equality, in first order.
    """
    strongest = torch.linalg.svd(theta).Vh[0]
    weakest = torch.linalg.svd(X, full_matrices=False).Vh[-1]
    return size * torch.outer(strongest, weakest)


def perturb(samples: int, repetition: int, settings: PerturbationSettings) -> dict[str, float]:
    """Return one repetition at b = `samples`: the changes by a random and by the worst Delta X, and the bounds."""
    generator = seeds.generator(settings.seed, "perturbation", settings.units, samples, repetition)
    draw = torch.randn(settings.units, settings.units + 2 * samples, generator=generator, dtype=torch.float64)
    theta, X, change = draw.split([settings.units, samples, samples], dim=1)
    found = solution_change(theta, X, change * (settings.size / _norm(change)))
    worst = solution_change(theta, X, worst_change(theta, X, settings.size))
    return {"units": settings.units, "samples": samples, "repetition": repetition} | {
        "estimate": found.estimate, "smallest": found.smallest, "worst_estimate": worst.estimate,
        "worst_smallest": worst.smallest, "bound": found.bound, "tight": found.tight,
    }  # fmt: skip


def _norm(matrix: Tensor) -> float:
    return float(torch.linalg.matrix_norm(matrix, ord=2))
