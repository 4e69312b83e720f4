"""LAMB: Adam's direction, with the length of each tensor's step in proportion to the tensor's norm."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gapscope.errors import InputError
from gapscope.optim.fused import FusedOptimizer
from gapscope.optim.own_settings import WHERE, check_range, own_settings


@dataclass(frozen=True)
class LambSettings:
    """`betas` and `epsilon` as of Adam; `bias_correction` of both running means (algorithm 2 of You et al. has it)."""

    betas: tuple[float, ...] = (0.9, 0.999)
    epsilon: float = 1e-6  # You et al. 2019b
    bias_correction: bool = True

    def __post_init__(self) -> None:
        if len(self.betas) != 2:
            raise InputError(f"{WHERE}.betas must be two numbers, got {len(self.betas)}")
        for beta in self.betas:
            check_range("betas", beta, 0.0, 1.0)
        check_range("epsilon", self.epsilon, 0.0)


class LAMB(FusedOptimizer):
    """You et al. 2019b, algorithm 2: u = m / (sqrt(v) + epsilon) + beta w, w <- w - lr ||w|| / ||u|| u.

    All tensors are scaled, also biases and batch norm. Where ||w|| or ||u|| is zero, the factor is 1. There is no
    clipping of the gradient. The momentum is the first of `betas`.
    """

    name = "lamb"

    def __init__(
        self, decayed: Sequence[Tensor], others: Sequence[Tensor], *, weight_decay: float, settings: Mapping[str, Any]
    ) -> None:
        super().__init__(decayed, others, weight_decay, ["mean", "square"])
        self.settings = own_settings(LambSettings, settings)
        for members, _ in self._groups:
            for parameter, state in members:  # float64: 1 - 0.999 would lose four digits
                state["step"] = torch.zeros((), dtype=torch.float64, device=parameter.device)

    def _update(
        self,
        parameters: list[Tensor],
        gradients: list[Tensor],
        states: dict[str, list[Tensor]],
        lr: float | Tensor,
        weight_decay: float,
    ) -> None:
        (first, second), means, squares = self.settings.betas, states["mean"], states["square"]
        torch._foreach_add_(states["step"], 1.0)
        torch._foreach_lerp_(means, gradients, 1 - first)
        torch._foreach_mul_(squares, second)
        torch._foreach_addcmul_(squares, gradients, gradients, 1 - second)
        steps, below = list(means), list(torch._foreach_sqrt(squares))
        if self.settings.bias_correction:
            taken = torch.stack(states["step"])
            steps = list(torch._foreach_div(steps, list((1 - first**taken).unbind())))
            torch._foreach_div_(below, list((1 - second**taken).sqrt().unbind()))
        torch._foreach_add_(below, self.settings.epsilon)
        steps = list(torch._foreach_div(steps, below))
        if weight_decay:
            torch._foreach_add_(steps, parameters, alpha=weight_decay)
        size, length = (torch.stack(torch._foreach_norm(of)) for of in (parameters, steps))
        rates = lr * torch.where((size > 0) & (length > 0), size / length, 1.0)
        torch._foreach_sub_(parameters, torch._foreach_mul(steps, list(rates.unbind())))
