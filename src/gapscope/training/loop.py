"""The one training loop, for any batch size: its history, and final values of error and loss that can be trusted.

Where Oyedotun et al. 2022 say nothing: the learning rate is annealed by a cosine, per update; weight decay covers what
`train.optimizer.decay` says. Loss is reported in parts, cross-entropy and penalty, since the paper's "loss" seems to
include both. The last epoch counts; nothing is selected on the test set.

Every random draw comes from a stream named by the seed and the epoch or update that it is for (`gapscope.seeds`). A run
that goes on from a checkpoint therefore has the same bits without saving the state of a generator.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, nn

from gapscope import seeds
from gapscope.data.datasets import Dataset
from gapscope.data.images import Augmentation, Images, split_images
from gapscope.errors import StoppedError
from gapscope.models.hidden import untracked_batch_norms
from gapscope.optim.optimizer import Optimizer
from gapscope.optim.optimizers import make_optimizer
from gapscope.records.checkpoints import Checkpoint
from gapscope.tasks import make_task
from gapscope.training.batches import batches, check_batches
from gapscope.training.discarding import Discarding, check_discarding, make_discarding
from gapscope.training.distributed import ALONE, Ranks, global_batch_norm
from gapscope.training.evaluation import (
    decayed_parameters,
    distance,
    evaluation_metrics,
    reestimate_batch_norm,
    reestimation_augmentation,
)
from gapscope.training.gradient import make_update, needs_recomputation, recompute_units
from gapscope.training.graphs import Update, as_cuda_graphs, graphs_possible, why_not_graphs
from gapscope.training.observers import Observer, Row, choose_update, make_observers
from gapscope.training.running_diagonal import RunningDiagonal
from gapscope.training.settings import TrainSettings
from gapscope.training.state import TrainingState


@dataclass(frozen=True)
class TrainResult:
    """What a run leaves.

    Attributes:
        status: "ok" or "diverged".
        history: one row for each evaluation.
        final: values at the end of the run.
        as_trained: batch norm's running statistics as training left them.
        observed: the observers' rows (epoch, layer, quantity, value).
    """

    status: str
    history: list[dict[str, Any]]
    final: dict[str, Any]
    as_trained: dict[str, Tensor]
    observed: list[Row]


class Training:
    """A run of training, in place. Iterating over it trains one epoch at a time and yields the epoch's number.

    Between two epochs the caller may look at the model, save it, or show progress. `result` is for afterwards. A
    stretch that was trained before a stop is not repeated: `done` epochs are complete when the object has been made.

    Args:
        model: with its initial weights.
        data: training and test set.
        settings: all but the following.
        batch_size: over all ranks.
        epochs: length of the run, unless `settings.schedule.updates` gives it.
        seed: of the order of the data, augmentation and dropout.
        device: of this rank.
        lr: replaces `settings.schedule.lr_start`.
        checkpoint: where the state is kept, every `checkpoint.every` epochs and when `stop` says so. A run goes on from
            what is there, with the same bits.
        stop: asked before each update.
        ranks: this process among those that train together.

    Raises:
        InputError: no epoch, a batch size outside 1..n, a last batch of one image with batch norm, or an unknown
            task, optimiser or observer.

    Example:
        >>> training = Training(model, data, settings, batch_size=128, epochs=3, seed=0, device="cpu")
        >>> for epoch in training:
        ...     print(epoch)
        >>> training.result().final["test_error_pct"]
    """

    def __init__(
        self,
        model: nn.Module,
        data: Dataset,
        settings: TrainSettings,
        *,
        batch_size: int,
        epochs: int,
        seed: int,
        device: str,
        lr: float | None = None,
        checkpoint: Checkpoint | None = None,
        stop: Callable[[], bool] = lambda: False,
        ranks: Ranks = ALONE,
    ) -> None:
        self.settings, self.seed, self.device, self.stop, self.ranks = settings, seed, device, stop, ranks
        self.task = make_task(settings.task)
        self.schedule = settings.lay_out(len(data.y_train), batch_size, epochs, lr)
        check_batches(model, len(data.y_train), self.schedule, settings, ranks)
        self.model = model.to(device)
        if settings.precision.channels_last:
            self.model = self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.training, self.test = split_images(data, "train", device), split_images(data, "test", device)
        order = torch.randperm(len(self.training), generator=seeds.generator("history"))
        self.watched = self.training.subset(order[: settings.evaluation.history_images].to(device))
        self.augmentation = Augmentation.none(len(self.training), device) if settings.augment else None
        check_discarding(settings.discard, self.task)
        self.discarding = make_discarding(settings.discard, self.training)
        self.initial = [p.detach().clone() for p in self.model.parameters()]
        optimizer = make_optimizer_of(self.model, settings, self.training, seed)
        observers = make_observers(settings.observers, dict(self.model.named_parameters()), optimizer, self.schedule)
        self.unused = {name for name, p in self.model.named_parameters() if p.requires_grad}  # no gradient so far
        self.state = TrainingState(self.model, optimizer, observers, checkpoint, ranks)
        self.state.load(sum(self.schedule.updates))

    @property
    def done(self) -> int:
        """The number of complete epochs."""
        return sum(end <= self.state.step for end in accumulate(self.schedule.updates))

    def __len__(self) -> int:
        """Return the number of epochs still to come, at most."""
        return len(self.schedule.updates) - self.done

    def __iter__(self) -> Iterator[int]:
        """Train; yield the number of each epoch when it is complete and saved.

        A history row has error and loss of the test set, and of `history_images` training images, the same ones in
        every run. A loss that is no longer finite ends the run, and so does `patience`.

        Raises:
            StoppedError: `stop` said so; the state is saved.
        """
        settings, schedule, state, ranks = self.settings, self.schedule, self.state, self.ranks
        model, images, device = self.model, len(self.training), self.device
        firsts, last = [0, *accumulate(schedule.updates)], len(schedule.updates)  # the first update of each epoch
        recomputation = recompute_units(model, needs_recomputation(model, settings))
        with global_batch_norm(model, ranks), recomputation, seeds.kept():
            make = partial(self._make_update, ranks.wrap(model))
            plain = choose_update(make, state.observers)
            discarding = choose_update(partial(make, discarding=self.discarding), state.observers)
            for epoch in range(self.done + 1, last + 1):
                size, count = schedule.batch_sizes[epoch - 1], schedule.updates[epoch - 1]
                todo = batches(images, size, count, self.seed, epoch, device)
                if self.augmentation:
                    self.augmentation.redraw(seeds.generator(self.seed, "augmentation", epoch))
                update = plain
                if self.discarding and self.discarding.during(epoch):
                    self.discarding.redraw(seeds.generator(self.seed, "discard", epoch))
                    update = discarding
                model.train()
                for batch in todo[state.step - firsts[epoch - 1] :]:
                    if ranks.any(self.stop(), device):
                        state.save()
                        raise StoppedError(f"stopped in epoch {epoch} of {last}; {state.where_saved()}")
                    seeds.reseed(self.seed, "dropout", state.step, ranks.rank)
                    update(batch, schedule.rates[state.step], state.step)
                    state.step += 1
                    if self.unused:  # after the first update, seldom
                        self.unused -= {name for name, p in model.named_parameters() if p.grad is not None}
                state.observed += [row for observer in state.observers for row in observer.rows(epoch)]
                if epoch == last or epoch % settings.evaluation.epochs_per_row(last) == 0:
                    state.history.append(self._history_row(epoch))
                    if not _finite(state.history) or _stale(
                        state.history, self.task.loss_name, settings.schedule.patience
                    ):
                        return
                if state.checkpoint and epoch < last and epoch % state.checkpoint.every == 0:
                    state.save()
                yield epoch

    def result(self) -> TrainResult:
        """Return the result of a finished run: history, and final values over the whole training and test set.

        The final values are taken in eval mode, first with batch norm's running statistics as training left them
        (`*_running`), then with statistics re-estimated over the training set: the values to quote. The model keeps the
        re-estimated ones.
        """
        model, settings, history = self.model, self.settings, self.state.history
        metrics = partial(
            evaluation_metrics, model, self.training, self.test, settings, task=self.task, unused=self.unused
        )
        status = "ok" if _finite(history) else "diverged"
        final = {key: history[-1][key] for key in ("updates", "distance_from_initial", "weight_norm", "wall_s")}
        final |= {"epochs_run": history[-1]["epoch"]} | metrics(suffix="_running")
        as_trained = {
            name: b.clone() for name, b in model.named_buffers() if name.endswith(("running_mean", "running_var"))
        }
        if status == "ok":
            augmentation = reestimation_augmentation(self.training, settings, self.seed)
            size = settings.evaluation.eval_batch
            reestimate_batch_norm(model, self.training, size, augmentation, task=self.task)
            final |= metrics()
            status = "ok" if math.isfinite(final["train_loss"]) else "diverged"
        final |= self._without_graphs()
        decayed, _ = decayed_parameters(model, settings.optimizer.decay)
        final |= {"decayed_parameters": [name for name in decayed if name not in self.unused]} | self._unusual()
        return TrainResult(status, history, final, as_trained, self.state.observed)

    def _make_update(
        self, model: nn.Module, observers: Sequence[Observer], discarding: Discarding | None = None
    ) -> Update:
        update = make_update(
            model,
            self.state.optimizer,
            self.training,
            self.settings,
            augmentation=self.augmentation,
            ranks=self.ranks,
            task=self.task,
            observers=observers,
            discarding=discarding,
        )
        possible = graphs_possible(self.settings, self.device, self.ranks) and not self._without_graphs()
        return as_cuda_graphs(update, self.device) if possible else update

    def _without_graphs(self) -> dict[str, str]:
        """Return, for the record, why updates are not CUDA graphs although they are wanted and possible."""
        why = why_not_graphs(self.state.optimizer, self.state.observers)
        return {"without_cuda_graphs": why} if why and graphs_possible(self.settings, self.device, self.ranks) else {}

    def _unusual(self) -> dict[str, list[str]]:
        """Return, for the record, which parameters were not trained, and which batch norms keep no statistics."""
        frozen = [name for name, p in self.model.named_parameters() if not p.requires_grad]
        found = {"frozen_parameters": frozen, "unused_parameters": sorted(self.unused)}
        found["untracked_batch_norms"] = untracked_batch_norms(self.model)
        return {name: names for name, names in found.items() if names}

    def _history_row(self, epoch: int) -> dict[str, Any]:
        model, state = self.model, self.state
        row = {"epoch": epoch, "updates": state.step, "lr": self.schedule.rates[state.step - 1]}
        row |= evaluation_metrics(
            model, self.watched, self.test, self.settings, suffix="_running", task=self.task, unused=self.unused
        )
        row |= {"distance_from_initial": distance(model, self.initial), "weight_norm": distance(model)}
        return row | {"wall_s": state.seconds()}


def train(model: nn.Module, data: Dataset, settings: TrainSettings, **options: Any) -> TrainResult:
    """Train `model` in place to the end of the run, and return the result. The options are those of `Training`."""
    training = Training(model, data, settings, **options)
    for _ in training:
        pass
    return training.result()


def make_optimizer_of(
    model: nn.Module, settings: TrainSettings, images: Images | None = None, seed: int = 0
) -> Optimizer:
    """Return the optimiser of a network's parameters that the settings ask for.

    Images and seed are for an optimiser that asks for the Hessian's diagonal.
    """
    own = settings.optimizer
    decayed, others = decayed_parameters(model, own.decay)
    diagonal = None
    if images is not None and settings.task == "classification":
        diagonal = partial(RunningDiagonal, model, names=[*decayed, *others], images=images, seed=seed)
    return make_optimizer(
        own.name,
        list(decayed.values()),
        list(others.values()),
        weight_decay=own.weight_decay,
        momentum=own.momentum,
        settings=own.settings,
        diagonal=diagonal,
    )


def _finite(history: list[dict[str, Any]]) -> bool:
    return math.isfinite(history[-1]["train_loss_running"])


def _stale(history: list[dict[str, Any]], loss_name: str, patience: int | None) -> bool:
    """Return whether the training loss has "ceased to improve" (Keskar et al. 2017): no fall for `patience` epochs."""
    if patience is None:
        return False
    best = min(history, key=lambda row: row[f"train_{loss_name}_running"])
    return bool(history[-1]["epoch"] - best["epoch"] >= patience)
