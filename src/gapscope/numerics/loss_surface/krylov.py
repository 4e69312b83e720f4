"""A Krylov space of a matrix that is known by its products alone: Lanczos with full reorthogonalisation.

The basis is held where the products are made; on a GPU it stays there. Products in float32 are not those of one
symmetric matrix, least of all at weights that fit the training set. Textbook Lanczos supposes symmetry, and its own
residual can then be far below the error. Here both estimates of each coupling are kept: their mean enters the Ritz
values, and their difference is part of each residual.
"""

import numpy as np
import torch
from torch import Tensor

from gapscope.numerics.loss_surface.hessian_products import Product


class Krylov:
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
