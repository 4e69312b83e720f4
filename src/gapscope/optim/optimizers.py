"""SGD with momentum, and Adam, as PyTorch computes them, without the optimiser objects around them.

The same fused kernels and the same bits as `torch.optim.SGD` and `torch.optim.Adam` with fused=True, whose constructors
import torch._dynamo: seconds in every training stage.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.optim.adam import adam
from torch.optim.sgd import sgd

ADAM_BETAS, ADAM_EPSILON = (0.9, 0.999), 1e-8  # Kingma & Ba 2015, and PyTorch's defaults


class Optimizer(ABC):
    """Two groups of parameters, one with weight decay and one without, and the state kept for each parameter.

    Args:
        decayed: parameters that weight decay covers.
        others: parameters that it does not cover.
        weight_decay: lambda; adds lambda w to the gradient of a decayed parameter.
        kept: names of the state's tensors, each of its parameter's shape and zero at first.
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
    ) -> None: ...


class SGD(Optimizer):
    """v <- momentum v + g, w <- w - lr v. Arguments as in `Optimizer`."""

    def __init__(
        self, decayed: Sequence[Tensor], others: Sequence[Tensor], *, weight_decay: float, momentum: float
    ) -> None:
        super().__init__(decayed, others, weight_decay, ["velocity"])
        self.momentum = momentum

    def _update(
        self,
        parameters: list[Tensor],
        gradients: list[Tensor],
        states: dict[str, list[Tensor]],
        lr: float | Tensor,
        weight_decay: float,
    ) -> None:
        sgd(
            parameters,
            gradients,
            [*states["velocity"]],
            fused=True,
            weight_decay=weight_decay,
            momentum=self.momentum,
            lr=lr,
            dampening=0.0,
            nesterov=False,
            maximize=False,
        )


class Adam(Optimizer):
    """Kingma & Ba 2015, algorithm 1, with the L2 form of weight decay. Arguments as in `Optimizer`."""

    def __init__(self, decayed: Sequence[Tensor], others: Sequence[Tensor], *, weight_decay: float) -> None:
        super().__init__(decayed, others, weight_decay, ["mean", "square"])
        for members, _ in self._groups:
            for parameter, state in members:
                state["step"] = torch.zeros((), dtype=torch.float32, device=parameter.device)

    def _update(
        self,
        parameters: list[Tensor],
        gradients: list[Tensor],
        states: dict[str, list[Tensor]],
        lr: float | Tensor,
        weight_decay: float,
    ) -> None:
        adam(
            parameters,
            gradients,
            states["mean"],
            states["square"],
            [],
            states["step"],
            fused=True,
            amsgrad=False,
            beta1=ADAM_BETAS[0],
            beta2=ADAM_BETAS[1],
            lr=lr,
            weight_decay=weight_decay,
            eps=ADAM_EPSILON,
            maximize=False,
        )
