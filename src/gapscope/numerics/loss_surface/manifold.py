"""A random manifold x + A z: the basis A (n, p) held as a tensor, or drawn anew whenever it is needed.

At n = 15 million weights and p = 100, A takes 12 GB. `RegeneratedBasis` keeps the state of a random generator in its
place and passes over A in blocks of rows; its entries are those of `random_basis`, bit for bit.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

ROWS = 2**14  # of a block: 13 MB at p = 100
CHUNK = 16  # torch draws N(0, 1) in chunks of 16: cut at multiples of it, a sequence of draws equals one draw of all


def random_basis(n: int, p: int = 100, *, generator: torch.Generator) -> Tensor:
    """Return A (n, p), float64, of independent N(0, 1) entries, drawn on the CPU. p = 100: Keskar et al. 2017."""
    if p > n:
        raise ValueError(f"a random manifold needs p <= n, got p = {p} in {n} dimensions")
    return torch.randn(n, p, generator=generator, dtype=torch.float64)


class RegeneratedBasis:
    """A (n, p) of `random_basis` in float64, never held: each product draws it anew, on the CPU, block by block.

    `A @ z` can be differentiated (once): its derivative is A^T g. Both, and A+ x, cost one pass over A.

    Args:
        n: dimensions of the space.
        p: dimensions of the manifold; 100 as in Keskar et al. 2017.
        generator: CPU generator. Its present state is copied and it is not advanced: two bases made from it are equal.
        rows: of a block, a multiple of 16.

    Raises:
        ValueError: 4 p > n, where A+ x could not be trusted (see `coordinates`); rows not a multiple of 16.
    """

    def __init__(self, n: int, p: int = 100, *, generator: torch.Generator, rows: int = ROWS) -> None:
        if not 1 <= p <= n / 4:
            raise ValueError(f"a regenerated basis needs p in [1, n / 4], got p = {p}, n = {n}: take random_basis")
        if rows < CHUNK or rows % CHUNK:
            raise ValueError(f"rows must be a multiple of {CHUNK}, got {rows}")
        self.shape = (n, p)
        self.state = generator.get_state()
        starts = list(range(0, n, rows))
        if len(starts) > 1 and (n - starts[-1]) * p < CHUNK:  # so short a draw takes another path in torch
            starts.pop()
        self.slices = [slice(start, stop) for start, stop in zip(starts, [*starts[1:], n])]

    def blocks(self, like: Tensor) -> Iterator[tuple[slice, Tensor]]:
        """Yield (rows, A[rows]) from top to bottom, in the precision and on the device of `like`."""
        draw = torch.Generator()
        draw.set_state(self.state)
        for rows in self.slices:
            size = (rows.stop - rows.start, self.shape[1])
            yield rows, torch.randn(size, generator=draw, dtype=torch.float64).to(like)

    def __matmul__(self, z: Tensor) -> Tensor:
        """Return A z (n,) for z (p,)."""
        return _Product.apply(z, self)  # type: ignore[no-any-return, no-untyped-call]

    def transposed_product(self, g: Tensor) -> Tensor:
        """Return A^T g (p,) for g (n,)."""
        total = g.new_zeros(self.shape[1])
        for rows, block in self.blocks(g):
            total += block.T @ g[rows]
        return total

    def coordinates(self, x: Tensor) -> Tensor:
        """Return A+ x (p,), the least-squares solution of A z = x, through the Gram matrix A^T A.

        Normal equations square the condition of A, which is harmless here: the singular values of A lie within about
        sqrt(n) +- sqrt(p), so that with p <= n / 4 the condition is at most about 3 and its square 9 (1.01 at n = 15
        million, p = 100), and the solution keeps all but about one of float64's digits. The residual x - A z is as
        large as x itself, and then least squares by QR has an error of eps cond(A)^2 too (Higham 2002, section 20.1).
        """
        p = self.shape[1]
        gram, right = x.new_zeros(p, p), x.new_zeros(p)
        for rows, block in self.blocks(x):
            gram += block.T @ block
            right += block.T @ x[rows]
        return torch.cholesky_solve(right[:, None], torch.linalg.cholesky(gram))[:, 0]


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx, z: Tensor, basis: RegeneratedBasis) -> Tensor:  # type: ignore[no-untyped-def, override]
        ctx.basis = basis
        moved = z.new_empty(basis.shape[0])
        for rows, block in basis.blocks(z):
            torch.mv(block, z, out=moved[rows])
        return moved

    @staticmethod
    @torch.autograd.function.once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx, upstream: Tensor) -> tuple[Tensor, None]:  # type: ignore[no-untyped-def, override]
        return ctx.basis.transposed_product(upstream), None
