"""Figures of a network that can be trusted: error, cross-entropy and weight penalty apart, batch norm re-estimated."""

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.modules.batchnorm import _BatchNorm

from gapscope import seeds
from gapscope.data.images import Images, Moves

if TYPE_CHECKING:
    from gapscope.training.settings import TrainSettings


def batch_norms(model: nn.Module) -> list[_BatchNorm]:
    """Return the batch norm layers."""
    return [module for module in model.modules() if isinstance(module, _BatchNorm)]


def decayed_parameters(model: nn.Module, decay: str) -> tuple[dict[str, nn.Parameter], dict[str, nn.Parameter]]:
    """Split the parameters by name into decayed and not: with "weights", kernels (two or more axes) only."""
    named = dict(model.named_parameters())
    decayed = {name: p for name, p in named.items() if decay == "all" or p.ndim >= 2}
    return decayed, {name: p for name, p in named.items() if name not in decayed}


def penalty(model: nn.Module, settings: "TrainSettings") -> float:
    """Return 0.5 lambda sum w^2 over exactly the decayed parameters, in float64: what SGD's weight decay descends."""
    decayed, _ = decayed_parameters(model, settings.decay)
    return 0.5 * settings.weight_decay * sum(float(p.detach().double().square().sum()) for p in decayed.values())


def figures(
    model: nn.Module,
    training: Images,
    test: Images,
    settings: "TrainSettings",
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


def reestimate_batch_norm(model: nn.Module, training: Images, batch: int, moves: Moves | None = None) -> None:
    """Replace batch norm's running statistics by averages over the training set, in batches of equal size (+-1).

    After s updates 0.9^s of the initial statistics remain: at large batches that alone makes a network test worse.

    Args:
        model: left in eval mode.
        training: training images.
        batch: about how many images are averaged over at a time.
        moves: of the images, as training moves them: statistics of images as they are do not fit a network that has
            only seen moved ones.
    """
    norms = batch_norms(model)
    momenta = [norm.momentum for norm in norms]
    model.eval()  # all but batch norm: no dropout here, unlike torch.optim.swa_utils.update_bn
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain average over the parts
        norm.train()
    with torch.no_grad():
        for part in torch.arange(len(training)).tensor_split(-(-len(training) // batch)):
            model(training.inputs(part.to(training.labels.device), moves=moves))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        norm.eval()


def reestimation_moves(training: Images, settings: "TrainSettings", seed: int) -> Moves | None:
    """Return the moves to re-estimate with: one draw of those of training, where it moves images."""
    if not settings.augment:
        return None
    return Moves.drawn(len(training), training.labels.device, seeds.generator(seed, "batch norm"))


def distance(model: nn.Module, origin: list[Tensor] | None = None) -> float:
    """Return the L2 norm over all trainable parameters, of the weights or of their change from `origin`, in float64."""
    origins = origin or [torch.zeros_like(p) for p in model.parameters()]
    terms = [float((p.detach().double() - o.double()).square().sum()) for p, o in zip(model.parameters(), origins)]
    return math.sqrt(sum(terms))
