"""The gradient of one batch, and the update that it makes: at once or in micro-batches, on one rank or several."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
import torch.utils.checkpoint
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from gapscope import seeds
from gapscope.data.images import Augmentation, Images
from gapscope.errors import InputError
from gapscope.models import batch_norms, unit_layers
from gapscope.optim.optimizer import Optimizer
from gapscope.tasks.classification import CLASSIFICATION
from gapscope.tasks.task import Batch, Task
from gapscope.training.discarding import Discarding
from gapscope.training.distributed import ALONE, Ranks
from gapscope.training.observers import Observer
from gapscope.training.settings import TrainSettings


def backward(
    model: nn.Module,
    training: Images,
    index: Tensor,
    settings: TrainSettings,
    *,
    augmentation: Augmentation | None = None,
    ranks: Ranks = ALONE,
    task: Task = CLASSIFICATION,
    moments: Tensor | None = None,
    discarding: Discarding | None = None,
) -> None:
    """Add the gradient of the batch's mean loss, or of this rank's part of it, to the parameters' `grad`.

    In micro-batches the gradient is that of the whole batch, summed in parts. With batch norm, "ghost" takes the
    statistics of each micro-batch. "whole" takes those of the whole batch, which then goes through at once
    (`recompute_units`).

    With `moments` (3,), the number, the sum and the sum of squares of the examples' losses are added to it.

    With `discarding`, samples are left out of the mean. In micro-batches, a forward pass before all others gives the
    losses by which the whole batch is ranked.
    """
    own = ranks.own_part(index)
    at_once = settings.batch.micro_batch is None or needs_recomputation(model, settings)
    parts = (own,) if at_once or not len(own) else own.split(settings.batch.micro_batch or len(own))

    def forward(network: nn.Module, part: Tensor) -> tuple[Tensor, Batch]:
        batch = task.batch(training, part, augmentation=augmentation, channels_last=settings.precision.channels_last)
        with _autocast(settings, batch.targets.device.type):
            outputs = task.outputs(network, batch)
        return outputs.float() if outputs.dtype == torch.bfloat16 else outputs, batch

    shares: Sequence[Tensor] = ()
    if discarding is not None and not at_once:
        found = _losses_and_weights(partial(forward, ranks.unwrapped(model)), parts, task, batch_norms(model))
        shares = discarding.shares(*found, index, ranks).split([len(part) for part in parts])
    for number, part in enumerate(parts):
        with ranks.no_sync(model) if number + 1 < len(parts) else nullcontext():
            outputs, batch = forward(model, part)
            if discarding is not None:
                losses = task.losses(outputs, batch)
                of_part = shares[number] if shares else discarding.shares(losses, task.weights(batch), index, ranks)
                loss = ranks.world * _weighted_sum(losses, of_part)
            elif len(parts) == ranks.world == 1:
                loss = task.mean_loss(outputs, batch)
            else:
                loss = task.sum_loss(outputs, batch) * (ranks.world / task.total_weight(training, index))
            loss.backward()  # type: ignore[no-untyped-call]
        if moments is not None:
            moments += _loss_moments(task, outputs.detach(), batch)


def _losses_and_weights(
    forward: Callable[[Tensor], tuple[Tensor, Batch]], parts: Sequence[Tensor], task: Task, norms: list[_BatchNorm]
) -> tuple[Tensor, Tensor]:
    """Return the losses and weights (n,) of all parts; the passes after it draw the same random numbers (dropout)."""
    with torch.no_grad(), seeds.kept(), _untracked(norms):
        found = [(task.losses(outputs, batch), task.weights(batch)) for outputs, batch in map(forward, parts)]
    losses, weights = (torch.cat(of_parts) for of_parts in zip(*found, strict=True))
    return losses, weights


def _weighted_sum(losses: Tensor, shares: Tensor) -> Tensor:
    """Return the sum of losses times shares; a loss without a share may be infinite."""
    return (torch.where(shares > 0, losses, 0.0) * shares.to(losses.dtype)).sum()


def _loss_moments(task: Task, outputs: Tensor, batch: Batch) -> Tensor:
    losses, weights = task.losses(outputs, batch).double(), task.weights(batch).double()
    return torch.stack([weights.sum(), (weights * losses).sum(), (weights * losses.square()).sum()])


def make_update(
    model: nn.Module,
    optimizer: Optimizer,
    training: Images,
    settings: TrainSettings,
    *,
    augmentation: Augmentation | None = None,
    ranks: Ranks = ALONE,
    task: Task = CLASSIFICATION,
    observers: Sequence[Observer] = (),
    discarding: Discarding | None = None,
) -> Callable[[Tensor, float | Tensor], None]:
    """Return a function of a batch's indices and the learning rate that makes one update of the model in place.

    The observers read the batch's losses and its gradients before the step, and the weights after it.
    """
    of_losses = [observer for observer in observers if observer.reads_losses]
    examples = task.total_weight(training)

    def update(index: Tensor, lr: float | Tensor) -> None:
        optimizer.zero_grad()
        moments = torch.zeros(3, dtype=torch.float64, device=index.device) if of_losses else None
        backward(
            model, training, index, settings, augmentation=augmentation, ranks=ranks, task=task, moments=moments,
            discarding=discarding,
        )  # fmt: skip
        if moments is not None:
            moments = ranks.total(moments)
        for observer in of_losses:
            observer.read_losses(moments, examples)  # type: ignore[arg-type]
        for observer in observers:
            observer.before_step(lr)
        optimizer.step(lr)
        for observer in observers:
            observer.after_step(lr)

    return update


def needs_recomputation(model: nn.Module, settings: TrainSettings) -> bool:
    """Return whether a batch is too large for memory, and must go through at once because of batch norm."""
    batch = settings.batch
    return batch.micro_batch is not None and batch.micro_batch_norm == "whole" and bool(batch_norms(model))


@contextmanager
def recompute_units(model: nn.Module, wanted: bool) -> Iterator[None]:
    """Within the block, the backward pass computes the inside of each unit layer again instead of keeping it.

    Only the outputs of units are kept, so a batch needs a third of the memory or less. Values and gradients have the
    same bits; the cost is a second forward pass, which leaves batch norm's running statistics alone.

    Raises:
        InputError: no unit layer has weights, so nothing would be saved.
    """
    units = (
        [unit for unit in unit_layers(model).values() if next(unit.parameters(), None) is not None] if wanted else []
    )
    if wanted and not units:
        raise InputError(
            "train.batch.micro_batch with micro_batch_norm=whole computes unit layers twice, but no unit layer of this "
            "network has weights: give the network `unit_layers`, or set train.batch.micro_batch_norm=ghost"
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
    bfloat16 = settings.precision.compute == "bfloat16"
    return torch.autocast(device_type, torch.bfloat16) if bfloat16 else nullcontext()
