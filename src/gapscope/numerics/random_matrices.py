"""Singular values of random matrices: Oyedotun et al. 2022, Propositions 1 and 2, sections 4.3 and A1.

Every value is computed in float64 by backward-stable steps. Householder's reflections give A = Q R. The n x n triangle
R has the singular values of A up to a modest multiple of eps64 sigma_max (Weyl). The two extreme values come from
Lanczos's iteration on R^T R and on its inverse (two triangular solves), which adds a relative error of at most
`TOLERANCE` / 2. Both errors are far below a standard error over 100 matrices, also for square ones, whose sigma_min is
about 1 / sqrt(n).

The eigenvalues of a Gram matrix would have an error of about eps64 sigma_max^2 / sigma_min in sigma_min, and take
longer for large n. In float32, no digit of a square matrix's sigma_min would be right.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.integrate import quad
from scipy.linalg.blas import dtrmv, dtrsv
from scipy.sparse.linalg import LinearOperator, eigsh
from torch import Tensor

from gapscope.errors import InputError, did_you_mean

# Relative, of the residual of an eigenpair; the eigenvalue's own error is of the order of its square. Against LAPACK's
# gesdd, for n up to 1000, no value was off by more than 3 eps64 sigma_max.
TOLERANCE = 1e-8
SMALL = 200  # up to so many columns, all values of R cost no more than the two iterations


@dataclass(frozen=True)
class Law:
    """The law of a matrix's independent entries: mean, standard deviation, and a function that draws a matrix."""

    mean: float
    std: float
    draw: Callable[[tuple[int, int], torch.Generator], Tensor]


def _normal(shape: tuple[int, int], generator: torch.Generator) -> Tensor:
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def _uniform(shape: tuple[int, int], generator: torch.Generator) -> Tensor:
    return torch.rand(shape, generator=generator, dtype=torch.float64)


LAWS = {  # the paper gives no parameters. These fit its tables; of the others that we tried, U(-1, 1) does not
    "gaussian": Law(0.0, 1.0, _normal),
    "uniform": Law(0.5, 12**-0.5, _uniform),  # U(0, 1)
    "lognormal": Law(np.e**0.5, ((np.e - 1) * np.e) ** 0.5, lambda *args: _normal(*args).exp_()),  # exp(N(0, 1))
}


def law(name: str) -> Law:
    """Return a law by name.

    Raises:
        InputError: there is no such law.
    """
    if name not in LAWS:
        raise InputError(f"unknown law {name!r}; {did_you_mean(name, LAWS)}")
    return LAWS[name]


def bin_width(name: str, m: int, bins: int) -> float:
    """Return the width of a histogram's bins; `bins` of them cover 0 to sqrt(m) standard deviations of an entry."""
    return law(name).std * math.sqrt(m) / bins


def triangle(matrix: Tensor) -> Tensor:
    """Return R (n, n) of A = Q R; it has the singular values of A (m, n), m >= n.

    Raises:
        ValueError: m < n, or another type than float64.
    """
    if matrix.shape[0] < matrix.shape[1] or matrix.dtype != torch.float64:
        raise ValueError(f"need a float64 matrix, at least as tall as wide, got {matrix.dtype} {tuple(matrix.shape)}")
    R: Tensor = torch.linalg.qr(matrix, mode="r").R
    return R


def extreme_singular_values(R: Tensor, generator: torch.Generator) -> tuple[float, float]:
    """Return the smallest and the largest singular value of an upper triangle; the module's docstring has the errors.

    Args:
        R: shape (n, n), upper triangular, float64, of full rank.
        generator: draws the start vector of the iterations.

    Example:
        >>> extreme_singular_values(torch.diag(torch.tensor([3.0, 5.0, 4.0], dtype=torch.float64)), torch.Generator())
        (3.0, 5.0)
    """
    n = len(R)
    if n <= SMALL:
        values = torch.linalg.svdvals(R)
        return float(values[-1]), float(values[0])
    start = torch.randn(n, generator=generator, dtype=torch.float64).numpy()
    A = np.asfortranarray(R.numpy())  # BLAS needs this order; with it, no call makes a copy
    smallest = _largest_eigenvalue(lambda x: dtrsv(A, dtrsv(A, x, trans=1)), start) ** -0.5
    largest = _largest_eigenvalue(lambda x: dtrmv(A, dtrmv(A, x), trans=1), start) ** 0.5
    return smallest, largest


def _largest_eigenvalue(apply: Callable[[np.ndarray], np.ndarray], start: np.ndarray) -> float:
    operator = LinearOperator((len(start), len(start)), matvec=apply, dtype=np.float64)
    return float(eigsh(operator, k=1, which="LA", v0=start, tol=TOLERANCE, return_eigenvectors=False)[0])


def marchenko_pastur_cdf(x: float, ratio: float) -> float:
    """Return the share of singular values up to x sqrt(m) standard deviations, as m, n -> inf at n / m = ratio.

    Marchenko and Pastur 1967, for singular values and not their squares: x = sqrt(1 + r - 2 sqrt(r) cos t) takes t from
    0 at the lower edge 1 - sqrt(r) to pi at the upper one, where the density in t is 2 sin(t)^2 / (pi x^2).

    Example:
        >>> [round(marchenko_pastur_cdf(x, 0.25), 12) for x in (0.5, 1.5)]  # the edges
        [0.0, 1.0]
    """
    root = ratio**0.5
    t = float(np.arccos(np.clip((1 + ratio - x**2) / (2 * root), -1, 1))) if x > 0 else 0.0
    # 1 - r and the half angle, not 1 + r - 2 sqrt(r) cos t: no cancellation at the lower edge of a square matrix
    density = lambda s: 2 * np.sin(s) ** 2 / (np.pi * ((1 - root) ** 2 + 4 * root * np.sin(s / 2) ** 2))  # noqa: E731
    return float(quad(density, 0, t)[0]) if t else 0.0


def histogram_rows(rows: list[dict[str, Any]], name: str, bins: int) -> list[dict[str, Any]]:
    """Return each shape's pooled histogram, one row per bin, with the counts that Marchenko and Pastur's law expects.

    Args:
        rows: results of `repetition`, for one law.
        name: of the law.
        bins: as in the settings.

    Returns:
        Rows with m, n, number of repetitions pooled, low and high end of the bin, count and expected count. Bins in
        which both counts are 0 are left out.
    """
    table = []
    for m, n in dict.fromkeys((row["m"], row["n"]) for row in rows):
        pooled = [row["histogram"] for row in rows if (row["m"], row["n"]) == (m, n) and row["histogram"] is not None]
        counts: dict[int, int] = {}
        for histogram in pooled:
            for index, count in histogram.items():
                counts[int(index)] = counts.get(int(index), 0) + count
        width, root = bin_width(name, m, bins), (n / m) ** 0.5
        bulk = range(int((1 - root) * bins), int((1 + root) * bins) + 1)
        for index in sorted({*counts, *bulk}):
            share = np.diff([marchenko_pastur_cdf(edge / bins, n / m) for edge in (index, index + 1)]).item()
            table.append(
                {"m": m, "n": n, "repetitions": len(pooled), "low": index * width, "high": (index + 1) * width}
                | {"count": counts.get(index, 0), "expected": share * n * len(pooled)}
            )
    return table
