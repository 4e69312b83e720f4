"""Worst rise of the loss within an L2 ball: the sharpness that SAM descends, and its adaptive, scale-free form.

    max over ||T^-1 d|| <= rho of f(x + d) - f(x)

T = I: Foret et al. 2021, section 2; T = diag(|x| + eta), the adaptive form (ASAM): Kwon et al. 2021, section 3.

The papers take one ascent step, d = rho T^2 g / ||T g|| with g the gradient at x, where training needs one; as a
measure it falls short at a minimiser, where g = 0 or noise. Here that step comes first, and more follow from random
starts too, by Frank & Wolfe's method in u = T^-1 d / rho: towards the gradient's direction, the whole way (the power
method, if f is quadratic) or a part of it where the whole way would lower the loss. What is found is a lower bound of
the maximum.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from gapscope.numerics.loss_surface.closures import check_ignored, check_steady

STEPS = 10  # as many as Keskar's metric is given, for want of a paper's number
HALVINGS = 5  # of a step that would lower the loss
ETA = 0.01  # Kwon et al. 2021, section 5: keeps zero weights from being frozen


@dataclass(frozen=True)
class BallSharpness:
    """Result of one maximisation.

    Attributes:
        rise: largest - base, in units of the loss; never negative, since d = 0 is in the ball.
        base, largest: f at x, and the largest f found in the ball.
        displacement: d (n,) of the largest.
        evaluations: of loss and gradient.
    """

    rise: float
    base: float
    largest: float
    displacement: Tensor
    evaluations: int


def ball_sharpness(
    loss: Callable[[Tensor], Tensor],
    x: Tensor,
    *,
    rho: float,
    adaptive: bool = False,
    eta: float = ETA,
    steps: int = STEPS,
    restarts: int = 1,
    generator: torch.Generator,
) -> BallSharpness:
    """Return the largest rise found within the ball around x.

    Args:
        loss: flat vector (n,) -> scalar, differentiable once.
        x: (n,).
        rho: radius; SAM trains with 0.05, ASAM with 0.5 to 2 in its own, scaled norm.
        adaptive: scale each direction by |x_i| + eta.
        eta: see ETA; 0 makes the measure invariant to rescaled weights, and freezes zeros.
        steps: of ascent, a start.
        restarts: random starts on the sphere, besides the papers' own start at x.
        generator: CPU generator of the starts.

    Raises:
        ValueError: rho <= 0, steps < 1 or restarts < 0; a loss or gradient that is not finite at x or in the ball;
            a loss that is random, or has no graph to x.

    Example:
        >>> bowl = lambda w: (w**2).sum()
        >>> found = ball_sharpness(bowl, torch.zeros(3, dtype=torch.float64), rho=0.1, generator=torch.Generator())
        >>> round(found.rise, 9)  # rho^2
        0.01
    """
    if not rho > 0 or steps < 1 or restarts < 0:
        raise ValueError(f"needs rho > 0, steps >= 1, restarts >= 0; got {rho}, {steps}, {restarts}")
    x = x.detach()
    scale = rho * (x.abs() + eta) if adaptive else torch.full_like(x, rho)
    evaluations = 0

    def climb(u: Tensor) -> tuple[float, Tensor]:
        """Return the loss at u and its gradient in u."""
        nonlocal evaluations
        evaluations += 1
        u = u.clone().requires_grad_()
        value = loss(x + scale * u)
        slope = None
        if value.requires_grad:  # else the loss ignores its argument; it may also have a graph of other parameters
            (slope,) = torch.autograd.grad(value, u, allow_unused=True)
        height = value.item()
        if slope is None:
            check_ignored(loss, x + scale * u.detach(), height)
            slope = torch.zeros_like(u)
        if not (torch.isfinite(value) and bool(slope.isfinite().all())):
            raise ValueError(f"the loss is {height} at x or in the ball (or its gradient is not finite): reduce {rho=}")
        return height, slope

    starts = [torch.zeros_like(x)]
    for _ in range(restarts):
        drawn = torch.randn(len(x), generator=generator, dtype=torch.float64).to(x)
        starts.append(drawn / drawn.norm())
    base, best, largest = None, starts[0], 0.0
    for u in starts:
        height, slope = climb(u)
        if base is None:  # the first start is x itself
            base, largest = height, height
            check_steady(loss, x, base)
        u, height = _ascend(climb, u, height, slope, steps)  # noqa: PLW2901
        if height > largest:
            best, largest = u, height
    assert base is not None
    return BallSharpness(largest - base, base, largest, scale * best, evaluations)


def _ascend(
    climb: Callable[[Tensor], tuple[float, Tensor]], u: Tensor, height: float, slope: Tensor, steps: int
) -> tuple[Tensor, float]:
    """Return the place and height after so many steps that never descend; fewer where none rises."""
    for _ in range(steps):
        length = slope.norm()
        if length == 0:
            break
        goal, part = slope / length, 1.0
        for _ in range(HALVINGS + 1):
            tried = u + part * (goal - u)
            value, gradient = climb(tried)
            if value > height:
                break
            part /= 2
        else:
            break
        u, height, slope = tried, value, gradient
    return u, height
