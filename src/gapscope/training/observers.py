"""What is recorded during training, beyond the history of error and loss.

An observer reads within updates: the gradients before the optimiser's step, the weights after it. It accumulates on the
device and gives rows at the end of each epoch. It draws no random numbers and changes nothing, so a run has the same
bits with or without it.

On a GPU an update is recorded as a CUDA graph (`training.graphs`), with an observer that works by tensor operations in
place. One that needs Python at each update (to wait for the device, print, or decide) sets `in_graphs` to False: the
run is then trained without graphs, and its record says so.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from gapscope.errors import InputError, did_you_mean
from gapscope.import_paths import imported
from gapscope.optim.optimizer import Optimizer
from gapscope.optim.schedules import Schedule

Row = dict[str, Any]  # epoch, layer, quantity, value


class Observer(ABC):
    """Reads a run at some of its updates.

    Args:
        parameters: the network's, by name.
        optimizer: of the run.
        schedule: of the run: batch sizes, updates and learning rates.

    Attributes:
        name: as in `train.observers`; `observers` sets it.
        in_graphs: whether it can be part of a CUDA graph.
    """

    name = ""
    in_graphs = True

    def __init__(self, parameters: Mapping[str, Tensor], optimizer: Optimizer, schedule: Schedule) -> None:
        self.parameters, self.optimizer, self.schedule = parameters, optimizer, schedule

    def reads(self, update: int) -> bool:
        """Return whether it reads at this update (the first one is 0); the two methods below are called there only."""
        return True

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
        path: |dw| summed over all updates so far.
        net_displacement: |w - w_initial|.
    """

    def __init__(self, parameters: Mapping[str, Tensor], optimizer: Optimizer, schedule: Schedule) -> None:
        super().__init__(parameters, optimizer, schedule)
        self._weights = [p.detach() for p in parameters.values()]
        self._initial = [w.clone() for w in self._weights]
        self._before = [w.clone() for w in self._weights]
        self._sizes = torch.tensor([max(w.numel(), 1) for w in self._weights], dtype=torch.float64)
        device = self._weights[0].device
        # of this epoch's updates: how many, and the sums of |dw| and of |dw| / lr; the path of the epochs before
        self._updates = torch.zeros((), dtype=torch.float64, device=device)
        self._sums = torch.zeros(2, len(self._weights), dtype=torch.float64, device=device)
        self._path = torch.zeros(len(self._weights), dtype=torch.float64, device=device)

    @torch.no_grad()
    def before_step(self, lr: float | Tensor) -> None:
        """Keep the weights."""
        torch._foreach_copy_(self._before, self._weights)

    @torch.no_grad()
    def after_step(self, lr: float | Tensor) -> None:
        """Add the lengths of this update's steps."""
        steps = torch._foreach_sub(self._weights, self._before)
        lengths = torch.stack(torch._foreach_norm(steps, 1, dtype=torch.float64))
        self._sums[0] += lengths
        self._sums[1] += lengths / lr
        self._updates += 1

    def state(self) -> dict[str, Tensor]:
        """Return the sums; the initial weights are those that the network was made with."""
        return {"updates": self._updates, "sums": self._sums, "path": self._path}

    def rows(self, epoch: int) -> Iterator[Row]:
        """Yield four rows for each parameter tensor."""
        self._path += self._sums[0]
        strides, per_lr = (self._sums / self._updates).cpu() / self._sizes
        path = self._path.cpu() / self._sizes
        moves = torch._foreach_sub(self._weights, self._initial)
        net = torch.stack(torch._foreach_norm(moves, 1, dtype=torch.float64)).cpu() / self._sizes
        for number, layer in enumerate(self.parameters):
            values = {"stride": strides, "stride_per_lr": per_lr, "path": path, "net_displacement": net}
            for quantity, found in values.items():
                yield {"epoch": epoch, "layer": layer, "quantity": quantity, "value": float(found[number])}
        self._sums.zero_()
        self._updates.zero_()


OBSERVERS: dict[str, Callable[[Mapping[str, Tensor], Optimizer, Schedule], Observer]] = {"strides": Strides}


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
