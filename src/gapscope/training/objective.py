"""The loss as a function of the weights: flat vector -> mean cross-entropy over stated images.

Batch-norm mode, precision and images are explicit, since each is part of any sharpness or curvature number
(`Objective.conditions` is to be recorded beside it). No weight penalty is in it, and dropout is off.

Second derivatives are plain autograd, twice backward: it needs nothing of a layer but that it can be differentiated
twice. Forward over backward took as long, for the Hessian and for the Gauss-Newton matrix alike, and curvlinops 3.0
(which would add seven packages) 1.15 times as long for the Hessian (LeNet-5, float64, one core).
"""

import copy
import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy
from torch.nn.modules.batchnorm import _BatchNorm

from gapscope import seeds
from gapscope.data.images import Images
from gapscope.errors import InputError

BATCH_NORM = ("running", "batch")


class Objective:
    """Mean cross-entropy of a network over fixed images, as a differentiable function of its flat weights.

    Value and gradient are summed over micro-batches in one pass: memory does not grow with the number of images.

    Args:
        model: network on its device. It is put into eval mode, where dropout is off, and not changed otherwise.
        inputs: index (slice of, or tensor of places in, 0..images) -> normalised images (b, c, h, w) in `dtype` on the
            model's device.
        labels: (images,) whole numbers.
        micro_batch: images at a time.
        dtype: precision of weights, forward and backward pass.
        batch_norm: "running": batch norm with the model's stored statistics. "batch": with the statistics of each
            micro-batch ("ghost" batch norm, Hoffer et al. 2017), through which derivatives pass. The loss then depends
            on `micro_batch` (micro-batches are then of equal size, +-1) and on the order of the images, and is that of
            the whole batch only where one micro-batch holds all of them: statistics over several micro-batches would
            couple their derivatives.

    Raises:
        InputError: an unknown batch_norm.
    """

    def __init__(
        self,
        model: nn.Module,
        inputs: Callable[[slice | Tensor], Tensor],
        labels: Tensor,
        *,
        micro_batch: int,
        dtype: torch.dtype = torch.float64,
        batch_norm: str = "running",
    ) -> None:
        if batch_norm not in BATCH_NORM:
            raise InputError(f"batch_norm must be one of {', '.join(BATCH_NORM)}, got {batch_norm!r}")
        self.model = model.eval()
        if batch_norm == "batch":
            self.model = _without_running_statistics(self.model)
        self.inputs, self.labels, self.micro_batch, self.dtype = (
            inputs,
            labels,
            micro_batch,
            dtype,
        )
        self.batch_norm = batch_norm
        self.names = [name for name, _ in model.named_parameters()]
        self.shapes = [p.shape for p in model.parameters()]
        self.buffers = {
            name: b.detach().to(dtype) if b.is_floating_point() else b for name, b in self.model.named_buffers()
        }
        self.evaluations = 0

    @classmethod
    def of_images(
        cls,
        model: nn.Module,
        images: Images,
        count: int | None,
        micro_batch: int,
        dtype: torch.dtype = torch.float64,
        *,
        batch_norm: str = "running",
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
        return cls(model, inputs, images.labels, micro_batch=micro_batch, dtype=dtype, batch_norm=batch_norm)

    def weights(self) -> Tensor:
        """Return the model's own weights as a flat vector (n,)."""
        return torch.cat([p.detach().to(self.dtype).reshape(-1) for p in self.model.parameters()])

    def conditions(self) -> dict[str, Any]:
        """Return what a number measured with this objective depends on, for the record."""
        size = -(-len(self.labels) // -(-len(self.labels) // self.micro_batch))
        return {
            "images": len(self.labels),
            "batch_norm": "running" if self.batch_norm == "running" else f"statistics of batches of {size}",
            "precision": str(self.dtype).removeprefix("torch."),
        }

    def __call__(self, x: Tensor) -> Tensor:
        """Return the loss at the flat weights x (n,), a scalar that can be differentiated once."""
        return _Evaluate.apply(x, self)  # type: ignore[no-any-return, no-untyped-call]

    def value_and_gradient(self, x: Tensor, with_gradient: bool) -> tuple[Tensor, Tensor | None]:
        """Return the loss and, if asked for, its gradient (n,)."""
        self.evaluations += 1
        total = torch.zeros((), dtype=torch.float64, device=x.device)
        flat = x.detach().clone().requires_grad_(with_gradient)
        for part in self._parts():
            with torch.set_grad_enabled(with_gradient):
                loss = cross_entropy(self._logits(flat, part), self.labels[part], reduction="sum") / len(self.labels)
                if with_gradient:
                    loss.backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
        return total.to(x.dtype), flat.grad

    def loss_and_error(self, x: Tensor) -> tuple[float, float]:
        """Return the loss and the error (%) at x (n,)."""
        with torch.no_grad():
            sums = [torch.zeros((), dtype=torch.float64, device=x.device) for _ in range(2)]
            for part in self._parts():
                logits, labels = self._logits(x, part), self.labels[part]
                sums[0] += cross_entropy(logits, labels, reduction="sum")
                # a NaN row has no argmax worth the name: count it as wrong
                sums[1] += (~(logits.argmax(dim=1) == labels) | logits.isnan().any(dim=1)).sum()
        loss, wrong = (float(total) / len(self.labels) for total in sums)
        return loss, 100 * wrong

    def hvp(self, x: Tensor, v: Tensor) -> Tensor:
        """Return the Hessian of the loss at x (n,) times v (n,), shape (n,)."""

        def product(flat: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
            (gradient,) = torch.autograd.grad(_sum_loss(logits, labels), flat, create_graph=True)
            return torch.autograd.grad(gradient, flat, v)[0]

        return self._total(x, self._parts(), product) / len(self.labels)

    def gnvp(self, x: Tensor, v: Tensor) -> Tensor:
        """Return the (generalised) Gauss-Newton matrix of the loss at x (n,) times v (n,), shape (n,).

        It is the mean of J^T H_z J, with J the logits' Jacobian and H_z = diag(p) - p p^T the Hessian of cross-entropy
        in the logits (Schraudolph 2002): positive semi-definite, and the Fisher matrix of the softmax model.
        """

        def product(flat: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
            u = torch.zeros_like(logits, requires_grad=True)
            (transposed,) = torch.autograd.grad(logits, flat, u, create_graph=True)  # J^T u, linear in u ...
            (forward,) = torch.autograd.grad(transposed, u, v, retain_graph=True)  # ... so that its derivative is J v
            probabilities = logits.detach().softmax(dim=1)
            weighted = probabilities * forward
            curved = weighted - probabilities * weighted.sum(dim=1, keepdim=True)
            return torch.autograd.grad(logits, flat, curved)[0]

        return self._total(x, self._parts(), product) / len(self.labels)

    def gradients(self, x: Tensor, batch_size: int, order: Tensor | None = None) -> Iterator[Tensor]:
        """Yield the gradient (n,) of the mean loss over each of floor(images / batch_size) disjoint batches.

        Args:
            x: flat weights (n,).
            batch_size: images of a batch, taken in micro-batches where it is larger than one.
            order: (images,), a permutation; without one, batches are of consecutive images, which are a random sample
                only if the data's own order is random.

        Raises:
            InputError: batch_size is not in 1..images.
        """
        count = len(self.labels)
        if not 1 <= batch_size <= count:
            raise InputError(f"gradients of batches of {batch_size} were asked for; there are {count} images")
        places = (torch.arange(count) if order is None else order).to(self.labels.device)
        for batch in places[: count - count % batch_size].split(batch_size):
            pieces = batch.tensor_split(-(-batch_size // self.micro_batch))
            yield self._total(x, pieces, _gradient) / batch_size

    def _parts(self) -> Iterator[slice]:
        count, size = len(self.labels), self.micro_batch
        if self.batch_norm == "batch":  # of equal size (+-1): statistics of a small remainder would be another's
            count_parts = -(-count // size)
            places = torch.arange(count).tensor_split(count_parts)
            return (slice(int(part[0]), int(part[-1]) + 1) for part in places)
        return (slice(start, start + size) for start in range(0, count, size))

    def _logits(self, flat: Tensor, part: slice | Tensor) -> Tensor:
        pieces = flat.split([shape.numel() for shape in self.shapes])
        state = {n: p.view(s) for n, p, s in zip(self.names, pieces, self.shapes, strict=True)}
        logits: Tensor = functional_call(self.model, {**self.buffers, **state}, (self.inputs(part),))
        return logits

    def _total(
        self,
        x: Tensor,
        parts: Iterable[slice | Tensor],
        term: Callable[[Tensor, Tensor, Tensor], Tensor],
    ) -> Tensor:
        """Return the sum of term(flat weights, logits, labels) over the parts, each on a graph of its own."""
        total = torch.zeros_like(x)
        for part in parts:
            flat = x.detach().clone().requires_grad_()
            total += term(flat, self._logits(flat, part), self.labels[part])
        return total


def _sum_loss(logits: Tensor, labels: Tensor) -> Tensor:
    return cross_entropy(logits, labels, reduction="sum")


def _gradient(flat: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
    return torch.autograd.grad(_sum_loss(logits, labels), flat)[0]


def _without_running_statistics(model: nn.Module) -> nn.Module:
    """Return a copy whose batch norms have none: torch then takes the batch's, in eval mode too."""
    model = copy.deepcopy(model)
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.track_running_stats = False
            module.running_mean = module.running_var = module.num_batches_tracked = None
    return model


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
        raise RuntimeError(
            "autograd differentiates an Objective once only: for second derivatives call its hvp or gnvp"
        )
