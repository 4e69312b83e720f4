"""What is recorded during training, beyond the history of error and loss.

An observer reads within updates: the losses of the batch, the gradients before the optimiser's step, the weights after
it. It accumulates on the device and gives rows at the end of each epoch. It draws no random numbers and changes
nothing, so a run has the same bits with or without it.

On a GPU an update is recorded as a CUDA graph (`training.graphs`), with an observer that works by tensor operations in
place. One that needs Python at each update (to wait for the device, print, or decide) sets `in_graphs` to False: the
run is then trained without graphs, and its record says so.
"""

from abc import ABC, abstractmethod
from bisect import bisect
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import reduce
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from gapscope.errors import InputError, did_you_mean
from gapscope.import_paths import imported
from gapscope.optim.optimizer import Optimizer
from gapscope.optim.schedules import Schedule

Row = dict[str, Any]  # epoch, quantity, value, and further axes such as layer or update


class Observer(ABC):
    """Reads a run at some of its updates.

    Args:
        parameters: the network's, by name.
        optimizer: of the run.
        schedule: of the run: batch sizes, updates and learning rates.

    Attributes:
        name: as in `train.observers`; `observers` sets it.
        in_graphs: whether it can be part of a CUDA graph.
        reads_losses: whether `read_losses` is called, which takes each example's loss once more.
    """

    name = ""
    in_graphs = True
    reads_losses = False

    def __init__(self, parameters: Mapping[str, Tensor], optimizer: Optimizer, schedule: Schedule) -> None:
        self.parameters, self.optimizer, self.schedule = parameters, optimizer, schedule

    def reads(self, update: int) -> bool:
        """Return whether it reads at this update (the first one is 0); the methods below are called there only."""
        return True

    def read_losses(self, moments: Tensor, examples: float) -> None:  # noqa: B027
        """Read the losses of the batch before the update.

        Args:
            moments: number, sum and sum of squares of the examples' losses, over all micro-batches and ranks; (3,),
                float64.
            examples: number of examples in the training set.
        """

    def before_step(self, lr: float | Tensor) -> None:  # noqa: B027
        """Read the gradients of an update; also its rate, which is a tensor within a CUDA graph."""

    def after_step(self, lr: float | Tensor) -> None:  # noqa: B027
        """Read the weights after the optimiser's step."""

    @abstractmethod
    def state(self) -> dict[str, Tensor]:
        """Return by name all tensors that change from update to update; a checkpoint holds them."""

    @abstractmethod
    def rows(self, epoch: int) -> Iterator[Row]:
        """Yield what there is to record at the end of an epoch, and start the next one."""


class Strides(Observer):
    """How far the weights move: the strides of Gao & Zhong, for each parameter tensor.

    Quantities, each a mean over the entries of a tensor:
        stride: |dw| of an update, averaged over the epoch's updates.
        stride_per_lr: the same, with each update's |dw| divided by its learning rate.
        mean_square_gradient: g^2 of an update, averaged over the epoch's updates.
        path: |dw| summed over all updates so far.
        net_displacement: |w - w_initial|.
    """

    ROW = 256  # entries that are summed in one go

    def __init__(self, parameters: Mapping[str, Tensor], optimizer: Optimizer, schedule: Schedule) -> None:
        super().__init__(parameters, optimizer, schedule)
        self._weights = [p.detach() for p in parameters.values()]
        self._initial = [w.clone() for w in self._weights]
        sizes, device = [w.numel() for w in self._weights], self._weights[0].device
        self._sizes = torch.tensor(sizes, dtype=torch.float64).clamp_(min=1)
        # gradients and weights, each tensor from the start of a row on: one operation sums the rows of all tensors
        self._rows = [-(-size // self.ROW) for size in sizes]
        dtype = reduce(torch.promote_types, {w.dtype for w in self._weights})
        self._buffer = torch.zeros(2, sum(self._rows), self.ROW, dtype=dtype, device=device)
        self._gradients, self._before = (
            [part.flatten()[: w.numel()].view(w.shape) for part, w in zip(half.split(self._rows), self._weights)]
            for half in self._buffer
        )
        # of this epoch's updates: number, and sums of g^2, |dw| and |dw| / lr by row; then the path of earlier epochs
        self._updates = torch.zeros((), dtype=torch.float64, device=device)
        self._sums = torch.zeros(3, sum(self._rows), dtype=torch.float64, device=device)
        self._path = torch.zeros(len(self._weights), dtype=torch.float64)

    @torch.no_grad()
    def before_step(self, lr: float | Tensor) -> None:
        """Keep the gradients and the weights."""
        gradients = [p.grad if p.grad is not None else torch.zeros_like(p) for p in self.parameters.values()]
        torch._foreach_copy_(self._gradients, gradients)
        torch._foreach_copy_(self._before, self._weights)

    @torch.no_grad()
    def after_step(self, lr: float | Tensor) -> None:
        """Add the squares of this update's gradients and the lengths of its steps."""
        torch._foreach_sub_(self._before, self._weights)
        self._buffer[0].square_()
        self._buffer[1].abs_()
        sums = self._buffer.sum(2).double()
        self._sums[:2] += sums
        self._sums[2] += sums[1] / lr
        self._updates += 1

    def state(self) -> dict[str, Tensor]:
        """Return the sums; the initial weights are those that the network was made with."""
        return {"updates": self._updates, "sums": self._sums, "path": self._path}

    def rows(self, epoch: int) -> Iterator[Row]:
        """Yield five rows for each parameter tensor."""
        found = [part.sum(1) for part in self._sums.cpu().split(self._rows, dim=1)]
        squares, lengths, per_lr = torch.stack(found, 1)
        self._path += lengths
        updates = self._updates.cpu()
        values = {"stride": lengths / updates, "stride_per_lr": per_lr / updates, "path": self._path}
        values |= {"mean_square_gradient": squares / updates}
        moves = torch._foreach_sub(self._weights, self._initial)
        values["net_displacement"] = torch.stack(torch._foreach_norm(moves, 1, dtype=torch.float64)).cpu()
        means = {quantity: (of / self._sizes).tolist() for quantity, of in values.items()}
        for number, layer in enumerate(self.parameters):
            for quantity, of in means.items():
                yield {"epoch": epoch, "layer": layer, "quantity": quantity, "value": of[number]}
        self._sums.zero_()
        self._updates.zero_()


class Losses(Observer):
    """The loss of single batches before their updates, at `READS` updates of an epoch at most, evenly spaced.

    Quantities:
        batch_loss: the mean loss of the batch, in training mode.
        batch_loss_sampling_sd: the standard deviation that this mean has because the batch is a random sample of the
            training set, sd sqrt(1/n - 1/N), with the sd of the batch's own losses.
    """

    READS = 50
    reads_losses = True

    def __init__(self, parameters: Mapping[str, Tensor], optimizer: Optimizer, schedule: Schedule) -> None:
        super().__init__(parameters, optimizer, schedule)
        self._firsts = [0, *accumulate(schedule.updates)]
        device = next(iter(parameters.values())).device
        self._read = torch.zeros(1, dtype=torch.int64, device=device)  # in this epoch
        self._found = torch.zeros(self.READS, 2, dtype=torch.float64, device=device)

    def reads(self, update: int) -> bool:
        """Return whether the update is one of those of its epoch that are read."""
        return update in self._updates_read(bisect(self._firsts, update))

    def read_losses(self, moments: Tensor, examples: float) -> None:
        """Keep the mean loss and the variance of that mean."""
        count, total, squares = moments
        mean = total / count
        variance = (squares / count - mean.square()).clamp(min=0) / (count - 1)
        found = torch.stack([mean, (variance * (1 - count / examples)).clamp(min=0).sqrt()])
        self._found.index_copy_(0, self._read, found[None])
        self._read += 1

    def state(self) -> dict[str, Tensor]:
        """Return what was read in this epoch."""
        return {"read": self._read, "found": self._found}

    def rows(self, epoch: int) -> Iterator[Row]:
        """Yield two rows for each update that was read; the first update of a run is number 1."""
        read = self._found[: int(self._read)].tolist()
        for update, values in zip(self._updates_read(epoch), read, strict=False):
            for quantity, value in zip(("batch_loss", "batch_loss_sampling_sd"), values, strict=True):
                yield {"epoch": epoch, "update": update + 1, "quantity": quantity, "value": value}
        self._read.zero_()

    def _updates_read(self, epoch: int) -> list[int]:
        first, count = self._firsts[epoch - 1], self._firsts[epoch] - self._firsts[epoch - 1]
        reads = min(count, self.READS)
        return [first + (2 * read + 1) * count // (2 * reads) for read in range(reads)]


OBSERVERS: dict[str, Callable[[Mapping[str, Tensor], Optimizer, Schedule], Observer]] = {
    "strides": Strides,
    "losses": Losses,
}


def make_observers(
    names: Sequence[str], parameters: Mapping[str, Tensor], optimizer: Optimizer, schedule: Schedule
) -> list[Observer]:
    """Return a run's observers, built-in or given by an import path.

    Raises:
        InputError: an unknown name, an import path that leads nowhere, or something that is no observer.
    """
    found = []
    for name in names:
        if name not in OBSERVERS and ":" not in name:
            raise InputError(
                f"train.observers: unknown observer {name!r}; {did_you_mean(name, OBSERVERS)} (or an import path, "
                "package.module:Class)"
            )
        make = OBSERVERS.get(name) or imported(name, "observer")
        if not (isinstance(make, type) and issubclass(make, Observer)):
            raise InputError(f"train.observers: {name} is not a subclass of gapscope.training.observers.Observer")
        observer = make(parameters, optimizer, schedule)
        observer.name = name
        found.append(observer)
    return found


def choose_update(
    make: Callable[[Sequence[Observer]], Callable[[Tensor, float], None]], observers: Sequence[Observer]
) -> Callable[[Tensor, float, int], None]:
    """Return a function of a batch's indices, the rate and the update's number that makes one update.

    Updates at which different observers read are made by functions of their own, so that each can be a CUDA graph.

    Args:
        make: returns an update that the given observers read.
        observers: of the run.
    """
    made: dict[tuple[Observer, ...], Callable[[Tensor, float], None]] = {}

    def update(index: Tensor, lr: float, number: int) -> None:
        reading = tuple(observer for observer in observers if observer.reads(number))
        if reading not in made:
            made[reading] = make(reading)
        made[reading](index, lr)

    return update
