"""The loss as a function of the weights: flat vector -> mean loss over stated examples.

Batch norm's statistics, precision and images are explicit, since every sharpness or curvature depends on them
(`Objective.conditions` is to be recorded with it). The weight penalty is not included, and dropout is off.

Second derivatives are plain autograd, backward twice: a layer only needs to be differentiable twice. Forward over
backward took as long, for the Hessian and for the Gauss-Newton matrix. benchmarks/curvature_others.md sets both
products beside those of curvlinops and hessian-eigenthings.
"""

import copy
from collections.abc import Callable, Container, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from gapscope import seeds
from gapscope.data.images import Images
from gapscope.errors import InputError
from gapscope.models.hidden import untracked_batch_norms
from gapscope.numerics.loss_surface.hessian_products import twice_differentiable
from gapscope.numerics.loss_surface.shared_weights import call_with, shared_weights
from gapscope.tasks.classification import CLASSIFICATION
from gapscope.tasks.task import Batch, Task

STATISTICS = ("running", "batch")  # of batch norm
STEADY = 1e-5  # of a loss in nats: a GPU's sums in another order differ by less, dropout by more
Index = slice | Tensor


class Objective:
    """Mean loss of a network over fixed examples, as a differentiable function of its flat trainable weights.

    Frozen parameters (without `requires_grad`) keep their values, and are no part of the weights.

    Value and gradient are summed over micro-batches in one pass: memory does not grow with the number of examples.

    Args:
        model: network on its device. It is put into eval mode, where dropout is off, and not changed otherwise.
        examples: on the same device; `task.batch` takes them.
        micro_batch: examples at a time.
        dtype: precision of weights, forward and backward pass.
        batch_norm_statistics: "running": batch norm uses the model's stored statistics. "batch": it uses those of each
            micro-batch ("ghost" batch norm, Hoffer et al. 2017), and derivatives pass through them. The loss then
            depends on `micro_batch` (micro-batches are then of equal size, +-1) and on the order of the examples. It is
            that of the whole batch only if one micro-batch holds all examples: statistics over several micro-batches
            would couple their derivatives.
        task: gives batches, loss and error.
        parameters: names of those that are weights, of a layer for instance; None: all trainable ones. The others keep
            their values, as frozen ones do.

    Raises:
        InputError: an unknown batch_norm_statistics, or no trainable weight.
    """

    def __init__(
        self,
        model: nn.Module,
        examples: Any,
        *,
        micro_batch: int,
        dtype: torch.dtype = torch.float64,
        batch_norm_statistics: str = "running",
        task: Task = CLASSIFICATION,
        parameters: Container[str] | None = None,
    ) -> None:
        if batch_norm_statistics not in STATISTICS:
            raise InputError(
                f"batch_norm_statistics must be one of {', '.join(STATISTICS)}, got {batch_norm_statistics!r}"
            )
        trained = {
            name: p
            for name, p in model.named_parameters()
            if p.requires_grad and (parameters is None or name in parameters)
        }
        if not trained:
            raise InputError(f"{type(model).__name__} has no trainable weight (all are without requires_grad)")
        self.model = model.eval()
        if batch_norm_statistics == "batch":
            self.model = _without_running_statistics(self.model)
        self.examples, self.micro_batch, self.dtype, self.task = examples, micro_batch, dtype, task
        self.batch_norm_statistics = batch_norm_statistics
        self.names, self.shapes = list(trained), [p.shape for p in trained.values()]
        frozen = {name: p for name, p in model.named_parameters() if name not in trained}
        self.frozen = list(frozen)
        self.buffers = {
            name: b.detach().to(dtype) if b.is_floating_point() else b
            for name, b in [*self.model.named_buffers(), *frozen.items()]
        }
        self.shared = shared_weights(self.model)
        # batch norm without running statistics takes the batch's, whatever is asked for
        self.untracked = untracked_batch_norms(self.model) if batch_norm_statistics == "running" else []
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
        batch_norm_statistics: str = "running",
        task: Task = CLASSIFICATION,
    ) -> "Objective":
        """Return the objective over all images, or over `count` of them, the same ones for every model.

        Raises:
            InputError: `count` is not in 1..n.
        """
        if count is not None:
            if not 1 <= count <= len(images):
                raise InputError(f"a loss over {count} images was requested; there are {len(images)}")
            order = torch.randperm(len(images), generator=seeds.generator("objective", "subset"))
            images = images.subset(order[:count].to(images.labels.device))
        return cls(
            model,
            images,
            micro_batch=micro_batch,
            dtype=dtype,
            batch_norm_statistics=batch_norm_statistics,
            task=task,
        )

    def of_parameters(self, names: Container[str]) -> "Objective":
        """Return the same loss as a function of the parameters of these names; the others keep their values."""
        return Objective(
            self.model,
            self.examples,
            micro_batch=self.micro_batch,
            dtype=self.dtype,
            batch_norm_statistics=self.batch_norm_statistics,
            task=self.task,
            parameters=names,
        )

    def weights(self) -> Tensor:
        """Return the model's own trainable weights as a flat vector (n,)."""
        own = dict(self.model.named_parameters())
        return torch.cat([own[name].detach().to(self.dtype).reshape(-1) for name in self.names])

    @property
    def unit(self) -> str:
        """What one of the examples is: the data say it, or the task."""
        return str(getattr(self.examples, "unit", self.task.unit))

    def conditions(self) -> dict[str, Any]:
        """Return the conditions that a number measured with this objective depends on, for its record."""
        count = len(self.examples)
        batches = f"statistics of batches of {-(-count // -(-count // self.micro_batch))}"
        statistics = "running" if self.batch_norm_statistics == "running" else batches
        if self.untracked:
            statistics = f"{statistics}; {batches} in {', '.join(self.untracked)}, without running statistics"
        return {
            f"{self.unit}s": count,
            "batch_norm": statistics,
            "precision": str(self.dtype).removeprefix("torch."),
            **({"frozen": self.frozen} if self.frozen else {}),
        }

    def check_steady(self) -> None:
        """Evaluate a few examples twice at the model's own weights.

        Raises:
            InputError: the losses differ.
        """
        with torch.no_grad():
            batch = self._batch(next(iter(self._parts())))
            first, second = (self.task.losses(self._outputs(self.weights(), batch), batch) for _ in range(2))
        if not torch.allclose(first, second, rtol=STEADY, atol=STEADY, equal_nan=True):
            raise InputError(
                f"{type(self.model).__name__} gives other outputs for the same images, although in eval mode: every "
                "measure of its loss would be noise; give functional dropout its training=self.training"
            )

    def __call__(self, x: Tensor) -> Tensor:
        """Return the loss at the flat weights x (n,), a scalar that can be differentiated once."""
        return _Evaluate.apply(x, self)  # type: ignore[no-any-return, no-untyped-call]

    def value_and_gradient(self, x: Tensor, with_gradient: bool) -> tuple[Tensor, Tensor | None]:
        """Return the loss and, if asked for, its gradient (n,)."""
        self.evaluations += 1
        total, weight = torch.zeros((), dtype=torch.float64, device=x.device), self.task.total_weight(self.examples)
        flat = x.detach().clone().requires_grad_(with_gradient)
        for part in self._parts():
            with torch.set_grad_enabled(with_gradient):
                batch = self._batch(part)
                loss = self.task.sum_loss(self._outputs(flat, batch), batch) / weight
                if with_gradient:
                    loss.backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
        return total.to(x.dtype), flat.grad

    def loss_and_error(self, x: Tensor) -> tuple[float, float]:
        """Return the loss and the error (%) at x (n,)."""
        with torch.no_grad():
            sums = [torch.zeros((), dtype=torch.float64, device=x.device) for _ in range(2)]
            for part in self._parts():
                batch = self._batch(part)
                outputs = self._outputs(x, batch)
                sums[0] += self.task.sum_loss(outputs, batch)
                sums[1] += self.task.errors(outputs, batch).sum()
        loss, errors = (float(total) / self.task.total_weight(self.examples) for total in sums)
        return loss, self.task.error(errors, 1)

    def losses(self, x: Tensor) -> Tensor:
        """Return each example's loss at x (n,), in the order of the examples."""
        with torch.no_grad():
            batches = map(self._batch, self._parts())
            return torch.cat([self.task.losses(self._outputs(x, batch), batch) for batch in batches])

    def hvp(self, x: Tensor, v: Tensor) -> Tensor:
        """Return the Hessian of the loss at x (n,) times v (n,), (n,); zero where the loss ignores x or is linear."""

        def product(flat: Tensor, outputs: Tensor, batch: Batch) -> Tensor:
            gradient = loss = self.task.sum_loss(outputs, batch)
            if loss.requires_grad:  # not for the weights of a layer that is not used
                (gradient,) = torch.autograd.grad(loss, flat, create_graph=True)
            return torch.autograd.grad(gradient, flat, v)[0] if gradient.requires_grad else torch.zeros_like(v)

        with twice_differentiable():
            return self._total(x, self._parts(), product) / self.task.total_weight(self.examples)

    def gnvp(self, x: Tensor, v: Tensor) -> Tensor:
        """Return the (generalised) Gauss-Newton matrix of the loss at x (n,) times v (n,), shape (n,).

        It is the mean of J^T H_z J, with J the Jacobian of the outputs and H_z the Hessian of the loss in the outputs
        (Schraudolph 2002). For cross-entropy H_z = diag(p) - p p^T, so the matrix is positive semi-definite, and the
        Fisher matrix of the softmax model.
        """

        def product(flat: Tensor, outputs: Tensor, batch: Batch) -> Tensor:
            # J^T u is linear in u, so its derivative J v is the same at any u. The outputs serve: over a large
            # vocabulary, another tensor of their shape is half the memory of a training step
            u = outputs.detach().requires_grad_()
            (transposed,) = torch.autograd.grad(outputs, flat, u, create_graph=True)
            (forward,) = torch.autograd.grad(transposed, u, v, retain_graph=True)
            del u, transposed
            curved = self.task.hessian_product(outputs, batch, forward)
            del forward
            return torch.autograd.grad(outputs, flat, curved)[0]

        with twice_differentiable():
            return self._total(x, self._parts(), product) / self.task.total_weight(self.examples)

    def gradients(self, x: Tensor, batch_size: int, order: Tensor | None = None) -> Iterator[Tensor]:
        """Yield the gradient (n,) of the mean loss over each of floor(images / batch_size) disjoint batches.

        Args:
            x: flat weights (n,).
            batch_size: examples in a batch; a larger one than `micro_batch` is taken in parts.
            order: (images,), a permutation. Without one, batches are of consecutive examples: a random sample only if
                the order of the data is random.

        Raises:
            InputError: batch_size is not in 1..images.
        """
        count = len(self.examples)
        if not 1 <= batch_size <= count:
            raise InputError(f"gradients of batches of {batch_size} were requested; there are {count} {self.unit}s")

        def gradient(flat: Tensor, outputs: Tensor, batch: Batch) -> Tensor:
            return torch.autograd.grad(self.task.sum_loss(outputs, batch), flat)[0]

        places = (torch.arange(count) if order is None else order).to(x.device)
        for index in places[: count - count % batch_size].split(batch_size):
            pieces = index.tensor_split(-(-batch_size // self.micro_batch))
            yield self._total(x, pieces, gradient) / self.task.total_weight(self.examples, index)

    def _parts(self) -> Iterator[slice]:
        count, size = len(self.examples), self.micro_batch
        if self.batch_norm_statistics == "batch" or self.untracked:
            # of equal size (+-1): a small remainder has other statistics
            count_parts = -(-count // size)
            places = torch.arange(count).tensor_split(count_parts)
            return (slice(int(part[0]), int(part[-1]) + 1) for part in places)
        return (slice(start, start + size) for start in range(0, count, size))

    def _batch(self, part: Index) -> Batch:
        return self.task.batch(self.examples, part, dtype=self.dtype)

    def _outputs(self, flat: Tensor, batch: Batch) -> Tensor:
        pieces = flat.split([shape.numel() for shape in self.shapes])
        state = {n: p.view(s) for n, p, s in zip(self.names, pieces, self.shapes, strict=True)}

        def model(*inputs: Any) -> Any:
            return call_with(self.model, {**self.buffers, **state}, inputs, self.shared)

        return self.task.outputs(model, batch)

    def _total(
        self,
        x: Tensor,
        parts: Iterable[Index],
        term: Callable[[Tensor, Tensor, Batch], Tensor],
    ) -> Tensor:
        """Return the sum of term(flat weights, outputs, batch) over the parts, each on a graph of its own."""
        total = torch.zeros_like(x)
        for part in parts:
            flat, batch = x.detach().clone().requires_grad_(), self._batch(part)
            total += term(flat, self._outputs(flat, batch), batch)
        return total


def _without_running_statistics(model: nn.Module) -> nn.Module:
    """Return a copy whose batch norms have none: torch then uses the batch's statistics, also in eval mode."""
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
    # connects the gradient to x, so that a second derivative raises; without it, it would silently be zero
    @staticmethod
    def forward(ctx, x: Tensor, gradient: Tensor) -> Tensor:  # type: ignore[no-untyped-def, override]
        return gradient.clone()

    @staticmethod
    def backward(ctx, upstream: Tensor) -> tuple[None, None]:  # type: ignore[no-untyped-def, override]
        raise RuntimeError(
            "autograd can differentiate an Objective only once: for second derivatives call its hvp or gnvp"
        )
