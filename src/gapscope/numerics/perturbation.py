"""How far a small change of the input moves the solution of a linear problem: Oyedotun et al. 2022, Proposition 3.

Y = theta X, with theta (h, h) invertible and X (h, b). The proof multiplies Delta theta X = -theta Delta X (eq. 8) by
the pseudo-inverse of X and uses X X^+ = I, which needs full row rank, b >= h. It then bounds the norm of
X^+ = sum 1/sigma_i v_i u_i^T by the sum of the terms' norms (eq. 5); the norm itself is only 1/sigma_min. All norms are
spectral; the paper does not say which norm it means.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class SolutionChange:
    """Relative changes ||Delta theta|| / ||theta||, and their bounds.

    Attributes:
        estimate: change from theta to the least-squares solution of smallest norm, Y (X + Delta X)^+.
        smallest: the smallest Delta theta that fits eq. 6 in the least-squares sense. For b >= h it is the estimate;
            for b < h many changes fit, and the estimate is another one.
        bound: right side of eq. 5, ||Delta X|| sum 1 / sigma_i.
        tight: ||Delta X|| / sigma_min, as in eq. 10 before the sum.
    """

    estimate: float
    smallest: float
    bound: float
    tight: float


def solution_change(theta: Tensor, X: Tensor, change: Tensor) -> SolutionChange:
    """Return how far theta moves if X moves by `change` and Y = theta X does not change.

    Args:
        theta: shape (h, h), float64, invertible.
        X: shape (h, b), float64.
        change: Delta X, shape (h, b). The bounds are of first order: they hold up to a factor of
            1 / (1 - ||Delta X|| / sigma_min).
    """
    inverse, values = torch.linalg.pinv(X + change), torch.linalg.svdvals(X)
    size, scale = spectral_norm(change), spectral_norm(theta)
    return SolutionChange(
        estimate=spectral_norm(theta @ X @ inverse - theta) / scale,
        smallest=spectral_norm(theta @ change @ inverse) / scale,
        bound=float(size * (1 / values).sum()),
        tight=float(size / values[-1]),
    )


def worst_change(theta: Tensor, X: Tensor, size: float) -> Tensor:
    """Return the Delta X (h, b) of spectral norm `size` that moves theta most: by ||theta|| size / sigma_min (b >= h).

    It maps X's weakest right singular vector onto theta's strongest one. Eq. 10 is then an equality, in first order.
    """
    strongest = torch.linalg.svd(theta).Vh[0]
    weakest = torch.linalg.svd(X, full_matrices=False).Vh[-1]
    return size * torch.outer(strongest, weakest)


def spectral_norm(matrix: Tensor) -> float:
    """Return the largest singular value."""
    return float(torch.linalg.matrix_norm(matrix, ord=2))
