"""The batches of an epoch, and whether a network can be trained on them."""

import torch
from torch import Tensor, nn

from gapscope import seeds
from gapscope.errors import InputError
from gapscope.models import batch_norms
from gapscope.optim.schedules import Schedule
from gapscope.training.distributed import ALONE, Ranks
from gapscope.training.settings import TrainSettings


def batches(images: int, size: int, updates: int, seed: int, epoch: int, device: str = "cpu") -> tuple[Tensor, ...]:  # noqa: PLR0917
    """Return the index tensors of one epoch: one permutation, drawn from (seed, epoch), cut into batches."""
    order = torch.randperm(images, generator=seeds.generator(seed, "order", epoch)).to(device)
    return tuple(order.split(size)[:updates])


def check_batches(
    model: nn.Module, images: int, schedule: Schedule, settings: TrainSettings, ranks: Ranks = ALONE
) -> None:
    """Raise InputError if the network cannot be trained on one of a run's batches.

    Args:
        model: the network.
        images: size of the training set.
        schedule: of the run.
        settings: of the run.
        ranks: how many processes share a batch.
    """
    ghost = settings.batch.micro_batch if settings.batch.micro_batch_norm == "ghost" and batch_norms(model) else None
    if ghost is not None and ranks.world > 1:
        raise InputError(
            "train.batch.micro_batch_norm=ghost needs a single rank; several ranks take batch norm's statistics over "
            "the global batch: set it to whole"
        )
    for size in dict.fromkeys(schedule.batch_sizes):
        if settings.batch.micro_batch is not None and settings.batch.micro_batch > size:
            raise InputError(
                f"train.batch.micro_batch must be at most the batch size, {size}, got {settings.batch.micro_batch}"
            )
        if ranks.world > size:
            raise InputError(
                f"{ranks.world} ranks cannot share a batch of {size}: start fewer ranks, or use a larger batch"
            )
        if not batch_norms(model):
            continue
        lasts = {size} if settings.batch.drop_last else {size, images % size or size}
        if ghost is not None:
            lasts = {last % ghost or ghost for last in lasts}
        if 1 in lasts:
            raise InputError(
                f"batch_size {size} leaves a batch of one of the {images} images, for which batch norm is undefined; "
                "use another size, or train.batch.drop_last=true, or train.batch_norm=false"
            )
