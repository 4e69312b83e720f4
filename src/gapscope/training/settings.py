"""The params of training: one frozen dataclass for each group of `train` in `conf/config.yaml`, each with its checks.

Where no paper is named, a default is that of Oyedotun et al. 2022, section 5.2.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Annotated, Any

from gapscope import noops
from gapscope.config import AtLeastZero, Count, Epochs, Threads, Within
from gapscope.errors import InputError
from gapscope.numerics.discarding import CHOICES
from gapscope.optim.schedules import SCALINGS, SHAPES, Schedule, Switch, curve, schedule
from gapscope.tasks import check_task


@dataclass(frozen=True)
class OptimizerSettings:
    """Params `train.optimizer`: the update rule and the weight penalty."""

    name: str
    momentum: Annotated[float, Within(0, 1)]
    weight_decay: AtLeastZero
    decay: str
    settings: dict[str, Any]

    def __post_init__(self) -> None:
        _one_of("train.optimizer.decay", self.decay, ("weights", "all"))


@dataclass(frozen=True)
class ScheduleSettings:
    """Params `train.schedule`: the learning rate of each update, the batch size of each epoch, the run's length."""

    lr_start: float
    lr_end: float
    lr_shape: str
    lr_scaling: str
    lr_reference_batch: int
    warmup_epochs: Annotated[float, Within(0, 100_000)]
    updates: Annotated[int, Within(1, 10_000_000)] | None
    batch_schedule: tuple[Switch, ...]
    patience: int | None

    def __post_init__(self) -> None:
        _one_of("train.schedule.lr_shape", self.lr_shape, tuple(SHAPES))
        _one_of("train.schedule.lr_scaling", self.lr_scaling, tuple(SCALINGS))
        _at_least_one("train.schedule.lr_reference_batch", self.lr_reference_batch)
        _at_least_one("train.schedule.patience", self.patience)
        self.check_rate("train.schedule.lr_start", self.lr_start)
        self.check_rate("train.schedule.lr_end", self.lr_end)
        for switch in self.batch_schedule:
            if switch.lr is not None:
                self.check_rate("train.schedule.batch_schedule: lr", switch.lr)
        if not (math.isfinite(self.warmup_epochs) and self.warmup_epochs >= 0):
            raise InputError(f"train.schedule.warmup_epochs must be a number >= 0, got {self.warmup_epochs}")

    def check_rate(self, name: str, rate: float) -> None:
        """Raise InputError if a learning rate is negative, not finite, or zero where the curve is geometric."""
        geometric = self.lr_shape in ("exponential", "step")
        if not (math.isfinite(rate) and rate >= (1e-300 if geometric else 0.0)):
            bound = f"> 0 with lr_shape {self.lr_shape}" if geometric else ">= 0"
            raise InputError(f"{name} must be a number {bound}, got {rate}")


@dataclass(frozen=True)
class TuningSettings:
    """Params `train.tuning`: the choice of a learning rate for each batch size."""

    lr_candidates: tuple[float, ...]
    lr_sweep_epochs: Epochs
    validation_images: int

    def __post_init__(self) -> None:
        if not self.lr_candidates:
            return
        for name in ("validation_images", "lr_sweep_epochs"):
            if (value := getattr(self, name)) < 1:
                raise InputError(f"train.tuning.{name} must be at least 1 with train.tuning.lr_candidates, got {value}")


@dataclass(frozen=True)
class BatchSettings:
    """Params `train.batch`: how a batch goes through the network."""

    drop_last: bool
    micro_batch: int | None
    micro_batch_norm: str

    def __post_init__(self) -> None:
        _one_of("train.batch.micro_batch_norm", self.micro_batch_norm, ("whole", "ghost"))
        _at_least_one("train.batch.micro_batch", self.micro_batch)


@dataclass(frozen=True)
class DiscardSettings:
    """Params `train.discard`: the samples that are left out of a batch's gradient (Gao & Zhong, section 3.1)."""

    share: float
    epochs: int | None
    by: str
    mean: str

    def __post_init__(self) -> None:
        if not 0 <= self.share < 1:
            raise InputError(f"train.discard.share must be at least 0 and below 1, got {self.share}")
        _at_least_one("train.discard.epochs", self.epochs)
        _one_of("train.discard.by", self.by, CHOICES)
        _one_of("train.discard.mean", self.mean, ("kept", "batch"))


@dataclass(frozen=True)
class PrecisionSettings:
    """Params `train.precision`: number format, memory layout and kernel launches."""

    compute: str
    channels_last: bool
    cuda_graphs: bool

    def __post_init__(self) -> None:
        _one_of("train.precision.compute", self.compute, ("float32", "bfloat16"))


@dataclass(frozen=True)
class EvaluationSettings:
    """Params `train.evaluation`: how often, and over how many images, error and loss are taken."""

    history_images: int | None
    history_rows: Count
    eval_batch: Annotated[int, Within(2)]

    def __post_init__(self) -> None:
        _at_least_one("train.evaluation.history_images", self.history_images)
        _at_least_one("train.evaluation.history_rows", self.history_rows)
        if self.eval_batch < 2:
            raise InputError(
                f"train.evaluation.eval_batch must be at least 2 (batch norm needs a variance), got {self.eval_batch}"
            )

    def epochs_per_row(self, epochs: int) -> int:
        """Return how many epochs lie between two evaluations in a run of `epochs`."""
        return -(-epochs // self.history_rows)


@dataclass(frozen=True)
class TrainSettings:
    """All params of the group `train`; `conf/config.yaml` says what each of them means."""

    task: str
    batch_norm: bool
    linear_units: bool
    average_pooling: bool
    augment: bool
    optimizer: OptimizerSettings
    schedule: ScheduleSettings
    tuning: TuningSettings
    batch: BatchSettings
    discard: DiscardSettings | None
    precision: PrecisionSettings
    evaluation: EvaluationSettings
    observers: tuple[str, ...]
    threads: Threads

    def __post_init__(self) -> None:
        check_task(self.task)
        for rate in self.tuning.lr_candidates:
            self.schedule.check_rate("train.tuning.lr_candidates", rate)
        switches = self.schedule.batch_schedule
        if self.tuning.lr_candidates and switches and switches[0].epoch == 1 and switches[0].lr is not None:
            raise InputError(
                "train.tuning.lr_candidates chooses lr_start, which train.schedule.batch_schedule replaces at epoch 1: "
                "set its lr to null, or try no candidates"
            )
        _at_least_one("train.threads", self.threads)
        if len(set(self.observers)) < len(self.observers):
            raise InputError(f"train.observers must name each observer once, got {', '.join(self.observers)}")

    @property
    def switches(self) -> tuple[bool, bool, bool]:
        """The switches of a network: batch_norm, linear_units, average_pooling, as `ModelSpec` takes them."""
        return self.batch_norm, self.linear_units, self.average_pooling

    def identity(self) -> dict[str, Any]:
        """Return what determines a run's bits, as a JSON object.

        What is at its no-op value is left out, so that a new param that is off makes no checkpoint useless.
        """
        return dict(noops.left_out({"train": asdict(self)})["train"])

    def changed(self, changes: Mapping[str, Any]) -> "TrainSettings":
        """Return a copy with other values, given by name within the group: `{"schedule.updates": None}`."""
        own: dict[str, Any] = {}
        inner: dict[str, dict[str, Any]] = {}
        for name, value in changes.items():
            group, _, key = name.rpartition(".")
            (inner.setdefault(group, {}) if group else own)[key] = value
        parts = {group: replace(getattr(self, group), **part) for group, part in inner.items()}
        return replace(self, **own, **parts)

    def lay_out(self, images: int, batch_size: int, epochs: int, lr: float | None = None) -> Schedule:
        """Return the schedule of a run.

        Args:
            images: size of the training set.
            batch_size: of the run.
            epochs: length of the run, unless `schedule.updates` gives it.
            lr: replaces `schedule.lr_start`.

        Raises:
            InputError: a batch size outside the training set, batch sizes that change out of order, or no epoch.
        """
        if epochs < 1:
            raise InputError(f"epochs must be at least 1, got {epochs}")
        plan = self.schedule
        scaling = SCALINGS[plan.lr_scaling](batch_size / plan.lr_reference_batch)
        start = (plan.lr_start if lr is None else lr) * scaling
        return schedule(
            images,
            batch_size,
            epochs=epochs,
            updates=plan.updates,
            switches=plan.batch_schedule,
            drop_last=self.batch.drop_last,
            rate=lambda own, step, last: curve(plan.lr_shape, start if own is None else own, plan.lr_end, step, last),
            warmup_epochs=plan.warmup_epochs,
        )


def _one_of(name: str, value: str, known: Iterable[str]) -> None:
    if value not in known:
        raise InputError(f"{name} must be one of {', '.join(known)}, got {value!r}")


def _at_least_one(name: str, value: int | None) -> None:
    if value is not None and value < 1:
        raise InputError(f"{name} must be at least 1, got {value}")
