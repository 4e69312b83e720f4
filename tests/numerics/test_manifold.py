"""A basis that is drawn anew for each product, against the tensor that it stands for."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from gapscope.measures import sharpness
from gapscope.measures.sharpness import SharpnessSettings, measure
from gapscope.numerics.loss_surface import manifold
from gapscope.numerics.loss_surface.manifold import RegeneratedBasis, random_basis
from gapscope.numerics.loss_surface.sharpness import keskar_sharpness

DIRECT = 1e-12  # sums in another order, relative to the largest entry


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def close(found: Tensor, known: Tensor) -> None:
    torch.testing.assert_close(found, known, rtol=DIRECT, atol=DIRECT * known.abs().max().item())


@given(
    p=st.integers(1, 12), more=st.integers(0, 150), rows=st.sampled_from([16, 32, 48]), seed=st.integers(0, 2**32 - 1)
)
def test_it_is_the_basis_of_random_basis(p: int, more: int, rows: int, seed: int) -> None:
    n = 4 * p + more
    regenerated = RegeneratedBasis(n, p, generator=generator(seed), rows=rows)
    dense = random_basis(n, p, generator=generator(seed))
    assert torch.cat([block for _, block in regenerated.blocks(dense)]).equal(dense)  # bit for bit
    draw = generator(seed + 1)
    x, z = (torch.randn(size, generator=draw, dtype=torch.float64) for size in (n, p))
    close(regenerated @ z, dense @ z)
    close(regenerated.transposed_product(x), dense.T @ x)
    close(regenerated.coordinates(x), torch.linalg.lstsq(dense, x[:, None]).solution[:, 0])
    with pytest.raises(AssertionError):
        close(regenerated.transposed_product(x) / n, torch.linalg.lstsq(dense, x[:, None]).solution[:, 0])


def test_products_are_differentiated() -> None:
    basis = RegeneratedBasis(50, 6, generator=generator(), rows=16)
    assert torch.autograd.gradcheck(basis.__matmul__, torch.randn(6, dtype=torch.float64, requires_grad=True))


def test_the_sharpness_is_that_of_the_dense_basis() -> None:
    n, p = 400, 20
    x = torch.randn(n, generator=generator(1), dtype=torch.float64)

    def bumpy(w: Tensor) -> Tensor:
        return 2 + (3 * w).sin().sum() / n

    bases = [random_basis(n, p, generator=generator()), RegeneratedBasis(n, p, generator=generator(), rows=64)]
    dense, regenerated = (
        keskar_sharpness(bumpy, x, epsilon=0.05, basis=basis, generator=generator(), restarts=2) for basis in bases
    )
    assert dense.sharpness > 1
    np.testing.assert_allclose(regenerated.sharpness, dense.sharpness, rtol=1e-9)  # ten iterations carry rounding on
    other = RegeneratedBasis(n, p, generator=generator(5), rows=64)
    assert keskar_sharpness(bumpy, x, epsilon=0.05, basis=other, generator=generator()).sharpness != dense.sharpness


def test_the_stage_regenerates_what_is_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = SharpnessSettings((1e-2,), 5, 1, 0, ("train",), None, "running", 1, "float64", 1)
    x = torch.randn(80, generator=generator(1), dtype=torch.float64)

    def rows() -> list[dict]:
        return list(measure(lambda w: 2 + w.sin().sum() / 80, x, settings, seed=3))

    dense = rows()[1]["sharpness"]
    monkeypatch.setattr(sharpness, "DENSE", 399)
    monkeypatch.setattr(manifold, "random_basis", None)
    np.testing.assert_allclose(rows()[1]["sharpness"], dense, rtol=1e-9)


@pytest.mark.parametrize(("n", "p", "rows"), [(40, 11, 16), (40, 0, 16), (40, 5, 20), (40, 5, 0)])
def test_a_basis_that_cannot_be_trusted_raises(n: int, p: int, rows: int) -> None:
    with pytest.raises(ValueError, match=r"random_basis|\b16\b"):
        RegeneratedBasis(n, p, generator=generator(), rows=rows)


def test_a_basis_of_another_size_raises() -> None:
    basis = RegeneratedBasis(40, 5, generator=generator())
    with pytest.raises(ValueError, match=r"basis must be \(3, p\)"):
        keskar_sharpness(lambda w: w.sum(), torch.zeros(3), epsilon=0.1, basis=basis, generator=generator())
