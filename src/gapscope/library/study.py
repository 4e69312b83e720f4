"""A study's committed results as tables: `gapscope.load`."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from gapscope.errors import InputError, did_you_mean
from gapscope.records.integrity import check_written
from gapscope.records.long import AXES, RUN, axis_text, read_long
from gapscope.records.tables import read_record, read_table

VERDICTS = {  # column of metrics/claims/STUDY.csv -> here
    **{name: name for name in ("claim", "family", "verdict", "effect")},
    "effect_low": "low",
    "effect_high": "high",
    **{name: name for name in ("p", "n", "p_corrected")},
}


@dataclass(frozen=True)
class StudyResult:
    """A study's results.

    Attributes:
        name: of the study.
        root: the repository. A record that is not what its stage wrote raises InputError when it is read.
    """

    name: str
    root: Path

    def __str__(self) -> str:
        good = int((self.runs["status"] == "ok").sum()) if len(self.runs) else 0
        return f"study {self.name}: {len(self.runs)} runs ({good} good), {len(self.verdicts)} verdicts"

    def __repr__(self) -> str:
        return str(self)

    @property
    def folder(self) -> Path:
        """The folder of its tables."""
        return self.root / "metrics" / self.name

    @cached_property
    def runs(self) -> pd.DataFrame:
        """One row per run: model, dataset, batch_size, seed, status, and a column for every final figure.

        A figure's column is its quantity, after the split if it has one, with its other axes in brackets:
        `test_error_pct[statistics=reestimated]`, `near_rank_excess[sample=run, threshold=1e-4]`.
        """
        if not (self.folder / "runs.csv").exists():
            return pd.DataFrame(columns=[*RUN, "status"])
        cells = read_table(self.folder / "cells.csv")[[*RUN, "status"]]
        table = read_long(self.folder / "runs.csv")
        named = table.assign(column=[column_name(row) for row in table.to_dict("records")])
        wide = named.pivot(index=[*RUN], columns="column", values="value")[named["column"].unique()].reset_index()
        wide.columns.name = None
        return cells.merge(wide, on=[*RUN], how="left")

    @cached_property
    def verdicts(self) -> pd.DataFrame:
        """One row per claim: claim, family, verdict, effect, low, high, p, n, p_corrected, and its other columns.

        `low` and `high` are the 95 % interval of the effect, `p` is not corrected.
        """
        path = self.root / "metrics/claims" / f"{self.name}.csv"
        if not path.exists():
            return pd.DataFrame(columns=list(VERDICTS.values()))
        table = read_table(path).rename(columns=VERDICTS)
        first = list(VERDICTS.values())
        return table[[*first, *(name for name in table if name not in first)]]

    @cached_property
    def records(self) -> dict[str, pd.DataFrame]:
        """The long tables by name: `runs`, `near_rank`, and those of each stage over all runs, such as `train`."""
        stages = sorted(path for path in self.folder.iterdir() if path.is_dir() and any(path.glob("*.csv")))
        long = [path for path in sorted(self.folder.glob("*.csv")) if _is_long(path)]
        return {path.name: _joined(path) for path in stages} | {path.stem: read_long(path) for path in long}


def load(study: str, root: str | Path | None = None) -> StudyResult:
    """Return the results of a study that has been run.

    Args:
        study: its name, such as "table05".
        root: a clone of gapscope, or a folder of your own studies: it holds `metrics`. Default: the current folder or
            the nearest one above it, because a notebook runs in its own folder.

    Raises:
        InputError: there is no such study.
    """
    places = (Path(), *Path.cwd().parents) if root is None else (Path(root),)
    found = next((place for place in places if (place / "metrics").is_dir()), None)
    if found is None:
        above = " or a folder above it" if root is None else ""
        raise InputError(f"no folder metrics in {places[0].absolute()}{above}; root must be a clone of gapscope")
    metrics = found / "metrics"
    known = sorted(path.parent.name for path in metrics.glob("*/params.yaml"))
    if study not in known:
        raise InputError(f"no results of a study {study!r} in {metrics}; {did_you_mean(study, known)}")
    return StudyResult(study, found)


def column_name(row: Mapping[Any, Any]) -> str:
    """Return the name of a figure's column in `StudyResult.runs`.

    Example:
        >>> column_name({"quantity": "error_pct", "split": "test", "statistics": "reestimated", "epoch": None})
        'test_error_pct[statistics=reestimated]'
    """
    at = {axis: row[axis] for axis in AXES if axis in row and not pd.isna(row[axis])}
    split = at.pop("split", None)
    if at.get("relative") in (False, 0):
        del at["relative"]
    name = row["quantity"] if split is None else f"{split}_{row['quantity']}"
    return f"{name}[{', '.join(f'{axis}={axis_text(value)}' for axis, value in at.items())}]" if at else name


def _is_long(path: Path) -> bool:
    check_written(path)  # before its first line is believed
    with path.open(encoding="utf-8", errors="replace") as lines:
        return {"quantity", "value"} <= set(next(lines, "").strip().split(","))


def _joined(stage: Path) -> pd.DataFrame:
    """Return the long tables of a stage as one, each with what its JSON record says that it belongs to."""
    tables = []
    for path in sorted(stage.glob("*.csv")):
        record = read_record(Path(f"{str(path).removesuffix('.csv')}.json"))
        about: dict[str, Any] = {name: record[name] for name in ("dataset", "batch_size", "seed") if name in record}
        if "model" in record:
            about = {"model": record["model"]["name"], **about}
        tables.append(read_long(path).assign(**(about or {"record": path.stem})))
    return pd.concat([table for table in tables if len(table)] or tables, ignore_index=True)
