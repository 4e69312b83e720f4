"""Curvature of a loss at a point: extreme eigenvalues, trace and spectral density, by products with vectors alone.

Each measure takes a loss (flat vector (n,) -> scalar) and a point, and `operator`: `hessian` or `gauss_newton`. A
loss with a method `hvp(x, v)` (`gnvp(x, v)` for Gauss-Newton), as `Objective` has, is asked for its products; any
other is differentiated by autograd, twice, its gradient's graph kept between products. Costs are given in products;
one took three to four times a gradient's time for LeNet-5.

Eigenvalues and densities come of one Krylov space with full reorthogonalisation, where the loss is: on a GPU the basis
stays there. SciPy's eigsh (ARPACK) tests for convergence only when its basis is full, and so made more products than
power iteration where eigenvalues stand apart; here the first product that is enough is the last.

Products in float32 are not those of one symmetric matrix, least of all at weights that fit the training set. Lanczos as
in textbooks supposes symmetry, and its own residual can be far below the error there. Here all that the products say
enters, the mean of both estimates of each coupling, and their difference is part of each residual.

curvlinops has such products as SciPy operators; `training.objective` says how they measured against autograd's own.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

Loss = Callable[[Tensor], Tensor]
Product = Callable[[Tensor], Tensor]  # v (n,) -> H v (n,)

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
        raise TypeError(f"{type(loss).__name__} has no method gnvp(x, v); gapscope.training.objective.Objective has")
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
    product = _checked(operator(loss, x))
    if held >= n:
        return _dense(product, x, k, which)
    space = _Krylov(product, x, held, generator)
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
        space = _Krylov(product, x, min(steps, len(x)), generator)
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


class _Krylov:
    """A basis that grows by products with H, from a random start, and what H is within it.

    Args:
        product: v (n,) -> H v (n,).
        like: (n,), of the basis's precision and device.
        most: vectors held.
        generator: of the start, and of another one where a Krylov space ends.

    Attributes:
        basis: (most, n), of which `filled` rows, orthonormal, have been multiplied.
        beyond: how much of the last product lies beyond the basis; 0 where that is rounding alone.
    """

    def __init__(self, product: Product, like: Tensor, most: int, generator: torch.Generator) -> None:
        self.basis, self.filled, self.beyond = like.new_empty(most, len(like)), 0, 0.0
        self._product, self._generator = product, generator
        self._within = np.zeros((most + 1, most))  # column j: the product of row j, in this basis and the next row
        self._lost = np.zeros(most)  # how much of it lies elsewhere, once only some combinations were kept
        self._next = self._another()

    def grow(self) -> None:
        """Multiply one more vector."""
        self.basis[self.filled] = self._next
        self.filled += 1
        basis = self.basis[: self.filled]
        image = self._product(basis[-1])
        size, column = image.norm().item(), basis.new_zeros(self.filled)
        for _ in range(2):  # once is not enough: what is left of the basis grows by cancellation
            part = basis @ image
            image, column = image - part @ basis, column + part
        beyond = image.norm().item()
        self.beyond = beyond if beyond > 10 * torch.finfo(basis.dtype).eps * size else 0.0
        self._next = image / beyond if self.beyond else self._another()
        self._within[: self.filled, self.filled - 1] = column.double().cpu().numpy()
        self._within[self.filled, self.filled - 1] = self.beyond

    def ritz(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Return Ritz values (m,), ascending, their vectors in the basis (m, m), residuals (m,), and their floors (m,).

        A residual is the norm of H v - ritz v by the products made, and an estimate of what rounding adds. Its floor is
        what no further product lowers: the products' asymmetry, and rounding.
        """
        m = self.filled
        within = self._within[:m, :m]
        values, mix = np.linalg.eigh((within + within.T) / 2)
        rounding = m * torch.finfo(self.basis.dtype).eps * np.abs(values).max()
        asymmetry = np.linalg.norm((within - within.T) / 2 @ mix, axis=0)
        floors = asymmetry + self._lost[:m] @ np.abs(mix) + rounding
        return values, mix, floors + self.beyond * np.abs(mix[-1]), floors

    def vectors(self, mix: np.ndarray) -> Tensor:
        """Return combinations (p, n) of the basis, mix being (m, p)."""
        rows: Tensor = torch.from_numpy(mix.T.copy()).to(self.basis) @ self.basis[: self.filled]
        return rows

    def keep(self, mix: np.ndarray) -> None:
        """Let these combinations take the basis's place: a thick restart, which goes on from where it was."""
        m, p = mix.shape
        images = self._within[:m, :m] @ mix
        within = mix.T @ images
        lost = np.linalg.norm(images - mix @ within, axis=0) + self._lost[:m] @ np.abs(mix)
        self.basis[:p] = self.vectors(mix)
        self.filled = p
        self._within[:] = 0
        self._within[:p, :p], self._within[p, :p] = within, self.beyond * mix[-1]
        self._lost[:] = 0
        self._lost[:p] = lost

    def _another(self) -> Tensor:
        """Return a random direction (n,), orthogonal to the basis."""
        basis = self.basis[: self.filled]
        v = torch.randn(basis.shape[1], generator=self._generator, dtype=torch.float64).to(basis)
        for _ in range(2):
            v = v - (basis @ v) @ basis
        unit: Tensor = v / v.norm()
        return unit


def _chosen(values: np.ndarray, k: int, which: str) -> np.ndarray:
    """Return the places, ascending, of k of these ascending values, by the names of SciPy's eigsh."""
    if which == "LM":
        return np.sort(np.argsort(np.abs(values))[-k:])
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
