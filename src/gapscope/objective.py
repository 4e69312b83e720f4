"""The loss as a function of the weights: flat vector -> mean cross-entropy over stated images.

Batch-norm mode, precision and images are explicit, since each is part of any sharpness or curvature number. No weight
penalty is in it, and dropout is off.
"""

import functools
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from gapscope import seeds
from gapscope.errors import InputError
from gapscope.images import Images


class Objective:
    """Mean cross-entropy of a network over fixed images, as a differentiable function of its flat weights.

    Value and gradient are summed over micro-batches in one pass: memory does not grow with the number of images.

    Args:
        model: network on its device; not changed. Evaluated in eval mode, batch norm with its stored statistics.
        inputs: slice of 0..images -> normalised images (b, c, h, w) in `dtype` on the model's device.
        labels: (images,) whole numbers.
        micro_batch: images at a time.
        dtype: precision of weights, forward and backward pass.
    """

    def __init__(
        self,
        model: nn.Module,
        inputs: Callable[[slice], Tensor],
        labels: Tensor,
        *,
        micro_batch: int,
        dtype: torch.dtype = torch.float64,
    ) -> None:
        self.model = model.eval()
        self.inputs, self.labels, self.micro_batch, self.dtype = (
            inputs,
            labels,
            micro_batch,
            dtype,
        )
        self.names = [name for name, _ in model.named_parameters()]
        self.shapes = [p.shape for p in model.parameters()]
        self.buffers = {name: b.detach().to(dtype) if b.is_floating_point() else b for name, b in model.named_buffers()}
        self.evaluations = 0

    @classmethod
    def of_images(
        cls,
        model: nn.Module,
        images: Images,
        count: int | None,
        micro_batch: int,
        dtype: torch.dtype = torch.float64,
    ) -> "Objective":
        """Return the objective over all images, or over `count` of them, the same ones for every model.

        Raises:
            InputError: `count` is not in 1..n.
        """
        if count is not None:
            if not 1 <= count <= len(images):
                raise InputError(f"a loss over {count} images was asked for; there are {len(images)}")
            order = torch.randperm(len(images), generator=seeds.generator("objective", "subset"))
            images = images.subset(order[:count].to(images.labels.device))
        inputs = functools.partial(images.inputs, dtype=dtype)
        return cls(model, inputs, images.labels, micro_batch=micro_batch, dtype=dtype)

    def weights(self) -> Tensor:
        """Return the model's own weights as a flat vector (n,)."""
        return torch.cat([p.detach().to(self.dtype).reshape(-1) for p in self.model.parameters()])

    def __call__(self, x: Tensor) -> Tensor:
        """Return the loss at the flat weights x (n,), a scalar that can be differentiated once."""
        return _Evaluate.apply(x, self)  # type: ignore[no-any-return, no-untyped-call]

    def value_and_gradient(self, x: Tensor, with_gradient: bool) -> tuple[Tensor, Tensor | None]:
        """Return the loss and, if asked for, its gradient (n,)."""
        self.evaluations += 1
        total = torch.zeros((), dtype=torch.float64, device=x.device)
        flat = x.detach().clone().requires_grad_(with_gradient)
        for start in range(0, len(self.labels), self.micro_batch):
            part = slice(start, start + self.micro_batch)
            with torch.set_grad_enabled(with_gradient):
                pieces = flat.split([shape.numel() for shape in self.shapes])
                state = {n: p.view(s) for n, p, s in zip(self.names, pieces, self.shapes, strict=True)}
                logits = functional_call(self.model, {**self.buffers, **state}, (self.inputs(part),))
                loss = cross_entropy(logits, self.labels[part], reduction="sum") / len(self.labels)
                if with_gradient:
                    loss.backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
        return total.to(x.dtype), flat.grad


class _Evaluate(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, objective: Objective) -> Tensor:  # type: ignore[no-untyped-def, override]
        value, ctx.gradient = objective.value_and_gradient(x, with_gradient=ctx.needs_input_grad[0])
        ctx.save_for_backward(x)
        return value

    @staticmethod
    def backward(ctx, upstream: Tensor) -> tuple[Tensor, None]:  # type: ignore[no-untyped-def, override]
        (x,) = ctx.saved_tensors
        return upstream * _Gradient.apply(x, ctx.gradient), None


class _Gradient(torch.autograd.Function):
    # ties the gradient to x, so that a second derivative raises: unconnected, it would silently be zero
    @staticmethod
    def forward(ctx, x: Tensor, gradient: Tensor) -> Tensor:  # type: ignore[no-untyped-def, override]
        return gradient.clone()

    @staticmethod
    def backward(ctx, upstream: Tensor) -> tuple[None, None]:  # type: ignore[no-untyped-def, override]
        raise RuntimeError("an Objective can be differentiated once only: value and gradient come from one pass")
