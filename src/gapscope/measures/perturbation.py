"""How far a small change of the input moves the solution of random linear problems: which problems, and the records."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from gapscope.config import Within, load_params
from gapscope.errors import InputError
from gapscope.measures.quantity import Quantity
from gapscope.records.long import read_long, write_long
from gapscope.runtime import progress, set_threads

if TYPE_CHECKING:  # a page is drawn without torch
    import pandas as pd

    from gapscope.measures.study import Study

RUNS_ON = "study"
PROBLEM = ("units", "samples", "repetition")
QUANTITIES = {
    "estimate": Quantity("change of the solution, by the pseudo-inverse", "", PROBLEM, None),
    "smallest": Quantity("smallest change of the solution that fits", "", PROBLEM, None),
    "worst_estimate": Quantity("change by the worst ΔX, by the pseudo-inverse", "", PROBLEM, None),
    "worst_smallest": Quantity("smallest change by the worst ΔX that fits", "", PROBLEM, None),
    "bound": Quantity("right side of eq. 5", "", PROBLEM, None),
    "tight": Quantity("tight bound", "", PROBLEM, None),
}


@dataclass(frozen=True)
class PerturbationSettings:
    """Params of the perturbation stage."""

    units: Annotated[int, Within(1, 100_000)]
    samples: tuple[Annotated[int, Within(1, 100_000)], ...]
    size: float
    repetitions: Annotated[int, Within(1, 1_000_000)]
    seed: int

    def __post_init__(self) -> None:
        if min((self.units, self.repetitions, *self.samples), default=0) < 1 or not self.samples:
            raise InputError("perturbation: units, repetitions and every entry of samples must be at least 1")
        if not 0 < self.size < 1:
            raise InputError(f"perturbation.size must be between 0 and 1, got {self.size}")


def measure_problems(*, out: Path) -> None:
    """Draw and measure every problem, and write the record.

    Args:
        out: .csv to write.
    """
    settings = load_params().section("perturbation", PerturbationSettings)
    set_threads(1)
    results = [
        perturb(samples, repetition, settings)
        for samples in progress(settings.samples, "perturbation")
        for repetition in range(settings.repetitions)
    ]
    write_long(out, rows(results))


def perturb(samples: int, repetition: int, settings: PerturbationSettings) -> dict[str, float]:
    """Return one repetition at b = `samples`: the changes by a random and by the worst Delta X, and the bounds."""
    import torch

    from gapscope import seeds
    from gapscope.numerics.perturbation import solution_change, spectral_norm, worst_change

    generator = seeds.generator(settings.seed, "perturbation", settings.units, samples, repetition)
    draw = torch.randn(settings.units, settings.units + 2 * samples, generator=generator, dtype=torch.float64)
    theta, X, change = draw.split([settings.units, samples, samples], dim=1)
    found = solution_change(theta, X, change * (settings.size / spectral_norm(change)))
    worst = solution_change(theta, X, worst_change(theta, X, settings.size))
    return {"units": settings.units, "samples": samples, "repetition": repetition} | {
        "estimate": found.estimate, "smallest": found.smallest, "worst_estimate": worst.estimate,
        "worst_smallest": worst.smallest, "bound": found.bound, "tight": found.tight,
    }  # fmt: skip


def rows(results: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield the long rows of the record, from results of `perturb`, to 10 significant digits."""
    for row in results:
        place = {name: row[name] for name in PROBLEM}
        for quantity in QUANTITIES:
            yield {**place, "quantity": quantity, "value": float(f"{row[quantity]:.10g}")}


def read(study: "Study") -> "pd.DataFrame":
    """Return one row per problem, with a column per quantity."""
    table = read_long(study.folder / "perturbation.csv")
    wide = table.pivot_table(index=[*PROBLEM], columns="quantity", values="value", sort=False)
    return wide.reset_index().astype(dict.fromkeys(PROBLEM, int))


def by_samples(rows: "pd.DataFrame") -> "pd.DataFrame":
    """Return one row per number of samples b: medians, extremes, and how often eq. 5 is violated.

    Args:
        rows: of `read`, one row per repetition.
    """
    import pandas as pd

    table = []
    for samples, group in rows.groupby("samples"):
        row: dict[str, Any] = {"units": group["units"].iloc[0], "samples": samples, "repetitions": len(group)}
        for column in ("estimate", "smallest", "worst_estimate", "worst_smallest", "bound", "tight"):
            row |= {f"{column}_low": group[column].min(), f"{column}_median": group[column].median()}
            row[f"{column}_high"] = group[column].max()
        row["violations"] = int((group["estimate"] > group["bound"]).sum())
        row["violations_smallest"] = int((group["smallest"] > group["bound"]).sum())
        row["worst_over_tight"] = (group["worst_smallest"] / group["tight"]).median()
        row["bound_over_tight"] = (group["bound"] / group["tight"]).median()
        table.append(row)
    return pd.DataFrame(table)
