"""Singular values from Gram matrices, each with an interval that provably contains it.

Forming G = A A^T costs a fraction of an SVD, but it squares the condition number. G's eigenvalues are known only to
within Delta = (gamma + p u) ||A||_F^2, so values below about 1e-7 sigma_max are lost. Values below a level tau are
therefore computed from a second Gram matrix ("deflation"). It is formed from the data projected on G's trailing
eigenvectors, so nothing large is in it.

Notation: A is (m, N) and u = 2^-53. gamma_n = n u / (1 - n u) bounds the rounding of a sum of n products in any order
(Higham 2002, chapter 3). In the code n is the length of a chunk plus the number of partial sums, which it counts. With
p(n) = n + 10, LAPACK's eigenvalues and eigenvectors are exact for a matrix within p u ||G|| of the given one. Two
things are assumed, not proved: this p (LAPACK's guide promises "modestly growing"), and that a matrix product is a sum
of products (no Strassen, no emulated precision).

1. By Weyl's inequality sigma_i(A)^2 lies within Delta of the i-th eigenvalue of the computed G.
2. Let [Q1 Q2] be the computed eigenvectors, A1 = Q1^T A, B = Q2^T A, C = A1 A1^T and E = B A1^T.
   - Let delta = ||Q^T Q - I||, which is measured. Then sigma_i(A) and sigma_i(Q^T A) differ by at most a factor
     sqrt(1 +- delta) (Ostrowski).
   - Take mu < lambda_min(C) and S(mu) = B B^T - mu - E (C - mu)^-1 E^T. By Sylvester's law of inertia, the number of
     squared singular values of Q^T A below mu is the number of negative eigenvalues of S(mu).
   - E is measured, as Q1^T (A B^T) or (Q1^T A) B^T. C is diag(lambda) up to a relative theta = Delta / tau^2.
   - So the squares are the eigenvalues of S = B B^T - E diag(1 / lambda) E^T to within Delta of S plus
     eta(mu) = sum_i |E_i|^2 (theta lambda_i + mu) / (lambda_i ((1 - theta) lambda_i - mu)).
   - mu is the upper end of the interval, which is not known beforehand. The code takes twice eta as the bound, and
     checks that eta at the resulting upper end is no larger.
   - Rounding in B itself moves a value by gamma ||Q2||_F ||A||_F (Weyl).
3. The final interval is the intersection of those from 1 and 2.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

U = 2.0**-53
CHUNK = 1024  # columns summed by one matrix product: longer chunks are hardly faster, and gamma grows with them
PANEL = 128  # rows of a part of the lower triangle; the blocks above the diagonal are not computed
SLAB = 512  # rows summed by one matrix product of a projection
RELATIVE = 1e-3  # a value is accurate enough if its error is at most this fraction of itself ...
ABSOLUTE = 2e-10  # ... or this fraction of the largest value; for 1e4 that is 2e-6, a fifth of the threshold 1e-5
LEVEL = 1e-5  # tau / ||A||_F. A lower level makes E / tau grow, a higher one the second matrix's floor of 1e-6 tau

Blocks = Callable[[], Iterable[Tensor]]


def gamma(n: int) -> float:
    """Return Higham's gamma_n."""
    return n * U / (1 - n * U)


def solver(n: int) -> float:
    """Return p(n) u, the assumed relative backward error of a symmetric eigenvalue solver."""
    return (n + 10) * U


@dataclass
class Sum:
    """X Y^T summed over blocks of columns, chunk by chunk. If Y is X, only the lower triangle is summed."""

    total: Tensor
    blocks: int = 0
    chunk: int = 0
    chunks: int = 0

    def add(self, X: Tensor, Y: Tensor | None = None) -> None:
        """Add X Y^T (None: X X^T)."""
        pieces = list(zip(X.split(CHUNK, 1), (X if Y is None else Y).split(CHUNK, 1)))
        part = self.total if len(pieces) == 1 else torch.zeros_like(self.total)
        for x, y in pieces:
            for end in range(PANEL, len(x) + PANEL, PANEL):
                rows, columns = slice(end - PANEL, end), slice(end if Y is None else len(y))
                # not addmm_: BLAS may add the products to `part` one by one, and then all columns would be one chunk
                part[rows, columns] += x[rows] @ y[columns].T
        if part is not self.total:
            self.total += part
        self.blocks += 1
        self.chunk, self.chunks = max(self.chunk, pieces[0][0].shape[1]), max(self.chunks, len(pieces))

    @property
    def gamma(self) -> float:
        """Bound of each entry's rounding error, in units of |X| |Y|^T."""
        return gamma(self.chunk + self.chunks + self.blocks)


@dataclass
class Gram(Sum):
    """A A^T; `trace` bounds ||A||_F^2 from above."""

    @classmethod
    def empty(cls, rows: int, device: torch.device) -> "Gram":
        """Return a sum of zero blocks."""
        return cls(torch.zeros(rows, rows, dtype=torch.float64, device=device))

    @property
    def trace(self) -> float:
        """An upper bound of ||A||_F^2; NaN or infinite if the data have such values."""
        return float(self.total.diagonal().sum()) * (1 + self.gamma + gamma(len(self.total)))

    @property
    def error(self) -> float:
        """Delta, the largest possible error of an eigenvalue that is computed from the sum."""
        return (self.gamma + solver(len(self.total))) * self.trace


@dataclass(frozen=True)
class Intervals:
    """Singular values, descending, and the intervals that contain the exact ones."""

    values: np.ndarray
    low: np.ndarray
    high: np.ndarray

    @classmethod
    def of_squares(cls, squares: Tensor, error: float | np.ndarray) -> "Intervals":
        """Return the roots of squares (descending) that are known to within `error`."""
        at = squares.cpu().numpy()
        low, middle, high = (np.sqrt(np.maximum(at + shift, 0)) for shift in (-error, 0.0, error))
        return cls(middle, low, high)

    @property
    def error(self) -> np.ndarray:
        """The largest possible error of each value, including the rounding of the three columns."""
        return np.asarray(np.maximum(self.high - self.values, self.values - self.low) + 4 * U * self.values)

    @property
    def accurate(self) -> bool:
        """Whether every value is accurate enough. It is False for an empty interval, which only a fault can cause."""
        enough = np.maximum(RELATIVE * self.values, ABSOLUTE * self.values[0])
        return bool((self.error <= enough).all() and (self.low <= self.high).all())

    def with_last(self, other: "Intervals") -> "Intervals":
        """Return a copy in which the last intervals are intersected with those of `other`."""
        first = len(self.values) - len(other.values)
        low, high = np.maximum(self.low[first:], other.low), np.minimum(self.high[first:], other.high)
        last = (np.clip(other.values, low, np.maximum(low, high)), low, high)
        return Intervals(*(np.concatenate([a[:first], b]) for a, b in zip((self.values, self.low, self.high), last)))

    def sorted(self) -> "Intervals":
        """Return a copy with each column in descending order; the i-th value is still in the i-th interval."""
        return Intervals(*(np.sort(column)[::-1].copy() for column in (self.values, self.low, self.high)))


def gram_singular_values(blocks: Blocks, gram: Gram) -> tuple[Intervals, str]:
    """Return the singular values of A by one Gram matrix and, if needed, one deflation; and "gram" or "deflation".

    They may be too inaccurate: check `Intervals.accurate`.

    Args:
        blocks: returns A in blocks of columns; called for a second pass.
        gram: A A^T; overwritten.
    """
    trace, error = gram.trace, gram.error
    level = max(LEVEL**2 * trace, error / (2 * RELATIVE))
    if _all_above(gram.total, level):
        return Intervals.of_squares(torch.linalg.eigvalsh(gram.total).flip(0), error), "gram"
    squares, vectors = _eigenvectors(gram.total)
    gram.total = gram.total.new_empty(0)  # overwritten
    first = Intervals.of_squares(squares.flip(0), error)
    small = int((squares < level).sum())
    if first.accurate or small == len(squares):
        return first, "gram"
    theta = (gram.gamma + 4 * solver(len(squares))) * trace / float(squares[small])
    second = _deflated(blocks, trace, squares[small:], vectors, theta)
    return first.with_last(second).sorted(), "deflation"


def _all_above(G: Tensor, level: float) -> bool:
    # Cholesky is cheap compared with eigenvectors. It only chooses the routine, so its rounding does no harm
    shifted = G.clone().T  # transposed, it has LAPACK's order and can be overwritten: one copy instead of two
    shifted.diagonal().sub_(level)
    info = torch.empty((), dtype=torch.int32, device=G.device)
    torch.linalg.cholesky_ex(shifted, upper=True, out=(shifted, info))
    return int(info) == 0


def _eigenvectors(G: Tensor) -> tuple[Tensor, Tensor]:
    """Return eigenvalues, ascending, and eigenvectors, which overwrite G: LAPACK needs two more such matrices."""
    squares, vectors = G.new_empty(len(G)), G.T
    torch.linalg.eigh(vectors, UPLO="U", out=(squares, vectors))
    return squares, vectors


def _deflated(blocks: Blocks, trace: float, large: Tensor, vectors: Tensor, theta: float) -> Intervals:
    """Return all singular values except the large ones, from the data projected on their eigenvectors (step 2).

    Args:
        blocks: A.
        trace: at least ||A||_F^2.
        large: the eigenvalues that belong to the last columns of `vectors`, ascending.
        vectors: Q2, then Q1.
        theta: relative error of `large` as Q1^T A A^T Q1.
    """
    Q2, Q1 = vectors.split([len(vectors) - len(large), len(large)], 1)
    B, coupling, slack, lost = _project(blocks, Q2, Q1, trace)
    scaled = coupling.div_(large.sqrt()[:, None])  # E^T, row i over sqrt(lambda_i)
    slack /= math.sqrt(float(large[0]))
    strength = float(scaled.norm())
    error = B.error + 2 * slack * strength + slack**2 + gamma(len(large) + 4) * strength**2
    B.total -= scaled.T @ scaled
    squares = torch.linalg.eigvalsh(B.total).flip(0)
    inner = Intervals.of_squares(squares, error + _coupling(scaled, large, squares + error, theta))
    delta = _departure(vectors)
    low, high = np.maximum(inner.low - lost, 0) / math.sqrt(1 + delta), (inner.high + lost) / math.sqrt(1 - delta)
    return Intervals(inner.values, low, high)


def _project(blocks: Blocks, Q2: Tensor, Q1: Tensor, trace: float) -> tuple[Gram, Tensor, float, float]:
    """Return B B^T, A1 B^T, a norm bound on the rounding error of A1 B^T, and an error bound of B's singular values."""
    (rows, small), large = Q2.shape, Q1.shape[1]
    # A1 B^T is computed as Q1^T (A B^T) or as (Q1^T A) B^T, whichever takes less work and memory
    late = rows * small <= large * (rows + small)
    B, W = Gram.empty(small, Q2.device), Sum(Q2.new_zeros(rows if late else large, small))
    for block in blocks():
        projected = _times(Q2, block)
        B.add(projected)
        W.add(block if late else _times(Q1, block), projected)
    rounding = gamma(SLAB - (-rows // SLAB)) * math.sqrt(trace)
    both = math.sqrt(trace * B.trace)
    if late:
        product = Q1.T @ W.total
        slack = 1.01 * W.gamma * both + gamma(rows) * float(Q1.norm() * W.total.norm())
    else:
        product = W.total
        slack = 1.01 * (W.gamma * both + float(Q1.norm()) * rounding * math.sqrt(B.trace))
    return B, product, slack, float(Q2.norm()) * rounding


def _times(Q: Tensor, block: Tensor) -> Tensor:
    """Return Q^T X by partial sums, which keep gamma small."""
    product = Q.new_zeros(Q.shape[1], block.shape[1])
    for q, x in zip(Q.split(SLAB), block.split(SLAB)):
        product += q.T @ x
    return product


def _coupling(scaled: Tensor, large: Tensor, mu: Tensor, theta: float) -> np.ndarray:
    """Return an upper bound of eta(mu) for each square `mu`; infinite where mu is too close to the large ones."""
    weight = (scaled**2).sum(1)[:, None]  # |E_i|^2 / lambda_i

    def eta(mu: Tensor) -> Tensor:
        gap = (1 - theta) * large[:, None] - mu
        return torch.where(gap[0] > 0, (weight * (theta * large[:, None] + mu) / gap).sum(0), torch.inf)

    mu = mu.clamp(min=0)
    twice = 2 * eta(mu)
    return np.asarray(torch.where(eta(mu + twice) <= twice, twice, torch.inf).cpu().numpy())


def _departure(Q: Tensor) -> float:
    """Return an upper bound of ||Q^T Q - I||."""
    product = Gram.empty(Q.shape[1], Q.device)
    product.add(Q.T)
    total = product.total.tril_()
    total.diagonal().sub_(1)
    return math.sqrt(2) * float(total.norm()) + product.gamma * float(Q.norm()) ** 2
