"""Curvature of a loss at a point: extreme eigenvalues, trace and spectral density, by products with vectors alone.

Each measure takes a loss (flat vector (n,) -> scalar), a point, and `operator`: `hessian` or `gauss_newton` of
`hessian_products`. Costs are given in products.

Eigenvalues and densities come from one `Krylov` space. SciPy's eigsh (ARPACK) tests for convergence only when its
basis is full, and so made more products than power iteration where eigenvalues stand apart. Here the first product
that is enough is the last.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gapscope.numerics.loss_surface.hessian_products import Loss, Product, checked, hessian
from gapscope.numerics.loss_surface.krylov import Krylov

PROBES = 30  # of Hutchinson's estimate; PyHessian (Yao et al. 2020) takes up to 100
STEPS = 80  # of Lanczos for a density: Ghorbani et al. 2019, section 2 (80 to 90)
TOLERANCE = 1e-3  # of an eigenvalue, relative
BASIS = 20  # Lanczos vectors at the least, as SciPy's eigsh
MAX_PRODUCTS = 3000


@dataclass(frozen=True)
class Eigenpairs:
    """Eigenvalues in descending order.

    Attributes:
        values: (k,).
        vectors: (n, k), orthonormal columns.
        residuals: (k,), ||H v - lambda v||: some eigenvalue lies within it of lambda (that it is the k-th from the end,
            and none was missed, is not proved by it). By the products made, with their asymmetry, and an estimate of
            what rounding adds.
        products: how many products with H it took.
    """

    values: np.ndarray
    vectors: Tensor
    residuals: np.ndarray
    products: int


@dataclass(frozen=True)
class Trace:
    """An unbiased estimate; `standard_error` is the probes' deviation over sqrt(probes)."""

    value: float
    standard_error: float
    probes: int


@dataclass(frozen=True)
class SpectralDensity:
    """A discrete measure that stands for the n eigenvalues.

    Attributes:
        nodes: (m,), Ritz values of all probes.
        weights: (m,), summing to 1. For each probe v, sum(weights nodes^j) = v^T H^j v up to j = 2 steps - 1.
        residuals: (m,), of each node, as those of `Eigenpairs`: some eigenvalue lies about so near. What stands apart
            converges first, so that the outermost nodes of one probe are extreme eigenvalues where their residuals are
            small (that none was missed is not proved).
        probes: number of probes.
    """

    nodes: np.ndarray
    weights: np.ndarray
    residuals: np.ndarray
    probes: int

    def at(self, points: np.ndarray, width: float) -> np.ndarray:
        """Return the density (of integral 1) at points (g,), each node widened to a Gaussian of that deviation."""
        offsets = (np.asarray(points, dtype=np.float64)[:, None] - self.nodes) / width
        kernels = np.exp(-(offsets**2) / 2) / (width * np.sqrt(2 * np.pi))
        return np.asarray(kernels @ self.weights)


def hessian_eigenvalues(
    loss: Loss,
    x: Tensor,
    k: int = 1,
    *,
    which: str = "LA",
    operator: Callable[[Loss, Tensor], Product] = hessian,
    tolerance: float = TOLERANCE,
    lanczos_vectors: int | None = None,
    max_products: int = MAX_PRODUCTS,
    generator: torch.Generator,
) -> Eigenpairs:
    """Return k eigenvalues at an end of the spectrum, each with its vector and its residual.

    Lanczos from a random start, tested at every step, with thick restarts (Wu & Simon 2000). One start sees one vector
    of each eigenvalue: of several that are equal, one may be returned for all, as by ARPACK. A network has equal ones
    only by symmetry, as softmax regression at zero weights does.

    Args:
        loss: flat vector (n,) -> scalar.
        x: (n,).
        k: how many, at most n.
        which: SciPy's names: "LA" largest, "SA" smallest (most negative), "LM" largest in magnitude, "BE" k / 2 of each
            end.
        operator: `hessian` or `gauss_newton`.
        tolerance: residuals are at most tolerance |lambda|, or twice what no product would lower. Where an eigenvalue
            stands apart by a gap, its error is about residual^2 / gap, far smaller. Being relative, it is not met at an
            end of the spectrum that is zero, as the lower one of Gauss-Newton is.
        lanczos_vectors: of n entries in x's precision, held at most (a restart holds half as many more for a moment);
            by default max(2 k + 1, 20). Where it is n or more the matrix is formed, by n products, and its eigenvalues
            are exact to rounding.
        max_products: >= 1.
        generator: CPU generator of the start.

    Raises:
        ValueError: k is not in 1..n; an unknown `which`; too few vectors or products; the loss is not twice
            differentiable to finite numbers at x.
        RuntimeError: not converged within max_products.

    Example:
        >>> bowl = lambda w: (w**2 * torch.tensor([3.0, -1.0, 2.0], dtype=torch.float64)).sum() / 2
        >>> ends = hessian_eigenvalues(bowl, torch.zeros(3, dtype=torch.float64), 2, generator=torch.Generator())
        >>> ends.values.round(9).tolist()
        [3.0, 2.0]
    """
    n = len(x)
    if not 1 <= k <= n:
        raise ValueError(f"k must be in 1..{n}, got {k}")
    if which not in ("LA", "SA", "LM", "BE"):
        raise ValueError(f"which must be LA, SA, LM or BE, got {which!r}")
    held = max(2 * k + 1, BASIS) if lanczos_vectors is None else lanczos_vectors
    if held <= k < n:
        raise ValueError(f"lanczos_vectors must be > k = {k}, got {held}")
    if max_products < 1:
        raise ValueError(f"max_products must be >= 1, got {max_products}")
    product = checked(operator(loss, x))
    if held >= n:
        return _dense(product, x, k, which)
    space = Krylov(product, x, held, generator)
    for products in range(1, max_products + 1):
        space.grow()
        ritz, mix, residuals, floors = space.ritz()
        chosen = _chosen(ritz, min(k, len(ritz)), which)[::-1]
        met = residuals[chosen] <= np.maximum(tolerance * np.abs(ritz[chosen]), 2 * floors[chosen])
        # a Krylov space that ends has one vector of each eigenvalue: what else there is shows from another start
        if len(ritz) >= k and met.all() and (space.beyond > 0 or k == 1 or len(ritz) == held):
            return Eigenpairs(ritz[chosen], space.vectors(mix[:, chosen]).T, residuals[chosen], products)
        if len(ritz) == held:
            space.keep(mix[:, _chosen(ritz, k + (held - k) // 2, which)])
    raise RuntimeError(
        f"{met.sum()} of {k} eigenvalues converged in {max_products} products: give more lanczos_vectors (now {held}) "
        f"or max_products, or a larger tolerance (now {tolerance})"
    )


def hessian_trace(
    loss: Loss,
    x: Tensor,
    *,
    operator: Callable[[Loss, Tensor], Product] = hessian,
    probes: int = PROBES,
    generator: torch.Generator,
) -> Trace:
    """Return Hutchinson's estimate of the trace, a mean of v^T H v over Rademacher probes v (entries +-1).

    Hutchinson 1990; exact for a diagonal H, and of standard error sqrt(2 / probes) ||H - diag(H)||_F in general (that
    returned is the probes' own). A product a probe.

    Args:
        loss: flat vector (n,) -> scalar.
        x: (n,).
        operator: `hessian` or `gauss_newton`.
        probes: at least 2.
        generator: CPU generator of the probes.

    Raises:
        ValueError: fewer than 2 probes; products that are not finite.
    """
    if probes < 2:
        raise ValueError(f"probes must be >= 2, or there is no standard error; got {probes}")
    product = checked(operator(loss, x))
    draws = []
    for _ in range(probes):
        v = (2 * torch.randint(2, (len(x),), generator=generator) - 1).to(x)
        draws.append(torch.dot(v, product(v)).item())
    return Trace(float(np.mean(draws)), float(np.std(draws, ddof=1) / np.sqrt(probes)), probes)


def spectral_density(
    loss: Loss,
    x: Tensor,
    *,
    operator: Callable[[Loss, Tensor], Product] = hessian,
    steps: int = STEPS,
    probes: int = 1,
    generator: torch.Generator,
) -> SpectralDensity:
    """Return the density of all n eigenvalues by stochastic Lanczos quadrature (Lin, Saad & Yang 2016).

    Lanczos with full reorthogonalisation from random unit vectors: `steps` products a probe, and as many vectors (n,)
    held. Probes are normalised Gaussians, as in Ghorbani et al. 2019; their number averages a noise that is small
    already for large n.

    Raises:
        ValueError: steps or probes < 1; products that are not finite.
    """
    if steps < 1 or probes < 1:
        raise ValueError(f"steps and probes must be >= 1, got {steps} and {probes}")
    product = checked(operator(loss, x))
    nodes, weights, residuals = [], [], []
    for _ in range(probes):
        space = Krylov(product, x, min(steps, len(x)), generator)
        for _ in range(len(space.basis)):
            space.grow()
            if space.beyond == 0:
                break
        ritz, mix, residual, _ = space.ritz()
        nodes.append(ritz)
        weights.append(mix[0] ** 2 / probes)
        residuals.append(residual)
    return SpectralDensity(np.concatenate(nodes), np.concatenate(weights), np.concatenate(residuals), probes)


def _dense(product: Product, x: Tensor, k: int, which: str) -> Eigenpairs:
    """Return eigenpairs of the matrix itself, formed by n products."""
    matrix = torch.stack([product(row) for row in torch.eye(len(x)).to(x)]).double().cpu().numpy()
    values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
    chosen = _chosen(values, k, which)[::-1]
    values, vectors = values[chosen], vectors[:, chosen].copy()
    residuals = np.linalg.norm(matrix @ vectors - vectors * values, axis=0)
    return Eigenpairs(values, torch.from_numpy(vectors).to(x), residuals, len(x))


def _chosen(values: np.ndarray, k: int, which: str) -> np.ndarray:
    """Return the places, ascending, of k of these ascending values, by the names of SciPy's eigsh."""
    if which == "LM":
        return np.sort(np.argsort(np.abs(values))[-k:])
    low = {"LA": 0, "SA": k, "BE": k // 2}[which]  # for an odd k, BE takes one more from the high end
    places = np.arange(len(values))
    return np.concatenate([places[:low], places[len(values) - (k - low) :]])
