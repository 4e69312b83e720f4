"""Curvature against dense eigenvalues of quadratics, of softmax regression at zero, and of losses without any."""

import numpy as np
import oracles
import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from gapscope.numerics.loss_surface.curvature import (
    hessian_eigenvalues,
    hessian_trace,
    spectral_density,
)
from gapscope.numerics.loss_surface.hessian_products import gauss_newton, hessian

DIRECT = 1e-10  # float64 algebra on matrices of norm 10
STANDARD_ERRORS = 4  # of an estimate at a fixed seed
SIZE = 60
SPECTRUM = np.concatenate([[9.0, 7.0, 6.5], np.linspace(-1, 1, SIZE - 5), [-4.0, -6.0]])  # of either sign
MATRIX, VECTORS = oracles.symmetric(SPECTRUM)
ZERO = torch.zeros(SIZE, dtype=torch.float64)


def quadratic(w: Tensor) -> Tensor:
    return 0.5 * w @ torch.from_numpy(MATRIX) @ w + w.sum()


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def close(found: np.ndarray, known: np.ndarray, tolerance: float = DIRECT) -> None:
    np.testing.assert_allclose(found, known, rtol=0, atol=tolerance)


ENDS = {"LA": [9, 7, 6.5], "SA": [-1, -4, -6], "LM": [9, 7, 6.5], "BE": [9, 7, -6]}


@pytest.mark.parametrize("which", ENDS)
@pytest.mark.parametrize("held", [None, SIZE])
def test_extreme_eigenvalues_of_either_sign(which: str, held: int | None) -> None:
    found = hessian_eigenvalues(
        quadratic, ZERO + 1, 3, which=which, tolerance=1e-12, lanczos_vectors=held, generator=generator()
    )
    close(found.values, np.array(ENDS[which], dtype=float))
    vectors = found.vectors.numpy()
    close(vectors.T @ vectors, np.eye(3))
    close(MATRIX @ vectors, vectors * found.values)


@pytest.mark.parametrize("tolerance", [1e-1, 1e-2, 1e-4])
def test_the_residual_bounds_the_error(tolerance: float) -> None:
    found = hessian_eigenvalues(quadratic, ZERO, 2, tolerance=tolerance, lanczos_vectors=6, generator=generator())
    vectors = found.vectors.numpy()
    known = np.linalg.norm(MATRIX @ vectors - vectors * found.values, axis=0)
    close(found.residuals, known)
    nearest = np.abs(SPECTRUM[:, None] - found.values).min(axis=0)
    assert (nearest <= found.residuals + DIRECT).all()
    assert (found.residuals <= 2 * tolerance * np.abs(found.values)).all()
    assert (found.residuals > 1e-7).all()  # not that it was exact anyway


def test_the_values_descend_whatever_their_sign() -> None:
    found = hessian_eigenvalues(quadratic, ZERO, 4, which="LM", tolerance=1e-12, generator=generator())
    close(found.values, np.array([9, 7, 6.5, -6]))


@pytest.mark.parametrize("k", [1, 3])
def test_two_eigenvalues_of_many_vectors_each(k: int) -> None:
    scales = torch.cat([torch.full((3,), 5.0), torch.ones(SIZE - 3)]).double()  # a Krylov space of two vectors
    found = hessian_eigenvalues(lambda w: (scales * w**2).sum() / 2, ZERO, k, generator=generator())
    close(found.values, np.full(k, 5.0))


def test_the_first_product_that_is_enough_is_the_last() -> None:
    """Of the same start, the Krylov space one product smaller holds no vector so good."""
    found = hessian_eigenvalues(quadratic, ZERO, tolerance=1e-2, generator=generator())
    with pytest.raises(RuntimeError):
        hessian_eigenvalues(quadratic, ZERO, tolerance=1e-2, max_products=found.products - 1, generator=generator())
    start = torch.randn(SIZE, generator=generator(), dtype=torch.float64).numpy()
    residuals = []
    for size in (found.products - 1, found.products):
        krylov, _ = np.linalg.qr(np.stack([np.linalg.matrix_power(MATRIX, i) @ start for i in range(size)], axis=1))
        values, vectors = np.linalg.eigh(krylov.T @ MATRIX @ krylov)
        top = krylov @ vectors[:, -1]
        residuals.append(np.linalg.norm(MATRIX @ top - values[-1] * top) / values[-1])
    assert residuals[0] > 1e-2 >= residuals[1]
    close(found.residuals, np.array([residuals[1] * found.values[0]]), 1e-8)


class Inexact:
    """Products as float32 gives them: of no one symmetric matrix."""

    def __init__(self, error: float) -> None:
        self.error, self.draws = error, np.random.default_rng(1)

    def hvp(self, x: Tensor, v: Tensor) -> Tensor:
        image = MATRIX @ v.numpy()
        noise = self.draws.standard_normal(SIZE)
        return torch.from_numpy(image + self.error * np.linalg.norm(image) * noise / np.linalg.norm(noise))


@pytest.mark.parametrize("error", [1e-6, 1e-3])
@pytest.mark.parametrize("held", [6, None])
def test_what_products_err_is_in_the_residual(error: float, held: int | None) -> None:
    for seed in range(5):
        options = {"tolerance": 1e-9, "lanczos_vectors": held, "generator": generator(seed)}
        found = hessian_eigenvalues(Inexact(error), ZERO, 2, **options)
        assert (np.abs(found.values - [9, 7]) <= found.residuals).all()
        assert (found.residuals <= 100 * error).all()
        assert (found.residuals >= error).all()
    density = spectral_density(Inexact(error), ZERO, steps=20, generator=generator())
    top = density.nodes.argmax()
    assert abs(density.nodes[top] - 9) <= density.residuals[top]
    assert error <= density.residuals[top] <= 100 * error


def test_products_are_counted() -> None:
    class Counted:
        calls = 0

        def hvp(self, x: Tensor, v: Tensor) -> Tensor:
            self.calls += 1
            return torch.from_numpy(MATRIX) @ v

    loss = Counted()
    found = hessian_eigenvalues(loss, ZERO, generator=generator())
    assert found.products == loss.calls < SIZE
    close(found.values, np.array([9.0]), 9e-3)


INPUTS = np.random.default_rng(0).standard_normal((40, 7))
CLASSES = 4
LABELS = torch.arange(40) % CLASSES


def softmax_regression(w: Tensor) -> Tensor:
    return cross_entropy(torch.from_numpy(INPUTS) @ w.view(CLASSES, -1).T, LABELS)


def check_softmax_regression(variant: str) -> None:
    known = oracles.softmax_regression_hessian(INPUTS, CLASSES, variant)
    x = torch.zeros(len(known), dtype=torch.float64)
    # each eigenvalue is there CLASSES - 1 times, which one start does not show: the matrix is formed
    found = hessian_eigenvalues(softmax_regression, x, 3, lanczos_vectors=len(x), generator=generator())
    close(found.values, np.linalg.eigvalsh(known)[::-1][:3])
    trace = hessian_trace(softmax_regression, x, probes=200, generator=generator())
    assert abs(trace.value - np.trace(known)) <= STANDARD_ERRORS * trace.standard_error


def test_softmax_regression_at_zero() -> None:
    check_softmax_regression("right")


@pytest.mark.parametrize("variant", ["without the mean", "sum over images"])
def test_softmax_regression_is_not(variant: str) -> None:
    with pytest.raises(AssertionError):
        check_softmax_regression(variant)


def test_the_trace_and_its_standard_error() -> None:
    estimates = [hessian_trace(quadratic, ZERO, probes=20, generator=generator(seed)) for seed in range(100)]
    values = np.array([estimate.value for estimate in estimates])
    off_diagonal = MATRIX - np.diag(np.diag(MATRIX))
    known = np.sqrt(2 / 20) * np.linalg.norm(off_diagonal)  # Rademacher probes
    assert abs(values.mean() - SPECTRUM.sum()) <= STANDARD_ERRORS * known / 10
    errors = np.array([estimate.standard_error for estimate in estimates])
    np.testing.assert_allclose([values.std(), errors.mean()], known, rtol=0.25)  # of 100: 7 % a deviation, times 3.5
    gaussian = np.sqrt(2 / 20) * np.linalg.norm(MATRIX)
    assert gaussian > 1.01 * known


def test_the_trace_of_a_diagonal_is_exact() -> None:
    found = hessian_trace(lambda w: (w**2 * torch.arange(5)).sum() / 2, ZERO[:5], probes=2, generator=generator())
    assert (found.value, found.standard_error) == (10, 0)


def test_the_density_has_the_moments_of_its_probe() -> None:
    found = spectral_density(quadratic, ZERO, steps=6, generator=generator(3))
    probe = torch.randn(SIZE, generator=generator(3), dtype=torch.float64).numpy()
    probe /= np.linalg.norm(probe)
    for power in range(12):
        moment = probe @ np.linalg.matrix_power(MATRIX, power) @ probe
        np.testing.assert_allclose(found.weights @ found.nodes**power, moment, rtol=1e-10)
    moment = probe @ np.linalg.matrix_power(MATRIX, 12) @ probe
    with pytest.raises(AssertionError):  # quadrature is exact to 2 steps - 1 only
        np.testing.assert_allclose(found.weights @ found.nodes**12, moment, rtol=1e-10)


def test_all_steps_find_all_eigenvalues() -> None:
    found = spectral_density(quadratic, ZERO, steps=2 * SIZE, generator=generator())
    close(np.sort(found.nodes), np.sort(SPECTRUM), 1e-8)


def test_the_density_is_that_of_the_eigenvalues() -> None:
    found = spectral_density(quadratic, ZERO, probes=50, generator=generator())
    points = np.linspace(-12, 15, 2001)
    density = found.at(points, 0.5)
    step = points[1] - points[0]
    known = np.exp(-(((points[:, None] - SPECTRUM) / 0.5) ** 2) / 2).sum(axis=1) / (SIZE * 0.5 * np.sqrt(2 * np.pi))
    np.testing.assert_allclose([found.weights.sum(), density.sum() * step], 1, rtol=1e-9)
    # the weight of each eigenvalue is known to sqrt(2 / 50), a fifth; of the 55 in the middle less shows
    assert np.abs(density - known).sum() * step < 0.1
    assert np.abs(found.at(points, 1.0) - known).sum() * step > 0.1


FLAT = {
    "linear": lambda w: 1 + w.sum(),
    "ignores x": lambda w: torch.tensor(1.0, dtype=torch.float64),
    "flat": lambda w: 1 + 0 * (w**2).sum(),
    "another part": lambda w: (w[:0] ** 2).sum(),
}


@pytest.mark.parametrize("loss", FLAT.values(), ids=list(FLAT))
def test_a_loss_without_curvature_has_zeros(loss) -> None:
    found = hessian_eigenvalues(loss, ZERO, 2, generator=generator())
    assert found.values.tolist() == found.residuals.tolist() == [0, 0]
    assert hessian_trace(loss, ZERO, generator=generator()).value == 0
    density = spectral_density(loss, ZERO, generator=generator())
    assert (density.nodes.tolist(), density.weights.tolist()) == ([0], [1])


@pytest.mark.parametrize("measure", [hessian_eigenvalues, hessian_trace, spectral_density])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_raises(measure, value: float) -> None:
    with pytest.raises(ValueError, match="not finite"):
        measure(lambda w: (w**2).sum() * value, ZERO + 1, generator=generator())


def test_a_product_that_is_not_finite_raises() -> None:
    with pytest.raises(ValueError, match="product with the Hessian"):  # |w|^1.5: gradient 0, curvature infinite
        hessian_trace(lambda w: w.abs().pow(1.5).sum(), ZERO, generator=generator())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 0}, "k"),
        ({"k": SIZE + 1}, "k"),
        ({"which": "top"}, "which"),
        ({"k": 3, "lanczos_vectors": 3}, "lanczos_vectors"),
        ({"max_products": 0}, "max_products"),
    ],
)
def test_arguments_that_cannot_be_raise(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        hessian_eigenvalues(quadratic, ZERO, generator=generator(), **options)


def test_too_few_of_a_thing_raise() -> None:
    with pytest.raises(ValueError, match="probes"):
        hessian_trace(quadratic, ZERO, probes=1, generator=generator())
    with pytest.raises(ValueError, match=r"steps|probes"):
        spectral_density(quadratic, ZERO, steps=0, generator=generator())
    with pytest.raises(RuntimeError, match="max_products"):
        hessian_eigenvalues(quadratic, ZERO, 2, which="SA", tolerance=1e-14, max_products=8, generator=generator())
    with pytest.raises(TypeError, match="gnvp"):
        gauss_newton(quadratic, ZERO)


def test_the_hessian_is_that_of_the_point() -> None:
    cubic = torch.linspace(-1, 2, SIZE, dtype=torch.float64)
    product = hessian(lambda w: (w**3).sum() / 6, cubic)
    v = torch.randn(SIZE, generator=generator(), dtype=torch.float64)
    torch.testing.assert_close(product(v), cubic * v)
    torch.testing.assert_close(product(2 * v), 2 * cubic * v)  # the graph is kept


def test_single_precision_stays() -> None:
    found = hessian_eigenvalues(
        lambda w: 0.5 * w @ torch.from_numpy(MATRIX).float() @ w, ZERO.float(), generator=generator()
    )
    assert found.vectors.dtype == torch.float32
    close(found.values, np.array([9.0]), 9e-3)
