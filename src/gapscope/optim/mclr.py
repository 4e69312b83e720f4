"""MCLR: a rate by layer from medians of weights and gradients, Gao & Zhong, equations 20 to 22."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gapscope.optim.layerwise import Layerwise
from gapscope.optim.own_settings import check_choice, check_range, own_settings

READINGS = ("robust", "signed", "ratio")


@dataclass(frozen=True)
class MclrSettings:
    """`reading` of the printed median; `cap` on the local rate, null: none; `unscaled_factor` as of LARS."""

    reading: str = "robust"
    cap: float | None = 1e6  # a guard: in training LeNet-5 the rates lie between 10 and 10,000
    unscaled_factor: float = 1.0

    def __post_init__(self) -> None:
        check_choice("reading", self.reading, READINGS)
        check_range("unscaled_factor", self.unscaled_factor, 0.0)
        if self.cap is not None:
            check_range("cap", self.cap, 0.0)


class MCLR(Layerwise):
    """The median curvature rate of Gao & Zhong, equations 20 to 22, in three readings.

    robust: med|w| / (med|g| + beta med|w|) over the entries with g != 0; without the restriction dead units make it
        infinite.
    signed: |med w / (med g + beta med w)|, as printed: a ratio of two numbers near zero.
    ratio: med |w / (g + beta w)|, the median of equation 17.
    """

    name = "mclr"

    def __init__(
        self, decayed: Sequence[Tensor], others: Sequence[Tensor], *, settings: Mapping[str, Any], **options: Any
    ) -> None:
        super().__init__(decayed, others, **options)
        own = own_settings(MclrSettings, settings)
        self.reading, self.cap, self.unscaled_factor = own.reading, own.cap, own.unscaled_factor

    def _rates(
        self, parameters: list[Tensor], gradients: list[Tensor], whole: list[Tensor], weight_decay: float
    ) -> Tensor:
        if self.reading == "robust":
            dead = [g == 0 for g in gradients]
            size, gradient = (
                torch.stack(
                    [median(of.abs().masked_fill_(no, torch.nan)) for of, no in zip(tensors, dead, strict=True)]
                )
                for tensors in (parameters, gradients)
            )
            rates = self._relative(size, gradient + weight_decay * size)
        elif self.reading == "signed":
            size, gradient = (torch.stack([median(of) for of in tensors]) for tensors in (parameters, gradients))
            rates = (size / (gradient + weight_decay * size)).abs()
        else:
            rates = torch.stack([median((p / g).abs()) for p, g in zip(parameters, whole, strict=True)])
        rates = torch.where(rates.isnan(), 0.0, rates)  # zero over zero
        return rates if self.cap is None else rates.clamp(max=self.cap)


def median(values: Tensor) -> Tensor:
    """Return the lower median () of the values, of any shape, without NaN; NaN if there is nothing else."""
    # nanmedian is linear in time, but on a GPU it reads a count back, which a CUDA graph cannot
    return values.nanmedian() if values.device.type == "cpu" else median_by_sorting(values.flatten())


def median_by_sorting(values: Tensor) -> Tensor:
    """Return the same of (n,), with no value read back from the device."""
    ordered, last = values.sort().values, (~values.isnan()).sum() - 1  # NaN come last
    return ordered.index_select(0, (last.clamp(min=0) // 2).reshape(1))[0]
