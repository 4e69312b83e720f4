"""Studies with made-up values whose answers are known, a committed study's files, and claims that nobody makes."""

import csv
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd

from gapscope import measures
from gapscope.config import load_params
from gapscope.drawing.figure import Figure
from gapscope.measures.study import Study
from gapscope.records.long import RUN
from gapscope.records.tables import read_table
from gapscope.tasks.words import CLASSIFICATION, Words

ROOT = Path(__file__).parents[2]

CLAIM = {
    "claim": "gap", "statement": "Large batches generalise worse.", "source": "Nobody 2000, section 1", "model": "f1",
    "family": "primary", "slope": 0.25, "slope_low": 0.1, "slope_high": 0.4, "slope_unit": "points per doubling of b",
    "dataset": "mnist", "quantity": "test_error_pct", "test": "Welch's t-test", "n": 5, "levels": "128 ... 8192",
    "effect": 1.25, "effect_low": 0.5, "effect_high": 2.0, "effect_unit": "percentage points", "p": 0.001,
    "p_corrected": 0.018, "verdict": "supported", "why": "The interval lies above 0.", "also": "", "caution": "",
}  # fmt: skip
CLAIMS: list[dict[str, Any]] = [
    CLAIM,
    {**CLAIM, "dataset": "cifar10", "verdict": "undecided", "effect_low": -1.0, "p": 0.4, "p_corrected": 1.0}
    | {"why": "The interval holds 0, and n = 5 is too few to exclude an effect of one point."},
    {
        **CLAIM,
        "claim": "flat",
        "caution": "A box <is> no ball.",
        "statement": "Flat minima are <always> better & safe.",
        "verdict": "contradicted",
    }
    | {"effect": -250000.0, "effect_low": "", "effect_high": "", "p": "", "p_corrected": "", "effect_unit": ""}
    | {"why": "The sign is the other one."},
]


@dataclass
class Made:
    """What a measure and its figures ask of a study."""

    values: pd.DataFrame = field(default_factory=pd.DataFrame)
    cells: pd.DataFrame = field(default_factory=pd.DataFrame)
    stages: dict[str, list[tuple[dict[str, Any], dict[str, Any], pd.DataFrame]]] = field(default_factory=dict)
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)
    printed: pd.DataFrame | None = None
    thresholds: tuple[float, ...] = (1e-4,)
    folder: Path = Path()

    @property
    def params(self) -> SimpleNamespace:
        return SimpleNamespace(thresholds=self.thresholds, section=lambda _, kind: kind(level=4.0))

    @property
    def words(self) -> Words:
        return CLASSIFICATION

    @property
    def notes(self) -> list[dict[str, Any]]:
        return self.cells.to_dict("records")

    @property
    def good_runs(self) -> pd.DataFrame:
        good = self.cells.loc[self.cells["status"] == "ok", [*RUN]]
        return self.values.merge(good, on=[*RUN])

    def table(self, name: str) -> pd.DataFrame:
        return self.tables[name]

    def records(self, stage: str) -> Iterator[tuple[dict[str, Any], dict[str, Any], pd.DataFrame]]:
        yield from self.stages[stage]

    seed_records = records

    def long(self, stage: str) -> pd.DataFrame:
        return pd.concat([table.assign(**run) for run, _, table in self.stages[stage]], ignore_index=True)


def study(folder: Path, name: str, claims: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    """Copy a committed study's results to a folder, and return the arguments of its page."""
    metrics, plots = folder / "metrics" / name, folder / "plots" / name
    for kind in ("metrics", "plots", "provenance"):
        if (ROOT / kind / name).exists():
            shutil.copytree(ROOT / kind / name, folder / kind / name)
    verdicts = folder / "metrics/claims" / f"{name}.csv"
    verdicts.parent.mkdir(parents=True, exist_ok=True)
    if claims is not None:
        with verdicts.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(CLAIM), lineterminator="\n")
            writer.writeheader()
            writer.writerows(claims)
    paths = {"metrics": metrics, "plots": plots, "settings": ROOT / f"conf/study/{name}.yaml", "verdicts": verdicts}
    return {"study": name, **paths}


@cache
def drawn_studies() -> dict[str, tuple[Figure, pd.DataFrame]]:
    """Return each kind of figure once, by name, with its table, from committed studies that have all kinds together."""
    found: dict[str, tuple[Figure, pd.DataFrame]] = {}
    for name in ("gao_quick", "gao_radius", "keskar_table3", "keskar_warmstart_n5000", "random_matrices", "quick"):
        plots = ROOT / "plots" / name
        for figure in (one for measure in measures.names() for one in measures.figures(measure)):
            if (table := plots / f"{figure.name}.csv").exists():
                found[figure.name] = (figure, read_table(table))
    (layers,) = [figure for figure in measures.figures("curvature") if figure.optional]  # that no committed study has
    found[layers.name] = (layers, found["curvature"][1])
    widths = Study(load_params(ROOT / "metrics/width/params.yaml"))
    for figure in (one for one in measures.figures("evaluation") if one.optional):
        found[figure.name] = (figure, figure.table(widths))
    return found
