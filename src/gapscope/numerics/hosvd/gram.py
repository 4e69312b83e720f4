"""Singular values through Gram matrices, each with an interval that it provably lies in.

Forming G = A A^T costs a fraction of an SVD, but squares the condition: its eigenvalues are known only to within
Delta = (gamma + p u) ||A||_F^2, and values below about 1e-7 sigma_max drown. So the values below a level tau are found
from a second Gram matrix, of the data projected on G's trailing eigenvectors ("deflation"), free of all that is large.

Notation: A (m, N); u = 2^-53; gamma_n = n u / (1 - n u) bounds the rounding of a sum of n products in any order (Higham
2002, chapter 3); n is here the length of a chunk plus the number of partial sums, as counted. p(n) = n + 10: LAPACK's
eigenvalues and eigenvectors are exact for a matrix within p u ||G|| of the one given. Assumed, not proved: this p (its
guide promises "modestly growing"), and that a matrix product is a sum of products (no Strassen, no emulated precision).

1. By Weyl's inequality sigma_i(A)^2 lies within Delta of the i-th eigenvalue of the computed G.
2. [Q1 Q2] = computed eigenvectors, A1 = Q1^T A, B = Q2^T A, C = A1 A1^T, E = B A1^T. Where delta = ||Q^T Q - I||
   (measured), sigma_i(A) and sigma_i(Q^T A) differ by at most a factor sqrt(1 +- delta) (Ostrowski). By Sylvester's law
   of inertia as many squares of Q^T A's singular values are below mu < lambda_min(C) as S(mu) = B B^T - mu
   - E (C - mu)^-1 E^T has negative eigenvalues. E is measured, as Q1^T (A B^T) or (Q1^T A) B^T, and C is diag(lambda)
   to a relative theta = Delta / tau^2. So those squares are the eigenvalues of S = B B^T - E diag(1 / lambda) E^T to
   within eta(mu) = sum_i |E_i|^2 (theta lambda_i + mu) / (lambda_i ((1 - theta) lambda_i - mu)), plus Delta of S. As mu
   is the upper end of what is claimed, twice eta is claimed, if at the upper end that gives eta is no more than that.
   Rounding in B itself moves a value by gamma ||Q2||_F ||A||_F (Weyl).
3. Of the intervals from 1 and 2 the intersection is kept.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

U = 2.0**-53
CHUNK = 1024  # columns summed by one matrix product; longer ones are hardly faster, and each adds to gamma
PANEL = 128  # rows, of the lower triangle; the blocks above it are not computed
SLAB = 512  # rows summed by one matrix product of a projection
RELATIVE = 1e-3  # a value is settled once known to this part of itself, or to ...
ABSOLUTE = 2e-10  # ... this part of the largest: where that is 1e4, zeros to 2e-6 and values at 1e-5 to about 2 %
LEVEL = 1e-5  # tau / ||A||_F; lower: E / tau grows; higher: the second Gram matrix's floor, 1e-6 tau, rises

Blocks = Callable[[], Iterable[Tensor]]


def gamma(n: int) -> float:
    """Return Higham's gamma_n."""
    return n * U / (1 - n * U)


def solver(n: int) -> float:
    """Return p(n) u, the relative backward error granted to a symmetric eigenvalue solver."""
    return (n + 10) * U


@dataclass
class Sum:
    """X Y^T summed over blocks of columns, chunk by chunk; of Y = X the lower triangle only."""

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
                # not addmm_: BLAS may add the products to `part` one at a time, which makes a chunk of all the columns
                part[rows, columns] += x[rows] @ y[columns].T
        if part is not self.total:
            self.total += part
        self.blocks += 1
        self.chunk, self.chunks = max(self.chunk, pieces[0][0].shape[1]), max(self.chunks, len(pieces))

    @property
    def gamma(self) -> float:
        """Bound of the rounding error, entry by entry, in units of |X| |Y|^T."""
        return gamma(self.chunk + self.chunks + self.blocks)


@dataclass
class Gram(Sum):
    """A A^T; `trace` bounds ||A||_F^2 from above."""

    @classmethod
    def empty(cls, rows: int, device: torch.device) -> "Gram":
        """Return a sum of nothing."""
        return cls(torch.zeros(rows, rows, dtype=torch.float64, device=device))

    @property
    def trace(self) -> float:
        """Return an upper bound of ||A||_F^2; not a number or infinite where the data are."""
        return float(self.total.diagonal().sum()) * (1 + self.gamma + gamma(len(self.total)))

    @property
    def error(self) -> float:
        """Delta: no eigenvalue computed from the sum is off by more."""
        return (self.gamma + solver(len(self.total))) * self.trace


@dataclass(frozen=True)
class Intervals:
    """Singular values, descending, and the intervals that they lie in."""

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
        """The most that each value can be off by, rounding of the three columns included."""
        return np.asarray(np.maximum(self.high - self.values, self.values - self.low) + 4 * U * self.values)

    @property
    def settled(self) -> bool:
        """Whether every value is known well enough; no if an interval is empty, which only a fault can cause."""
        enough = np.maximum(RELATIVE * self.values, ABSOLUTE * self.values[0])
        return bool((self.error <= enough).all() and (self.low <= self.high).all())

    def with_last(self, other: "Intervals") -> "Intervals":
        """Return the same with the last values known from `other` as well: the intersections."""
        first = len(self.values) - len(other.values)
        low, high = np.maximum(self.low[first:], other.low), np.minimum(self.high[first:], other.high)
        last = (np.clip(other.values, low, np.maximum(low, high)), low, high)
        return Intervals(*(np.concatenate([a[:first], b]) for a, b in zip((self.values, self.low, self.high), last)))

    def sorted(self) -> "Intervals":
        """Return the same with each column in descending order, which keeps the i-th value in the i-th interval."""
        return Intervals(*(np.sort(column)[::-1].copy() for column in (self.values, self.low, self.high)))


def settle(blocks: Blocks, gram: Gram) -> tuple[Intervals, str]:
    """Return the singular values of A, as far as one Gram matrix and one deflation settle them, and which were needed.

    Args:
        blocks: called for a second pass over A, in blocks of columns.
        gram: A A^T; emptied.
    """
    trace, error = gram.trace, gram.error
    level = max(LEVEL**2 * trace, error / (2 * RELATIVE))
    if _all_above(gram.total, level):
        return Intervals.of_squares(torch.linalg.eigvalsh(gram.total).flip(0), error), "gram"
    squares, vectors = _eigenvectors(gram.total)
    gram.total = gram.total.new_empty(0)  # overwritten
    first = Intervals.of_squares(squares.flip(0), error)
    small = int((squares < level).sum())
    if first.settled or small == len(squares):
        return first, "gram"
    theta = (gram.gamma + 4 * solver(len(squares))) * trace / float(squares[small])
    second = _deflated(blocks, trace, squares[small:], vectors, theta)
    return first.with_last(second).sorted(), "deflation"


def _all_above(G: Tensor, level: float) -> bool:
    # Cholesky is cheap beside eigenvectors; it decides only which routine is called, so its rounding does no harm
    shifted = G.clone().T  # transposed, LAPACK's order, it is overwritten: one copy, not two
    shifted.diagonal().sub_(level)
    info = torch.empty((), dtype=torch.int32, device=G.device)
    torch.linalg.cholesky_ex(shifted, upper=True, out=(shifted, info))
    return int(info) == 0


def _eigenvectors(G: Tensor) -> tuple[Tensor, Tensor]:
    """Return eigenvalues, ascending, and eigenvectors, which overwrite G: LAPACK's workspace is two such matrices."""
    squares, vectors = G.new_empty(len(G)), G.T
    torch.linalg.eigh(vectors, UPLO="U", out=(squares, vectors))
    return squares, vectors


def _deflated(blocks: Blocks, trace: float, large: Tensor, vectors: Tensor, theta: float) -> Intervals:
    """Return the singular values but the large ones, from the data projected on their eigenvectors (step 2).

    Args:
        blocks: A.
        trace: at least ||A||_F^2.
        large: the eigenvalues, ascending, of the last columns of `vectors`.
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
    found = torch.linalg.eigvalsh(B.total).flip(0)
    inner = Intervals.of_squares(found, error + _coupling(scaled, large, found + error, theta))
    delta = _departure(vectors)
    low, high = np.maximum(inner.low - lost, 0) / math.sqrt(1 + delta), (inner.high + lost) / math.sqrt(1 - delta)
    return Intervals(inner.values, low, high)


def _project(blocks: Blocks, Q2: Tensor, Q1: Tensor, trace: float) -> tuple[Gram, Tensor, float, float]:
    """Return B B^T, A1 B^T, what rounding can have done to A1 B^T (norm), and through B to B's singular values."""
    (rows, small), large = Q2.shape, Q1.shape[1]
    # A1 B^T as Q1^T (A B^T), or as (Q1^T A) B^T where that is less work (and memory)
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
    """Return Q^T X, by partial sums, for a small gamma."""
    product = Q.new_zeros(Q.shape[1], block.shape[1])
    for q, x in zip(Q.split(SLAB), block.split(SLAB)):
        product += q.T @ x
    return product


def _coupling(scaled: Tensor, large: Tensor, mu: Tensor, theta: float) -> np.ndarray:
    """Return more than eta(mu) for each of the squares `mu`; infinite where mu is too near to the large ones."""
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
