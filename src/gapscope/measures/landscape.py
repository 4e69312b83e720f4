"""The loss between two batch sizes' solutions and around each of them: settings, quantities, records and tables.

The points are taken in `landscape_walk`.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any

from gapscope.config import Count, Threads, Within
from gapscope.errors import InputError
from gapscope.measures.evaluation import ERRORS
from gapscope.measures.evaluation import QUANTITIES as OF_A_RUN
from gapscope.measures.quantity import Quantity
from gapscope.measures.sharpness import PRECISIONS
from gapscope.records.long import RUN

if TYPE_CHECKING:  # a page is drawn without torch
    import pandas as pd

    from gapscope.measures.study import Study

RUNS_ON = "pair"
ENDS = ("small", "large")
FIGURES_OF = ("train_loss", "train_error_pct", "test_loss", "test_error_pct")  # error_pct: the task's own error
COLUMNS = ("kind", "end", "direction", "a", "b", *FIGURES_OF)
PLACE = ("end", "direction", "index", "step", "second_step")
QUANTITIES = {
    "loss": Quantity("cross-entropy", "nats", ("split", *PLACE), "lower"),
    **{name: replace(OF_A_RUN[name], axes=("split", *PLACE)) for name in ERRORS},
    "eigenvalue": Quantity("eigenvalue of the Hessian", "", ("end", "index"), None),
    "eigenvalue_residual": Quantity("residual of the eigenvalue", "", ("end", "index"), None),
    "products": Quantity("Hessian-vector products", "", ("end",), None),
    "rise": Quantity("rise of the training loss", "nats", ("end", "direction", "index", "radius"), "lower"),
    "weight_norm": Quantity("norm of the weights", "", ("end",), None),
    "distance": Quantity("distance between the solutions", "", (), None),
}


@dataclass(frozen=True)
class LandscapeSettings:
    """Params of the landscape stage; `conf/config.yaml` says what each is."""

    small: int | None
    large: int | None
    alphas: Annotated[int, Within(4, 100_000)]
    images: Count | None
    batch_norm_statistics: str
    micro_batch: int
    precision: str
    reach: float
    points: Annotated[int, Within(3, 100_000)]
    plane_points: Annotated[int, Within(3, 10_000)]
    directions: Annotated[int, Within(1, 10_000)]
    eigenvectors: Annotated[int, Within(1, 1000)]
    radius: float
    threads: Threads

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise InputError(f"landscape.precision must be {' or '.join(PRECISIONS)}, got {self.precision!r}")
        if self.alphas < 4 or self.alphas % 3 != 1:
            raise InputError(
                f"landscape.alphas must be 4, 7, 10, ..., so that 0 and 1 are among them; got {self.alphas}"
            )
        for name in ("points", "plane_points"):
            if (count := getattr(self, name)) < 3 or count % 2 == 0:
                raise InputError(f"landscape.{name} must be 3, 5, 7, ..., so that 0 is among them; got {count}")
        for name in ("micro_batch", "directions", "eigenvectors"):
            if getattr(self, name) < 1:
                raise InputError(f"landscape.{name} must be >= 1, got {getattr(self, name)}")
        for name in ("reach", "radius"):
            if not getattr(self, name) > 0:
                raise InputError(f"landscape.{name} must be > 0, got {getattr(self, name)}")

    @property
    def evaluations(self) -> int:
        """Number of points, each of which `landscape_walk.walk` yields as a row."""
        around = (self.directions + self.eigenvectors) * self.points + self.plane_points**2
        return self.alphas + 2 * around


def header(headers: Mapping[str, Mapping[str, Any]], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record's status, what its two runs share, their batch sizes, and the settings.

    Args:
        headers: end -> header of its weights.
        settings: of the measure.

    Raises:
        InputError: the runs are not of one model, data set and seed.
    """
    shared = {key: headers["small"][key] for key in ("model", "dataset", "seed")}
    for key, value in shared.items():
        if headers["large"][key] != value:
            raise InputError(f"the {key} of the small-batch run is {value}, of the other {headers['large'][key]}")
    sizes = {end: of["batch_size"] for end, of in headers.items()}
    status = "ok" if all(of["status"] == "ok" for of in headers.values()) else "diverged"
    return {"status": status, **shared, "batch_sizes": sizes, "settings": settings}


def rows(
    walked: Iterable[Mapping[str, Any]],
    ends: Mapping[str, Mapping[str, Any]],
    distance: float,
    error_name: str = "error_pct",
) -> Iterator[dict[str, Any]]:
    """Yield the long rows of a record: the points of the walk, to 10 digits, and what was found at each end.

    Args:
        walked: rows of `walk`. `direction` of a long row says along what: line, random, eigenvector or plane.
        ends: end -> record of `steepness`.
        distance: between the two solutions.
        error_name: quantity of the task's error.
    """
    for row in walked:
        place = {"end": row["end"] or None, "direction": row["kind"], "index": row["direction"], "step": row["a"]}
        place |= {"second_step": row["b"]}
        for name in FIGURES_OF:
            split, _, quantity = name.partition("_")
            quantity, value = quantity.replace("error_pct", error_name), float(f"{row[name]:.10g}")
            yield {"split": split, **place, "quantity": quantity, "value": value}
    for end, found in ends.items():
        for quantity in ("weight_norm", "products"):
            yield {"end": end, "quantity": quantity, "value": found[quantity]}
        for part, quantity in (("eigenvalues", "eigenvalue"), ("residuals", "eigenvalue_residual")):
            for index, value in enumerate(found[part]):
                yield {"end": end, "index": index, "quantity": quantity, "value": value}
        rises, radius = found["rises"], found["rises"]["radius"]
        for part, direction in (("eigenvectors", "eigenvector"), ("random", "random")):
            for index, value in enumerate(rises[part]):
                place = {"end": end, "direction": direction, "index": index, "radius": radius}
                yield {**place, "quantity": "rise", "value": value}
    yield {"quantity": "distance", "value": distance}


def study_table(study: "Study") -> "pd.DataFrame":
    """Return long rows for each solution of each seed: what was found at it, and how it compares with the other one.

    `rise_ratio` is the mean rise along eigenvectors over that along random directions, and `random_rise_std` the
    deviation between the latter. `barrier` is the largest training loss for alpha in [0, 1] minus the larger one of the
    two ends' losses. It is 0 where nothing in between is higher, and is the same for both ends.
    """
    import pandas as pd

    made: list[dict[str, Any]] = []
    for about, record, table in study.seed_records("landscape"):
        for end in ENDS:
            run = {**about, "batch_size": record["batch_sizes"][end], "end": end}
            if record["status"] == "ok":
                made += [{**run, **row} for row in _end_rows(table, end)]
    columns = None if made else [*RUN, "quantity", "end", "value"]  # every pair diverged
    return pd.DataFrame(made, columns=columns)


def _end_rows(table: "pd.DataFrame", end: str) -> Iterator[dict[str, Any]]:
    here, line = table[table["end"] == end], table[table["direction"] == "line"]
    at_end = line[line["step"] == ENDS.index(end)]
    for row in at_end.to_dict("records"):
        yield {name: row[name] for name in ("split", "quantity", "value")}
    values = {name: of["value"].tolist() for name, of in here.groupby("quantity")}
    radius = here.loc[here["quantity"] == "rise", "radius"].iloc[0]
    rises = here[here["quantity"] == "rise"]
    steep, flat = (rises.loc[rises["direction"] == kind, "value"] for kind in ("eigenvector", "random"))
    path = line[(line["quantity"] == "loss") & (line["split"] == "train")]
    between = path.loc[path["step"].between(0, 1), "value"].max()
    highest = path.loc[path["step"].isin([0, 1]), "value"].max()
    yield {"quantity": "weight_norm", "value": values["weight_norm"][0]}
    yield {"quantity": "largest_eigenvalue", "value": values["eigenvalue"][0]}
    yield {"quantity": "largest_residual", "value": values["eigenvalue_residual"][0]}
    yield {"quantity": "eigenvectors", "value": len(steep)}
    yield {"quantity": "eigenvector_rise_mean", "radius": radius, "value": steep.mean(skipna=False)}
    yield {"quantity": "random_directions", "value": len(flat)}
    yield {"quantity": "random_rise_mean", "radius": radius, "value": flat.mean(skipna=False)}
    yield {"quantity": "random_rise_std", "radius": radius, "value": flat.std(skipna=False)}
    yield {"quantity": "rise_ratio", "radius": radius, "value": steep.mean(skipna=False) / flat.mean(skipna=False)}
    yield {"quantity": "distance", "value": table.loc[table["quantity"] == "distance", "value"].iloc[0]}
    yield {"quantity": "barrier", "value": between - highest}
