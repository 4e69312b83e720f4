"""CBLR: a rate for each weight, from the curvature radius of Gao & Zhong, equations 9 to 11 and 17."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gapscope.errors import InputError
from gapscope.optim.layerwise import Momentum
from gapscope.optim.own_settings import check_choice, check_range, own_settings

RADII = ("hessian", "eq9", "eq17")
DIAGONALS = ("sampled", "exact")
Diagonal = Callable[[int], Sequence[Tensor]]  # update, from 0 -> the Hessian's diagonal, a tensor for each parameter
MakeDiagonal = Callable[[int, str], Diagonal]  # images per update, one of DIAGONALS


@dataclass(frozen=True)
class CblrSettings:
    """How the radius is computed.

    Attributes:
        radius: hessian, 1 / (h + damping mean h); eq9, the same times (1 + g^2)^1.5; eq17, max(|w|, floor) / |g|.
        damping: as a part of the tensor's mean h; 0 as printed.
        cap: on |R g|, the step of a weight at the rate 1; null: none (Liu et al. 2023 cap theirs, for h can be tiny).
        floor: of |w| in eq17; at 0, as printed, a zero weight never moves.
        images: of the training set, drawn anew at each update, over which h is taken.
        diagonal: sampled, one label per image drawn from the softmax; exact, over all classes.
        average: share of the earlier updates in the running mean of h; 0: this update's own.
    """

    radius: str = "hessian"
    damping: float = 0.1
    cap: float | None = None
    floor: float = 0.0
    images: int = 32
    diagonal: str = "sampled"
    average: float = 0.99  # Liu et al. 2023, for squares of sampled labels too

    def __post_init__(self) -> None:
        check_choice("radius", self.radius, RADII)
        check_choice("diagonal", self.diagonal, DIAGONALS)
        check_range("damping", self.damping, 0.0)
        check_range("floor", self.floor, 0.0)
        check_range("images", self.images, 1)
        check_range("average", self.average, 0.0, 1.0)
        if self.cap is not None:
            check_range("cap", self.cap, 0.0)


class CBLR(Momentum):
    """v <- momentum v + lr R (g + beta w), w <- w - v, with a radius R for each weight.

    The curvature h includes the penalty's, beta. A weight without curvature does not move, and is told by h = 0 where
    nothing is damped. By equation 17 a step is lr |w| sign(g + beta w): it needs no h, and no weight changes its sign.

    Args:
        decayed: parameters that weight decay covers.
        others: parameters that it does not cover.
        weight_decay: beta.
        momentum: of the velocity.
        settings: of `CblrSettings`.
        diagonal: makes the function that is asked for h once per update, in the order of decayed and others.

    Raises:
        InputError: settings that do not suit, or no diagonal where one is needed.
    """

    name = "cblr"

    def __init__(
        self,
        decayed: Sequence[Tensor],
        others: Sequence[Tensor],
        *,
        weight_decay: float,
        momentum: float,
        settings: Mapping[str, Any],
        diagonal: MakeDiagonal | None = None,
    ) -> None:
        self.settings = own_settings(CblrSettings, settings)
        self.in_graphs = self.settings.radius == "eq17"  # images and labels are drawn on the CPU
        kept = [] if self.in_graphs else ["diagonal"]
        super().__init__(decayed, others, weight_decay=weight_decay, momentum=momentum, kept=kept)
        self._updates, self._diagonal = 0, None
        if not self.in_graphs:
            if diagonal is None:
                raise InputError(
                    "train.optimizer.name: cblr needs the Hessian of a cross-entropy, and train.task has none; set "
                    "train.optimizer.settings={radius: eq17}, which does without"
                )
            self._diagonal = diagonal(self.settings.images, self.settings.diagonal)

    def numbers(self) -> dict[str, Any]:
        """Return the number of updates."""
        return {"updates": self._updates}

    def restore(self, tensors: Mapping[str, Tensor], numbers: Mapping[str, Any]) -> None:
        """Copy the tensors and take over the number of updates."""
        super().restore(tensors, numbers)
        self._updates = numbers["updates"]

    @torch.no_grad()
    def step(self, lr: float | Tensor) -> None:
        """Update every parameter that has a gradient."""
        if self._diagonal is not None:
            means = [state["diagonal"] for members, _ in self._groups for _, state in members]
            torch._foreach_lerp_(means, list(self._diagonal(self._updates)), 1 - self.settings.average)
            self._updates += 1
        super().step(lr)

    def _steps(
        self, parameters: list[Tensor], gradients: list[Tensor], states: dict[str, list[Tensor]], weight_decay: float
    ) -> list[Tensor]:
        whole = torch._foreach_add(gradients, parameters, alpha=weight_decay)
        if self.settings.radius == "eq17":
            sizes = [p.abs().clamp(min=self.settings.floor) for p in parameters]
            # the sign of NaN is 0
            steps = [torch.where(g.isnan(), g, w * g.sign()) for w, g in zip(sizes, whole, strict=True)]
        else:
            seen = 1 - self.settings.average**self._updates
            curvatures = [(h / seen + weight_decay).abs() for h in states["diagonal"]]
            steps = [self._newton(g, h) for g, h in zip(whole, curvatures, strict=True)]
        cap = self.settings.cap
        return steps if cap is None else [step.clamp(-cap, cap) for step in steps]

    def _newton(self, g: Tensor, h: Tensor) -> Tensor:
        below = h + self.settings.damping * h.mean()
        step = torch.where(below > 0, g / below, 0.0)
        return step * (1 + g.square()) ** 1.5 if self.settings.radius == "eq9" else step
