"""Optimisers by name: the built-in ones, or the import path of any `torch.optim.Optimizer`."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from gapscope.errors import InputError, did_you_mean
from gapscope.optim.adam import Adam
from gapscope.optim.cblr import CBLR, MakeDiagonal
from gapscope.optim.imported import TorchOptimizer
from gapscope.optim.lamb import LAMB
from gapscope.optim.layerwise import LARS, PercentDelta
from gapscope.optim.mclr import MCLR
from gapscope.optim.optimizer import Optimizer
from gapscope.optim.sgd import SGD

BUILT_IN: dict[str, tuple[type[Optimizer], tuple[str, ...]]] = {  # name -> class, and what it takes beside weight decay
    "sgd": (SGD, ("momentum",)),
    "adam": (Adam, ()),
    "lars": (LARS, ("momentum", "settings")),
    "lamb": (LAMB, ("settings",)),
    "percent_delta": (PercentDelta, ("momentum", "settings")),
    "mclr": (MCLR, ("momentum", "settings")),
    "cblr": (CBLR, ("momentum", "settings", "diagonal")),
}


def make_optimizer(
    name: str,
    decayed: Sequence[Tensor],
    others: Sequence[Tensor],
    *,
    weight_decay: float,
    momentum: float,
    settings: Mapping[str, Any],
    diagonal: MakeDiagonal | None = None,
) -> Optimizer:
    """Return an optimiser, built-in or given by an import path.

    Args:
        name: one of `BUILT_IN`, or an import path, e.g. "torch.optim:AdamW".
        decayed: parameters that weight decay covers.
        others: parameters that it does not cover.
        weight_decay: lambda.
        momentum: of the built-in ones, but for "adam" and "lamb".
        settings: further arguments of an optimiser given by import path, or of a layer-wise one.
        diagonal: makes the Hessian's diagonal for "cblr".

    Raises:
        InputError: an unknown name, settings that do not suit, or what `TorchOptimizer` and `CBLR` refuse.
    """
    if name not in BUILT_IN and ":" not in name:
        raise InputError(
            f"train.optimizer.name: unknown optimiser {name!r}; {did_you_mean(name, BUILT_IN)} (or an import path of a "
            "torch.optim.Optimizer, package.module:Class)"
        )
    if name not in BUILT_IN:
        return TorchOptimizer(name, decayed, others, weight_decay=weight_decay, settings=settings)
    made, takes = BUILT_IN[name]
    if settings and "settings" not in takes:
        raise InputError(
            f"train.optimizer.settings are for an import path, e.g. torch.optim:SGD; {name} takes none, got "
            f"{', '.join(settings)}"
        )
    options = {"momentum": momentum, "settings": settings, "diagonal": diagonal}
    return made(decayed, others, weight_decay=weight_decay, **{option: options[option] for option in takes})  # type: ignore[call-arg]
