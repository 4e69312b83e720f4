"""A small run, which tests start in processes of their own too: `main` there, for each rank where several train.

The network has convolutions, batch norm and dropout, in float64, so that what differs by rounding differs by 1e-15.
"""

import sys
import time
from dataclasses import fields, is_dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from gapscope import seeds
from gapscope.data.datasets import Dataset
from gapscope.records.checkpoints import Checkpoint
from gapscope.records.files import atomic_path
from gapscope.runtime import run_command
from gapscope.tasks.classification import Classification
from gapscope.training import distributed as ranks
from gapscope.training.discarding import Discarding
from gapscope.training.distributed import ALONE
from gapscope.training.loop import train
from gapscope.training.settings import (
    BatchSettings,
    DiscardSettings,
    EvaluationSettings,
    OptimizerSettings,
    PrecisionSettings,
    ScheduleSettings,
    TrainSettings,
    TuningSettings,
)

SETTINGS = TrainSettings(
    task="classification", batch_norm=True, linear_units=False, average_pooling=False, augment=True,
    optimizer=OptimizerSettings("sgd", momentum=0.9, weight_decay=1e-3, decay="weights", settings={}),
    schedule=ScheduleSettings(
        lr_start=0.1, lr_end=1e-3, lr_shape="cosine", lr_scaling="none", lr_reference_batch=128, warmup_epochs=0.0,
        updates=None, batch_schedule=(), patience=None,
    ),
    tuning=TuningSettings(lr_candidates=(), lr_sweep_epochs=1, validation_images=0),
    batch=BatchSettings(drop_last=False, micro_batch=None, micro_batch_norm="whole"),
    discard=None,
    precision=PrecisionSettings(compute="float32", channels_last=False, cuda_graphs=True),
    evaluation=EvaluationSettings(history_images=None, history_rows=200, eval_batch=31),
    observers=(), threads=1,
)  # fmt: skip
GROUPS = {  # name of a setting -> with its group; `settings` is a name within a group and the name of none
    inner.name: f"{group.name}.{inner.name}"
    for group in fields(TrainSettings)
    if is_dataclass(getattr(SETTINGS, group.name))
    for inner in fields(getattr(SETTINGS, group.name))
}
DISCARD = DiscardSettings(share=0.3, epochs=4, by="small_loss", mean="kept")
IMAGES = 62  # a batch of 20 over three ranks: 7, 7, 6; the last one of 2: 1, 1, 0
BATCH, EPOCHS = 20, 6


def changed(settings: TrainSettings = SETTINGS, /, **changes) -> TrainSettings:
    """Return settings with other values: `lr_start=0.2` is `schedule.lr_start`."""
    return settings.changed({GROUPS.get(name, name): value for name, value in changes.items()})


class Net(nn.Module):
    def __init__(self, dropout: float, batch_norm: bool = True) -> None:
        super().__init__()
        norms = [nn.BatchNorm2d(3), nn.BatchNorm1d(8)] if batch_norm else [nn.Identity(), nn.Identity()]
        self.conv = nn.Sequential(nn.Conv2d(1, 3, 3, bias=False), norms[0], nn.ReLU())
        self.dropout = nn.Dropout(dropout)
        self.dense = nn.Sequential(nn.Linear(3 * 36, 8, bias=False), norms[1], nn.ReLU())
        self.head = nn.Linear(8, 10)
        self.unit_layers = {"conv": self.conv, "dense": self.dense}
        self.double()

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.dense(self.dropout(self.conv(images.double())).flatten(1)))


def data() -> Dataset:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 10, IMAGES + 31)
    x = rng.integers(0, 128, (IMAGES + 31, 1, 8, 8), dtype=np.uint8) + (12 * y)[:, None, None, None].astype(np.uint8)
    return Dataset("noise", 10, x[:IMAGES], y[:IMAGES], x[IMAGES:], y[IMAGES:])


def network(dropout: float = 0.3, batch_norm: bool = True) -> Net:
    with seeds.seeded(0, "test"):
        return Net(dropout, batch_norm)


def run(model: nn.Module, checkpoint: Checkpoint | None = None, **changes):
    options = {name: changes.pop(name) for name in ("stop", "ranks") if name in changes}
    settings = changed(**changes)
    sizes = {"batch_size": BATCH, "epochs": EPOCHS, "seed": 3}
    return train(model, data(), settings, **sizes, device="cpu", checkpoint=checkpoint, **options)


def plain(history: list[dict]) -> list[dict]:
    return [{name: value for name, value in row.items() if name != "wall_s"} for row in history]


def main_of_a_stage(out: Path, state: Path) -> None:
    """Train as `main` does; an error ends as that of a stage does."""
    sys.argv = ["train"]
    run_command(lambda: main(out, state))


def main(out: Path, state: Path | None = None, variant: str = "right") -> None:
    """Train and write the weights and history to `out`; with a file for its state it goes on from there, slowly.

    "discarded" in the variant's name: samples are left out of the gradients.
    """
    torch.set_num_threads(1)
    checkpoint = Checkpoint(state, {"a": 1}, 1) if state else None
    if variant == "mean of each rank":
        sum_loss = Classification.sum_loss
        Classification.sum_loss = lambda task, outputs, batch: (
            BATCH / max(len(batch.targets), 1) / int(torch.distributed.get_world_size())
            * sum_loss(task, outputs, batch)
        )  # fmt: skip
    if variant == "batch norm of each rank":
        ranks.batch_norms = lambda model: []
    print("ready", flush=True)
    with ranks.join_ranks("cpu") as (mine, _):
        model = network(dropout=0.3 if checkpoint else 0.0, batch_norm="micro-batches" not in variant)
        slow = (lambda: bool(time.sleep(0.005))) if checkpoint else (lambda: False)
        observers = ("losses",) if variant == "losses" else ()
        options = {"drop_last": variant == "batch norm of each rank", "observers": observers}
        if "discarded" in variant:
            options |= {"discard": DISCARD, "micro_batch": 6 if "micro-batches" in variant else None}
        if "ranked by each rank" in variant:
            together = Discarding.shares
            Discarding.shares = lambda self, losses, weights, index, mine: (
                together(self, losses, weights, mine.own_part(index), ALONE) / mine.world
            )  # fmt: skip
        result = run(model, checkpoint, ranks=mine, stop=slow, **options)
        if mine.writes:
            found = result.observed if observers else plain(result.history)
            with atomic_path(out) as temporary:
                torch.save((model.state_dict(), found), temporary)
