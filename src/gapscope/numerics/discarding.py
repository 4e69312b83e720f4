"""Which samples of a batch to discard: those of small loss (Gao & Zhong, section 3.1), and the controls beside it.

Before training, the small losses are those of some classes, so discarding them changes the class mix. A mean over fewer
samples also divides by less. The controls tell these effects apart from that of the losses themselves.
"""

import torch
from torch import Tensor

PARTS = 10  # of equal size, discarded one after the other: 10 %, 20 %, ... 90 %
CHOICES = ("small_loss", "large_loss", "random", "class_mix", "within_class")


def discard_parts(losses: Tensor, labels: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
    """Return for each of `CHOICES` the part 0 .. 9 of each sample (b,): to discard 30 % leaves out parts 0, 1 and 2.

    small_loss: the smallest losses first. large_loss: the largest. random: at random. class_mix: at random, but from
    each class as many as small_loss takes. within_class: the smallest losses of each class, as many from each.

    Args:
        losses: of each sample (b,).
        labels: class of each sample (b,).
        generator: of the random choices, on the CPU.

    Example:
        >>> parts = discard_parts(torch.arange(20.0), torch.zeros(20, dtype=torch.int64), torch.Generator())
        >>> parts["small_loss"].tolist()
        [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9]
    """
    losses, labels = losses.detach().cpu(), labels.cpu()
    ranks = torch.randperm(len(losses), generator=generator)
    found = {"small_loss": _parts(losses), "large_loss": _parts(-losses), "random": _parts(ranks)}
    found |= {"class_mix": torch.empty_like(labels), "within_class": torch.empty_like(labels)}
    for label in labels.unique():
        own = (labels == label).nonzero()[:, 0]
        by_rank = own[ranks[own].argsort()]
        found["class_mix"][by_rank] = found["small_loss"][own].sort().values
        found["within_class"][own] = _parts(losses[own])
    return found


def _parts(keys: Tensor) -> Tensor:
    """Return the part of each sample by the rank of its key; equal keys keep their order."""
    parts = torch.empty(len(keys), dtype=torch.int64)
    parts[keys.argsort(stable=True)] = torch.arange(len(keys)) * PARTS // len(keys)
    return parts
