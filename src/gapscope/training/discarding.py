"""Samples that are left out of a batch's gradient: Gao & Zhong, section 3.1, and the controls beside it.

The whole batch goes through the network, so batch norm sees all of it. The whole batch is ranked too, however it is
split into micro-batches or over ranks. Random choices have a stream of their own, one draw for each epoch.
"""

import torch
from torch import Tensor

from gapscope.data.images import Images
from gapscope.errors import InputError
from gapscope.numerics.discarding import OF_CLASSES, discard_order, kept
from gapscope.tasks.classification import Classification
from gapscope.tasks.task import Task
from gapscope.training.distributed import Ranks
from gapscope.training.settings import DiscardSettings


class Discarding:
    """What a run leaves out of its gradients.

    Args:
        settings: share, epochs, choice and mean.
        training: the training set.
    """

    def __init__(self, settings: DiscardSettings, training: Images) -> None:
        self.settings, self._labels = settings, training.labels
        self._tickets = torch.arange(len(training), device=training.labels.device)

    def during(self, epoch: int) -> bool:
        """Return whether samples are discarded in this epoch (the first one is 1)."""
        return self.settings.epochs is None or epoch <= self.settings.epochs

    def redraw(self, generator: torch.Generator) -> None:
        """Draw an epoch's random order of the training set, in place, so that a CUDA graph reads it."""
        self._tickets.copy_(torch.randperm(len(self._tickets), generator=generator))

    def shares(self, losses: Tensor, weights: Tensor, index: Tensor, ranks: Ranks) -> Tensor:
        """Return the share of each sample in the batch's loss, 0 for those that are discarded.

        Args:
            losses: of this rank's samples (n,).
            weights: of the same samples (n,).
            index: of the whole batch (b,), over all ranks.
            ranks: this process among those that share the batch.

        Returns:
            (n,), float64. Over all ranks the shares add up to 1, or with the mean over the batch to the kept part.
        """
        losses, weights = (ranks.of_all(values.detach().double(), index) for values in (losses, weights))
        labels = self._labels[index] if self.settings.by in OF_CLASSES else None
        order = discard_order(self.settings.by, losses, labels, self._tickets[index])
        left = weights * kept(order, self.settings.share)
        total = left.sum() if self.settings.mean == "kept" else weights.sum()
        return ranks.own_part(left / total)


def make_discarding(settings: DiscardSettings | None, training: Images) -> Discarding | None:
    """Return what a run discards; None if that is nothing."""
    return Discarding(settings, training) if settings is not None and settings.share else None


def check_discarding(settings: DiscardSettings | None, task: Task) -> None:
    """Raise InputError if samples are to be chosen by their classes in a task that has none."""
    if settings is not None and settings.by in OF_CLASSES and not isinstance(task, Classification):
        raise InputError(
            f"train.discard.by={settings.by} needs the class of each sample, and {type(task).__name__} is no "
            "classification: set it to small_loss, large_loss or random"
        )
