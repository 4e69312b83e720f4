"""The diagonal of the Hessian of a mean cross-entropy: exactly, by sampled labels, or by Hutchinson's probes.

Exactly, as the diagonal of the Gauss-Newton matrix: the mean over examples of sum_c p_c J_c^2 - (sum_c p_c J_c)^2,
with p the softmax probabilities and J_c the gradient of logit c. It is the Hessian's own diagonal for the tensors of
weights in which the logits are piecewise linear (`piecewise_linear`). `softmax_columns` are a square root of
diag(p) - p p^T, and `SquaredJacobian` sums their squares, by a backward pass per class but one.

By labels drawn from the softmax: a backward pass per draw, unbiased for the same diagonal (Martens & Grosse 2015).

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
