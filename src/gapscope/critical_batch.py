"""How large a batch is worth it? The gradient noise scale at the start of training, for whoever has not trained yet.

McCandlish et al. 2018: the noise scale grows as the loss falls, so it is measured at the initial weights and along a
short training at a small batch size, which is all that it takes to see its order of magnitude.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import nn

from gapscope import seeds
from gapscope.data import Dataset
from gapscope.errors import InputError
from gapscope.images import split_images
from gapscope.measure.noise_scale import noise_scale
from gapscope.objective import Objective
from gapscope.training.loop import train
from gapscope.training.settings import TrainSettings


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
    batch_sizes: Sequence[int],
    seed: int,
    device: str,
) -> list[dict[str, Any]]:
    """Return a row an epoch, 0 being the initial weights; `model` is trained in place.

    A row has the noise scale (its prediction of the critical batch size) with its 95 % interval, and for each of
    `batch_sizes` how many times the fewest possible steps (`steps_ratio_b...`) and examples training would take.

    Raises:
        InputError: too few images for three batches; the training's batch size is outside the training set.
    """
    images = split_images(data, "train", device)
    count = len(images) if settings.images is None else min(settings.images, len(images))
    if count < 3 * settings.gradient_batch:
        raise InputError(f"noise_scale needs three batches of {settings.gradient_batch}; there are {count} images")
    order = torch.randperm(count, generator=seeds.generator(seed, "noise scale"))
    rows: list[dict[str, Any]] = []

    def measured() -> dict[str, Any]:
        # statistics of the batch, as in training: at the initial weights the running ones mean nothing
        size = settings.gradient_batch
        objective = Objective.of_images(model, images, count, size, torch.float32, batch_norm="batch")
        x = objective.weights()
        found = noise_scale(lambda: objective.gradients(x, size, order), size)
        row = {"critical_batch_size": found.critical_batch_size, **asdict(found), "loss": float(objective(x))}
        for batch in dict.fromkeys(batch_sizes):
            row[f"steps_ratio_b{batch}"] = found.steps_ratio(batch)
            row[f"examples_ratio_b{batch}"] = found.examples_ratio(batch)
        return row

    def watched(epochs: Sequence[int]) -> Iterator[int]:
        for epoch in epochs:
            rows.append({"epoch": epoch - 1, **measured()})
            yield epoch
        rows.append({"epoch": epochs[-1], **measured()})

    plain = replace(training, batch_schedule=(), updates=None, patience=None)  # of another length
    train(
        model, data, plain, batch_size=settings.batch_size, epochs=settings.epochs, seed=seed, device=device,
        on_epoch=watched,
    )  # fmt: skip
    return rows
