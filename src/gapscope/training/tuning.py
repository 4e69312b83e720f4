"""A learning rate for each batch size, chosen on a held-out part of the training set."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from gapscope import seeds
from gapscope.data import Dataset
from gapscope.errors import InputError
from gapscope.training.loop import train
from gapscope.training.settings import TrainSettings


def tune_rate(
    make: Callable[[], nn.Module], data: Dataset, settings: TrainSettings, *, batch_size: int, seed: int, device: str
) -> tuple[float, list[dict[str, Any]]]:
    """Choose the learning rate of one batch size: the least cross-entropy on a held-out part of the training set.

    The test set has no part in it. Each candidate trains for `lr_sweep_epochs` epochs from the same initial weights, on
    the rest of the training set, with a whole schedule of that length.

    Returns:
        The rate, and a row a candidate.

    Raises:
        InputError: too few training images to hold any out, or every candidate diverged.
    """
    images, held_out = len(data.y_train), settings.validation_images
    if held_out >= images:
        raise InputError(f"train.validation_images must be below {images}, the training set, got {held_out}")
    order = torch.randperm(images, generator=seeds.generator("validation")).numpy()
    rest, held = order[held_out:], order[:held_out]
    sweep = Dataset(
        data.name, data.classes, data.x_train[rest], data.y_train[rest], data.x_train[held], data.y_train[held]
    )
    plain = replace(settings, batch_schedule=(), updates=None, patience=None)
    rows: list[dict[str, Any]] = []
    for lr in settings.lr_candidates:
        found = train(
            make(),
            sweep,
            plain,
            batch_size=min(batch_size, len(rest)),
            epochs=settings.lr_sweep_epochs,
            seed=seed,
            device=device,
            lr=lr,
        )
        kept = {f"validation_{name}": found.final.get(f"test_{name}") for name in ("error_pct", "cross_entropy")}
        rows.append({"lr": lr, "status": found.status, **kept})
    good = [row for row in rows if row["status"] == "ok"]
    if not good:
        raise InputError(f"every rate of train.lr_candidates diverged at batch size {batch_size}: give smaller ones")
    best: float = min(good, key=lambda row: row["validation_cross_entropy"])["lr"]
    return best, rows
