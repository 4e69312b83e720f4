"""What a study costs, and whether it can run, before its first cell starts."""

from pathlib import Path

import torch

from gapscope.activations import ActivationSettings, activation_bytes
from gapscope.cells import cells
from gapscope.config import Params
from gapscope.models import ModelSpec, build
from gapscope.runtime import check_disk
from gapscope.training.settings import TrainSettings, check_batches


def check(
    params: Params,
    dataset: str,
    image_shape: tuple[int, int, int],
    classes: int,
    train_images: int,
) -> str:
    """Check the study's cells on one data set before any of them starts, and say in words what they cost.

    Raises:
        InputError: an unknown model, or a batch size that cannot be trained at, or too little disk for what is to come.
    """
    settings = params.section("train", TrainSettings)
    probe = params.section("activations", ActivationSettings).probe_images
    todo = [cell for cell in cells(params) if cell.dataset == dataset]
    updates = needed_bytes = 0
    for cell in todo:
        spec = ModelSpec(cell.model, image_shape, classes, settings.batch_norm, settings.linear)
        with torch.device("meta"):
            model = build(spec)
        run = settings.schedule(train_images, cell.batch_size, params.epochs)
        check_batches(model, train_images, run, settings)
        updates += sum(run.updates)
        if not cell.run("activations").exists():
            needed_bytes += activation_bytes(model, image_shape) * (cell.batch_size + probe)
    return f"study {params.study}, {dataset}: {len(todo)} cells, {updates} updates; {check_disk(Path(), needed_bytes)}"
