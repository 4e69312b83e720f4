"""Regression: the squared error, or Huber's loss, of targets in units of the training targets' standard deviation.

Targets are standardised (`gapscope.data.tabular`), so a loss of 1 in squared error, and an error of 100 %, are those of
predicting the mean of the training targets. Losses, errors and margins of different data sets can then be compared.
"""

import math

import torch
from torch import Tensor
from torch.nn.functional import huber_loss

from gapscope.data.features import Features
from gapscope.data.images import Augmentation
from gapscope.errors import InputError
from gapscope.tasks import words
from gapscope.tasks.task import Batch, Task

DELTA = 1.0  # standard deviations: beyond it Huber's loss grows linearly; Huber 1964 takes 1 to 2, torch 1


class Regression(Task):
    """One number or several for each example. Outputs and targets are (b, outputs)."""

    unit = "example"
    targets = "numbers"
    loss_name = words.REGRESSION.loss
    error_name = words.REGRESSION.error
    beside_error = ("r2",)

    def batch(
        self,
        examples: Features,
        index: Tensor | slice,
        *,
        dtype: torch.dtype = torch.float32,
        augmentation: Augmentation | None = None,
        channels_last: bool = False,  # of images
    ) -> Batch:
        """Return features (b, f) and standardised targets (b, outputs)."""
        return Batch(examples.inputs(index, dtype, augmentation), examples.targets(index, dtype))

    def losses(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Return each example's squared error, a mean over its outputs."""
        squares: Tensor = _residuals(outputs, batch).square().mean(1)
        return squares

    def errors(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Return each example's squared error in float64, whatever the loss; NaN outputs count as infinite."""
        squares: Tensor = _residuals(outputs, batch).double().square().mean(1)
        known: Tensor = squares.nan_to_num(nan=math.inf, posinf=math.inf)
        return known

    def error(self, total: float, weight: float) -> float:
        """Return the root mean square error, in % of the standard deviation of the training targets."""
        return 100 * math.sqrt(total / weight)

    def further(self, error: float, loss: float, examples: Features) -> dict[str, float]:
        """Return R2: 1 minus the mean square error over the variance of these targets about their own mean.

        Of several outputs both are means over the outputs, each in its own standard deviation.
        """
        variance = float(examples.targets(slice(None), torch.float64).var(0, correction=0).mean())
        return {"r2": 1 - (error / 100) ** 2 / variance if variance else math.nan}

    def guessing_loss(self, examples: Features) -> float:
        """Return the loss of predicting the mean of the training targets for every example."""
        batch = self.batch(examples, slice(None), dtype=torch.float64)
        return float(self.mean_loss(torch.zeros_like(batch.targets), batch))

    def hessian_product(self, outputs: Tensor, batch: Batch, vector: Tensor) -> Tensor:
        """Return 2 v / outputs: the Hessian of a squared error, a mean over outputs, is a multiple of the identity."""
        outputs_of_an_example: int = batch.targets.shape[1]
        return vector * (2 / outputs_of_an_example)


class HuberRegression(Regression):
    """Regression with Huber's loss (Huber 1964), which few outlying targets do not rule.

    It is r^2 up to a residual r of `DELTA` and 2 DELTA |r| - DELTA^2 beyond: twice the usual form, so that it is the
    squared error where residuals are small.
    """

    loss_name = words.HUBER.loss

    def losses(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Return each example's loss, a mean over its outputs."""
        residuals = _residuals(outputs, batch)
        found: Tensor = 2 * huber_loss(residuals, torch.zeros_like(residuals), reduction="none", delta=DELTA).mean(1)
        return found


def _residuals(outputs: Tensor, batch: Batch) -> Tensor:
    if outputs.numel() != batch.targets.numel():  # (b,) and (b, 1) would broadcast to (b, b) without a word
        raise InputError(
            f"the network gives outputs of shape {tuple(outputs.shape)} for targets of shape "
            f"{tuple(batch.targets.shape)}; its argument classes= is the number of outputs"
        )
    residuals: Tensor = outputs.reshape(batch.targets.shape) - batch.targets
    return residuals
