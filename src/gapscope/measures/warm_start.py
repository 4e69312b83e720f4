"""Warm-started ("piggybacked") large-batch training: Keskar et al. 2017, Figure 5.

A network is trained at a small batch size; from its weights after each of several epochs it is trained on at a large
one. The small-batch iterate and the large-batch solution are both measured, a row a start. Open in the paper, and here:

- *What is handed over*: weights and batch norm's statistics. A large-batch run has an optimiser without a past, and the
  whole curve of its learning rate.
- *The order of the data*: of the same seed, so the large-batch runs of all starts share it.
- *Length*: as set, whatever the loss does. Only the train stage reads `train.schedule.patience` and `runtime.launcher`.
- *Sharpness*: of the training cross-entropy, in full space, with the random starts of the sharpness stage.

What survives a kill lies in one folder, which takes the name of its run and of no other: the state after each start
epoch, a checkpoint of the run under way, and the row of each finished start.
"""

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import product
from operator import attrgetter
from pathlib import Path
from typing import Any

from torch import nn

from gapscope import seeds
from gapscope.data.datasets import Dataset
from gapscope.data.images import split_images
from gapscope.errors import InputError
from gapscope.numerics.loss_surface.sharpness import PRECISIONS, SharpnessSettings, keskar_sharpness
from gapscope.records.checkpoints import Checkpoint
from gapscope.records.columns import sharpness_column
from gapscope.records.files import write_text
from gapscope.records.weights import read_weights, write_weights
from gapscope.runtime import progress
from gapscope.training.batches import check_batches
from gapscope.training.evaluation import (
    distance,
    evaluation_metrics,
    reestimate_batch_norm,
    reestimation_augmentation,
)
from gapscope.training.loop import Training
from gapscope.training.objective import Objective
from gapscope.training.settings import TrainSettings

FIGURES = ("train_error_pct", "test_error_pct", "train_cross_entropy", "test_cross_entropy")
REFUSED = (  # of train: they would give a run another length, size or rate, or rows that are not kept
    "schedule.updates", "schedule.batch_schedule", "tuning.lr_candidates", "observers",
)  # fmt: skip

Row = dict[str, Any]


@dataclass(frozen=True)
class WarmstartSettings:
    """Params of the warmstart stage; `conf/config.yaml` says what each is."""

    small: int
    large: int
    small_epochs: int
    large_epochs: int
    starts: tuple[int, ...]
    threads: int

    def __post_init__(self) -> None:
        if not self.starts or list(self.starts) != sorted({*self.starts}):
            raise InputError(f"warmstart.starts must be one epoch or several that rise, got {list(self.starts)}")
        if self.starts[0] < 0 or self.starts[-1] > self.small_epochs:
            raise InputError(f"warmstart.starts must lie in 0..{self.small_epochs}, got {list(self.starts)}")


@dataclass(frozen=True)
class Warmstart:
    """One network of one seed, from all of its starts.

    Attributes:
        make: returns the network with its initial weights, the same at each call.
        data: training and test set.
        settings, training, sharpness: params.
        seed: of the order of the data, augmentation, dropout, and sharpness's random starts.
        device: of all of it.
        folder: what is finished waits there; to be removed when the rows are safe elsewhere.
        identity: all that determines the rows, as a JSON object; a folder of another run's is emptied.
        checkpoint_epochs: epochs between checkpoints of a run.
        stop: asked before each update.
    """

    make: Callable[[], nn.Module]
    data: Dataset
    settings: WarmstartSettings
    training: TrainSettings
    sharpness: SharpnessSettings
    seed: int
    device: str
    folder: Path
    identity: Mapping[str, Any]
    checkpoint_epochs: int
    stop: Callable[[], bool] = lambda: False

    def rows(self) -> Iterator[Row]:
        """Yield a row a start, in their order: figures and sharpness before and after, and how the runs ended.

        The status is "ok", or "large diverged", or "small diverged" where no state of that epoch is left to start from;
        what could not be measured is NaN.

        Raises:
            InputError: a setting of the train stage without meaning here, or a batch size that cannot be trained at.
            StoppedError: `stop` said so; the state is saved.
        """
        self._check()
        self._claim()
        kept = self._once("small", self._train_small)["kept"]
        for start in self.settings.starts:
            yield self._once(f"row{start}", partial(self._row, start, start in kept))
            self._checkpoint(f"large{start}").remove()

    def remove(self) -> None:
        """Remove the folder, once the rows are written."""
        self._empty()
        self._owner.remove()
        self.folder.rmdir()

    @property
    def _owner(self) -> Checkpoint:
        return self._checkpoint("identity")  # of a run without a state: it only says whose folder this is

    def _check(self) -> None:
        """Raise InputError before anything is trained, not after the small-batch run."""
        for name in REFUSED:
            if attrgetter(name)(self.training):
                raise InputError(f"train.{name} has no meaning in a warm start: leave it at its default")
        images, model = len(self.data.y_train), self.make()
        lengths = ((self.settings.small, self.settings.small_epochs), (self.settings.large, self.settings.large_epochs))
        for size, epochs in lengths:
            check_batches(model, images, self.training.lay_out(images, size, epochs), self.training)

    def _claim(self) -> None:
        """Empty the folder if it is another run's, and say so; refuse it if it is nobody's."""
        if not self._owner.path.exists() and any(path.suffix != ".tmp" for path in self.folder.glob("*")):
            raise InputError(f"{self.folder} holds files that are not of a warm start: give it a folder of its own")
        if self._owner.load() is None:
            self._empty()
            self._owner.save({}, {})

    def _empty(self) -> None:
        """Remove all but the file that says whose folder it is: a kill leaves it in the same hands."""
        for path in sorted(self.folder.glob("*")):  # the small-batch run's checkpoint before what it relies on, start*
            if path != self._owner.path:
                path.unlink()

    def _once(self, name: str, make: Callable[[], Row]) -> Row:
        """Return what `make` makes, from its file where there is one."""
        path = self.folder / f"{name}.json"
        if not path.exists():
            write_text(path, json.dumps(make()))
        row: Row = json.loads(path.read_text(encoding="utf-8"))  # just made or not: the same bits
        return row

    def _train_small(self) -> Row:
        model = self.make().to(self.device)
        run = self._run(model, self.settings.small, self.settings.small_epochs, "small")
        # also before the first epoch: a kill may come between a checkpoint and the state of its epoch. A checkpoint
        # within an epoch finds that state already there, and must not replace it.
        self._keep(model, run.done)
        for epoch in progress(run, f"batch {self.settings.small}"):
            self._keep(model, epoch)
        # of a run that diverged, epochs before that
        return {"kept": [start for start in self.settings.starts if self._state(start).exists()]}

    def _keep(self, model: nn.Module, epoch: int) -> None:
        if epoch in self.settings.starts and not self._state(epoch).exists():
            write_weights(self._state(epoch), model.state_dict(), {}, {"epoch": epoch})

    def _row(self, start: int, kept: bool) -> Row:
        found, status = {"small": Row(), "large": Row()}, "small diverged"
        if kept and (iterate := self._iterate(start)):
            found["small"] = self._measured(*iterate)
            solution = self._load(start)
            training = self._run(solution, self.settings.large, self.settings.large_epochs, f"large{start}")
            for _ in progress(training, f"batch {self.settings.large} from epoch {start}"):
                pass
            run = training.result()
            status = "ok" if run.status == "ok" else "large diverged"
            found["large"] = self._measured(solution, run.final) if run.status == "ok" else Row()
            found["large"]["distance_from_start"] = run.final["distance_from_initial"]
        columns = [(side, name) for side in ("small", "large") for name in self._names()]
        columns.append(("large", "distance_from_start"))
        values = {f"{side}_{name}": found[side].get(name, math.nan) for side, name in columns}
        return {"start_epoch": start, **values, "status": status}

    def _iterate(self, start: int) -> tuple[nn.Module, Row] | None:
        """Return the small-batch run's network after an epoch, statistics re-estimated, and its figures."""
        model = self._load(start)
        training, test = (split_images(self.data, split, self.device) for split in ("train", "test"))
        augmentation = reestimation_augmentation(training, self.training, self.seed)
        reestimate_batch_norm(model, training, self.training.evaluation.eval_batch, augmentation)
        found = evaluation_metrics(model, training, test, self.training)
        # a long run's loss is not looked at after every epoch, so that of a state kept may not be finite
        return (model, found) if math.isfinite(found["train_loss"]) else None

    def _names(self) -> list[str]:
        asked = product(self.sharpness.splits, self.sharpness.epsilons)
        return [
            *FIGURES,
            *(sharpness_column(split, "full", epsilon) for split, epsilon in asked),
            "weight_norm",
            "distance_from_initial",
        ]

    def _measured(self, model: nn.Module, found: Mapping[str, float]) -> Row:
        """Return the figures that were found and the sharpness of a network whose statistics are re-estimated."""
        settings = self.sharpness
        initial = [weights.detach() for weights in self.make().to(self.device).parameters()]
        row = {name: found[name] for name in FIGURES}
        row |= {"weight_norm": distance(model), "distance_from_initial": distance(model, initial)}
        for split in settings.splits:
            objective = Objective.of_images(
                model,
                split_images(self.data, split, self.device),
                settings.images if split == "train" else None,
                settings.micro_batch,
                PRECISIONS[settings.precision],
                batch_norm_statistics=settings.batch_norm_statistics,
            )
            x = objective.weights()
            for epsilon in settings.epsilons:
                # not `measure`: it also draws the manifold, some GB for a large network and not asked for here
                starts = seeds.generator(self.seed, "sharpness", "full")
                try:
                    sharp = keskar_sharpness(
                        objective, x, epsilon=epsilon, restarts=settings.restarts, generator=starts
                    )
                except ValueError as error:  # a loss that is not finite in the box
                    raise InputError(f"sharpness of a warm start: {error}") from error
                row[sharpness_column(split, "full", epsilon)] = sharp.sharpness
        return row

    def _run(self, model: nn.Module, size: int, epochs: int, name: str) -> Training:
        return Training(
            model, self.data, self.training, batch_size=size, epochs=epochs, seed=self.seed, device=self.device,
            checkpoint=self._checkpoint(name), stop=self.stop,
        )  # fmt: skip

    def _checkpoint(self, name: str) -> Checkpoint:
        return Checkpoint(self.folder / f"{name}.safetensors", self.identity, self.checkpoint_epochs)

    def _state(self, epoch: int) -> Path:
        return self.folder / f"start{epoch}.safetensors"

    def _load(self, epoch: int) -> nn.Module:
        model = self.make()  # a new one: nothing of an earlier run is left in it
        model.load_state_dict(read_weights(self._state(epoch))[0])
        return model.to(self.device)
