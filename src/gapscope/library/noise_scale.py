"""Gradient noise scale of a caller's model, McCandlish et al. 2018: `gapscope.noise_scale`.

Estimate and interval are those of `gapscope.numerics.loss_surface.noise_scale`.
"""

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

from gapscope import seeds
from gapscope.errors import InputError
from gapscope.library.inputs import Loss, cross_entropy
from gapscope.library.objective import Parameters, objective
from gapscope.library.result import Result
from gapscope.numerics.loss_surface import noise_scale as numerics

BATCHES = 32  # the interval was simulated for 8 to 64
FEWEST = 3  # batches that the estimate needs


@dataclass(frozen=True, repr=False)
class NoiseScaleResult(Result):
    """Gradient noise scale at a model's weights, which predicts the critical batch size.

    Attributes:
        noise_scale: tr(Sigma) / |G|^2, in examples; infinite where the estimate of |G|^2 is not positive.
        low: lower end of its 95 % interval.
        high: upper end; infinite where |G|^2 cannot be told from zero.
        trace: tr(Sigma), of one example's gradient.
        squared_gradient: unbiased estimate of |G|^2; may be negative.
        batches: number of batches whose gradients were compared.
        batch_size: their size.
        loss: mean loss at the weights, with the same batch-norm statistics.
        examples: number of examples.
        batch_norm: which statistics batch norm used.
        precision: of weights and passes.
        frozen: names of the parameters that stay as they are: not chosen, or without requires_grad.
        seed: draws the batches.
    """

    noise_scale: float
    low: float
    high: float
    trace: float
    squared_gradient: float
    batches: int
    batch_size: int
    loss: float
    examples: int
    batch_norm: str
    precision: str
    frozen: tuple[str, ...]
    seed: int

    def __str__(self) -> str:
        return (
            f"noise scale {self.noise_scale:.4g} examples (95 % interval {self.low:.4g} to {self.high:.4g}), "
            f"from {self.batches} batches of {self.batch_size}"
        )


def noise_scale(
    model: nn.Module,
    data: Any,
    *,
    loss: Loss = cross_entropy,
    parameters: Parameters | None = None,
    batch_size: int | None = None,
    seed: int = 0,
    precision: str = "float64",
    batch_norm_statistics: str = "batch",
) -> NoiseScaleResult:
    """Return the batch size at which noise and signal of the gradient are equal, with its 95 % interval.

    Args:
        model: as in `gapscope.sharpness`, as are data, loss and precision.
        data: the examples.
        loss: model, batch -> each example's loss (b,).
        parameters: which gradients count, as in `gapscope.Objective`.
        batch_size: examples per gradient; by default so many that there are 32 batches, and at least 2.
        seed: draws the batches, without replacement.
        precision: float64 or float32.
        batch_norm_statistics: "batch" as in training; at initial weights the running statistics mean nothing.

    Raises:
        InputError: arguments that are not as above, or fewer than three batches.
        ValueError: gradients that are not finite, or all zero.
    """
    with objective(
        model,
        data,
        loss,
        parameters=parameters,
        seed=seed,
        precision=precision,
        batch_norm_statistics=batch_norm_statistics,
    ) as mean_loss:
        count = len(mean_loss.examples)
        size = max(2, count // BATCHES) if batch_size is None else batch_size
        if not 1 <= size <= count // FEWEST:
            raise InputError(
                f"batch_size must be in 1..{count // FEWEST}, as the noise scale needs {FEWEST} batches and there are "
                f"{count} examples; got {size}"
            )
        mean_loss.micro_batch = size
        x = mean_loss.weights()
        order = torch.randperm(count, generator=seeds.generator(seed, "noise scale"))
        found = numerics.noise_scale(lambda: mean_loss.gradients(x, size, order), size)
        return NoiseScaleResult(**asdict(found), loss=float(mean_loss(x)), **mean_loss.conditions(), seed=seed)
