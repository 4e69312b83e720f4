"""A caller's model, data and loss as the `Objective` that the pipeline's measures take.

The loss is a function `loss(model, batch)` that returns each example's loss. The objective is the mean over all
examples, however they are split into batches: the batches of a DataLoader have no weight of their own. The function is
called with the caller's own model, whose weights are exchanged for the duration of the call.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from gapscope.errors import InputError
from gapscope.library.examples import Examples, examples, kind, leaves
from gapscope.numerics.loss_surface.sharpness import PRECISIONS
from gapscope.tasks.task import Batch, Task
from gapscope.training.objective import Objective

Loss = Callable[[nn.Module, Any], Tensor]  # model, batch -> each example's loss (b,)

MICRO_BATCH = 256  # examples in one pass: limits memory, changes no number


def cross_entropy(model: nn.Module, batch: Any) -> Tensor:
    """Return each example's softmax cross-entropy (b,) in nats.

    Args:
        model: gives logits (b, classes).
        batch: inputs (b, ...) and integer labels (b,).

    Raises:
        InputError: a batch, labels or outputs that are not those of classification.
    """
    if not (isinstance(batch, tuple) and len(batch) == 2 and all(isinstance(part, Tensor) for part in batch)):
        raise InputError(f"classification needs pairs (inputs, labels), got {kind(batch)}; give loss=")
    inputs, labels = batch
    if labels.ndim != 1 or labels.is_floating_point() or labels.dtype == torch.bool:
        raise InputError(
            f"classification needs whole numbers (n,) as labels, got {kind(labels)}; give loss= for another task"
        )
    if inputs.dtype == torch.uint8:
        raise InputError("inputs must be normalised as the model wants them, got uint8; give e.g. images.float() / 255")
    outputs = model(inputs)
    if not (isinstance(outputs, Tensor) and outputs.ndim == 2):
        raise InputError(f"classification needs logits (b, classes), the model returned {kind(outputs)}; give loss=")
    classes = outputs.shape[1]
    if labels.min() < 0 or labels.max() >= classes:
        raise InputError(
            f"labels must be in 0..{classes - 1}, as the model has {classes} outputs, "
            f"got {int(labels.min())}..{int(labels.max())}"
        )
    return nn.functional.cross_entropy(outputs, labels, reduction="none")


@contextmanager
def objective(
    model: nn.Module,
    data: Any,
    loss: Loss,
    *,
    seed: int,
    micro_batch: int = MICRO_BATCH,
    precision: str = "float64",
    batch_norm_statistics: str = "running",
) -> Iterator[Objective]:
    """Give the mean loss as a function of the weights; afterwards the model is as it was.

    Args:
        model: on its device.
        data: as `examples` takes them.
        loss: model, batch -> each example's loss (b,).
        seed: for data that draw at random.
        micro_batch: examples in one pass.
        precision: float64 or float32, of weights, inputs and both passes.
        batch_norm_statistics: running or batch, as in `Objective`.

    Raises:
        InputError: no such model, data, loss or setting.
    """
    if precision not in PRECISIONS:
        raise InputError(f"precision must be one of {', '.join(PRECISIONS)}, got {precision!r}")
    if micro_batch < 1:
        raise InputError(f"micro_batch must be at least 1, got {micro_batch}")
    if not callable(loss) or isinstance(loss, type):
        raise InputError(f"loss must be a function loss(model, batch), got {kind(loss)}")
    device = device_of(model)
    with unchanged(model), torch.inference_mode(False):  # which also records gradients within no_grad
        mean_loss = Objective(
            _Applied(model),
            examples(data, device, seed=seed),
            micro_batch=micro_batch,
            dtype=PRECISIONS[precision],
            batch_norm_statistics=batch_norm_statistics,
            task=_PerExample(loss),
        )
        mean_loss.check_steady()
        yield mean_loss


def conditions(mean_loss: Objective) -> dict[str, Any]:
    """Return what a measured value depends on, by the names of the results' attributes."""
    frozen = tuple(name.removeprefix("model.") for name in mean_loss.frozen)
    return mean_loss.conditions() | {"frozen": frozen}


def device_of(model: Any) -> torch.device:
    """Return the device of a model's weights.

    Raises:
        InputError: no model with weights.
    """
    if not isinstance(model, nn.Module):
        raise InputError(f"model must be a torch.nn.Module, got {kind(model)}")
    first = next(model.parameters(), None)
    if first is None:
        raise InputError(f"model must have weights, but {type(model).__name__} has no parameters")
    return first.device


@contextmanager
def unchanged(model: nn.Module) -> Iterator[None]:
    """Put every module back into its mode (train or eval) after the block; the measures change nothing else."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


class _Applied(nn.Module):
    """A model to which a function is applied: so that the function sees the model itself, with exchanged weights."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, loss: Loss, batch: Any) -> Any:
        return loss(self.model, batch)


class _PerExample(Task):
    """A caller's loss as a task. Its outputs are the losses themselves, so there is no Gauss-Newton matrix of it."""

    unit = "example"
    loss_name = "loss"
    error_name = "error"

    def __init__(self, loss: Loss) -> None:
        self.loss = loss

    def batch(
        self,
        examples: Examples,
        index: Tensor | slice,
        *,
        dtype: torch.dtype = torch.float32,
        augmentation: Any = None,
        channels_last: bool = False,
    ) -> Batch:
        return Batch(examples.at(index, dtype), None)

    def outputs(self, model: Callable[..., Any], batch: Batch) -> Tensor:
        """Return each example's loss.

        Raises:
            InputError: the function returns something else, or its result does not depend on the weights.
        """
        losses = model(self.loss, batch.inputs)
        count = len(leaves(batch.inputs)[0])
        if not (isinstance(losses, Tensor) and losses.shape == (count,)):
            raise InputError(
                f"loss must return each example's loss, a tensor of shape ({count},), got {kind(losses)}; "
                "losses of PyTorch do so with reduction='none'"
            )
        if torch.is_grad_enabled() and not losses.requires_grad:
            raise InputError("loss does not depend on the weights: it must call the model, and not under no_grad")
        return losses

    def losses(self, outputs: Tensor, batch: Batch) -> Tensor:
        return outputs

    def sum_loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        return outputs.sum()

    def errors(self, outputs: Tensor, batch: Batch) -> Tensor:
        raise NotImplementedError("a loss alone says nothing about errors")

    def error(self, total: float, weight: float) -> float:
        raise NotImplementedError("a loss alone says nothing about errors")
