"""Built-in optimisers: those whose update is written for all tensors at once.

SGD and Adam call the same kernels as `torch.optim.SGD` and `torch.optim.Adam` with fused=True, and give the same bits.
The others use PyTorch's operations on lists of tensors. All do without PyTorch's optimiser objects, whose constructors
import torch._dynamo: seconds in every training stage.
"""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from gapscope.optim.optimizer import Optimizer
from gapscope.records.tensors import copy_tensors


class FusedOptimizer(Optimizer):
    """An optimiser that updates a list of tensors at once.

    Args:
        decayed: parameters that weight decay covers.
        others: parameters that it does not cover.
        weight_decay: lambda; adds lambda w to the gradient of a decayed parameter.
        kept: names of the state's tensors. Each has its parameter's shape and is zero at first.
    """

    def __init__(
        self, decayed: Sequence[Tensor], others: Sequence[Tensor], weight_decay: float, kept: Sequence[str]
    ) -> None:
        self._groups = [
            ([(p, {name: torch.zeros_like(p) for name in kept}) for p in parameters], decay)
            for parameters, decay in ((decayed, weight_decay), (others, 0.0))
        ]

    def state(self) -> dict[str, Tensor]:
        """Return the state by name and number of its parameter, the decayed ones first."""
        states = [state for members, _ in self._groups for _, state in members]
        return {f"{name}.{i}": tensor for i, state in enumerate(states) for name, tensor in state.items()}

    @torch.no_grad()
    def restore(self, tensors: Mapping[str, Tensor], numbers: Mapping[str, Any]) -> None:
        """Copy the tensors; ValueError if they are not those of this optimiser."""
        copy_tensors(tensors, self.state())

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for members, _ in self._groups:
            for parameter, _ in members:
                parameter.grad = None

    @torch.no_grad()
    def step(self, lr: float | Tensor) -> None:
        """Update every parameter that has a gradient; the rate may be a tensor on the parameters' device."""
        for members, decay in self._groups:
            moved = [(p, state) for p, state in members if p.grad is not None]
            if moved:
                parameters = [p for p, _ in moved]
                states = {name: [state[name] for _, state in moved] for name in moved[0][1]}
                self._update(parameters, [p.grad for p in parameters if p.grad is not None], states, lr, decay)

    @abstractmethod
    def _update(
        self,
        parameters: list[Tensor],
        gradients: list[Tensor],
        states: dict[str, list[Tensor]],
        lr: float | Tensor,
        weight_decay: float,
    ) -> None:
        """Update the parameters of one group, and their states, in place.

        Args:
            parameters: those that have a gradient.
            gradients: of the loss, without weight decay.
            states: name -> one tensor per parameter.
            lr: learning rate; a tensor on the device within a CUDA graph, so do not turn it into a number.
            weight_decay: of the group.
        """
