"""Which samples of a batch to discard: those of small loss (Gao & Zhong, section 3.1), and the controls beside it.

Before training, the small losses are those of some classes, so discarding them changes the class mix. A mean over fewer
samples also divides by less. The controls tell these effects apart from that of the losses themselves.

Everything is done by tensor operations of fixed shapes on the device of the losses, so that it can be part of a CUDA
graph.
"""

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:  # params are checked without torch
    import torch
    from torch import Tensor

PARTS = 10  # of equal size, discarded one after the other: 10 %, 20 %, ... 90 %
OF_CLASSES = ("class_mix", "within_class")  # these need the class of each sample
CHOICES = ("small_loss", "large_loss", "random", *OF_CLASSES)


class Order(NamedTuple):
    """The order in which samples are discarded.

    Attributes:
        rank: of each sample within its group (b,): 0 is discarded first.
        size: number of samples in each sample's group (b,), or in the only group.
    """

    rank: "Tensor"
    size: "Tensor | int"


def discard_order(choice: str, losses: "Tensor", labels: "Tensor | None", tickets: "Tensor") -> Order:
    """Return the order in which a choice discards the samples of a batch.

    small_loss: the smallest losses first. large_loss: the largest. random: at random. class_mix: at random, but from
    each class as many as small_loss takes. within_class: the smallest losses of each class, as many from each.

    Equal losses keep their order in the batch. A loss that is NaN is discarded last.

    Args:
        choice: one of `CHOICES`.
        losses: of each sample (b,).
        labels: class of each sample (b,), for the choices in `OF_CLASSES`.
        tickets: a random number of each sample (b,), all different.

    Example:
        >>> discard_order("small_loss", torch.tensor([0.3, 0.1, 0.2]), None, torch.arange(3))
        Order(rank=tensor([2, 0, 1]), size=3)
    """
    import torch

    count, losses = len(losses), losses.detach()
    if choice == "large_loss":
        return Order(_ranks(-losses), count)
    random = _ranks(tickets)
    if choice == "random":
        return Order(random, count)
    small = _ranks(losses)
    if choice == "small_loss":
        return Order(small, count)
    assert labels is not None
    by_loss = (labels * count + small).argsort()  # class by class, the smallest loss of each first
    if choice == "class_mix":
        by_ticket = (labels * count + random).argsort()
        return Order(torch.empty_like(small).scatter_(0, by_ticket, small[by_loss]), count)
    grouped = labels[by_loss]
    first, end = torch.searchsorted(grouped, grouped), torch.searchsorted(grouped, grouped, right=True)
    places = torch.arange(count, device=small.device)
    return Order(*(torch.empty_like(small).scatter_(0, by_loss, of) for of in (places - first, end - first)))


def kept(order: Order, share: float) -> "Tensor":
    """Return which samples are kept (b,) if a share of each group is discarded, rounded up; one always stays.

    Example:
        >>> kept(Order(torch.tensor([2, 0, 1]), 3), 0.9)
        tensor([ True, False, False])
    """
    rank = order.rank.double()
    return (rank / order.size >= share) | (order.rank == order.size - 1)


def discard_parts(losses: "Tensor", labels: "Tensor", generator: "torch.Generator") -> "dict[str, Tensor]":
    """Return for each of `CHOICES` the part 0 .. 9 of each sample (b,): to discard 30 % leaves out parts 0, 1 and 2.

    Args:
        losses: of each sample (b,).
        labels: class of each sample (b,).
        generator: of the random choices, on the CPU.

    Example:
        >>> parts = discard_parts(torch.arange(20.0), torch.zeros(20, dtype=torch.int64), torch.Generator())
        >>> parts["small_loss"].tolist()
        [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9]
    """
    import torch

    tickets = torch.randperm(len(losses), generator=generator)
    found = {choice: discard_order(choice, losses.cpu(), labels.cpu(), tickets) for choice in CHOICES}
    return {choice: order.rank * PARTS // order.size for choice, order in found.items()}


def _ranks(keys: "Tensor") -> "Tensor":
    """Return the rank of each key (b,); equal keys keep their order."""
    import torch

    places = torch.arange(len(keys), device=keys.device)
    return torch.empty_like(places).scatter_(0, keys.argsort(stable=True), places)
