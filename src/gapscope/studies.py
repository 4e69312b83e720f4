"""A study's cells, and what they cost before the first one starts."""

from dataclasses import dataclass
from itertools import product
from pathlib import Path

import torch

from gapscope.activations import ActivationSettings, activation_bytes
from gapscope.config import Params
from gapscope.models import ModelSpec, build
from gapscope.runtime import check_disk
from gapscope.training import TrainSettings, check_batch_size, updates_per_epoch


@dataclass(frozen=True)
class Cell:
    """One training run of a study."""

    study: str
    model: str
    dataset: str
    batch_size: int
    seed: int

    @property
    def name(self) -> str:
        """The file name of its records; dvc.yaml spells the same."""
        return f"{self.model}-{self.dataset}-b{self.batch_size}-s{self.seed}"

    def run(self, stage: str) -> Path:
        """Path of its large output of a stage, without suffix; not in git."""
        return Path("data/runs") / self.study / stage / self.name

    def record(self, stage: str, suffix: str) -> Path:
        """Path of one of its records in git."""
        return Path("metrics") / self.study / stage / f"{self.name}{suffix}"


def cells(params: Params) -> list[Cell]:
    """Return the study's cells in the order of its lists; a batch size that is listed twice is one cell."""
    sizes = dict.fromkeys(params.batch_sizes)
    return [Cell(params.study, *values) for values in product(params.models, params.datasets, sizes, params.seeds)]


def plan(
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
        check_batch_size(model, train_images, cell.batch_size, dataset, settings.drop_last)
        updates += params.epochs * updates_per_epoch(train_images, cell.batch_size, settings.drop_last)
        if not cell.run("activations").exists():
            needed_bytes += activation_bytes(model, image_shape) * (cell.batch_size + probe)
    return f"study {params.study}, {dataset}: {len(todo)} cells, {updates} updates; {check_disk(Path(), needed_bytes)}"
