"""Cross-entropy of tokens, and its derivatives, in pieces: no second copy of logits over a large vocabulary is kept.

autograd keeps the log-softmax of all tokens for the backward pass, and several arrays of that size for a second
derivative. Here only the logits and one number per token, log sum exp, are kept. Probabilities are computed again, a
piece of the tokens at a time:

    gradient        g (p - y)
    Hessian times v g (diag(p) - p p^T) v

with p the softmax, y the target's one-hot vector and g the upstream derivative of that token's loss. Both derivatives
are written down by hand; a third one raises.
"""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

PIECE = 2**21  # logits in a piece: 8 MB in float32; with it fewer, an operation's overhead would show


def token_cross_entropy(logits: Tensor, targets: Tensor, ignored: int) -> Tensor:
    """Return each token's cross-entropy in nats, 0 where the target is `ignored`; it can be differentiated twice.

    Args:
        logits: (..., V).
        targets: (...), in int64.
        ignored: this target counts nowhere.
    """
    flat, wanted = logits.reshape(-1, logits.shape[-1]), targets.reshape(-1)
    losses: Tensor = _Losses.apply(flat, wanted, ignored)  # type: ignore[no-untyped-call]
    return losses.view(targets.shape)


def softmax_hessian_product(logits: Tensor, weights: Tensor, vector: Tensor) -> Tensor:
    """Return w (diag(p) - p p^T) v of each token, with p the softmax of its logits (Schraudolph 2002).

    Args:
        logits: (..., V).
        weights: w of each token (...).
        vector: v, of the shape of the logits.
    """
    flat, product = (
        logits.detach().reshape(-1, logits.shape[-1]),
        torch.empty_like(vector).reshape(-1, logits.shape[-1]),
    )
    each, vectors = weights.reshape(-1, 1).to(flat.dtype), vector.reshape(flat.shape)
    for part in _parts(flat):
        torch.mul(_centred(flat[part].softmax(1), vectors[part]), each[part], out=product[part])
    return product.view(vector.shape)


def _centred(chance: Tensor, vector: Tensor) -> Tensor:
    """Return (diag(p) - p p^T) v for each row; `chance` is used up."""
    mean = torch.linalg.vecdot(chance, vector)[:, None]
    return chance.mul_(vector - mean)


def _parts(logits: Tensor) -> Iterator[slice]:
    rows = max(1, PIECE // logits.shape[1])
    return (slice(start, start + rows) for start in range(0, len(logits), rows))


class _Losses(torch.autograd.Function):
    @staticmethod
    def forward(ctx, logits: Tensor, targets: Tensor, ignored: int) -> Tensor:  # type: ignore[no-untyped-def, override]
        counted = targets != ignored
        wanted = targets.where(counted, 0)
        total = torch.cat([logits[part].logsumexp(1) for part in _parts(logits)])
        ctx.save_for_backward(logits, wanted, counted, total)
        return (total - logits.gather(1, wanted[:, None])[:, 0]).where(counted, 0.0)

    @staticmethod
    def backward(ctx, upstream: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[no-untyped-def, override]
        logits, wanted, counted, total = ctx.saved_tensors
        return _Gradient.apply(logits, upstream, wanted, counted, total), None, None


class _Gradient(torch.autograd.Function):
    """Upstream times (p - y), as a function of logits and upstream."""

    @staticmethod
    def forward(ctx, logits: Tensor, upstream: Tensor, wanted: Tensor, counted: Tensor, total: Tensor) -> Tensor:  # type: ignore[no-untyped-def, override]  # noqa: PLR0917
        ctx.save_for_backward(logits, upstream, wanted, counted, total)
        each = upstream.where(counted, 0.0)[:, None]
        gradient = torch.empty_like(logits)
        for part in _parts(logits):
            torch.mul((logits[part] - total[part, None]).exp_(), each[part], out=gradient[part])
        gradient.scatter_add_(1, wanted[:, None], -each)
        return gradient

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx, vector: Tensor) -> tuple[Tensor, Tensor, None, None, None]:  # type: ignore[no-untyped-def, override]
        logits, upstream, wanted, counted, total = ctx.saved_tensors
        each = upstream.where(counted, 0.0)[:, None]
        of_logits, of_upstream = torch.empty_like(logits), torch.empty_like(upstream)
        for part in _parts(logits):
            chance = (logits[part] - total[part, None]).exp_()
            of_upstream[part] = torch.linalg.vecdot(chance, vector[part])
            torch.mul(_centred(chance, vector[part]), each[part], out=of_logits[part])
        of_upstream -= vector.gather(1, wanted[:, None])[:, 0]
        return of_logits, of_upstream.where(counted, 0.0), None, None, None
