"""Stochastic gradient descent with momentum, in one fused kernel."""

from collections.abc import Sequence

from torch import Tensor
from torch.optim.sgd import sgd

from gapscope.optim.fused import FusedOptimizer


class SGD(FusedOptimizer):
    """v <- momentum v + g, w <- w - lr v."""

    name = "sgd"

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
