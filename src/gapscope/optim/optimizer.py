"""What training needs of an optimiser: two groups of parameters, a step at a given rate, and a state to be saved."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from torch import Tensor


class Optimizer(ABC):
    """Two groups of parameters, one with weight decay and one without.

    Attributes:
        name: as in `train.optimizer.name`.
        in_graphs: whether a step can be recorded as part of a CUDA graph, with the rate as a tensor on the device.
    """

    name: str
    in_graphs = True

    @abstractmethod
    def zero_grad(self) -> None:
        """Forget the gradients."""

    @abstractmethod
    def step(self, lr: float | Tensor) -> None:
        """Update every parameter that has a gradient; the rate may be a tensor on the parameters' device."""

    @abstractmethod
    def state(self) -> dict[str, Tensor]:
        """Return the tensors of the state, by name; a checkpoint holds them."""

    def numbers(self) -> dict[str, Any]:
        """Return the rest of the state, as a JSON object."""
        return {}

    @abstractmethod
    def restore(self, tensors: Mapping[str, Tensor], numbers: Mapping[str, Any]) -> None:
        """Go back to a state that `state` and `numbers` returned."""
