"""Sharpness of each run's weights, Keskar et al. 2017: which losses, boxes and manifolds, and the records of it.

The metric itself is in `numerics.loss_surface.sharpness`.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from gapscope.errors import InputError
from gapscope.measures.quantity import Quantity

if TYPE_CHECKING:  # a page is drawn without torch
    import pandas as pd
    from torch import Tensor

    from gapscope.measures.study import Study
    from gapscope.training.objective import Objective

RUNS_ON = "cell"
QUANTITIES = {
    "sharpness_pct": Quantity("sharpness φ", "%", ("split", "space", "dimension", "epsilon"), "lower"),
}
HEADLINES = [("sharpness_pct", {"split": "train", "space": "full"})]
# entry of a maximisation's result -> quantity in a record
RECORDED = {
    "sharpness": "sharpness_pct",
    "base": "loss_at_weights",
    "largest": "largest_loss",
    "evaluations": "evaluations",
    "iterations": "iterations",
    "converged": "converged",
    "start": "winning_start",
}
PRECISIONS = ("float64", "float32")
DENSE = 2**28  # entries of A that are kept in memory, 2 GB; a larger A is drawn again for each product


@dataclass(frozen=True)
class SharpnessSettings:
    """Params of the sharpness stage; `conf/config.yaml` says what each is."""

    epsilons: tuple[float, ...]
    manifold_dimension: int
    restarts: int
    splits: tuple[str, ...]
    images: int | None
    batch_norm_statistics: str
    micro_batch: int
    precision: str
    threads: int

    def __post_init__(self) -> None:
        if self.restarts < 1 or self.manifold_dimension < 1 or self.micro_batch < 1 or not self.epsilons:
            raise InputError("sharpness: restarts, manifold_dimension and micro_batch must be >= 1, epsilons not empty")
        if not self.splits or set(self.splits) - {"train", "test"}:
            raise InputError(f"sharpness.splits must name train, test or both, got {list(self.splits)}")
        if self.precision not in PRECISIONS:
            raise InputError(f"sharpness.precision must be float64 or float32, got {self.precision!r}")
        if min(self.epsilons) <= 0:
            raise InputError(f"sharpness.epsilons must be > 0, got {list(self.epsilons)}")

    @property
    def maximisations(self) -> int:
        """How many results `measure` yields, over all splits."""
        return 2 * len(self.epsilons) * len(self.splits)


def measure(
    loss: "Callable[[Tensor], Tensor]", x: "Tensor", settings: SharpnessSettings, *, seed: int
) -> Iterator[dict[str, Any]]:
    """Yield one result per epsilon, in full space and in the seed's random manifold, which all batch sizes share.

    Args:
        loss: flat vector (n,) -> scalar.
        x: weights (n,).
        settings: boxes, dimension of the manifold, number of starts.
        seed: draws the manifold and the starts.
    """
    from gapscope import seeds
    from gapscope.numerics.loss_surface.manifold import RegeneratedBasis, random_basis
    from gapscope.numerics.loss_surface.sharpness import keskar_sharpness

    p = settings.manifold_dimension
    draw = seeds.generator(seed, "manifold")
    basis: Tensor | RegeneratedBasis
    if len(x) * p > DENSE:
        basis = RegeneratedBasis(len(x), p, generator=draw)
    else:
        basis = random_basis(len(x), p, generator=draw).to(x)  # the same A in any precision
    for space, dimension, columns in (("full", None, None), ("manifold", p, basis)):
        stream = "full" if dimension is None else f"random{p}"  # the stream's name fixes the committed bits
        for epsilon in settings.epsilons:
            starts = seeds.generator(seed, "sharpness", stream)
            found = keskar_sharpness(
                loss, x, epsilon=epsilon, basis=columns, restarts=settings.restarts, generator=starts
            )
            row = {field.name: getattr(found, field.name) for field in fields(found) if field.name != "point"}
            yield {"space": space, "dimension": dimension, "epsilon": epsilon, **row}


def measure_all(
    losses: "Mapping[str, Objective]", settings: SharpnessSettings, *, seed: int
) -> Iterator[dict[str, Any]]:
    """Yield the results of `measure` for the loss of each split, at that objective's weights."""
    for split, loss in losses.items():
        for row in measure(loss, loss.weights(), settings, seed=seed):
            yield {"split": split, **row}


def rows(results: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield the long rows of a record: one per result and entry of it."""
    for result in results:
        axes = {name: result[name] for name in ("split", "space", "dimension", "epsilon")}
        for entry, quantity in RECORDED.items():
            value = result[entry]
            yield {**axes, "quantity": quantity, "value": int(value) if isinstance(value, bool) else value}


def run_rows(study: "Study") -> "pd.DataFrame":
    """Return the sharpness of each run as long rows."""
    table = study.long("sharpness")
    return table[table["quantity"] == "sharpness_pct"]


def notes(study: "Study") -> "list[dict[str, Any]]":
    """Return the number of training images in each run's loss."""
    return [
        {**run, "sharpness_images": record.get("conditions", {}).get("train", {}).get("images")}
        for run, record in study.headers("sharpness")
    ]
