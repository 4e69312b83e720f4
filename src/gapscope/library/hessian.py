"""Largest Hessian eigenvalues and trace of a caller's model: `gapscope.hessian`.

The methods are in `gapscope.numerics.loss_surface.curvature`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

from torch import nn

from gapscope import seeds
from gapscope.errors import InputError
from gapscope.library.inputs import MICRO_BATCH, Loss, cross_entropy
from gapscope.library.objective import Parameters, objective
from gapscope.library.result import Result
from gapscope.numerics.loss_surface.curvature import (
    MAX_PRODUCTS,
    PROBES,
    TOLERANCE,
    hessian_eigenvalues,
    hessian_trace,
)


@dataclass(frozen=True, repr=False)
class HessianResult(Result):
    """Curvature at a model's weights.

    Attributes:
        eigenvalues: the k asked for, descending.
        residuals: of each, ||H v - lambda v||: some eigenvalue lies within it.
        trace: Hutchinson's estimate.
        trace_standard_error: of the estimate.
        loss: mean loss at the weights.
        parameters: number of weights.
        examples: number of examples in the loss.
        batch_norm: which statistics batch norm used.
        precision: of weights and passes.
        frozen: names of the parameters that stay as they are: not chosen, or without requires_grad.
        seed: of start and probes.
    """

    eigenvalues: tuple[float, ...]
    residuals: tuple[float, ...]
    trace: float
    trace_standard_error: float
    loss: float
    parameters: int
    examples: int
    batch_norm: str
    precision: str
    frozen: tuple[str, ...]
    seed: int

    def __str__(self) -> str:
        listed = ", ".join(f"{value:.4g}" for value in self.eigenvalues[:5])
        return (
            f"eigenvalues {listed}{', ...' if len(self.eigenvalues) > 5 else ''} "
            f"(largest residual {max(self.residuals):.1e}), trace {self.trace:.4g} ± {self.trace_standard_error:.2g}; "
            f"{self.parameters} parameters, {self.examples} examples"
        )

    def rows(self) -> Iterator[Mapping[str, Any]]:
        """Yield one row per eigenvalue, with the other fields in each."""
        others = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("eigenvalues", "residuals")}
        for index, (value, residual) in enumerate(zip(self.eigenvalues, self.residuals, strict=True)):
            yield {"index": index, "eigenvalue": value, "residual": residual, **others}


def hessian(
    model: nn.Module,
    data: Any,
    *,
    loss: Loss = cross_entropy,
    parameters: Parameters | None = None,
    k: int = 1,
    which: str = "LA",
    tolerance: float = TOLERANCE,
    max_products: int = MAX_PRODUCTS,
    trace_probes: int = PROBES,
    seed: int = 0,
    micro_batch: int = MICRO_BATCH,
    precision: str = "float64",
    batch_norm_statistics: str = "running",
) -> HessianResult:
    """Return k eigenvalues of the mean loss's Hessian in all parameters, and an estimate of its trace.

    Args:
        model: as in `gapscope.sharpness`, as are data, loss, micro_batch, precision and batch_norm_statistics.
        data: the examples.
        loss: model, batch -> each example's loss (b,), twice differentiable.
        parameters: which are measured, as in `gapscope.Objective`: one layer gives a block of the Hessian.
        k: number of eigenvalues.
        which: "LA" the largest, "SA" the smallest (most negative), "LM" the largest in magnitude, "BE" of both ends.
        tolerance: of each residual, relative to its eigenvalue.
        max_products: limit of products with the Hessian, for the eigenvalues.
        trace_probes: probes of the trace, a product each; at least 2.
        seed: draws start and probes.
        micro_batch: examples in one pass.
        precision: float64 or float32.
        batch_norm_statistics: running or batch.

    Raises:
        InputError: arguments that are not as above.
        ValueError: a loss that is not finite, or not twice differentiable to finite numbers.
        RuntimeError: the eigenvalues have not converged within `max_products`.
    """
    with objective(
        model,
        data,
        loss,
        parameters=parameters,
        seed=seed,
        micro_batch=micro_batch,
        precision=precision,
        batch_norm_statistics=batch_norm_statistics,
    ) as mean_loss:
        x = mean_loss.weights()
        if not 1 <= k <= len(x):
            raise InputError(f"k must be in 1..{len(x)}, the number of parameters, got {k}")
        start, probes = (seeds.generator(seed, "curvature", name) for name in ("eigenvalues", "trace"))
        top = hessian_eigenvalues(
            mean_loss, x, k, which=which, tolerance=tolerance, max_products=max_products, generator=start
        )
        trace = hessian_trace(mean_loss, x, probes=trace_probes, generator=probes)
        return HessianResult(
            eigenvalues=tuple(top.values.tolist()),
            residuals=tuple(top.residuals.tolist()),
            trace=trace.value,
            trace_standard_error=trace.standard_error,
            loss=float(mean_loss(x)),
            parameters=len(x),
            **mean_loss.conditions(),
            seed=seed,
        )
