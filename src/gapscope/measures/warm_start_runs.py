"""The training runs of warm starts ("piggybacking"): Keskar et al. 2017, Figure 5.

A network is trained at a small batch size. From its weights after each of several epochs it is trained further at a
large one. The small-batch iterate and the large-batch solution are both measured, one row per start. Our choices where
the paper says nothing:

- *State at the start*: the large-batch run takes over the weights and batch norm's statistics. Its optimiser state is
  new, and its learning rate goes through the whole schedule.
- *Order of the data*: drawn from the same seed, so the large-batch runs of all starts share it.
- *Length*: as set. Only the train stage reads `train.schedule.patience` and `runtime.launcher`.
- *Sharpness*: of the training cross-entropy, in full space, with the random starts of the sharpness stage.

A folder of its own keeps each unfinished run through a kill: the weights after each start epoch, a checkpoint of the
current run, and the row of each finished start.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import product
from operator import attrgetter
from pathlib import Path
from typing import Any

from torch import nn

from gapscope.config import load_params
from gapscope.data import datasets
from gapscope.data.datasets import Dataset
from gapscope.data.images import split_images
from gapscope.errors import InputError
from gapscope.measures.sharpness import SharpnessSettings, measure_space
from gapscope.measures.sharpness import rows as sharpness_rows
from gapscope.measures.training_run import run_identity
from gapscope.measures.warm_start import QUANTITIES, Row, WarmstartSettings, metric_row, statuses
from gapscope.measures.warm_start import rows as long_rows
from gapscope.numerics.loss_surface.sharpness import PRECISIONS
from gapscope.records.cell import write_cell
from gapscope.records.checkpoints import Checkpoint, content_digest
from gapscope.records.provenance import Start
from gapscope.records.tensors import storable
from gapscope.records.weights import read_weights, write_weights
from gapscope.runtime import RuntimeSettings, describe_device, pick_device, progress, set_threads, stop_requests
from gapscope.tasks import make_task
from gapscope.tasks.task import Task
from gapscope.training.batches import check_batches
from gapscope.training.evaluation import (
    distance,
    evaluation_metrics,
    reestimate_batch_norm,
    reestimation_augmentation,
)
from gapscope.training.loop import Training
from gapscope.training.networks import initial, loaded, study_spec
from gapscope.training.objective import Objective
from gapscope.training.settings import TrainSettings

SPLITS = ("train", "test")
REFUSED = (  # of train: they would give a run another length, size or rate, or rows that are not kept
    "schedule.updates", "schedule.batch_schedule", "tuning.lr_candidates", "observers",
)  # fmt: skip


def train_seed(*, model: str, data: Path, seed: int, out: Path, checkpoint: Path) -> None:
    """Train a network of one seed from all of its starts and write the record; a stopped run goes on where it was.

    Args:
        model: one of the study's models.
        data: .npz of the download stage.
        seed: of the run.
        out: path of the record, without suffix.
        checkpoint: folder of what is finished; removed at the end.

    Raises:
        InputError: as `WarmStart.rows`.
        StoppedError: a signal came; the state is saved.
    """
    params, start = load_params(), Start.of("warmstart")
    settings = params.section("warmstart", WarmstartSettings)
    training = params.section("train", TrainSettings).changed({"schedule.patience": None})
    sharpness = params.section("sharpness", SharpnessSettings)
    set_threads(settings.threads)
    dataset, device = datasets.load(data), pick_device()
    spec = study_spec(params, model, dataset.image_shape, dataset.classes)
    header = {"model": spec.to_header(), "dataset": dataset.name, "seed": seed, "settings": vars(settings)}
    header |= {"train": training.identity(), "sharpness": sharpness.identity()}
    with stop_requests() as stop:
        network = WarmStart(
            partial(initial, spec, seed), dataset, settings, training, sharpness, seed=seed, device=device,
            folder=checkpoint, identity=header | run_identity(params, spec, dataset, start, device), stop=stop,
            checkpoint_epochs=params.section("runtime", RuntimeSettings).checkpoint_epochs,
        )  # fmt: skip
        starts = list(network.rows())
    record, rows = {**header, "starts": statuses(starts)}, long_rows(starts)
    write_cell(out, rows, record, start, device=describe_device(device), threads=settings.threads)
    network.remove()


@dataclass(frozen=True)
class WarmStart:
    """One network of one seed, from all of its starts.

    Attributes:
        make: returns the network with its initial weights, the same at each call.
        data: training and test set.
        settings, training, sharpness: params.
        seed: of the order of the data, augmentation, dropout, and sharpness's random starts.
        device: to train and measure on.
        folder: keeps what is finished; call `remove` when the rows are written elsewhere.
        identity: all that determines the rows, as a JSON object; the folder of a run with another identity is emptied.
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
        """Yield one row per start, in order: its epoch, its status, and its measurements as long rows.

        The status is "ok", "large diverged", or "small diverged" if there is no state of that epoch to start from.
        What could not be measured has no long row.

        Raises:
            InputError: a training setting that has no meaning in a warm start, or an impossible batch size.
            StoppedError: `stop` returned True; the state is saved.
        """
        self._check()
        self._claim()
        kept = self._once("kept", self._train_small)["kept"]
        for start in self.settings.starts:
            yield self._once(f"row{start}", partial(self._row, start, start in kept))
            self._checkpoint(f"large{start}").remove()

    @cached_property
    def task(self) -> Task:
        """The task that is trained."""
        return make_task(self.training.task)

    def remove(self) -> None:
        """Remove the folder, once the rows are written."""
        self._empty()
        self._owner.remove()
        self.folder.rmdir()

    @property
    def _owner(self) -> Checkpoint:
        return self._checkpoint("identity")  # ownership marker; holds no tensors

    def _check(self) -> None:
        """Raise InputError before anything is trained."""
        for name in REFUSED:
            if attrgetter(name)(self.training):
                raise InputError(f"train.{name} has no meaning in a warm start: leave it at its default")
        images, model = len(self.data.y_train), self.make()
        lengths = ((self.settings.small, self.settings.small_epochs), (self.settings.large, self.settings.large_epochs))
        for size, epochs in lengths:
            check_batches(model, images, self.training.lay_out(images, size, epochs), self.training)

    def _claim(self) -> None:
        """Empty the folder if it belongs to another run; refuse it if it holds files of another kind."""
        if not self._owner.path.exists() and any(path.suffix != ".tmp" for path in self.folder.glob("*")):
            raise InputError(f"{self.folder} holds files that no warm start wrote; choose another folder")
        if self._owner.load() is None:
            self._empty()
            self._owner.save({}, {})

    def _empty(self) -> None:
        """Remove all files but the ownership marker, so that the folder keeps its owner after a kill."""
        for path in sorted(self.folder.glob("*")):  # sorted: the checkpoint small* goes before the states start*
            if path != self._owner.path:
                path.unlink()

    def _once(self, name: str, make: Callable[[], Row]) -> Row:
        """Return the result of `make`, or the one that an earlier call has written."""
        kept = self._checkpoint(name)
        if kept.load() is None:
            kept.save({}, make())
        found = kept.load()  # always read back, so that a resumed run has the same bits
        assert found is not None  # it was written just now
        row: Row = found[1]
        return row

    def _train_small(self) -> Row:
        model = self.make().to(self.device)
        run = self._run(model, self.settings.small, self.settings.small_epochs, "small")
        # also before the first epoch: a kill may have come after a checkpoint and before the state of its epoch. If the
        # checkpoint lies within an epoch, that state is already there and must not be replaced.
        self._keep(model, run.done)
        for epoch in progress(run, f"batch {self.settings.small}"):
            self._keep(model, epoch)
        # a run that diverged has the states of the epochs before
        return {"kept": [start for start in self.settings.starts if self._state(start).exists()]}

    def _keep(self, model: nn.Module, epoch: int) -> None:
        if epoch in self.settings.starts and not self._state(epoch).exists():
            state = model.state_dict()
            header = {"epoch": epoch, "sha256": content_digest(storable(state), str(epoch))}
            write_weights(self._state(epoch), state, {}, header)

    def _row(self, start: int, kept: bool) -> Row:
        values, status = [], "small diverged"
        if kept and (iterate := self._iterate(start)):
            values += [{"phase": "small", **row} for row in self._measured(*iterate)]
            solution = self._load(start)
            training = self._run(solution, self.settings.large, self.settings.large_epochs, f"large{start}")
            for _ in progress(training, f"batch {self.settings.large} from epoch {start}"):
                pass
            run = training.result()
            status = "ok" if run.status == "ok" else "large diverged"
            if run.status == "ok":
                values += [{"phase": "large", **row} for row in self._measured(solution, run.final)]
            moved = run.final["distance_from_initial"]
            values.append({"phase": "large", "quantity": "distance_from_start", "value": moved})
        return {"start_epoch": start, "status": status, "values": values}

    def _iterate(self, start: int) -> tuple[nn.Module, Row] | None:
        """Return the small-batch network after an epoch, with re-estimated statistics, and its metrics.

        None if its loss is not finite: a long run is not evaluated after every epoch.
        """
        model = self._load(start)
        training, test = (split_images(self.data, split, self.device) for split in SPLITS)
        augmentation = reestimation_augmentation(training, self.training, self.seed)
        size = self.training.evaluation.eval_batch
        reestimate_batch_norm(model, training, size, augmentation, task=self.task)
        metrics = evaluation_metrics(model, training, test, self.training, task=self.task)
        return (model, metrics) if math.isfinite(metrics["train_loss"]) else None

    def _measured(self, model: nn.Module, metrics: Mapping[str, float]) -> list[Row]:
        """Return the long rows of a network with re-estimated statistics: its metrics, norms and sharpness."""
        settings = self.sharpness
        initial_weights = [weights.detach() for weights in self.make().to(self.device).parameters()]
        names = self.task.quantities
        rows = [metric_row(split, name, metrics[f"{split}_{name}"]) for name in names for split in SPLITS]
        rows.append({"quantity": "weight_norm", "value": distance(model)})
        rows.append({"quantity": "distance_from_initial", "value": distance(model, initial_weights)})
        for split, statistics in product(settings.splits, settings.statistics):
            objective = Objective.of_images(
                model,
                split_images(self.data, split, self.device),
                settings.images if split == "train" else None,
                settings.micro_batch,
                PRECISIONS[settings.precision],
                batch_norm_statistics=statistics,
                task=self.task,
            )
            axes = {"split": split, **settings.axis(statistics)}
            # the full space alone: a manifold would take gigabytes for a large network
            try:
                for row in measure_space(objective, objective.weights(), settings, seed=self.seed):
                    rows += [{**axes, **of} for of in sharpness_rows([row]) if of["quantity"] in QUANTITIES]
            except ValueError as error:  # a loss that is not finite in the box
                raise InputError(f"sharpness of a warm start: {error}") from error
        return rows

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
        state, header = read_weights(self._state(epoch))
        if header["sha256"] != content_digest(state, str(epoch)):
            raise InputError(f"{self._state(epoch)} is damaged; remove {self.folder}, and the run starts afresh")
        model = self.make()  # a new network keeps nothing of an earlier run
        return loaded(model, state, self._state(epoch)).to(self.device)
