"""The curvature of a trained network at its weights, in one record: what a study measures of each of its runs.

Keskar et al. 2017 say that large-batch minimisers have "a significant number of large positive eigenvalues" in the
Hessian; here they are counted, beside its trace, its density, the Gauss-Newton matrix and the rise within a ball. All
belong to the objective given: its images, batch-norm mode and precision go into the record.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gapscope import seeds
from gapscope.errors import InputError
from gapscope.numerics.loss_surface.curvature import Loss, gauss_newton, hessian, hessian_trace, spectral_density
from gapscope.numerics.loss_surface.sam_sharpness import ball_sharpness
from gapscope.numerics.loss_surface.sharpness import PRECISIONS


@dataclass(frozen=True)
class GeometrySettings:
    """Params of the curvature stage; `conf/config.yaml` says what each is."""

    images: int | None
    batch_norm_statistics: str
    micro_batch: int
    precision: str
    trace_probes: int
    steps: int
    radius: float
    adaptive_radius: float
    threads: int

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise InputError(f"curvature.precision must be one of {', '.join(PRECISIONS)}, got {self.precision!r}")
        least = {"micro_batch": 1, "steps": 1, "trace_probes": 2}
        for name, value in least.items():
            if getattr(self, name) < value:
                raise InputError(f"curvature.{name} must be at least {value}, got {getattr(self, name)}")
        for name in ("radius", "adaptive_radius"):
            if not getattr(self, name) > 0:
                raise InputError(f"curvature.{name} must be > 0, got {getattr(self, name)}")


def measure(loss: Loss, x: Tensor, settings: GeometrySettings, *, seed: int) -> dict[str, Any]:
    """Return the record of a loss that has `hvp` and `gnvp`, at x (n,).

    Returns:
        `hessian` and `gauss_newton`: Lanczos's nodes (ascending; the outermost are extreme eigenvalues, each to about
        its residual) and weights, and the trace with its standard error. `ball`: the rise within an L2 ball and within
        the adaptive one. `gradient_norm` tells how far from stationary x is.

    Raises:
        ValueError: the loss is not finite, or not twice differentiable to finite numbers, at x.
    """

    def draw(name: str) -> torch.Generator:
        return seeds.generator(seed, "curvature", name)

    record: dict[str, Any] = {}
    for name, operator in (("hessian", hessian), ("gauss_newton", gauss_newton)):
        density = spectral_density(loss, x, operator=operator, steps=settings.steps, generator=draw("density"))
        trace = hessian_trace(loss, x, operator=operator, probes=settings.trace_probes, generator=draw("trace"))
        record[name] = {
            "nodes": density.nodes.tolist(),
            "weights": density.weights.tolist(),
            "residuals": density.residuals.tolist(),
            "trace": trace.value,
            "trace_standard_error": trace.standard_error,
        }
    for name, radius, adaptive in (("plain", settings.radius, False), ("adaptive", settings.adaptive_radius, True)):
        found = ball_sharpness(loss, x, rho=radius, adaptive=adaptive, generator=draw("ball"))
        record.setdefault("ball", {})[name] = {"radius": radius, "rise": found.rise, "base": found.base}
    (gradient,) = torch.autograd.grad(loss(point := x.detach().clone().requires_grad_()), point)
    return record | {"gradient_norm": float(gradient.norm()), "weight_norm": float(x.norm()), "parameters": len(x)}
