"""The diagonal of the Hessian of a mean loss: exactly, by sampling, or by Hutchinson's probes.

Exactly, as the diagonal of the Gauss-Newton matrix: the mean over examples of the diagonal of J^T H J, with J the
Jacobian of an example's outputs and H the Hessian of its loss in them. It is the Hessian's own diagonal for the tensors
of weights in which the outputs are piecewise linear (`piecewise_linear`). With vectors s and signs for which H is the
sum of sign s s^T, it is the sum of sign (J^T s)^2. `SquaredJacobian` sums these squares, by a backward pass per vector.
`softmax_columns` are such vectors for the cross-entropy of a softmax, one fewer than there are classes. `columns` finds
them for any loss.

By sampling: one backward pass, unbiased for the same diagonal. It is that of a label drawn from the softmax (Martens &
Grosse 2015), or of a sum of the vectors s with random signs.

By probes: v * H v with entries +-1 is unbiased for the Hessian's diagonal, whatever the network (Bekas, Kokiopoulou &
Saad 2007); its error is that of the off-diagonal entries of a row.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad


class Diagonal(NamedTuple):
    """An estimate of a diagonal (n,), and each entry's standard error (n,)."""

    values: Tensor
    standard_errors: Tensor


def softmax_columns(logits: Tensor) -> Tensor:
    """Return (b, k - 1, k): vectors s of each example with sum s s^T = diag(p) - p p^T, p being its softmax.

    They are the columns of the Cholesky factor, which has a closed form. Its last column is zero, so a backward pass is
    saved against the k vectors sqrt(p_c) (e_c - p).

    Args:
        logits: (b, k).
    """
    p = logits.softmax(1)
    here = p.flip(1).cumsum(1).flip(1)  # p_j + p_(j+1) + ...: as 1 - p_1 - ... it would cancel
    after = here[:, 1:]
    tiny = torch.finfo(p.dtype).tiny  # where all that is left has no probability, the column is zero
    scale = (p / here.clamp(min=tiny))[:, :-1].sqrt() * torch.where(after > 0, after.rsqrt(), 0)
    below = -p[:, None].expand(-1, p.shape[1] - 1, -1).triu(1)
    return scale[:, :, None] * (below + pad(after.diag_embed(), (0, 1)))


def columns(hessians: Tensor) -> tuple[Tensor, Tensor]:
    """Return vectors s (b, k, k) and signs (b, k), for which each matrix is the sum over its rows s of sign s s^T.

    A sign is 0 where rounding alone makes an eigenvalue.

    Args:
        hessians: (b, k, k), symmetric.

    Example:
        >>> vectors, signs = columns(torch.tensor([[[2.0, 1.0], [1.0, -3.0]]]))
        >>> torch.allclose(vectors.mT @ (signs[..., None] * vectors), torch.tensor([[2.0, 1.0], [1.0, -3.0]]))
        True
    """
    values, vectors = torch.linalg.eigh(hessians)
    sizes = values.abs()
    least = torch.finfo(values.dtype).eps * values.shape[1] * sizes.amax(1, keepdim=True)
    return sizes.sqrt()[..., None] * vectors.mT, values.sign() * (sizes > least)


def random_sums(vectors: Tensor, signs: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return a sum of the vectors (b, m, k) of either sign with random signs: (b, 1 or 2, k), and the two signs (b, .).

    The mean over draws of sign s s^T is that of all vectors. There is no second one where none of `signs` is negative.

    Args:
        vectors: (b, m, k).
        signs: (b, m), each 1, 0 or -1.
        generator: CPU generator.
    """
    draws = (2 * torch.randint(2, signs.shape, generator=generator) - 1).to(signs)
    kinds = [1.0, -1.0] if bool((signs < 0).any()) else [1.0]
    sums = [torch.einsum("bm,bmk->bk", draws * (signs == kind), vectors) for kind in kinds]
    return torch.stack(sums, dim=1), signs.new_tensor(kinds).expand(len(signs), -1)


def label_columns(logits: Tensor, labels: Tensor) -> Tensor:
    """Return (b, 1, k): the derivative p - e_y of each example's cross-entropy in its logits.

    Args:
        logits: (b, k).
        labels: (b,).
    """
    p = logits.softmax(1)
    return p.scatter_add(1, labels[:, None], -torch.ones_like(p))[:, None]


def sampled_columns(logits: Tensor, draws: int, generator: torch.Generator) -> Tensor:
    """Return (b, draws, k): p - e_y over sqrt(draws), with labels y drawn from the softmax of each example.

    Args:
        logits: (b, k).
        draws: labels per example.
        generator: CPU generator.
    """
    labels = torch.multinomial(logits.softmax(1).cpu(), draws, replacement=True, generator=generator).to(logits.device)
    return torch.cat([label_columns(logits, of) for of in labels.unbind(1)], dim=1) / math.sqrt(draws)


def hutchinson_diagonal(
    product: Callable[[Tensor], Tensor], x: Tensor, *, probes: int, generator: torch.Generator
) -> Diagonal:
    """Return the mean of v * H v over Rademacher probes v, with its standard error.

    Args:
        product: v (n,) -> H v (n,).
        x: (n,), of the precision and device of the probes.
        probes: at least 2.
        generator: CPU generator.

    Raises:
        ValueError: fewer than 2 probes; a product that is not finite.
    """
    if probes < 2:
        raise ValueError(f"probes must be >= 2, or there is no standard error; got {probes}")
    mean, spread = torch.zeros_like(x), torch.zeros_like(x)  # Welford's: sums of squares would cancel
    for number in range(1, probes + 1):
        v = (2 * torch.randint(2, (len(x),), generator=generator) - 1).to(x)
        draw = v * product(v)
        if not bool(draw.isfinite().all()):
            raise ValueError("a product with the Hessian is not finite: no curvature there")
        step = draw - mean
        mean += step / number
        spread += step * (draw - mean)
    return Diagonal(mean, (spread / (probes - 1) / probes).sqrt())
