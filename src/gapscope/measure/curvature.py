"""Curvature of a loss at a point: extreme eigenvalues, trace and spectral density, by products with vectors alone.

Each measure takes a loss (flat vector (n,) -> scalar) and a point, and `operator`: `hessian` or `gauss_newton`. A loss
with a method `hvp(x, v)` (`gnvp(x, v)` for Gauss-Newton), as `gapscope.objective.Objective` has, is asked for its
products; any other is differentiated by autograd, twice, its gradient's graph kept between products. Costs are given
in products; one took three to four times a gradient's time for LeNet-5.

Eigenvalues are ARPACK's (SciPy's eigsh): restarted Lanczos, whose memory does not grow with the number of products.
curvlinops has such products as SciPy operators; `gapscope.objective` says how they measured against autograd's own.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse.linalg import ArpackError, ArpackNoConvergence, LinearOperator, eigsh
from torch import Tensor

Loss = Callable[[Tensor], Tensor]
Product = Callable[[Tensor], Tensor]  # v (n,) -> H v (n,)

PROBES = 30  # of Hutchinson's estimate; PyHessian (Yao et al. 2020) takes up to 100
STEPS = 80  # of Lanczos for a density: Ghorbani et al. 2019, section 2 (80 to 90)
TOLERANCE = 1e-3  # of an eigenvalue, relative
BASIS = 10  # Lanczos vectors for k = 1: where eigenvalues stand apart, 12 products were enough; SciPy's 20 takes 21
RESTARTS = 300


@dataclass(frozen=True)
class Eigenpairs:
    """Eigenvalues in descending order.

    Attributes:
        values: (k,).
        vectors: (n, k), orthonormal columns.
        residuals: (k,), ||H v - lambda v||: some eigenvalue lies within it of lambda (that it is the k-th from the end,
            and none was missed, is not proved by it).
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
        residuals: (m,), of each node: some eigenvalue lies about so near. Lanczos's own figure, which holds in exact
            arithmetic, plus m eps of the largest node, an estimate of what rounding adds. What stands apart converges
            first, so that the outermost nodes of one probe are extreme eigenvalues where their residuals are small
            (that none was missed is not proved).
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


def hessian(loss: Loss, x: Tensor) -> Product:
    """Return v -> H v, H the Hessian of `loss` at x (n,); zero for a loss that is linear in x or ignores it.

    Raises:
        ValueError: the loss or its gradient is not finite at x.
    """
    own = getattr(loss, "hvp", None)
    if own is not None:
        return lambda v: own(x, v)
    x = x.detach().clone().requires_grad_()
    value = loss(x)
    gradient = None
    if value.requires_grad:
        (gradient,) = torch.autograd.grad(value, x, create_graph=True, allow_unused=True)
    if not (value.isfinite() and (gradient is None or bool(gradient.isfinite().all()))):
        raise ValueError(f"the loss at x is {value.item()} (or its gradient is not finite): no curvature there")
    if gradient is None or not gradient.requires_grad:
        return torch.zeros_like

    def product(v: Tensor) -> Tensor:
        (row,) = torch.autograd.grad(gradient, x, v, retain_graph=True, allow_unused=True)
        return torch.zeros_like(v) if row is None else row

    return product


def gauss_newton(loss: Loss, x: Tensor) -> Product:
    """Return v -> G v, G the Gauss-Newton matrix of `loss` at x (n,).

    Raises:
        TypeError: the loss has no method gnvp: without its inner layer (the logits) there is no such matrix.
    """
    own = getattr(loss, "gnvp", None)
    if own is None:
        raise TypeError(f"{type(loss).__name__} has no method gnvp(x, v); gapscope.objective.Objective has")
    return lambda v: own(x, v)


def hessian_eigenvalues(
    loss: Loss,
    x: Tensor,
    k: int = 1,
    *,
    which: str = "LA",
    operator: Callable[[Loss, Tensor], Product] = hessian,
    tolerance: float = TOLERANCE,
    lanczos_vectors: int | None = None,
    restarts: int = RESTARTS,
    generator: torch.Generator,
) -> Eigenpairs:
    """Return k eigenvalues at an end of the spectrum, each with its vector and its residual.

    Args:
        loss: flat vector (n,) -> scalar.
        x: (n,).
        k: how many, at most n.
        which: SciPy's names: "LA" largest, "SA" smallest (most negative), "LM" largest in magnitude, "BE" k / 2 of each
            end.
        operator: `hessian` or `gauss_newton`.
        tolerance: ARPACK's: residuals are at most about tolerance |lambda|. Where an eigenvalue stands apart by a gap,
            its error is about residual^2 / gap, far smaller. Being relative, it is not met at an end of the spectrum
            that is zero, as the lower one of Gauss-Newton is.
        lanczos_vectors: of n entries in float64, held at a time; by default max(2 k + 1, 10). Where it is n or more the
            matrix is formed, by n products, and its eigenvalues are exact to rounding.
        restarts: a limit.
        generator: CPU generator of the start.

    Raises:
        ValueError: k is not in 1..n; an unknown `which`; the loss is not twice differentiable to finite numbers at x.
        RuntimeError: ARPACK has not converged within its restarts.

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
    product, products, is_zero = _checked(operator(loss, x)), 0, True

    def multiply(v: np.ndarray) -> np.ndarray:
        nonlocal products, is_zero
        image = product(torch.from_numpy(np.ascontiguousarray(v).reshape(n)).to(x)).double().cpu().numpy()
        products, is_zero = products + 1, is_zero and not image.any()
        return image

    if held >= n:
        matrix = np.stack([multiply(row) for row in np.eye(n)])
        values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
        chosen = _chosen(values, k, which)
        values, vectors = values[chosen], vectors[:, chosen]
    else:
        start = torch.randn(n, generator=generator, dtype=torch.float64).numpy()
        try:
            values, vectors = eigsh(  # type: ignore[call-overload]
                LinearOperator((n, n), matvec=multiply, dtype=np.float64),
                k,
                which=which,
                v0=start,
                ncv=held,
                tol=tolerance,
                maxiter=restarts,
            )
        except ArpackNoConvergence as error:
            raise RuntimeError(
                f"{len(error.eigenvalues)} of {k} eigenvalues converged in {products} products: give more "
                f"lanczos_vectors (now {held}) or restarts (now {restarts}), or a larger tolerance (now {tolerance})"
            ) from error
        except ArpackError:
            if not is_zero:
                raise
            values, vectors = np.zeros(k), np.eye(n, k)  # a linear loss: ARPACK takes no zero matrix
    order = np.argsort(values)[::-1]
    values, vectors = values[order], vectors[:, order]
    residuals = [float(np.linalg.norm(multiply(v) - value * v)) for value, v in zip(values, vectors.T)]
    return Eigenpairs(values, torch.from_numpy(vectors.copy()).to(x), np.array(residuals), products)


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
    product = _checked(operator(loss, x))
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
    product = _checked(operator(loss, x))
    nodes, weights, residuals = [], [], []
    for _ in range(probes):
        start = torch.randn(len(x), generator=generator, dtype=torch.float64).to(x)
        diagonal, beside, beyond = _lanczos(product, start, steps)
        ritz, vectors = np.linalg.eigh(np.diag(diagonal) + np.diag(beside, 1) + np.diag(beside, -1))
        nodes.append(ritz)
        weights.append(vectors[0] ** 2 / probes)
        rounding = len(ritz) * torch.finfo(start.dtype).eps * np.abs(ritz).max()
        residuals.append(beyond * np.abs(vectors[-1]) + rounding)
    return SpectralDensity(np.concatenate(nodes), np.concatenate(weights), np.concatenate(residuals), probes)


def _lanczos(product: Product, start: Tensor, steps: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Return the diagonal (m,) and off-diagonal (m - 1,) of T = Q^T H Q, and the norm of what the next vector would be.

    m < steps where the Krylov space ends.
    """
    basis = (start / start.norm())[None]
    diagonal: list[float] = []
    beside: list[float] = []
    for _ in range(min(steps, len(start))):
        image = product(basis[-1])
        diagonal.append(torch.dot(basis[-1], image).item())
        size = image.norm().item()
        for _ in range(2):  # once is not enough: what is left of the basis grows by cancellation
            image = image - basis.T @ (basis @ image)
        beside.append(image.norm().item())
        if beside[-1] <= 10 * torch.finfo(start.dtype).eps * size:  # nothing but rounding is left
            break
        basis = torch.cat([basis, (image / beside[-1])[None]])
    return np.array(diagonal), np.array(beside[: len(diagonal) - 1]), beside[-1]


def _chosen(values: np.ndarray, k: int, which: str) -> np.ndarray:
    """Return the places of what eigsh would return, among ascending values."""
    if which == "LM":
        return np.argsort(np.abs(values))[-k:]
    low = {"LA": 0, "SA": k, "BE": k // 2}[which]  # for an odd k, BE takes one more from the high end
    places = np.arange(len(values))
    return np.concatenate([places[:low], places[len(values) - (k - low) :]])


def _checked(product: Product) -> Product:
    def checked(v: Tensor) -> Tensor:
        image = product(v)
        if not bool(image.isfinite().all()):
            raise ValueError("a product with the Hessian is not finite: has the model diverged?")
        return image.detach()

    return checked
