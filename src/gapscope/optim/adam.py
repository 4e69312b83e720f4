"""Adam, in one fused kernel."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.optim.adam import adam

from gapscope.optim.fused import FusedOptimizer

BETAS, EPSILON = (0.9, 0.999), 1e-8  # Kingma & Ba 2015, and PyTorch's defaults


class Adam(FusedOptimizer):
    """Kingma & Ba 2015, algorithm 1, with the L2 form of weight decay."""

    name = "adam"

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
            beta1=BETAS[0],
            beta2=BETAS[1],
            lr=lr,
            weight_decay=weight_decay,
            eps=EPSILON,
            maximize=False,
        )
