"""Curvature radius by layer, Gao & Zhong, section 4: the Hessian's diagonal, and the paper's |w/g| beside it.

The paper scales each layer's learning rate by a curvature radius, and estimates it by |w/g| (equation 17). Here the
radius is 1/h, with h the Hessian's own diagonal, for each parameter tensor of a run and of its initial weights. The
gradient g is the mean over a stated number of images, since |w/g| grows with that number and 1/h does not.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from gapscope.config import Count, Threads, Within
from gapscope.errors import InputError
from gapscope.measures.quantity import Quantity
from gapscope.measures.sharpness import PRECISIONS

if TYPE_CHECKING:  # a page is drawn without torch
    import pandas as pd
    from torch import Tensor, nn

    from gapscope.data.images import Images
    from gapscope.measures.networks import Network
    from gapscope.measures.study import Study
    from gapscope.tasks.task import Task

RUNS_ON = "cell"
STATES = ("initial", "trained")
METHODS = ("exact", "sampled", "hutchinson")
TENSOR, NETWORK = ("state", "layer", "kind"), ("state", "kind")
QUANTITIES = {
    "radius": Quantity("curvature radius", "", (*TENSOR, "estimate"), None),
    "radius_by_n": Quantity("curvature radius", "", (*TENSOR, "estimate", "images"), None),
    "radius_growth": Quantity("curvature radius, most images over fewest", "", (*TENSOR, "estimate"), None),
    "distance": Quantity("distance to the minimum", "", (*TENSOR, "estimate"), None),
    "distance_by_n": Quantity("distance to the minimum", "", (*TENSOR, "estimate", "images"), None),
    "distance_growth": Quantity("distance to the minimum, most images over fewest", "", (*TENSOR, "estimate"), None),
    "rank_correlation": Quantity("rank correlation with the radius within a tensor", "", (*TENSOR, "estimate"), None),
    "within_factor_2_pct": Quantity("entries with |w/g| within a factor 2 of 1/h", "%", TENSOR, None),
    "live_pct": Quantity("live entries", "%", TENSOR, None),
    "zero_gradient_pct": Quantity("entries without a gradient", "%", TENSOR, None),
    "diagonal_error_pct": Quantity("standard error of the diagonal, median", "%", TENSOR, None),
    "is_gauss_newton": Quantity("diagonal is that of Gauss-Newton", "", TENSOR, None),
    "entries": Quantity("entries of a tensor", "", TENSOR, None),
    "radius_spread": Quantity("radii, largest over smallest", "", (*NETWORK, "estimate"), None),
    "log_radius_sd": Quantity("log radius, standard deviation over tensors", "", (*NETWORK, "estimate"), None),
    "log_radius_cv": Quantity("log radius, coefficient of variation over tensors", "", (*NETWORK, "estimate"), None),
    "layer_rank_correlation": Quantity("rank correlation with 1/h over tensors", "", (*NETWORK, "estimate"), None),
}
SHOWN: list[tuple[str, dict[str, Any]]] = [
    *(("radius_spread", {"kind": "all", "estimate": name}) for name in ("hessian", "eq17")),
    *(("log_radius_sd", {"kind": "all", "estimate": name}) for name in ("hessian", "eq17")),
    ("layer_rank_correlation", {"kind": "all", "estimate": "eq17"}),
]


@dataclass(frozen=True)
class CurvatureRadiusSettings:
    """Params of the stage curvature_radius; `conf/config.yaml` says what each is."""

    states: tuple[str, ...]
    images: Count | None
    gradient_images: int | None
    fewest_images: int
    method: str
    probes: Annotated[int, Within(2, 1_000_000)]
    damping: float
    batch_norm_statistics: str
    eval_batch: int
    micro_batch: int
    precision: str
    threads: Threads

    def __post_init__(self) -> None:
        if not self.states or set(self.states) - set(STATES):
            raise InputError(f"curvature_radius.states must name initial, trained or both, got {list(self.states)}")
        for name, known in (("method", METHODS), ("precision", PRECISIONS)):
            if getattr(self, name) not in known:
                raise InputError(
                    f"curvature_radius.{name} must be one of {', '.join(known)}, got {getattr(self, name)!r}"
                )
        for name, least in (("fewest_images", 2), ("micro_batch", 2), ("probes", 2), ("eval_batch", 2)):
            if getattr(self, name) < least:
                raise InputError(f"curvature_radius.{name} must be at least {least}, got {getattr(self, name)}")
        if not self.damping >= 0:
            raise InputError(f"curvature_radius.damping must be >= 0, got {self.damping}")


def of_network(network: "Network", settings: CurvatureRadiusSettings) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return the long rows of a run, at its initial and at its trained weights, and the conditions.

    Args:
        network: the trained one, which has a model.
        settings: which of the two states, and the rest.

    Raises:
        InputError, ValueError: as `measure`.
    """
    from gapscope.data.images import split_images

    training, seed = split_images(network.dataset, "train", network.device), network.header["seed"]
    about: dict[str, Any] = {}
    rows: list[dict[str, Any]] = []
    for state in settings.states:
        model = network.model if state == "trained" else _initial(network, training, settings)
        assert model is not None
        about, found = measure(model, training, settings, seed=seed, task=network.task)
        rows += [{"state": state, **row} for row in found]
    return rows, {"conditions": about}


def _initial(network: "Network", training: "Images", settings: CurvatureRadiusSettings) -> "nn.Module":
    """Return the network before training, with batch norm's statistics estimated over the training set."""
    from gapscope import seeds
    from gapscope.models import build
    from gapscope.training.evaluation import reestimate_batch_norm

    assert network.spec is not None  # measured where the status is ok
    with seeds.seeded(network.header["seed"], "initialisation"):
        model = build(network.spec).to(network.device)
    reestimate_batch_norm(model, training, settings.eval_batch, task=network.task)
    return model


def measure(
    model: "nn.Module",
    training: "Images",
    settings: CurvatureRadiusSettings,
    *,
    seed: int,
    task: "Task | None" = None,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the conditions of a network's radii, and their long rows without the axis `state`.

    There is no row where there is no value, as for the radius of a tensor without a live entry.

    Args:
        model: on the device of the images; it is put into eval mode.
        training: training images.
        settings: numbers of images, method, precision.
        seed: draws vectors and probes. The images are the same for every network.
        task: gives the loss; None: classification.

    Raises:
        InputError: more images asked for than there are, or fewer than `fewest_images`.
        ValueError: the loss or a product with the Hessian is not finite.
    """
    import torch

    from gapscope import seeds
    from gapscope.measures.curvature_radius_rows import Tensors, from_fewest_to_most, over_tensors
    from gapscope.tasks.classification import CLASSIFICATION
    from gapscope.training.hessian_diagonal import hessian_diagonals
    from gapscope.training.objective import Objective

    fewest, most = settings.fewest_images, settings.gradient_images or len(training)
    if not fewest <= most <= len(training):
        raise InputError(f"curvature_radius.gradient_images must be in {fewest}..{len(training)}, got {most}")
    task = task or CLASSIFICATION
    dtype, norm = getattr(torch, settings.precision), settings.batch_norm_statistics
    loss, whole = (
        Objective.of_images(model, training, count, settings.micro_batch, dtype, batch_norm_statistics=norm, task=task)
        for count in (settings.images, None)
    )
    draws = seeds.generator(seed, "curvature radius")
    doublings = [fewest * 2**k for k in range(most.bit_length())]
    diagonals = hessian_diagonals(loss, method=settings.method, probes=settings.probes, generator=draws, at=doublings)
    tensors, rows = Tensors(loss, settings.damping), list[dict[str, Any]]()
    for diagonal in diagonals:  # the last one is over all images, and stays
        rows += tensors.of_diagonal(diagonal)
    # the images of `loss` are the first of this order
    order = torch.randperm(len(training), generator=seeds.generator("objective", "subset"))[:most]
    weights = (task.total_weight(training, index.to(training.labels.device)) for index in order.split(fewest))
    for count, gradient in _means(whole.gradients(loss.weights(), fewest, order), weights, fewest):
        rows += tensors.of_gradient(gradient, count)
    rows += tensors.of_all_images(gradient)
    rows += [*from_fewest_to_most(rows), *over_tensors(rows)]
    about = {"diagonal": loss.conditions(), "gradient": {**whole.conditions(), "images": count}}
    known = [row for row in rows if not math.isnan(row["value"])]
    return about, [{**row, "value": float(f"{row['value']:.10g}")} for row in known]


def _means(gradients: "Iterable[Tensor]", weights: Iterable[float], size: int) -> "Iterator[tuple[int, Tensor]]":
    """Yield the number of images, and the mean gradient over them, at each doubling and over all.

    Args:
        gradients: means over batches.
        weights: of the batches.
        size: of a batch.
    """
    mean, number, total = None, 0, 0.0
    for number, (gradient, weight) in enumerate(zip(gradients, weights, strict=False), 1):  # a rest makes no batch
        total += weight
        if weight:  # not of sequences without a token that counts
            mean = gradient.clone() if mean is None else mean.add_(gradient - mean, alpha=weight / total)
        if mean is not None and number & (number - 1) == 0:
            yield number * size, mean
    if mean is not None and number & (number - 1):
        yield number * size, mean


def run_rows(study: "Study") -> "pd.DataFrame":
    """Return each run's rows, without those against the number of images, which only a figure needs."""
    table = study.long("curvature_radius")
    return table[~table["quantity"].str.endswith("_by_n")] if len(table) else table
