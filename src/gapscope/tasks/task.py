"""What training, evaluation and measures need to know about a task.

Losses and errors are given for each example, with weights. So a sum over micro-batches or ranks, divided by the total
weight, is exactly the mean over the whole batch, however it is split.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from gapscope.numerics.loss_surface.hessian_diagonal import columns, random_sums

OF_LOSSES = ("sum_loss", "mean_loss", "loss_gradients", "hessian_product", "hessian_columns")


class Batch(NamedTuple):
    """What goes into the network, and what should come out of it."""

    inputs: Any
    targets: Any


class Task(ABC):
    """A task. Its examples are whatever `batch` can index, e.g. `gapscope.data.images.Images`.

    The methods named in `OF_LOSSES` are derived from `losses` here. A task may have closed or fused forms of them. A
    class with losses of its own does not inherit those of another task, which are of another loss.

    Attributes:
        unit: what a batch size counts: "image".
        loss_name: name of the mean loss in records and tables: "cross_entropy".
        error_name: name of the error in records and tables, with its unit: "error_pct".
        beside_error: names of what `further` and `further_sums` return.
        targets: what the targets of the data are: "labels" (one class each), "label sets" (several labels each),
            "numbers", or "tokens" (of a text).
    """

    unit: str
    loss_name: str
    error_name: str
    beside_error: tuple[str, ...] = ()
    targets: str = "labels"

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "losses" in cls.__dict__:
            for name in OF_LOSSES:
                if name not in cls.__dict__:
                    setattr(cls, name, getattr(Task, name))

    @property
    def quantities(self) -> tuple[str, ...]:
        """What is recorded of a split: error, loss, and what stands beside the error."""
        return self.error_name, self.loss_name, *self.beside_error

    @abstractmethod
    def batch(
        self,
        examples: Any,
        index: Tensor | slice,
        *,
        dtype: torch.dtype = torch.float32,
        augmentation: Any = None,
        channels_last: bool = False,
    ) -> Batch:
        """Return the examples at `index` as a batch.

        Args:
            examples: all of them, on their device.
            index: (b,) places, or a slice.
            dtype: of the inputs.
            augmentation: random changes of the examples, drawn anew in each epoch; None: the examples as they are.
            channels_last: memory layout of the inputs, for images.
        """

    @abstractmethod
    def losses(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Return each example's loss, shape (b,)."""

    @abstractmethod
    def errors(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Return each example's contribution to the error, shape (b,)."""

    @abstractmethod
    def error(self, total: float, weight: float) -> float:
        """Return the error of many examples, from the sum of their `errors` and their total weight."""

    def further(self, error: float, loss: float, examples: Any) -> dict[str, float]:
        """Return what is recorded beside the error of one split, by its names in `beside_error`.

        Args:
            error: as `error` returns it.
            loss: the mean loss.
            examples: of the split.
        """
        return {}

    def further_sums(self, outputs: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Return what else is averaged over the examples of one split, by its names in `beside_error`, each (b,).

        As an error, it is divided by the total weight.
        """
        return {}

    def network_outputs(self, classes: int) -> int:
        """Return how many outputs a network has, its argument `classes`.

        Args:
            classes: of the data: classes, labels, numbers or different tokens.

        Raises:
            InputError: the task cannot take so many.
        """
        return classes

    def guessing_loss(self, examples: Any) -> float | None:
        """Return the loss of the best prediction that looks at no input; None where the number of classes tells it.

        A run whose training loss ends near it has learned nothing (`measures.evaluation`).

        Args:
            examples: the training set.
        """
        return None

    def baselines(self, training: Any, test: Any) -> dict[str, float]:
        """Return the test loss of simpler models by name, for a run's record; of images there are none.

        Args:
            training: the training set.
            test: the test set.
        """
        return {}

    def outputs(self, model: Callable[..., Any], batch: Batch) -> Tensor:
        """Return the network's outputs; the first axis is the batch."""
        outputs: Tensor = model(batch.inputs)
        return outputs

    def weights(self, batch: Batch) -> Tensor:
        """Return each example's weight in sums, shape (b,): 1 unless a task says otherwise."""
        return torch.ones(len(batch.targets), device=batch.targets.device)

    def total_weight(self, examples: Any, index: Tensor | None = None) -> float:
        """Return the sum of weights over the examples at `index`; None: over all. All ranks must get the same."""
        return len(examples) if index is None else len(index)

    def sum_loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Return the weighted sum of losses, a scalar. A task may compute it in one fused operation."""
        return (self.losses(outputs, batch) * self.weights(batch)).sum()

    def mean_loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Return the weighted mean of losses, a scalar. A task may compute it in one fused operation."""
        return self.sum_loss(outputs, batch) / self.weights(batch).sum()

    def hessian_product(self, outputs: Tensor, batch: Batch, vector: Tensor) -> Tensor:
        """Return the Hessian of `sum_loss` in the outputs, times a vector of the outputs' shape.

        Here by differentiating twice; a task may have a closed form. Gauss-Newton products use it.
        """
        point = outputs.detach().requires_grad_()
        with torch.enable_grad():
            (gradient,) = torch.autograd.grad(self.sum_loss(point, batch), point, create_graph=True)
            if not gradient.requires_grad:  # a loss linear in the outputs
                return torch.zeros_like(vector)
            (product,) = torch.autograd.grad(gradient, point, vector, materialize_grads=True)
        return product

    def loss_gradients(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Return the derivative of each example's loss in its outputs, of the outputs' shape."""
        point = outputs.detach().requires_grad_()
        with torch.enable_grad():
            losses = self.losses(point, batch).sum()
        (gradients,) = torch.autograd.grad(losses, point, materialize_grads=True)
        return gradients

    def hessian_columns(
        self, outputs: Tensor, batch: Batch, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return vectors s (b, m, k) and signs (b, m): each example's Hessian of `sum_loss` is the sum of sign s s^T.

        The Hessian is that in the k outputs of an example. Here its eigenvectors serve, after k products with it. The
        diagonal of the Gauss-Newton matrix is summed from these vectors.

        Args:
            outputs: (b, ...), k for each example.
            batch: its examples.
            generator: CPU generator; vectors are then drawn, and the sum is that of the Hessian in the mean over draws.
        """
        units = torch.eye(outputs[0].numel()).to(outputs)
        products = [self.hessian_product(outputs, batch, e.expand(len(outputs), -1).view_as(outputs)) for e in units]
        vectors, signs = columns(torch.stack([of.reshape(len(outputs), -1) for of in products], dim=1))
        return (vectors, signs) if generator is None else random_sums(vectors, signs, generator)
