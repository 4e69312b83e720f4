"""The one training loop: SGD with momentum at one batch size, its history, and figures that can be trusted at the end.

Settings as in Oyedotun et al. 2022, section 5.2. Where the paper is silent: the rate is annealed by a cosine per
update; weight decay covers what `train.decay` says. Loss is reported in parts, cross-entropy and penalty, since the
paper's "loss" seems to hold both. The last epoch counts; nothing is selected on the test set.
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from gapscope import seeds
from gapscope.data import Dataset
from gapscope.errors import InputError
from gapscope.images import Images, split_images
from gapscope.optim.schedules import cosine
from gapscope.optim.sgd import SGD


@dataclass(frozen=True)
class TrainSettings:
    """Params of the train stage; `conf/config.yaml` says what each is."""

    batch_norm: bool
    linear: bool
    momentum: float
    lr_start: float
    lr_end: float
    weight_decay: float
    decay: str
    drop_last: bool
    history_images: int | None
    eval_batch: int
    threads: int

    def __post_init__(self) -> None:
        if self.decay not in ("weights", "all"):
            raise InputError(f"train.decay must be weights or all, got {self.decay!r}")
        if self.eval_batch < 2:
            raise InputError(f"train.eval_batch must be at least 2 (batch norm's statistics), got {self.eval_batch}")
        if self.history_images is not None and self.history_images < 1:
            raise InputError(f"train.history_images must be null or at least 1, got {self.history_images}")


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
    on_epoch: Callable[[Iterator[int]], Iterator[int]] = lambda epochs: epochs,
) -> TrainResult:
    """Train `model` in place.

    Returns:
        The result. A row of its history has the test set's figures, and the training set's over `history_images` of
        it, the same in every run. Its `final` figures cover both whole sets in eval mode, with batch norm's running
        statistics as training left them (`*_running`) and re-estimated over the training set (the headline). The
        model keeps the re-estimated ones. A loss that is no longer finite ends the run with status "diverged".

    Raises:
        InputError: no epoch, a batch size outside 1..n, or one that leaves a last batch of one image to batch norm.
    """
    if epochs < 1:
        raise InputError(f"epochs must be at least 1, got {epochs}")
    check_batch_size(model, len(data.y_train), batch_size, data.name, settings.drop_last)
    model = model.to(device)
    training, test = (
        split_images(data, "train", device),
        split_images(data, "test", device),
    )
    watched = training.subset(
        torch.randperm(len(training), generator=seeds.generator("history"))[: settings.history_images].to(device)
    )
    decayed, others = decayed_parameters(model, settings.decay)
    optimizer = SGD(
        list(decayed.values()), list(others.values()), momentum=settings.momentum, weight_decay=settings.weight_decay
    )
    initial = [p.detach().clone() for p in model.parameters()]
    rates = cosine(
        settings.lr_start,
        settings.lr_end,
        epochs * updates_per_epoch(len(training), batch_size, settings.drop_last),
    )

    history: list[dict[str, Any]] = []
    status, step, start = "ok", 0, time.perf_counter()
    for epoch in on_epoch(iter(range(1, epochs + 1))):
        model.train()
        with seeds.seeded(seed, "dropout", epoch):
            for batch in batches(len(training), batch_size, seed, epoch, settings.drop_last):
                index = batch.to(device)
                loss = cross_entropy(model(training.inputs(index)), training.labels[index])
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step(rates[step])
                step += 1
        row = {"epoch": epoch, "updates": step, "lr": rates[step - 1]}
        row |= figures(model, watched, test, settings, suffix="_running")
        row |= {
            "distance_from_initial": distance(model, initial),
            "weight_norm": distance(model),
        }
        history.append(row | {"wall_s": time.perf_counter() - start})
        if not math.isfinite(row["train_loss_running"]):
            status = "diverged"
            break

    final = {key: history[-1][key] for key in ("updates", "distance_from_initial", "weight_norm", "wall_s")}
    final |= {"epochs_run": len(history)} | figures(model, training, test, settings, suffix="_running")
    as_trained = {
        name: b.clone() for name, b in model.named_buffers() if name.endswith(("running_mean", "running_var"))
    }
    if status == "ok":
        reestimate_batch_norm(model, training, settings.eval_batch)
        final |= figures(model, training, test, settings)
        status = "ok" if math.isfinite(final["train_loss"]) else "diverged"
    return TrainResult(status, history, final | {"decayed_parameters": list(decayed)}, as_trained)


def check_batch_size(model: nn.Module, images: int, batch_size: int, dataset: str, drop_last: bool) -> None:
    """Raise InputError where a batch size cannot be trained at."""
    if not 1 <= batch_size <= images:
        raise InputError(
            f"batch_size must be in [1, {images}], got {batch_size}; {dataset} has {images} training images"
        )
    normalised = any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in model.modules())
    if normalised and (batch_size == 1 or (images % batch_size == 1 and not drop_last)):
        raise InputError(
            f"batch_size {batch_size} leaves a batch of one of the {images} images, on which batch norm is undefined; "
            "take another size, or train.drop_last=true, or train.batch_norm=false"
        )


def updates_per_epoch(images: int, batch_size: int, drop_last: bool) -> int:
    """Return the number of batches an epoch."""
    return images // batch_size if drop_last else -(-images // batch_size)


def batches(images: int, batch_size: int, seed: int, epoch: int, drop_last: bool) -> Iterator[Tensor]:
    """Yield the index tensors of one epoch: one permutation, drawn from (seed, epoch), cut into batches."""
    order = torch.randperm(images, generator=seeds.generator(seed, "order", epoch))
    used = images // batch_size * batch_size if drop_last else images
    yield from order[:used].split(batch_size)


def decayed_parameters(model: nn.Module, decay: str) -> tuple[dict[str, nn.Parameter], dict[str, nn.Parameter]]:
    """Split the parameters by name into decayed and not: with "weights", kernels (two or more axes) only."""
    named = dict(model.named_parameters())
    decayed = {name: p for name, p in named.items() if decay == "all" or p.ndim >= 2}
    return decayed, {name: p for name, p in named.items() if name not in decayed}


def penalty(model: nn.Module, settings: TrainSettings) -> float:
    """Return 0.5 lambda sum w^2 over exactly the decayed parameters, in float64: what SGD's weight decay descends."""
    decayed, _ = decayed_parameters(model, settings.decay)
    return 0.5 * settings.weight_decay * sum(float(p.detach().double().square().sum()) for p in decayed.values())


def figures(
    model: nn.Module,
    training: Images,
    test: Images,
    settings: TrainSettings,
    suffix: str = "",
) -> dict[str, float]:
    """Return error (%), cross-entropy, and loss = cross-entropy + penalty over both whole sets, in eval mode."""
    weight_penalty = penalty(model, settings)
    row: dict[str, float] = {"penalty": weight_penalty}
    for split, images in (("train", training), ("test", test)):
        error, entropy = evaluate(model, images, settings.eval_batch)
        row[f"{split}_error_pct{suffix}"] = error
        row[f"{split}_cross_entropy{suffix}"] = entropy
        row[f"{split}_loss{suffix}"] = entropy + weight_penalty
    return row


@torch.no_grad()
def evaluate(model: nn.Module, images: Images, batch: int) -> tuple[float, float]:
    """Return error (%) and mean cross-entropy over all images, in eval mode, summed in float64."""
    model.eval()
    wrong = torch.zeros((), dtype=torch.int64, device=images.labels.device)
    total = torch.zeros((), dtype=torch.float64, device=images.labels.device)
    for start in range(0, len(images), batch):
        part = slice(start, start + batch)
        logits = model(images.inputs(part))
        total += cross_entropy(logits.double(), images.labels[part], reduction="sum")
        # a NaN row has no argmax worth the name: count it as wrong
        wrong += (~(logits.argmax(1) == images.labels[part]) | logits.isnan().any(1)).sum()
    return 100 * float(wrong) / len(images), float(total) / len(images)


def reestimate_batch_norm(model: nn.Module, training: Images, batch: int) -> None:
    """Replace batch norm's running statistics by averages over the training set, in batches of equal size (+-1).

    After s updates 0.9^s of the initial statistics remain: at large batches that alone makes a network test worse.
    """
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    model.eval()  # all but batch norm: no dropout here, unlike torch.optim.swa_utils.update_bn
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain average over the parts
        norm.train()
    with torch.no_grad():
        for part in torch.arange(len(training)).tensor_split(-(-len(training) // batch)):
            model(training.inputs(part.to(training.labels.device)))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        norm.eval()


def distance(model: nn.Module, origin: list[Tensor] | None = None) -> float:
    """Return the L2 norm over all trainable parameters, of the weights or of their change from `origin`, in float64."""
    origins = origin or [torch.zeros_like(p) for p in model.parameters()]
    terms = [float((p.detach().double() - o.double()).square().sum()) for p, o in zip(model.parameters(), origins)]
    return math.sqrt(sum(terms))
