"""Params of training, and whether a run can be made with them. Oyedotun et al. 2022, section 5.2, where not said."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor, nn

from gapscope import noops
from gapscope.errors import InputError
from gapscope.optim.optimizers import SGD, Adam, Optimizer
from gapscope.optim.schedules import SCALINGS, SHAPES, Schedule, Switch, curve, schedule
from gapscope.training.distributed import ALONE, Ranks, asked_for
from gapscope.training.evaluation import batch_norms


@dataclass(frozen=True)
class TrainSettings:
    """Params of the train stage; `conf/config.yaml` says what each is."""

    batch_norm: bool
    linear: bool | str
    optimizer: str
    momentum: float
    lr_start: float
    lr_end: float
    lr_shape: str
    lr_scaling: str
    lr_reference_batch: int
    lr_candidates: tuple[float, ...]
    lr_sweep_epochs: int
    validation_images: int
    warmup_epochs: float
    weight_decay: float
    decay: str
    drop_last: bool
    augment: bool
    updates: int | None
    batch_schedule: tuple[Switch, ...]
    patience: int | None
    micro_batch: int | None
    micro_batch_norm: str
    precision: str
    channels_last: bool
    cuda_graphs: bool
    history_images: int | None
    history_rows: int
    eval_batch: int
    checkpoint_epochs: int
    launcher: str | None
    threads: int

    def __post_init__(self) -> None:
        choices = {
            "linear": (False, True, "units"),
            "optimizer": ("sgd", "adam"),
            "decay": ("weights", "all"),
            "lr_shape": tuple(SHAPES),
            "lr_scaling": tuple(SCALINGS),
            "micro_batch_norm": ("whole", "ghost"),
            "precision": ("float32", "bfloat16"),
        }
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise InputError(
                    f"train.{name} must be one of {', '.join(map(str, known)).lower()}, got {getattr(self, name)!r}"
                )
        if self.eval_batch < 2:
            raise InputError(f"train.eval_batch must be at least 2 (batch norm's statistics), got {self.eval_batch}")
        at_least_one = (
            "history_images",
            "history_rows",
            "micro_batch",
            "patience",
            "checkpoint_epochs",
            "lr_reference_batch",
        )
        for name in at_least_one:
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise InputError(f"train.{name} must be at least 1, got {getattr(self, name)}")
        if self.lr_candidates and (self.validation_images < 1 or self.lr_sweep_epochs < 1):
            raise InputError("train.lr_candidates need train.validation_images and train.lr_sweep_epochs of at least 1")
        rates = [self.lr_start, self.lr_end, *self.lr_candidates]
        rates += [switch.lr for switch in self.batch_schedule if switch.lr is not None]
        least = 1e-300 if self.lr_shape in ("exponential", "step") else 0.0
        if not all(math.isfinite(rate) and rate >= least for rate in rates) or self.warmup_epochs < 0:
            raise InputError(
                "train: learning rates must be numbers >= 0 (> 0 for a geometric shape), warmup_epochs too"
            )

    def identity(self) -> dict[str, Any]:
        """Return what determines a run's bits, as a JSON object: all but how often its state is saved.

        What is at its no-op value is left out, so that a new param that is off makes no checkpoint useless.
        """
        every = noops.left_out({"train": asdict(self)})["train"]
        return {name: value for name, value in every.items() if name not in ("checkpoint_epochs", "launcher")}

    def epochs_a_row(self, epochs: int) -> int:
        """Return how many epochs lie between a history's evaluations, in a run of `epochs`."""
        return -(-epochs // self.history_rows)

    def make_optimizer(self, decayed: Sequence[Tensor], others: Sequence[Tensor]) -> Optimizer:
        """Return the optimiser of parameters that weight decay covers and of others."""
        if self.optimizer == "adam":
            return Adam(decayed, others, weight_decay=self.weight_decay)
        return SGD(decayed, others, momentum=self.momentum, weight_decay=self.weight_decay)

    def schedule(self, images: int, batch_size: int, epochs: int, lr: float | None = None) -> Schedule:
        """Lay out a run; `lr` takes the place of `lr_start`.

        Raises:
            InputError: a batch size outside the training set, switches out of order, no epoch.
        """
        if epochs < 1:
            raise InputError(f"epochs must be at least 1, got {epochs}")
        start = (self.lr_start if lr is None else lr) * SCALINGS[self.lr_scaling](batch_size / self.lr_reference_batch)
        return schedule(
            images,
            batch_size,
            epochs=epochs,
            updates=self.updates,
            switches=self.batch_schedule,
            drop_last=self.drop_last,
            rate=lambda own, step, last: curve(self.lr_shape, start if own is None else own, self.lr_end, step, last),
            warmup_epochs=self.warmup_epochs,
        )


def check_batches(model: nn.Module, images: int, run: Schedule, settings: TrainSettings, ranks: Ranks = ALONE) -> None:
    """Raise InputError where a batch cannot be trained on."""
    world = max(ranks.world, asked_for(settings.launcher))  # in the plan, before any rank is there
    ghost = settings.micro_batch if settings.micro_batch_norm == "ghost" and batch_norms(model) else None
    if ghost is not None and world > 1:
        raise InputError(
            "train.micro_batch_norm=ghost is for one rank: of several, batch norm is over the global batch"
        )
    for size in dict.fromkeys(run.batch_sizes):
        if settings.micro_batch is not None and settings.micro_batch > size:
            raise InputError(f"train.micro_batch must be at most the batch size, {size}, got {settings.micro_batch}")
        if world > size:
            raise InputError(f"{world} ranks cannot share a batch of {size}: start fewer, or take a larger batch")
        if not batch_norms(model):
            continue
        lasts = {size} if settings.drop_last else {size, images % size or size}
        if ghost is not None:
            lasts = {last % ghost or ghost for last in lasts}
        if 1 in lasts:
            raise InputError(
                f"batch_size {size} leaves a batch of one of the {images} images, on which batch norm is undefined; "
                "take another size, or train.drop_last=true, or train.batch_norm=false"
            )
