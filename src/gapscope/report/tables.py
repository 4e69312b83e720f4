"""A study's tables, made of what its measures give: by run, by batch size, and the means that DVC shows."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from gapscope import measures, papers
from gapscope.claims import revisions
from gapscope.config import Params
from gapscope.measures.study import Study
from gapscope.records.files import write_text
from gapscope.records.long import AXES, RUN, axis_text
from gapscope.records.tables import write_summary, write_table
from gapscope.report import gap

GROUP = [*RUN[:3]]  # model, data set, batch size


def write_tables(params: Params, out: Path) -> None:
    """Write all tables of a study into a folder."""
    study = Study(params)
    values, every_run = runs(study), cells(study)
    means = batch_sizes(values, every_run)
    printed, markdown = papers.beside(params.study, means, every_run)
    tolerance = params.section("tables", gap.TableSettings).tolerance_points
    write_table(out / "runs.csv", values)
    write_table(out / "cells.csv", every_run)
    write_table(out / "batch_sizes.csv", means)
    write_table(out / "layers.csv", layers(study))
    write_table(out / "paper.csv", printed)
    made = every_run.assign(made=revisions.of_runs(every_run, ["train"], revisions.read_revisions(study.folder)))
    write_table(out / "gap.csv", gap.gap_table(values, made, tolerance))
    write_summary(out / "summary.json", summary(means))
    write_text(out / "paper.md", markdown or "This study repeats no printed table.\n")


def runs(study: Study) -> pd.DataFrame:
    """Return every quantity of every run, long."""
    return measures.run_rows(study)


def cells(study: Study) -> pd.DataFrame:
    """Return one row per run: its status, and what else its measures say of it that is no number."""
    return pd.DataFrame(study.notes)


def batch_sizes(runs: pd.DataFrame, cells: pd.DataFrame) -> pd.DataFrame:
    """Return mean and standard deviation (n - 1) of each quantity over the good runs of each batch size, long.

    Args:
        runs: of `runs`.
        cells: of `cells`.
    """
    axes = [name for name in AXES if name in runs]
    good = _good(runs, cells)
    # a stable order: of batch sizes as in the study, of quantities as the measures give them
    made: list[dict[str, Any]] = []
    for key, group in good.groupby(GROUP, sort=False):
        about = dict(zip(GROUP, key, strict=True))
        for (quantity, *at), of in group.groupby(["quantity", *axes], sort=False, dropna=False):
            row = {**about, "quantity": quantity, **dict(zip(axes, at, strict=True))}
            with np.errstate(invalid="ignore"):  # a condition number may be infinite
                made.append({**row, "n": len(of), "mean": of["value"].mean(), "std": of["value"].std()})
    return pd.DataFrame(made, columns=[*GROUP, "quantity", *axes, "n", "mean", "std"])


def _good(runs: pd.DataFrame, cells: pd.DataFrame) -> pd.DataFrame:
    good = pd.MultiIndex.from_frame(cells.loc[cells["status"] == "ok", [*RUN]])
    return runs[pd.MultiIndex.from_frame(runs[[*RUN]]).isin(good)]


def summary(batches: pd.DataFrame) -> dict[str, Any]:
    """Return the means that `dvc metrics` and `dvc exp show` list: model-dataset -> batch size -> quantity -> axes.

    So a value at another threshold has another name, and `dvc metrics diff` shows that it is new.
    """
    axes = [name for name in AXES if name in batches]
    tree: dict[str, Any] = {}
    for module in measures.MEASURES.values():
        for quantity, where in getattr(module, "HEADLINES", []):
            rows = batches[batches["quantity"] == quantity]
            for axis, value in where.items():
                rows = rows[rows[axis] == value] if axis in rows else rows.iloc[:0]
            for row in rows.to_dict("records"):
                at = {axis: row[axis] for axis in axes if axis not in where and pd.notna(row[axis])}
                place = tree.setdefault(f"{row['model']}-{row['dataset']}", {}).setdefault(f"b{row['batch_size']}", {})
                name = "_".join([*(str(where[axis]) for axis in ("split",) if axis in where), quantity])
                if at:
                    place.setdefault(name, {})[" ".join(filter(None, map(_at, at.items())))] = _rounded(row["mean"])
                else:
                    place[name] = _rounded(row["mean"])
    return tree


def _at(axis: tuple[str, Any]) -> str:
    name, value = axis
    if name == "relative":
        return "of the largest" if value else ""
    return f"{name} {axis_text(value)}"


def _rounded(value: float) -> float | None:
    return None if pd.isna(value) else float(f"{value:.6g}")


def layers(study: Study) -> pd.DataFrame:
    """Return one row per run and layer, of the measures that say something of layers."""
    frames = [module.layer_table(study) for module in measures.asked(study).values() if hasattr(module, "layer_table")]
    return frames[0] if frames else pd.DataFrame()
