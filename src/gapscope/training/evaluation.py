"""Error, cross-entropy and weight penalty of a network, each on its own; and batch norm's statistics re-estimated."""

import math
from collections import defaultdict
from collections.abc import Collection
from typing import NamedTuple

import torch
from torch import Tensor, nn

from gapscope import seeds
from gapscope.data.images import Augmentation, Images
from gapscope.models import batch_norms
from gapscope.tasks.classification import CLASSIFICATION
from gapscope.tasks.task import Task
from gapscope.training.settings import TrainSettings


def decayed_parameters(model: nn.Module, decay: str) -> tuple[dict[str, nn.Parameter], dict[str, nn.Parameter]]:
    """Split the trainable parameters by name into those with weight decay and the others.

    With decay "weights" only kernels (two or more axes) are decayed; with "all", every parameter.
    """
    named = {name: p for name, p in model.named_parameters() if p.requires_grad}
    decayed = {name: p for name, p in named.items() if decay == "all" or p.ndim >= 2}
    return decayed, {name: p for name, p in named.items() if name not in decayed}


def penalty(model: nn.Module, settings: TrainSettings, unused: Collection[str] = ()) -> float:
    """Return 0.5 lambda sum w^2 over the decayed parameters, in float64: what SGD's weight decay descends.

    Parameters that the loss does not use have no gradient, and are not decayed either.
    """
    decayed, _ = decayed_parameters(model, settings.optimizer.decay)
    squares = sum(float(p.detach().double().square().sum()) for name, p in decayed.items() if name not in unused)
    return 0.5 * settings.optimizer.weight_decay * squares


class Evaluation(NamedTuple):
    """What one pass over a split gives: error, mean loss, and further means by name."""

    error: float
    loss: float
    further: dict[str, float]


def evaluation_metrics(
    model: nn.Module,
    training: Images,
    test: Images,
    settings: TrainSettings,
    suffix: str = "",
    *,
    task: Task = CLASSIFICATION,
    unused: Collection[str] = (),
) -> dict[str, float]:
    """Return the task's error and loss, and loss + penalty, over both sets, in eval mode.

    `unused` are the parameters that the penalty does not cover, since no gradient reaches them.

    For classification the names are `penalty`, and for each split, such as train, `train_error_pct`,
    `train_cross_entropy` and `train_loss` (the sum of cross-entropy and penalty). A task may have further numbers.
    """
    weight_penalty = penalty(model, settings, unused)
    row: dict[str, float] = {"penalty": weight_penalty}
    for split, images in (("train", training), ("test", test)):
        error, loss, further = evaluation(model, images, settings.evaluation.eval_batch, task)
        row[f"{split}_{task.error_name}{suffix}"] = error
        row[f"{split}_{task.loss_name}{suffix}"] = loss
        row[f"{split}_loss{suffix}"] = loss + weight_penalty
        further |= task.further(error, loss, images)
        row |= {f"{split}_{name}{suffix}": value for name, value in further.items()}
    return row


def evaluate(model: nn.Module, images: Images, batch: int, task: Task = CLASSIFICATION) -> tuple[float, float]:
    """Return the error and the mean loss over all images; arguments as of `evaluation`."""
    return evaluation(model, images, batch, task)[:2]


@torch.no_grad()
def evaluation(model: nn.Module, images: Images, batch: int, task: Task = CLASSIFICATION) -> Evaluation:
    """Return error, mean loss and further means over all images, in eval mode, summed in float64.

    Args:
        model: on the device of the images; left in eval mode.
        images: one split.
        batch: images at a time.
        task: gives loss and error; for classification, cross-entropy and the percentage of wrong labels.
    """
    model.eval()
    errors = torch.zeros((), dtype=torch.float64, device=images.labels.device)
    losses = torch.zeros_like(errors)
    further: dict[str, Tensor] = defaultdict(lambda: torch.zeros_like(errors))
    for start in range(0, len(images), batch):
        part = task.batch(images, slice(start, start + batch))
        outputs = task.outputs(model, part)
        losses += task.sum_loss(outputs.double(), part)
        errors += task.errors(outputs, part).sum()
        for name, values in task.further_sums(outputs, part).items():
            further[name] += values.sum()
    weight = task.total_weight(images)
    means = {name: float(total) / weight for name, total in further.items()}
    return Evaluation(task.error(float(errors), weight), float(losses) / weight, means)


def reestimate_batch_norm(
    model: nn.Module,
    training: Images,
    batch: int,
    augmentation: Augmentation | None = None,
    *,
    task: Task = CLASSIFICATION,
) -> None:
    """Replace batch norm's running statistics by averages over the training set, in batches of equal size (+-1).

    After s updates 0.9^s of the initial statistics remain. At large batches s is small, and that alone raises the test
    error.

    Args:
        model: left in eval mode.
        training: training images.
        batch: approximate number of images in each batch.
        augmentation: of the images, as in training: a network trained on augmented images needs their statistics.
        task: makes the batches.
    """
    norms = batch_norms(model)
    momenta = [norm.momentum for norm in norms]
    model.eval()  # all but batch norm: no dropout here, unlike torch.optim.swa_utils.update_bn
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain average over the batches
        norm.train()
    with torch.no_grad():
        for part in torch.arange(len(training)).tensor_split(-(-len(training) // batch)):
            index = part.to(training.labels.device)
            task.outputs(model, task.batch(training, index, augmentation=augmentation))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        norm.eval()


def reestimation_augmentation(training: Images, settings: TrainSettings, seed: int) -> Augmentation | None:
    """Return the augmentation for re-estimating batch norm: one draw where training augments, else None."""
    if not settings.augment:
        return None
    return Augmentation.drawn(len(training), training.labels.device, seeds.generator(seed, "batch norm"))


def distance(model: nn.Module, origin: list[Tensor] | None = None) -> float:
    """Return the L2 norm of all trainable parameters, or of their change from `origin`, in float64."""
    origins = origin or [torch.zeros_like(p) for p in model.parameters()]
    pairs = [(p, o) for p, o in zip(model.parameters(), origins, strict=True) if p.requires_grad]
    terms = [float((p.detach().double() - o.double()).square().sum()) for p, o in pairs]
    return math.sqrt(sum(terms))
