"""The gradient of one batch: at once or in micro-batches, on one rank or several, exact or said not to be."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
import torch.utils.checkpoint
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.modules.batchnorm import _BatchNorm

from gapscope.data.images import Images, Moves
from gapscope.errors import InputError
from gapscope.models import unit_layers
from gapscope.optim.optimizers import Optimizer
from gapscope.training.distributed import ALONE, Ranks
from gapscope.training.evaluation import batch_norms
from gapscope.training.settings import TrainSettings


def backward(
    model: nn.Module,
    training: Images,
    batch: Tensor,
    settings: TrainSettings,
    *,
    moves: Moves | None = None,
    ranks: Ranks = ALONE,
) -> None:
    """Add the gradient of the batch's mean cross-entropy, or this rank's part of it, to the parameters' `grad`.

    In micro-batches the gradient is that of the whole batch, summed in parts. With batch norm, "ghost" takes statistics
    over each micro-batch; "whole" takes them over the whole batch, which then goes through at once (`recomputed`).
    """
    own = ranks.part(batch)
    at_once = settings.micro_batch is None or recomputes(model, settings)
    parts = (own,) if at_once or not len(own) else own.split(settings.micro_batch or len(own))
    for number, part in enumerate(parts, 1):
        inputs, labels = training.inputs(part, moves=moves), training.labels[part]
        if settings.channels_last:
            inputs = inputs.contiguous(memory_format=torch.channels_last)
        with ranks.no_sync(model) if number < len(parts) else nullcontext():
            with _autocast(settings, inputs.device.type):
                logits = model(inputs)
            logits = logits.float() if logits.dtype == torch.bfloat16 else logits
            if len(parts) == ranks.world == 1:
                loss = cross_entropy(logits, labels)
            else:
                loss = cross_entropy(logits, labels, reduction="sum") * (ranks.world / len(batch))
            loss.backward()  # type: ignore[no-untyped-call]


def updates(  # noqa: PLR0917
    model: nn.Module,
    optimizer: Optimizer,
    training: Images,
    settings: TrainSettings,
    moves: Moves | None = None,
    ranks: Ranks = ALONE,
) -> Callable[[Tensor, float | Tensor], None]:
    """Return a function of a batch's indices and the rate that makes one update of the model in place."""

    def update(batch: Tensor, lr: float | Tensor) -> None:
        optimizer.zero_grad()
        backward(model, training, batch, settings, moves=moves, ranks=ranks)
        optimizer.step(lr)

    return update


def recomputes(model: nn.Module, settings: TrainSettings) -> bool:
    """Whether batches are too large for memory and must go through at once all the same, for batch norm's sake."""
    return settings.micro_batch is not None and settings.micro_batch_norm == "whole" and bool(batch_norms(model))


@contextmanager
def recomputed(model: nn.Module, wanted: bool) -> Iterator[None]:
    """Within the block, what a unit layer computes on the way to its output is computed again in the backward pass.

    Only the units' outputs are kept, so a batch needs a third of the memory, or less; values and gradients are the same
    bits, at the cost of a second forward pass. The second pass does not update batch norm's running statistics.

    Raises:
        InputError: no unit layer has weights, so that nothing would be saved.
    """
    units = (
        [unit for unit in unit_layers(model).values() if next(unit.parameters(), None) is not None] if wanted else []
    )
    if wanted and not units:
        raise InputError(
            "train.micro_batch with micro_batch_norm=whole computes unit layers twice, and the network has none with "
            "weights of its own: give it `unit_layers`, or take ghost"
        )
    for unit in units:
        again = partial(_untracked, batch_norms(unit))
        unit.forward = partial(  # type: ignore[method-assign]
            torch.utils.checkpoint.checkpoint,
            unit.forward,
            use_reentrant=False,
            context_fn=lambda again=again: (nullcontext(), again()),
        )
    try:
        yield
    finally:
        for unit in units:
            del unit.forward


@contextmanager
def _untracked(norms: list[_BatchNorm]) -> Iterator[None]:
    before = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
        norm.num_batches_tracked = None if norm.num_batches_tracked is None else norm.num_batches_tracked.clone()
    try:
        yield
    finally:
        for norm, (momentum, tracked) in zip(norms, before, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, tracked


def _autocast(settings: TrainSettings, device_type: str) -> AbstractContextManager[Any]:
    return torch.autocast(device_type, torch.bfloat16) if settings.precision == "bfloat16" else nullcontext()
