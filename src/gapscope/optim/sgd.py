"""SGD with momentum as PyTorch computes it, without the optimiser object around it."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.optim.sgd import sgd


class SGD:
    """PyTorch's fused SGD over two groups of parameters, one with weight decay and one without.

    The same kernel and the same bits as `torch.optim.SGD(groups, momentum=..., fused=True)`, whose constructor imports
    torch._dynamo: seconds in every training stage.

    Args:
        decayed: parameters that weight decay covers.
        others: parameters that it does not cover.
        momentum: of the update v <- momentum v + g, w <- w - lr v.
        weight_decay: lambda; adds lambda w to the gradient of a decayed parameter.
    """

    def __init__(
        self, decayed: Sequence[Tensor], others: Sequence[Tensor], *, momentum: float, weight_decay: float
    ) -> None:
        self.momentum = momentum
        self.groups = [
            ([(p, torch.zeros_like(p)) for p in parameters], decay)
            for parameters, decay in ((decayed, weight_decay), (others, 0.0))
        ]

    @property
    def velocities(self) -> list[Tensor]:
        """The state: a tensor a parameter, the decayed ones first."""
        return [velocity for members, _ in self.groups for _, velocity in members]

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for members, _ in self.groups:
            for parameter, _ in members:
                parameter.grad = None

    @torch.no_grad()
    def step(self, lr: float) -> None:
        """Update every parameter that has a gradient."""
        for members, decay in self.groups:
            moved = [(p, p.grad, velocity) for p, velocity in members if p.grad is not None]
            if moved:
                parameters, gradients, velocities = map(list, zip(*moved, strict=True))
                sgd(
                    parameters,
                    gradients,
                    velocities,
                    fused=True,
                    weight_decay=decay,
                    momentum=self.momentum,
                    lr=lr,
                    dampening=0.0,
                    nesterov=False,
                    maximize=False,
                )
