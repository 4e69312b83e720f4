"""Products of vectors with the Hessian, or the Gauss-Newton matrix, of a loss at a point.

A loss with a method `hvp(x, v)` (`gnvp(x, v)` for Gauss-Newton), as `Objective` has, is asked for its products. Any
other loss is differentiated by autograd twice, and its gradient's graph is kept between products. One product took
three to four times a gradient's time for LeNet-5.

curvlinops has such products as SciPy operators; benchmarks/curvature_others.md sets them beside these.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from gapscope.numerics.loss_surface.closures import check_ignored, check_steady

Loss = Callable[[Tensor], Tensor]  # flat vector (n,) -> scalar
Product = Callable[[Tensor], Tensor]  # v (n,) -> H v (n,)


def hessian(loss: Loss, x: Tensor) -> Product:
    """Return v -> H v, H the Hessian of `loss` at x (n,); zero for a loss that is linear in x or ignores it.

    Raises:
        ValueError: the loss or its gradient is not finite at x; a loss that is random, or has no graph to x.
    """
    own = getattr(loss, "hvp", None)
    if own is not None:
        return lambda v: own(x, v)
    x = x.detach().clone().requires_grad_()
    gradient = None
    with twice_differentiable():
        value = loss(x)
        if value.requires_grad:
            (gradient,) = torch.autograd.grad(value, x, create_graph=True, allow_unused=True)
    if not (value.isfinite() and (gradient is None or bool(gradient.isfinite().all()))):
        raise ValueError(f"the loss at x is {value.item()} (or its gradient is not finite): no curvature there")
    check_steady(loss, x, value.item())
    if gradient is None:
        check_ignored(loss, x, value.item())
    if gradient is None or not gradient.requires_grad:
        return torch.zeros_like

    def product(v: Tensor) -> Tensor:
        (row,) = torch.autograd.grad(gradient, x, v, retain_graph=True, allow_unused=True)
        return torch.zeros_like(v) if row is None else row

    return product


def twice_differentiable() -> AbstractContextManager[None]:
    """Return a context in which attention has second derivatives: its fast kernels have none, the plain form has."""
    return sdpa_kernel(SDPBackend.MATH)  # type: ignore[no-any-return]


def gauss_newton(loss: Loss, x: Tensor) -> Product:
    """Return v -> G v, G the Gauss-Newton matrix of `loss` at x (n,).

    Raises:
        TypeError: the loss has no method gnvp: without its inner layer (the logits) there is no such matrix.
    """
    own = getattr(loss, "gnvp", None)
    if own is None:
        raise TypeError(f"{type(loss).__name__} has no method gnvp(x, v); gapscope.training.objective.Objective has")
    return lambda v: own(x, v)


def checked(product: Product) -> Product:
    """Return the product, which raises ValueError where it is not finite, and holds no graph.

    Raises:
        ValueError: a product is not finite.
    """

    def finite(v: Tensor) -> Tensor:
        image = product(v)
        if not bool(image.isfinite().all()):
            raise ValueError("a product with the Hessian is not finite: has the model diverged?")
        return image.detach()

    return finite
