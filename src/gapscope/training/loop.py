"""The one training loop, for any batch size: its history, and figures that can be trusted at the end.

Where Oyedotun et al. 2022 are silent: the rate is annealed by a cosine per update; weight decay covers what
`train.decay` says. Loss is reported in parts, cross-entropy and penalty, since the paper's "loss" seems to hold both.
The last epoch counts; nothing is selected on the test set.

Every random draw comes from a stream named by the seed and the epoch or update it is for (`gapscope.seeds`), so a
checkpoint needs no generator's state to go on with the same bits.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, nn

from gapscope import seeds
from gapscope.data.datasets import Dataset
from gapscope.data.images import Images, Moves, split_images
from gapscope.errors import StoppedError
from gapscope.optim.optimizers import Optimizer
from gapscope.records.checkpoints import Checkpoint
from gapscope.training.distributed import ALONE, Ranks, global_batch_norm
from gapscope.training.evaluation import (
    decayed_parameters,
    distance,
    figures,
    reestimate_batch_norm,
    reestimation_moves,
)
from gapscope.training.gradient import recomputed, recomputes, updates
from gapscope.training.graphs import recorded
from gapscope.training.settings import TrainSettings, check_batches


@dataclass(frozen=True)
class TrainResult:
    """What a run leaves: a row an epoch, the final figures, and batch norm's statistics as training left them."""

    status: str  # "ok" or "diverged"
    history: list[dict[str, Any]]
    final: dict[str, Any]
    as_trained: dict[str, Tensor]


def train(
    model: nn.Module,
    data: Dataset,
    settings: TrainSettings,
    *,
    batch_size: int,
    epochs: int,
    seed: int,
    device: str,
    lr: float | None = None,
    on_epoch: Callable[[Sequence[int]], Iterator[int]] = iter,
    checkpoint: Checkpoint | None = None,
    stop: Callable[[], bool] = lambda: False,
    ranks: Ranks = ALONE,
) -> TrainResult:
    """Train `model` in place.

    Args:
        model: with its initial weights.
        data: training and test set.
        settings: all but the following.
        batch_size: over all ranks.
        epochs: length of the run, unless `settings.updates` gives it.
        seed: of the order of the data, augmentation, dropout.
        device: of this rank.
        lr: takes the place of `settings.lr_start`.
        on_epoch: wraps the epochs still to come, for a progress bar.
        checkpoint: where the state is kept, every `checkpoint.every` epochs and when `stop` says so; a run goes on
            from what is there, with the same bits.
        stop: asked before each update.
        ranks: this process among those that train together.

    Returns:
        The result. A row of its history has the test set's figures, and the training set's over `history_images` of
        it, the same in every run. Its `final` figures cover both whole sets in eval mode, with batch norm's running
        statistics as training left them (`*_running`) and re-estimated over the training set (the headline). The
        model keeps the re-estimated ones. A loss that is no longer finite ends the run with status "diverged".

    Raises:
        InputError: no epoch, a batch size outside 1..n, or one that leaves a last batch of one image to batch norm.
        StoppedError: `stop` said so; the state is saved.
    """
    run = settings.schedule(len(data.y_train), batch_size, epochs, lr)
    check_batches(model, len(data.y_train), run, settings, ranks)
    model = model.to(device)
    if settings.channels_last:
        model = model.to(memory_format=torch.channels_last)
    training, test = split_images(data, "train", device), split_images(data, "test", device)
    watched = training.subset(
        torch.randperm(len(training), generator=seeds.generator("history"))[: settings.history_images].to(device)
    )
    decayed, others = decayed_parameters(model, settings.decay)
    optimizer = settings.make_optimizer(list(decayed.values()), list(others.values()))
    initial = [p.detach().clone() for p in model.parameters()]
    firsts = [0, *accumulate(run.updates)]  # the first update of each epoch
    moves = Moves.none(len(training), device) if settings.augment else None
    state = _State(model, optimizer, checkpoint, ranks)
    state.load(device)

    done = sum(end <= state.step for end in firsts[1:])
    with global_batch_norm(model, ranks), recomputed(model, recomputes(model, settings)), seeds.kept():
        plain = updates(ranks.wrap(model), optimizer, training, settings, moves, ranks)
        update = recorded(plain, settings, device, ranks)
        for epoch in on_epoch(range(done + 1, len(run.updates) + 1)):
            todo = batches(len(training), run.batch_sizes[epoch - 1], run.updates[epoch - 1], seed, epoch, device)
            if moves:
                moves.redraw(seeds.generator(seed, "augmentation", epoch))
            model.train()
            for batch in todo[state.step - firsts[epoch - 1] :]:
                if ranks.any(stop(), device):
                    state.save()
                    raise StoppedError(f"stopped in epoch {epoch} of {len(run.updates)}; {state.kept()}")
                seeds.reseed(seed, "dropout", state.step, ranks.rank)
                update(batch, run.rates[state.step])
                state.step += 1
            last = epoch == len(run.updates)
            if last or epoch % settings.epochs_a_row(len(run.updates)) == 0:
                row = {"epoch": epoch, "updates": state.step, "lr": run.rates[state.step - 1]}
                row |= figures(model, watched, test, settings, suffix="_running")
                row |= {"distance_from_initial": distance(model, initial), "weight_norm": distance(model)}
                state.history.append(row | {"wall_s": state.seconds()})
                if not math.isfinite(row["train_loss_running"]) or _stale(state.history, settings.patience):
                    break
            if checkpoint and not last and epoch % checkpoint.every == 0:
                state.save()

    return _result(model, state.history, training, test, settings, seed=seed)


def _result(
    model: nn.Module,
    history: list[dict[str, Any]],
    training: Images,
    test: Images,
    settings: TrainSettings,
    *,
    seed: int,
) -> TrainResult:
    """Take the final figures, over both whole sets; batch norm's statistics are re-estimated on the way."""
    status = "ok" if math.isfinite(history[-1]["train_loss_running"]) else "diverged"
    final = {key: history[-1][key] for key in ("updates", "distance_from_initial", "weight_norm", "wall_s")}
    final |= {"epochs_run": history[-1]["epoch"]} | figures(model, training, test, settings, suffix="_running")
    as_trained = {
        name: b.clone() for name, b in model.named_buffers() if name.endswith(("running_mean", "running_var"))
    }
    if status == "ok":
        reestimate_batch_norm(model, training, settings.eval_batch, reestimation_moves(training, settings, seed))
        final |= figures(model, training, test, settings)
        status = "ok" if math.isfinite(final["train_loss"]) else "diverged"
    decayed, _ = decayed_parameters(model, settings.decay)
    return TrainResult(status, history, final | {"decayed_parameters": list(decayed)}, as_trained)


def batches(images: int, size: int, updates: int, seed: int, epoch: int, device: str = "cpu") -> tuple[Tensor, ...]:  # noqa: PLR0917
    """Return the index tensors of one epoch: one permutation, drawn from (seed, epoch), cut into batches."""
    order = torch.randperm(images, generator=seeds.generator(seed, "order", epoch)).to(device)
    return tuple(order.split(size)[:updates])


@dataclass
class _State:
    """All that changes from update to update, and what it takes to go on after a stop."""

    model: nn.Module
    optimizer: Optimizer
    checkpoint: Checkpoint | None
    ranks: Ranks
    step: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)
    before: float = 0.0  # seconds before the latest stop
    start: float = field(default_factory=time.perf_counter)

    def seconds(self) -> float:
        """Return the seconds of training, those before a stop included."""
        return self.before + time.perf_counter() - self.start

    def tensors(self) -> dict[str, Tensor]:
        """Return every tensor of the run, by name."""
        model = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        return model | {f"optimizer.{name}": tensor for name, tensor in self.optimizer.state().items()}

    def save(self) -> None:
        if self.checkpoint and self.ranks.writes:
            progress = {"step": self.step, "history": self.history, "seconds": self.seconds()}
            self.checkpoint.save(self.tensors(), progress)

    def load(self, device: str) -> None:
        found = self.checkpoint.load() if self.checkpoint else None
        if found is None:
            return
        saved, progress = found
        with torch.no_grad():
            for name, tensor in self.tensors().items():
                tensor.copy_(saved[name].to(device))
        self.step, self.history, self.before = progress["step"], progress["history"], progress["seconds"]
        print(f"going on from update {self.step}, of {self.checkpoint.path}", flush=True)  # type: ignore[union-attr]

    def kept(self) -> str:
        """Return in words where the state is."""
        return f"{self.checkpoint.path} has the state" if self.checkpoint else "nothing was saved"


def _stale(history: list[dict[str, Any]], patience: int | None) -> bool:
    """Whether the training loss has not improved for `patience` epochs: Keskar et al. 2017, "ceases to improve"."""
    if patience is None:
        return False
    best = min(history, key=lambda row: row["train_cross_entropy_running"])
    return bool(history[-1]["epoch"] - best["epoch"] >= patience)
