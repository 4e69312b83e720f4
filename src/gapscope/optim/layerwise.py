"""Rates by layer: LARS and PercentDelta. Each gives every tensor of weights a local rate, and so does `mclr`.

v <- momentum v + lr local (g + beta w), w <- w - v, with beta the weight decay. The rates are within the velocity, as
in You et al. 2017a; SGD's velocity leaves them out. With momentum 0 and beta 0 the relative step of a tensor is lr
exactly: ||dw|| / ||w|| under LARS, med|dw| / med|w| under MCLR, mean |dw / w| under PercentDelta. The gradient's size
has no part in it, so a vanishing gradient cannot shorten a step.

What the papers leave undefined:
- a tensor of zeros has no relative step: it takes the rate of the unscaled tensors until it has moved;
- a tensor without a gradient, as of dead units, stays where a rule would divide zero by zero;
- NaN in a gradient goes into the weights, and the run is recorded as diverged.

Local rates are tensors on the device, and no shape depends on a value: a step can be part of a CUDA graph.
"""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gapscope.optim.fused import FusedOptimizer
from gapscope.optim.own_settings import check_range, own_settings


class Momentum(FusedOptimizer):
    """v <- momentum v + lr s, w <- w - v, with steps s that a subclass gives."""

    def __init__(
        self,
        decayed: Sequence[Tensor],
        others: Sequence[Tensor],
        *,
        weight_decay: float,
        momentum: float,
        kept: Sequence[str] = (),
    ) -> None:
        super().__init__(decayed, others, weight_decay, ["velocity", *kept])
        self.momentum = momentum

    def _update(
        self,
        parameters: list[Tensor],
        gradients: list[Tensor],
        states: dict[str, list[Tensor]],
        lr: float | Tensor,
        weight_decay: float,
    ) -> None:
        steps = self._steps(parameters, gradients, states, weight_decay)
        torch._foreach_mul_(states["velocity"], self.momentum)
        torch._foreach_add_(states["velocity"], torch._foreach_mul(steps, lr))
        torch._foreach_sub_(parameters, states["velocity"])

    @abstractmethod
    def _steps(
        self, parameters: list[Tensor], gradients: list[Tensor], states: dict[str, list[Tensor]], weight_decay: float
    ) -> list[Tensor]:
        """Return the steps at the rate 1, in the direction of the gradient; `parameters` is not empty."""


class Layerwise(Momentum):
    """One rate per tensor. Tensors of one axis have no rate of their own: they take `unscaled_factor`.

    Biases and batch norm start at zero or one, so their size says nothing about a useful step. The factor multiplies
    the schedule's rate: warm-up, annealing and tuning then hold for all parameters, which a fixed rate would miss.

    Attributes:
        scales_vectors: whether tensors of one axis are scaled like the others.
    """

    scales_vectors = False
    unscaled_factor = 1.0

    def _steps(
        self, parameters: list[Tensor], gradients: list[Tensor], states: dict[str, list[Tensor]], weight_decay: float
    ) -> list[Tensor]:
        whole = torch._foreach_add(gradients, parameters, alpha=weight_decay) if weight_decay else gradients
        has_rate = [p.ndim > 1 or self.scales_vectors for p in parameters]
        steps = [step if own else step * self.unscaled_factor for step, own in zip(whole, has_rate, strict=True)]
        if scaled := [n for n, own in enumerate(has_rate) if own]:
            w, g, s = ([of[n] for n in scaled] for of in (parameters, gradients, whole))
            rates = self._rates(w, g, s, weight_decay)
            for n, step in zip(scaled, torch._foreach_mul(s, list(rates.unbind())), strict=True):
                steps[n] = step
        return steps

    @abstractmethod
    def _rates(
        self, parameters: list[Tensor], gradients: list[Tensor], whole: list[Tensor], weight_decay: float
    ) -> Tensor:
        """Return the local rates (k,) of k tensors.

        Args:
            parameters: w.
            gradients: g.
            whole: g + beta w.
            weight_decay: beta.
        """

    def _relative(self, size: Tensor, of_step: Tensor) -> Tensor:
        """Return size / of_step (k,): the unscaled rate where the size is zero, and 0 where only the step is zero."""
        return torch.where(size == 0, self.unscaled_factor, torch.where(of_step > 0, size / of_step, 0.0))


@dataclass(frozen=True)
class LarsSettings:
    """`unscaled_factor`: on the rate of biases and batch norm."""

    unscaled_factor: float = 1.0

    def __post_init__(self) -> None:
        check_range("unscaled_factor", self.unscaled_factor, 0.0)


class LARS(Layerwise):
    """||w|| / (||g|| + beta ||w||), You et al. 2017a; equation 23 of Gao & Zhong has no beta. lr is gamma."""

    name = "lars"

    def __init__(
        self, decayed: Sequence[Tensor], others: Sequence[Tensor], *, settings: Mapping[str, Any], **options: Any
    ) -> None:
        super().__init__(decayed, others, **options)
        self.unscaled_factor = own_settings(LarsSettings, settings).unscaled_factor

    def _rates(
        self, parameters: list[Tensor], gradients: list[Tensor], whole: list[Tensor], weight_decay: float
    ) -> Tensor:
        size, gradient = (torch.stack(torch._foreach_norm(of)) for of in (parameters, gradients))
        return self._relative(size, gradient + weight_decay * size)


@dataclass(frozen=True)
class PercentDeltaSettings:
    """`floor`: smaller weights count as this large. At 0, as printed, a tensor with a zero weight never moves."""

    floor: float = 1e-3  # a hundredth of a usual initial weight

    def __post_init__(self) -> None:
        check_range("floor", self.floor, 0.0)


class PercentDelta(Layerwise):
    """1 / mean(|g + beta w| / max(|w|, floor)), Abu-El-Haija 2017, equation 24 of Gao & Zhong; for all tensors."""

    name = "percent_delta"
    scales_vectors = True

    def __init__(
        self, decayed: Sequence[Tensor], others: Sequence[Tensor], *, settings: Mapping[str, Any], **options: Any
    ) -> None:
        super().__init__(decayed, others, **options)
        self.floor = own_settings(PercentDeltaSettings, settings).floor

    def _rates(
        self, parameters: list[Tensor], gradients: list[Tensor], whole: list[Tensor], weight_decay: float
    ) -> Tensor:
        relative = torch._foreach_div(whole, torch._foreach_clamp_min(torch._foreach_abs(parameters), self.floor))
        sums = torch.stack(torch._foreach_norm(relative, 1))
        means = torch.stack(torch._foreach_div(list(sums.unbind()), [float(p.numel()) for p in parameters]))
        return self._relative(torch.ones_like(means), means)
