"""Sharpness of each run's weights, Keskar et al. 2017: which losses, boxes and manifolds, and the records of it.

The metric itself is in `numerics.loss_surface.sharpness`.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from gapscope import noops
from gapscope.config import Count, Positive, Threads, Within
from gapscope.errors import InputError
from gapscope.measures.quantity import Quantity
from gapscope.records.tables import read_record

if TYPE_CHECKING:  # a page is drawn without torch
    import pandas as pd
    from torch import Tensor

    from gapscope.measures.study import Study
    from gapscope.numerics.loss_surface.manifold import RegeneratedBasis
    from gapscope.training.objective import Objective

RUNS_ON = "cell"
WHERE = ("split", "statistics", "space", "dimension", "epsilon")
QUANTITIES = {
    "sharpness_pct": Quantity("sharpness φ, ten iterations, lower bound", "%", WHERE, "lower"),
    "sharpness_converged_pct": Quantity("sharpness φ, longer search, lower bound", "%", WHERE, "lower"),
    "sharpness_least_start_pct": Quantity("sharpness φ, longer search, least start", "%", WHERE, None),
    "sharpness_median_start_pct": Quantity("sharpness φ, longer search, median start", "%", WHERE, None),
    "sharpness_starts": Quantity("starts of the search for φ", "", WHERE, None),
    "sharpness_starts_agreeing": Quantity("starts within 0.3 % of the largest φ", "", WHERE, None),
}
SHOWN: list[tuple[str, dict[str, Any]]] = [
    (name, {}) for name in ("sharpness_pct", "sharpness_converged_pct", "sharpness_least_start_pct")
]
HEADLINES = [(name, {"split": "train", "space": "full"}) for name in ("sharpness_pct", "sharpness_converged_pct")]
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
SEARCHED = {  # the same of the search that goes on until it converges
    "sharpness": "sharpness_converged_pct",
    "least": "sharpness_least_start_pct",
    "median": "sharpness_median_start_pct",
    "starts": "sharpness_starts",
    "agreeing": "sharpness_starts_agreeing",
    "converged": "search_converged",
    "evaluations": "search_evaluations",
    "iterations": "search_iterations",
}
PRECISIONS = ("float64", "float32")
STATISTICS = {"running": "reestimated", "batch": "batch"}  # of batch norm: setting -> axis
DENSE = 2**28  # entries of A that are kept in memory, 2 GB; a larger A is drawn again for each product


@dataclass(frozen=True)
class SharpnessSettings:
    """Params of the sharpness stage; `conf/config.yaml` says what each is."""

    epsilons: tuple[Positive, ...]
    manifold_dimension: Annotated[int, Within(1)]
    restarts: Annotated[int, Within(1, 10_000)]
    converged_starts: Annotated[int, Within(0, 10_000)]
    splits: tuple[str, ...]
    images: Count | None
    batch_norm_statistics: tuple[str, ...] | str
    micro_batch: int
    precision: str
    threads: Threads

    def __post_init__(self) -> None:
        if self.restarts < 1 or self.manifold_dimension < 1 or self.micro_batch < 1 or not self.epsilons:
            raise InputError("sharpness: restarts, manifold_dimension and micro_batch must be >= 1, epsilons not empty")
        if self.converged_starts != 0 and self.converged_starts < self.restarts:
            raise InputError(
                f"sharpness.converged_starts must be 0 or at least sharpness.restarts = {self.restarts}, "
                f"got {self.converged_starts}"
            )
        if not self.splits or set(self.splits) - {"train", "test"}:
            raise InputError(f"sharpness.splits must name train, test or both, got {list(self.splits)}")
        if sorted({*self.statistics} & {*STATISTICS}) != sorted(self.statistics) or not self.statistics:
            raise InputError(
                f"sharpness.batch_norm_statistics must be one of {', '.join(STATISTICS)}, or a list of them, "
                f"got {self.batch_norm_statistics!r}"
            )
        if self.precision not in PRECISIONS:
            raise InputError(f"sharpness.precision must be float64 or float32, got {self.precision!r}")
        if min(self.epsilons) <= 0:
            raise InputError(f"sharpness.epsilons must be > 0, got {list(self.epsilons)}")

    @property
    def statistics(self) -> tuple[str, ...]:
        """Batch norm's statistics, one loss for each."""
        listed = self.batch_norm_statistics
        return (listed,) if isinstance(listed, str) else listed

    def axis(self, statistics: str) -> dict[str, str]:
        """Return the axis that tells the losses apart; none where the setting is no list."""
        return {} if isinstance(self.batch_norm_statistics, str) else {"statistics": STATISTICS[statistics]}

    def identity(self) -> dict[str, Any]:
        """Return the settings for a record, without those at their no-op value."""
        return dict(noops.left_out({"sharpness": vars(self)})["sharpness"])

    @property
    def maximisations(self) -> int:
        """How many results `measure_all` yields."""
        return 2 * len(self.epsilons) * len(self.splits) * len(self.statistics)


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

    p = settings.manifold_dimension
    draw = seeds.generator(seed, "manifold")
    basis: Tensor | RegeneratedBasis
    if len(x) * p > DENSE:
        basis = RegeneratedBasis(len(x), p, generator=draw)
    else:
        basis = random_basis(len(x), p, generator=draw).to(x)  # the same A in any precision
    yield from measure_space(loss, x, settings, seed=seed)
    yield from measure_space(loss, x, settings, seed=seed, basis=basis)


def measure_space(
    loss: "Callable[[Tensor], Tensor]",
    x: "Tensor",
    settings: SharpnessSettings,
    *,
    seed: int,
    basis: "Tensor | RegeneratedBasis | None" = None,
) -> Iterator[dict[str, Any]]:
    """Yield one result per epsilon in the manifold of a basis (n, p), or in full space; arguments as in `measure`."""
    from gapscope import seeds
    from gapscope.numerics.loss_surface.sharpness import keskar_sharpness

    dimension = None if basis is None else basis.shape[1]
    stream = "full" if dimension is None else f"random{dimension}"  # the stream's name fixes the committed bits
    for epsilon in settings.epsilons:
        found = keskar_sharpness(
            loss,
            x,
            epsilon=epsilon,
            basis=basis,
            restarts=settings.restarts,
            converged_starts=settings.converged_starts,
            generator=seeds.generator(seed, "sharpness", stream),
        )
        row = {field.name: getattr(found, field.name) for field in fields(found) if field.name != "point"}
        yield {"space": "full" if basis is None else "manifold", "dimension": dimension, "epsilon": epsilon, **row}


def measure_all(
    losses: "Mapping[str, Mapping[str, Objective]]", settings: SharpnessSettings, *, seed: int
) -> Iterator[dict[str, Any]]:
    """Yield the results of `measure` for each loss, at its own weights.

    Args:
        losses: batch norm's statistics -> split -> loss.
        settings: as in `measure`.
        seed: as in `measure`.
    """
    for statistics, of_splits in losses.items():
        for split, loss in of_splits.items():
            for row in measure(loss, loss.weights(), settings, seed=seed):
                yield {"split": split, **settings.axis(statistics), **row}


def conditions(losses: "Mapping[str, Mapping[str, Objective]]") -> dict[str, Any]:
    """Return the conditions of each split's losses; several statistics of batch norm are a list."""
    found = [{split: loss.conditions() for split, loss in of_splits.items()} for of_splits in losses.values()]
    if len(found) == 1:
        return found[0]
    return {
        split: {**of, "batch_norm": [each[split]["batch_norm"] for each in found]} for split, of in found[0].items()
    }


def rows(results: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield the long rows of a record: one per result and entry of it."""
    for result in results:
        axes = {name: result[name] for name in WHERE if name in result}
        for quantity, value in values(result).items():
            yield {**axes, "quantity": quantity, "value": int(value) if isinstance(value, bool) else value}


def values(result: Mapping[str, Any]) -> dict[str, Any]:
    """Return the quantities of one result, and of its search until convergence where it has one."""
    made = {quantity: result[entry] for entry, quantity in RECORDED.items()}
    if search := result.get("search"):
        made |= {quantity: getattr(search, entry) for entry, quantity in SEARCHED.items()}
    return made


def run_rows(study: "Study") -> "pd.DataFrame":
    """Return the sharpness of each run as long rows."""
    table = study.long("sharpness")
    return table[table["quantity"].isin(QUANTITIES)]


def notes(study: "Study") -> "list[dict[str, Any]]":
    """Return the number of training images in each run's loss, and of starts of ten iterations."""
    return [
        {
            **run,
            "sharpness_images": record.get("conditions", {}).get("train", {}).get("images"),
            "sharpness_starts": record["settings"]["restarts"],
        }
        for run, record in study.headers("sharpness")
    ]


def table_labels(folder: Path) -> dict[str, str]:
    """Return the label of the paper's number with its starts, from the records in a folder metrics/STUDY."""
    return labels(record["settings"]["restarts"] for record in _records(folder))


def labels(counts: Iterable[int]) -> dict[str, str]:
    """Return the label of the paper's number by its quantity; none where there are no records.

    Args:
        counts: number of starts of each record.
    """
    from gapscope.drawing.numbers import starts  # it imports pandas, which no stage that measures needs

    found = set(counts)
    text = f"sharpness φ, ten iterations, {starts(found)}, lower bound"
    return {"sharpness_pct": text} if found else {}


def table_notes(folder: Path) -> list[str]:
    """Return what a reader of the table must know, from the records in a folder metrics/STUDY."""
    said = dict.fromkeys(_in_words(record) for record in _records(folder) if "conditions" in record)
    return [*said, *_not_converged(folder)]


def _not_converged(folder: Path) -> list[str]:
    """Return in how many of the longer searches too few starts agreed; nothing where there are none."""
    from gapscope.records.long import read_long

    tables = [read_long(path) for path in sorted((folder / "sharpness").glob("*.csv"))]
    found = [value for table in tables for value in table.loc[table["quantity"] == "search_converged", "value"]]
    if not (open_ones := sum(value == 0 for value in found)):
        return []
    return [f"In {open_ones} of {len(found)} longer searches fewer starts agree than were asked for."]


def _records(folder: Path) -> list[dict[str, Any]]:
    return [read_record(path) for path in sorted((folder / "sharpness").glob("*.json"))]


def _in_words(record: Mapping[str, Any]) -> str:
    from gapscope.drawing.numbers import starts

    settings, images = record["settings"], record["conditions"].get("train", {}).get("images")
    restarts, converged = settings["restarts"], settings.get("converged_starts", 0)
    said = f"{starts([restarts]).capitalize()}, lower bound: the largest rise that ten iterations found"
    if converged:
        said += f". The longer search: the best of at least {converged} starts, and of more where they disagree"
    return f"{said}.{f' The training loss covers {images:,} images.' if images else ''}"
