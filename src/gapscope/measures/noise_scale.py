"""How large a batch is worth it? The gradient noise scale at the start of training, for whoever has not trained yet.

McCandlish et al. 2018: the noise scale grows as the loss falls, so it is measured at the initial weights and along a
short training at a small batch size, which is all that it takes to see its order of magnitude.
"""

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

from gapscope import seeds
from gapscope.data.datasets import Dataset
from gapscope.data.images import split_images
from gapscope.errors import InputError
from gapscope.numerics.loss_surface.noise_scale import noise_scale
from gapscope.training.loop import Training
from gapscope.training.objective import Objective
from gapscope.training.settings import TrainSettings
from gapscope.training.tuning import settings_of_sweep


@dataclass(frozen=True)
class NoiseScaleSettings:
    """Params of the noise_scale stage; `conf/config.yaml` says what each is."""

    batch_size: int
    epochs: int
    images: int | None
    gradient_batch: int
    threads: int

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.gradient_batch < 2:
            raise InputError("noise_scale: epochs must be at least 1, gradient_batch at least 2 (batch norm)")


def noise_scales(
    model: nn.Module,
    data: Dataset,
    training: TrainSettings,
    settings: NoiseScaleSettings,
    *,
    seed: int,
    device: str,
) -> tuple[str, list[dict[str, Any]]]:
    """Return how the training ended ("ok" or "diverged"), and a row an epoch, 0 being the initial weights.

    `model` is trained in place, at a constant rate: a curve laid over so few epochs would end in an annealed network,
    which a longer training has not after as many. A row has the noise scale, which predicts the critical batch size,
    with its 95 % interval; where training diverged, rows end before.

    Raises:
        InputError: too few images for three batches, or more asked for than there are; a batch size outside the
            training set; gradients of which no noise scale can be taken.
    """
    images = split_images(data, "train", device)
    count = settings.images or len(images)
    if not 3 * settings.gradient_batch <= count <= len(images):
        raise InputError(
            f"noise_scale.images must be in {3 * settings.gradient_batch}..{len(images)} (three batches of "
            f"{settings.gradient_batch}, the training set), got {count}"
        )
    order = torch.randperm(count, generator=seeds.generator(seed, "noise scale"))
    rows: list[dict[str, Any]] = []

    def measured(epoch: int) -> None:
        # statistics of the batch, as in training: at the initial weights the running ones mean nothing
        size = settings.gradient_batch
        objective = Objective.of_images(model, images, count, size, torch.float32, batch_norm_statistics="batch")
        x = objective.weights()
        try:
            found = noise_scale(lambda: objective.gradients(x, size, order), size)
        except ValueError as error:
            raise InputError(f"noise scale after {epoch} epochs: {error}") from error
        figures = {("gradient_batch" if name == "batch_size" else name): value for name, value in asdict(found).items()}
        rows.append({"epoch": epoch, "loss": float(objective(x)), **figures, **objective.conditions()})

    plain = settings_of_sweep(training).changed({"schedule.lr_shape": "constant"})
    run = Training(model, data, plain, batch_size=settings.batch_size, epochs=settings.epochs, seed=seed, device=device)
    measured(0)
    for epoch in run:
        measured(epoch)
    return run.result().status, rows
