"""What the library's functions share: the default loss, and a caller's model as it was."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from gapscope.errors import InputError
from gapscope.library.examples import kind

Sum = tuple[Tensor, Tensor | float]  # of losses, and how many of them
Loss = Callable[[nn.Module, Any], Tensor | Sum]  # model, batch -> each example's loss (b,), or their sum and number

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
    # of a single logit the softmax is 1, and the loss 0 at any weights
    if not (isinstance(outputs, Tensor) and outputs.ndim == 2 and outputs.shape[1] > 1):
        raise InputError(
            "classification needs logits (b, classes) of two classes or more, the model returned "
            f"{kind(outputs)}; give loss="
        )
    classes = outputs.shape[1]
    if labels.min() < 0 or labels.max() >= classes:
        raise InputError(
            f"labels must be in 0..{classes - 1}, as the model has {classes} outputs, "
            f"got {int(labels.min())}..{int(labels.max())}"
        )
    return nn.functional.cross_entropy(outputs, labels, reduction="none")


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
