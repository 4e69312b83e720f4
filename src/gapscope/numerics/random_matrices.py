"""Singular values of random matrices: Oyedotun et al. 2022, Propositions 1 and 2, sections 4.3 and A1.

Every value is found in float64 by backward-stable steps: A = Q R by Householder's reflections, then the values of the
n x n triangle R, which are those of A up to a modest multiple of eps64 sigma_max (Weyl). The two extreme ones come by
Lanczos's iteration on R^T R and on its inverse (two triangular solves), each exact to `TOLERANCE` / 2 of itself
besides. Both errors are far below a standard error over 100 matrices, also for square ones, whose sigma_min is about
1 / sqrt(n). The eigenvalues of a Gram matrix would leave sigma_min an error of about eps64 sigma_max^2 / sigma_min, and
take longer for large n; a float32 computation would leave sigma_min of a square matrix no digit.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import process_time
from typing import Any

import numpy as np
import torch
from scipy.integrate import quad
from scipy.linalg.blas import dtrmv, dtrsv
from scipy.sparse.linalg import LinearOperator, eigsh
from torch import Tensor

from gapscope import seeds
from gapscope.errors import InputError, did_you_mean

# Relative, of the residual of an eigenpair; the eigenvalue's own error is of the order of its square. Against LAPACK's
# gesdd, for n up to 1000, no value was off by more than 3 eps64 sigma_max.
TOLERANCE = 1e-8
SMALL = 200  # columns up to which all values of R cost no more than the two iterations


@dataclass(frozen=True)
class Law:
    """The law of a matrix's independent entries: mean, standard deviation, and how a shape is drawn of it."""

    mean: float
    std: float
    draw: Callable[[tuple[int, int], torch.Generator], Tensor]


def _normal(shape: tuple[int, int], generator: torch.Generator) -> Tensor:
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def _uniform(shape: tuple[int, int], generator: torch.Generator) -> Tensor:
    return torch.rand(shape, generator=generator, dtype=torch.float64)


LAWS = {  # the paper names the laws and no parameters: of those tried, these fit its tables, and U(-1, 1) does not
    "gaussian": Law(0.0, 1.0, _normal),
    "uniform": Law(0.5, 12**-0.5, _uniform),  # U(0, 1)
    "lognormal": Law(np.e**0.5, ((np.e - 1) * np.e) ** 0.5, lambda *args: _normal(*args).exp_()),  # exp(N(0, 1))
}


@dataclass(frozen=True)
class RandomMatrixSettings:
    """Params of the random_matrices stage."""

    shapes: tuple[tuple[int, ...], ...]
    repetitions: int
    seed: int
    spectrum_values: int
    bins: int

    def __post_init__(self) -> None:
        for shape in self.shapes:
            if len(shape) != 2 or not shape[0] >= shape[1] >= 1:
                raise InputError(f"random_matrices.shapes holds [m, n] with m >= n >= 1, got {list(shape)}")
        if self.repetitions < 2:
            raise InputError(
                f"random_matrices.repetitions must be at least 2, got {self.repetitions}: one has no spread"
            )
        if self.spectrum_values < 1 or self.bins < 1:
            raise InputError("random_matrices: spectrum_values and bins must each be at least 1")

    def of_law(self, name: str) -> dict[str, Any]:
        """Return all that a repetition of this law depends on, besides its shape and number."""
        return {"law": name, "seed": self.seed, "spectrum_values": self.spectrum_values, "bins": self.bins}


def law(name: str) -> Law:
    """Return a law by name.

    Raises:
        InputError: there is no such law.
    """
    if name not in LAWS:
        raise InputError(f"unknown law {name!r}; {did_you_mean(name, LAWS)}")
    return LAWS[name]


def repetition(piece: tuple[int, int, int], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Draw and measure one matrix; its random stream is its own, so that it can be computed alone and in any order.

    Args:
        piece: m, n and the number of the repetition.
        settings: `RandomMatrixSettings.of_law`.

    Returns:
        m, n, repetition, sigma_min, sigma_max; `histogram`, bin index -> number of singular values, for the first
        repetitions, until they hold `spectrum_values` values together (else None); and cpu_s, which took them.
    """
    start, (m, n, index), name = process_time(), piece, settings["law"]
    generator = seeds.generator(settings["seed"], "random matrix", name, m, n, index)
    R = triangle(law(name).draw((m, n), generator))
    smallest, largest = extreme_singular_values(R, generator)
    histogram = None
    if index * n < settings["spectrum_values"]:
        values = torch.linalg.svdvals(R).numpy()
        bins, counts = np.unique((values / bin_width(name, m, settings["bins"])).astype(int), return_counts=True)
        histogram = dict(zip(map(str, bins), counts.tolist(), strict=True))
    found = {"sigma_min": smallest, "sigma_max": largest, "histogram": histogram, "cpu_s": process_time() - start}
    return {"m": m, "n": n, "repetition": index, **found}


def bin_width(name: str, m: int, bins: int) -> float:
    """Return the width of a histogram's bins: `bins` of them cover 0 to sqrt(m) standard deviations of an entry."""
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
    """Return the smallest and the largest singular value of an upper triangle, with the errors that the module states.

    Args:
        R: shape (n, n), upper triangular, float64, of full rank.
        generator: draws the start of the iterations.

    Example:
        >>> extreme_singular_values(torch.diag(torch.tensor([3.0, 5.0, 4.0], dtype=torch.float64)), torch.Generator())
        (3.0, 5.0)
    """
    n = len(R)
    if n <= SMALL:
        values = torch.linalg.svdvals(R)
        return float(values[-1]), float(values[0])
    start = torch.randn(n, generator=generator, dtype=torch.float64).numpy()
    A = np.asfortranarray(R.numpy())  # as BLAS takes it without a copy
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
    """Return each shape's pooled histogram, a row a bin, beside the counts that Marchenko and Pastur's law expects.

    Args:
        rows: results of `repetition`, of one law.
        name: the law.
        bins: as in the settings.

    Returns:
        m, n, repetitions pooled, low and high of the bin, count, expected; every bin that either of the last two fills.
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
