"""Checks of a loss before it is measured: the same at the same weights, and with a graph wherever it follows them.

A loss that sets the weights of a network and then evaluates it, or that is evaluated under `no_grad`, follows x without
a graph: all its derivatives would be taken for zero. A loss that draws at random, such as one with dropout that eval
mode does not stop, has a maximum that is noise.
"""

from collections.abc import Callable

import torch
from torch import Tensor

ROUNDING = 1e3  # units of rounding: sums in another order, as on a GPU, differ by less, and noise by more
STEP = 1e-3  # relative: a move that shows whether a loss follows x


def check_steady(loss: Callable[[Tensor], Tensor], x: Tensor, value: float) -> None:
    """Evaluate the loss at x once more.

    Args:
        loss: flat vector (n,) -> scalar.
        x: (n,).
        value: of the loss at x.

    Raises:
        ValueError: another value.
    """
    with torch.no_grad():
        again = loss(x.detach().clone()).item()
    if abs(again - value) > ROUNDING * torch.finfo(x.dtype).eps * max(abs(value), abs(again)):
        raise ValueError(
            f"the loss is {value:.10g} and then {again:.10g} at the same weights: it draws at random; put the network "
            "into eval mode, and give functional dropout its training= argument"
        )


def check_ignored(loss: Callable[[Tensor], Tensor], x: Tensor, value: float) -> None:
    """Make sure that a loss without a graph to x is a constant.

    Args:
        loss: flat vector (n,) -> scalar.
        x: (n,).
        value: of the loss at x.

    Raises:
        ValueError: it has another value beside x.
    """
    with torch.no_grad():
        beside = loss(x.detach() + STEP * (x.detach().abs() + 1)).item()
    if beside != value:
        raise ValueError(
            "the loss changes with the weights, but has no graph to them, so that all its derivatives would be zero: "
            "compute it from the vector that it is given (torch.func.functional_call), without no_grad, detach or "
            "setting parameters"
        )
