"""Sharpness of a caller's model, Keskar et al. 2017, Metric 2.1 in full space: `gapscope.sharpness`.

The metric and our choices are in `gapscope.numerics.loss_surface.sharpness`.
"""

import warnings
from dataclasses import dataclass
from typing import Any

from torch import nn

from gapscope import seeds
from gapscope.errors import InputError
from gapscope.library.inputs import MICRO_BATCH, Loss, cross_entropy
from gapscope.library.objective import Parameters, objective
from gapscope.library.result import Result
from gapscope.numerics.loss_surface.sharpness import keskar_sharpness

EPSILON = 1e-3  # Keskar et al. 2017, Table 3
STARTS = 6  # as in the studies


@dataclass(frozen=True, repr=False)
class SharpnessResult(Result):
    """Sharpness at a model's weights.

    Attributes:
        sharpness_pct: phi, per cent: a lower bound, the best of all starts, each climbed until it converges.
        ten_iterations_pct: phi after ten iterations from one start, as in Keskar et al. 2017.
        epsilon: size of the box.
        loss: mean loss at the weights.
        weight_norm: L2 norm of the weights. The box is not invariant to their scale, so read phi beside it.
        starts: number of starts that were made.
        agreeing: number of starts within 0.3 % of the best one, itself included.
        least_start_pct: the least phi of a start.
        evaluations: of loss and gradient, over all starts.
        converged: whether as many starts agree as were asked for, and the best one's climb converged.
        examples: number of examples in the loss.
        batch_norm: which statistics batch norm used.
        precision: of weights and passes.
        frozen: names of the parameters that stay as they are: not chosen, or without requires_grad.
        seed: of the starts.
    """

    sharpness_pct: float
    ten_iterations_pct: float
    epsilon: float
    loss: float
    weight_norm: float
    starts: int
    agreeing: int
    least_start_pct: float
    evaluations: int
    converged: bool
    examples: int
    batch_norm: str
    precision: str
    frozen: tuple[str, ...]
    seed: int

    def __str__(self) -> str:
        state = "converged" if self.converged else "NOT converged"
        return (
            f"sharpness {self.sharpness_pct:.4g} % ({state}, {self.agreeing} of {self.starts} starts agree), after ten "
            f"iterations {self.ten_iterations_pct:.4g} %; epsilon {self.epsilon:g}, {self.examples} examples"
        )


def sharpness(
    model: nn.Module,
    data: Any,
    *,
    loss: Loss = cross_entropy,
    parameters: Parameters | None = None,
    epsilon: float = EPSILON,
    starts: int = STARTS,
    seed: int = 0,
    micro_batch: int = MICRO_BATCH,
    precision: str = "float64",
    batch_norm_statistics: str = "running",
) -> SharpnessResult:
    """Return how much the mean loss can rise in a small box around a model's weights.

    Weights, data and both passes are in float64 unless told otherwise. The
    model is in eval mode meanwhile, and afterwards as it was.

    Args:
        model: on its device.
        data: inputs (n, ...) and labels (n,) as a pair, a Dataset or a DataLoader; for a loss of your own whatever
            tensors it takes, in a tuple or dict.
        loss: model, batch -> each example's loss (b,); by default the cross-entropy of logits (b, classes).
        parameters: which are moved, as in `gapscope.Objective`; None: all that are trainable.
        epsilon: size of the box, 1e-3 by default; the paper uses 1e-3 and 5e-4.
        starts: starts are made until so many (6 by default) agree within 0.3 %, at most six times as many. The best
            one counts.
        seed: draws the starts. At equal seeds the result is the same.
        micro_batch: examples in one pass; changes nothing but memory, unless batch norm uses them.
        precision: float64, or float32 where that is too slow; a maximisation then ends early.
        batch_norm_statistics: "running", or "batch" for those of each micro-batch.

    Raises:
        InputError: arguments that are not as above.
        ValueError: a loss that is not finite at the weights or in the box.

    Warns:
        RuntimeWarning: the maximisation has not converged.
    """
    if not epsilon > 0:
        raise InputError(f"epsilon must be > 0, got {epsilon}")
    if starts < 1:
        raise InputError(f"starts must be at least 1, got {starts}")
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
        draw = seeds.generator(seed, "sharpness", "full")  # as in the pipeline's stage
        few = keskar_sharpness(mean_loss, x, epsilon=epsilon, converged_starts=starts, generator=draw)
    search = few.search
    assert search is not None  # it was asked for
    result = SharpnessResult(
        sharpness_pct=search.sharpness,
        ten_iterations_pct=few.sharpness,
        epsilon=epsilon,
        loss=few.base,
        weight_norm=float(x.norm()),
        starts=search.starts,
        agreeing=search.agreeing,
        least_start_pct=search.least,
        evaluations=search.evaluations,
        converged=search.converged,
        **mean_loss.conditions(),
        seed=seed,
    )
    if not result.converged:
        warnings.warn(
            f"the maximisation has not converged ({result.agreeing} of {result.starts} starts agree), so "
            f"{result.sharpness_pct:.4g} % may be far below the maximum; try more starts or another seed",
            RuntimeWarning,
            stacklevel=2,
        )
    return result
