"""What one step of SGD gains on its own batch (Gao & Zhong, equation 8) and on a probe that it has not seen."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # a page is drawn without torch
    from torch import Tensor

    from gapscope.data.images import Images
    from gapscope.numerics.gradient_law import GradientLaw


class Steps:
    """What one step along each gradient gains, on the images that the gradient is of and on the probe.

    Args:
        objective: a function of images that returns their `Objective`.
        images: those of the gradients; the k-th gradient of n images is of the k-th n of them.
        probe: other images.
        x: weights (P,).
        lr: of the step.
        most: steps that are really taken at each n, along the first gradients.
    """

    def __init__(self, objective: Any, images: "Images", probe: "Images", x: "Tensor", *, lr: float, most: int) -> None:
        self.objective, self.images, self.x, self.lr, self.most = objective, images, x, lr, most
        self.probe = objective(probe)
        _, self.gradient = self.probe.value_and_gradient(x, with_gradient=True)
        self.before = self.probe.loss_and_error(x)[0]
        self.to_first_order: dict[int, list[Tensor]] = {}  # batch size -> lr g . G_probe of each gradient
        self.gained: dict[int, list[tuple[float, float]]] = {}  # on batch and probe, of the first few

    def __call__(self, n: int, gradient: "Tensor") -> None:
        """Look at a gradient (P,) of n images."""
        import torch

        number = len(self.to_first_order.setdefault(n, []))
        self.to_first_order[n].append(self.lr * torch.dot(gradient, self.gradient))
        if number < self.most:
            index = torch.arange(number * n, (number + 1) * n, device=gradient.device)
            batch, moved = self.objective(self.images.subset(index)), self.x - self.lr * gradient
            on_batch = batch.loss_and_error(self.x)[0] - batch.loss_and_error(moved)[0]
            self.gained.setdefault(n, []).append((on_batch, self.before - self.probe.loss_and_error(moved)[0]))

    def shown(self, n: int, gradients: "Iterable[Tensor]") -> "Iterator[Tensor]":
        """Yield gradients of n images after a look at each."""
        for gradient in gradients:
            self(n, gradient)
            yield gradient


def step_rows(law: "GradientLaw", own: "GradientLaw", steps: Steps) -> Iterator[dict[str, Any]]:
    """Yield the gains at each batch size: by equation 8, to first order, and really.

    Args:
        law: whose sigma equation 8 takes.
        own: whose gradients were measured.
        steps: that have seen these gradients.
    """
    import numpy as np
    import torch

    from gapscope.numerics.gradient_law import average

    sizes = np.array(law.sizes)
    for n in own.mean_abs:
        noise = steps.lr * float((sizes * law.sigma2).sum()) / n
        yield {"images": n, "quantity": "equation_8_decrement", "value": noise}
        on_batch = steps.lr * (own.mean_square[n] * sizes).sum(axis=1, keepdims=True)
        on_probe = torch.stack(steps.to_first_order[n]).double().cpu().numpy()[:, None]
        for sample, values in (("batch", on_batch), ("probe", on_probe)):
            found = average(own, {n: values}, n)
            ends = {end: float(getattr(found, end)[0]) for end in ("value", "low", "high")}
            yield {"sample": sample, "images": n, "quantity": "first_order_decrement", **ends}
        for sample, gained in zip(("batch", "probe"), zip(*steps.gained.get(n, []), strict=True), strict=False):
            yield {"sample": sample, "images": n, "quantity": "loss_decrement", "value": sum(gained) / len(gained)}
