"""A learning rate for each batch size, chosen on held-out training images."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from gapscope import seeds
from gapscope.data.datasets import Dataset
from gapscope.errors import InputError
from gapscope.records.checkpoints import Checkpoint
from gapscope.tasks import make_task
from gapscope.training.loop import train
from gapscope.training.settings import TrainSettings


def tune_rate(
    make: Callable[[], nn.Module],
    data: Dataset,
    settings: TrainSettings,
    *,
    batch_size: int,
    seed: int,
    device: str,
    checkpoint: Checkpoint | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> tuple[float, list[dict[str, Any]]]:
    """Choose the learning rate of one batch size: the lowest loss of the task on held-out training images.

    The test set is not used. Each candidate trains for `lr_sweep_epochs` epochs from the same initial weights, on the
    rest of the training set, with a whole schedule of that length.

    Args:
        make: returns the network with its initial weights.
        data: training and test set.
        settings: of the run that the rate is for.
        batch_size: of that run.
        seed: of the order of the data, augmentation and dropout.
        device: to train on.
        checkpoint: of that run. Finished candidates are kept beside it and not trained again after a stop.
        stop: asked before each update.

    Returns:
        The rate, and a row for each candidate. Without candidates it is `lr_start`; if every candidate diverged, it is
        the smallest one.

    Raises:
        InputError: too few training images to hold out so many.
        StoppedError: `stop` said so.
    """
    tuning, task = settings.tuning, make_task(settings.task)
    if not tuning.lr_candidates:
        return settings.schedule.lr_start, []
    images, held_out = len(data.y_train), tuning.validation_images
    if held_out >= images:
        raise InputError(f"train.tuning.validation_images must be below {images}, the training set, got {held_out}")
    order = torch.randperm(images, generator=seeds.generator("validation")).numpy()
    rest, held = order[held_out:], order[:held_out]
    sweep = replace(
        data,
        x_train=data.x_train[rest],
        y_train=data.y_train[rest],
        x_test=data.x_train[held],
        y_test=data.y_train[held],
    )
    plain = settings_of_sweep(settings)
    kept = checkpoint.sweep if checkpoint else None
    found = kept.load() if kept else None
    rows: list[dict[str, Any]] = found[1]["rows"] if found else []
    for lr in tuning.lr_candidates[len(rows) :]:
        result = train(
            make(),
            sweep,
            plain,
            batch_size=min(batch_size, len(rest)),
            epochs=tuning.lr_sweep_epochs,
            seed=seed,
            device=device,
            lr=lr,
            stop=stop,
        )
        names = (task.error_name, task.loss_name)
        measured = {f"validation_{name}": result.final.get(f"test_{name}") for name in names}
        rows.append({"lr": lr, "status": result.status, **measured})
        if kept:
            kept.save({}, {"rows": rows})
    good = [row for row in rows if row["status"] == "ok"]
    best: float = (
        min(good, key=lambda row: row[f"validation_{task.loss_name}"])["lr"] if good else min(tuning.lr_candidates)
    )
    return best, rows


def settings_of_sweep(settings: TrainSettings) -> TrainSettings:
    """Return the settings with which candidates are trained: of fixed length, at one batch size, unobserved."""
    changes = {"schedule.batch_schedule": (), "schedule.updates": None, "schedule.patience": None, "observers": ()}
    return settings.changed(changes)
