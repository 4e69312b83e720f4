"""Warm-started ("piggybacked") large-batch training: Keskar et al. 2017, Figure 5.

A network is trained at a small batch size; from its weights after each of several epochs it is trained on at a large
one. The small-batch iterate and the large-batch solution are both measured, one row per start. What the paper leaves
open is chosen so:

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
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gapscope.errors import InputError
from gapscope.measures.evaluation import spelled
from gapscope.measures.quantity import Quantity
from gapscope.records.files import write_text
from gapscope.records.long import text
from gapscope.runtime import progress

if TYPE_CHECKING:  # a page is drawn without torch
    import pandas as pd
    from torch import nn

    from gapscope.data.datasets import Dataset
    from gapscope.measures.sharpness import SharpnessSettings
    from gapscope.measures.study import Study
    from gapscope.records.checkpoints import Checkpoint
    from gapscope.training.loop import Training
    from gapscope.training.settings import TrainSettings

RUNS_ON = "seed"
STAGE = "warmstart"
PHASES = {"small": "small-batch iterate", "large": "large-batch solution"}
START = ("start_epoch", "phase")
QUANTITIES = {
    "error_pct": Quantity("error", "%", ("split", "statistics", *START), "lower"),
    "cross_entropy": Quantity("cross-entropy", "nats", ("split", "statistics", *START), "lower"),
    "sharpness_pct": Quantity("sharpness φ", "%", ("split", "space", "epsilon", *START), "lower"),
    "weight_norm": Quantity("norm of the weights", "", START, None),
    "distance_from_initial": Quantity("distance from the initial weights", "", START, None),
    "distance_from_start": Quantity("distance from the start", "", START, None),
}
MEASURED = ("train_error_pct", "test_error_pct", "train_cross_entropy", "test_cross_entropy")
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


def long_row(name: str, value: float) -> Row:
    """Return the long row of an error or a loss that training gives by this name."""
    found = spelled(name)
    assert found is not None  # MEASURED are all spelled
    return {**found[1], "quantity": found[0], "value": value}


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

    make: "Callable[[], nn.Module]"
    data: "Dataset"
    settings: WarmstartSettings
    training: "TrainSettings"
    sharpness: "SharpnessSettings"
    seed: int
    device: str
    folder: Path
    identity: Mapping[str, Any]
    checkpoint_epochs: int
    stop: Callable[[], bool] = lambda: False

    def rows(self) -> Iterator[Row]:
        """Yield one row per start, in order: its epoch, how the runs ended, and long rows of what was measured.

        The status is "ok", "large diverged", or "small diverged" where no state of that epoch is left to start from.
        What could not be measured has no long row.

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
    def _owner(self) -> "Checkpoint":
        return self._checkpoint("identity")  # ownership marker; holds no tensors

    def _check(self) -> None:
        """Raise InputError before anything is trained, not after the small-batch run."""
        from gapscope.training.batches import check_batches

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

    def _keep(self, model: "nn.Module", epoch: int) -> None:
        from gapscope.records.weights import write_weights

        if epoch in self.settings.starts and not self._state(epoch).exists():
            write_weights(self._state(epoch), model.state_dict(), {}, {"epoch": epoch})

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
            distance = {"quantity": "distance_from_start", "value": run.final["distance_from_initial"]}
            values.append({"phase": "large", **distance})
        return {"start_epoch": start, "status": status, "values": values}

    def _iterate(self, start: int) -> "tuple[nn.Module, Row] | None":
        """Return the small-batch run's network after an epoch, statistics re-estimated, and its figures."""
        from gapscope.data.images import split_images
        from gapscope.training.evaluation import evaluation_metrics, reestimate_batch_norm, reestimation_augmentation

        model = self._load(start)
        training, test = (split_images(self.data, split, self.device) for split in ("train", "test"))
        augmentation = reestimation_augmentation(training, self.training, self.seed)
        reestimate_batch_norm(model, training, self.training.evaluation.eval_batch, augmentation)
        found = evaluation_metrics(model, training, test, self.training)
        # a long run's loss is not looked at after every epoch, so that of a state kept may not be finite
        return (model, found) if math.isfinite(found["train_loss"]) else None

    def _measured(self, model: "nn.Module", found: Mapping[str, float]) -> list[Row]:
        """Return long rows of a network whose statistics are re-estimated: what was found, norms and sharpness."""
        from gapscope import seeds
        from gapscope.data.images import split_images
        from gapscope.numerics.loss_surface.sharpness import PRECISIONS, keskar_sharpness
        from gapscope.training.evaluation import distance
        from gapscope.training.objective import Objective

        settings = self.sharpness
        initial = [weights.detach() for weights in self.make().to(self.device).parameters()]
        rows = [long_row(name, found[name]) for name in MEASURED]
        rows.append({"quantity": "weight_norm", "value": distance(model)})
        rows.append({"quantity": "distance_from_initial", "value": distance(model, initial)})
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
                # not the sharpness measure, which also draws a manifold: gigabytes for a large network, and unused here
                starts = seeds.generator(self.seed, "sharpness", "full")
                try:
                    sharp = keskar_sharpness(
                        objective, x, epsilon=epsilon, restarts=settings.restarts, generator=starts
                    )
                except ValueError as error:  # a loss that is not finite in the box
                    raise InputError(f"sharpness of a warm start: {error}") from error
                axes = {"split": split, "space": "full", "epsilon": epsilon}
                rows.append({**axes, "quantity": "sharpness_pct", "value": sharp.sharpness})
        return rows

    def _run(self, model: "nn.Module", size: int, epochs: int, name: str) -> "Training":
        from gapscope.training.loop import Training

        return Training(
            model, self.data, self.training, batch_size=size, epochs=epochs, seed=self.seed, device=self.device,
            checkpoint=self._checkpoint(name), stop=self.stop,
        )  # fmt: skip

    def _checkpoint(self, name: str) -> "Checkpoint":
        from gapscope.records.checkpoints import Checkpoint

        return Checkpoint(self.folder / f"{name}.safetensors", self.identity, self.checkpoint_epochs)

    def _state(self, epoch: int) -> Path:
        return self.folder / f"start{epoch}.safetensors"

    def _load(self, epoch: int) -> "nn.Module":
        from gapscope.records.weights import read_weights

        model = self.make()  # a new one: nothing of an earlier run is left in it
        model.load_state_dict(read_weights(self._state(epoch))[0])
        return model.to(self.device)


def rows(starts: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield the long rows of a record, from what `Warmstart.rows` yields, to 10 significant digits."""
    for start in starts:
        for row in start["values"]:
            yield {"start_epoch": start["start_epoch"], **row, "value": float(f"{row['value']:.10g}")}


def statuses(starts: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return how each start's runs ended, by its epoch: a record's `starts`."""
    return {str(start["start_epoch"]): str(start["status"]) for start in starts}


def study_table(study: "Study") -> "pd.DataFrame":
    """Return every quantity of every start of every run, long; the batch size is that of the phase."""
    import pandas as pd

    frames = []
    for about, record, table in study.seed_records(STAGE):
        sizes = {phase: record["settings"][phase] for phase in PHASES}
        frames.append(table.assign(**about, batch_size=table["phase"].map(sizes)))
    return pd.concat(frames, ignore_index=True)


def starts_table(study: "Study") -> "pd.DataFrame":
    """Return one row per start: what identifies it, its status, batch sizes and device."""
    import pandas as pd

    return pd.DataFrame(
        [
            {**about, "start_epoch": int(start), "status": status}
            | {f"{phase}_batch_size": record["settings"][phase] for phase in PHASES}
            | {"device": record["device"]}
            for about, record, _ in study.seed_records(STAGE)
            for start, status in record["starts"].items()
        ]
    )


def summary(values: "pd.DataFrame", starts: "pd.DataFrame") -> dict[str, Any]:
    """Return means over seeds of test error and sharpness, by network and start, each with its n; for `dvc metrics`.

    Args:
        values: of `study_table`.
        starts: of `starts_table`; only those whose runs did not diverge count.
    """
    kept = (values["quantity"] == "sharpness_pct") | ((values["quantity"] == "error_pct") & (values["split"] == "test"))
    keys = ["model", "dataset", "seed", "start_epoch"]
    shown = values[kept].merge(starts[starts["status"] == "ok"][keys], on=keys)
    found: dict[str, Any] = {}
    for start in starts.drop_duplicates(["model", "dataset", "start_epoch"]).to_dict("records"):
        of = shown
        for name in ("model", "dataset", "start_epoch"):
            of = of[of[name] == start[name]]
        place: dict[str, Any] = {"n": int(of["seed"].nunique())}
        for key, group in of.groupby(["phase", "quantity", "split", "epsilon"], sort=False, dropna=False):
            phase, quantity, split, epsilon = map(str, key)
            here, name = place.setdefault(phase, {}), f"{split}_{quantity}"
            if epsilon == "nan":
                here[name] = group["value"].mean()
            else:
                here.setdefault(name, {})[f"epsilon {text(float(epsilon))}"] = group["value"].mean()
        found.setdefault(f"{start['model']}-{start['dataset']}", {})[f"start{start['start_epoch']}"] = place
    return found
