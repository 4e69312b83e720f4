"""A page's tables of what the measures gave: means by batch size, one table per measure, and by start, each with n."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any

import pandas as pd

from gapscope import measures
from gapscope.drawing import names
from gapscope.measures.evaluation import ERRORS
from gapscope.records.long import AXES, BESIDE, axis_text, read_long
from gapscope.records.tables import read_table
from gapscope.report.page_tables import Cell, Table, cell_of, counted, of_gaps, of_markdown, row_of, spread

WORDS: dict[str, dict[Any, str]] = {  # axis -> value -> how a reader calls it; "" says what needs no word
    "split": {"train": "train", "test": "test"},
    "statistics": {"reestimated": "", "running": "running statistics", "batch": "batch statistics"},
    "chosen_on": {"own": "chosen on the run's own errors", "others": "chosen on the other seeds"},
    "sample": {
        "run": "over b images",
        "probe": "over the fixed probe",
        "batch": "of single batches",
        "untrained": "control: untrained",
        "reference": "control: trained at the first batch size",
        "random": "control: random tensor",
        "input": "control: images",
    },
    "space": {"full": "full space", "manifold": "random manifold"},
    "relative": {False: "", True: "of the largest"},
    "half": {"first": "first half", "second": "second half"},
    "state": {"initial": "initial weights", "trained": "trained weights"},
    "estimate": {"hessian": "by 1/h", "eq17": "by |w/g|, equation 17", "lars": "by ‖w‖/‖g‖"},
    "kind": {"all": "", "weights": "weights alone", "vectors": "vectors alone"},
    "phase": {"small": "small-batch iterate", "large": "large-batch solution"},
}
SIGNS = {"threshold": "≤ ", "epsilon": "ε = ", "dimension": "p = ", "level": "above ", "radius": "radius "}


def of_study(folder: Path) -> list[Table]:
    """Return the tables of a folder metrics/STUDY: the paper's beside the measured, then means with n."""
    tables: list[Table] = []
    if (folder / "paper.md").exists():
        tables += of_markdown((folder / "paper.md").read_text(encoding="utf-8"), "Paper and measured")
    if (folder / "gap.csv").exists():
        tables += of_gaps(read_table(folder / "gap.csv"))
    cells = read_table(folder / "cells.csv") if (folder / "cells.csv").exists() else pd.DataFrame()
    if (folder / "batch_sizes.csv").exists():
        tables += of_batch_sizes(read_long(folder / "batch_sizes.csv"), cells, folder)
    for path in sorted(folder.glob("*.csv")) if "start_epoch" in cells else []:
        values = read_table(path)
        if {"quantity", "start_epoch"} <= set(values.columns):
            tables += of_starts(values, cells, measures.MEASURES["warm_start"].table_labels(folder))
    return tables


def of_batch_sizes(batches: pd.DataFrame, cells: pd.DataFrame, folder: Path | None = None) -> list[Table]:
    """Return the tables of each model and data set: one per measure, rows of quantities, columns of batch sizes.

    Where a quantity is given at several thresholds or box sizes, these stand side by side below each batch size.

    Args:
        batches: `metrics/STUDY/batch_sizes.csv`.
        cells: `metrics/STUDY/cells.csv`.
        folder: metrics/STUDY, for a measure's notes on its records, and labels that depend on them.
    """
    tables = []
    for (model, dataset), group in batches.groupby(["model", "dataset"], sort=False):
        runs = cells[(cells["model"] == model) & (cells["dataset"] == dataset)]
        for module in measures.MEASURES.values():
            labels = module.table_labels(folder) if folder and hasattr(module, "table_labels") else {}
            if module.RUNS_ON == "cell" and (table := _of_measure(module, group, runs, labels)):
                notes = module.table_notes(folder) if folder and hasattr(module, "table_notes") else []
                tables.append(
                    replace(
                        table, caption=f"{table.caption}: {names.pair(model, dataset)}", notes=[*table.notes, *notes]
                    )
                )
    return tables


def _of_measure(
    module: ModuleType, batches: pd.DataFrame, runs: pd.DataFrame, labels: Mapping[str, str]
) -> Table | None:
    """Return a measure's table of one model and data set; None where it was not taken."""
    sizes = list(runs["batch_size"].drop_duplicates())
    rows = [
        (label, of)
        for quantity, where in shown(module)
        for label, of in _rows_of(module, batches, quantity, where, labels)
    ]
    if not rows:
        return None
    twins = list(dict.fromkeys(name for _, of in rows for name in of["twin"] if name))
    beside = twins if len(twins) > 1 else [""]
    heads = [[Cell("batch size b"), *(Cell(f"{size}", len(beside), number=True) for size in sizes)]]
    if len(beside) > 1:
        heads.append([Cell(""), *(Cell(name, number=True) for _ in sizes for name in beside)])
    whole = (runs["status"] == "ok").astype(int).groupby(runs["batch_size"]).sum()
    first = module is next(iter(measures.MEASURES.values()))
    made = _run_counts(runs, sizes, len(beside)) if first or whole.nunique() > 1 else []
    for label, of in rows:
        own = of["twin"].iloc[0] if of["twin"].nunique() == 1 and len(twins) == 1 else ""
        cells = [cell_of(f"{label} ({own})" if own else label)]
        for size in sizes:
            here = of[of["batch_size"] == size].set_index("twin")
            if len(beside) > 1 and set(here.index) == {""}:
                cells.append(_value(_spread(here.iloc[0], whole[size]), len(beside)))
            else:
                names = [own] if len(beside) == 1 else beside
                cells += [_value(_spread(_at(here, name), whole[size])) for name in names]
        made.append(cells)
    caption = re.split(r":|\.(?=\s)(?!\s\d)", module.__doc__ or "", maxsplit=1)[0]  # "et al. 2017"
    return Table(caption, heads, made, [counted(whole)])


def shown(module: ModuleType) -> list[tuple[str, dict[str, Any]]]:
    """Return the quantities that a reader's table of a measure has, each with the axes that it is shown at."""
    listed: list[tuple[str, dict[str, Any]]] = getattr(module, "SHOWN", [(name, {}) for name in module.QUANTITIES])
    return listed


def _rows_of(
    module: ModuleType, batches: pd.DataFrame, quantity: str, where: Mapping[str, Any], labels: Mapping[str, str]
) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield label and values of each row of a quantity: one per combination of axes that do not stand side by side."""
    rows = batches[batches["quantity"] == quantity]
    for axis, value in where.items():
        rows = rows[rows[axis] == value] if axis in rows else rows.iloc[:0]
    axes = [name for name in AXES if name in rows and name not in BESIDE and rows[name].notna().any()]
    rows = rows.assign(twin=[" ".join(filter(None, map(_axis, of.items()))) for of in _axes_of(rows, BESIDE)])
    label = labels.get(quantity, module.QUANTITIES[quantity].label)
    unit = module.QUANTITIES[quantity].unit
    for key, of in rows.groupby(axes, sort=False, dropna=False) if axes else [((), rows)]:
        if len(of):
            words = ", ".join(filter(None, map(_axis, zip(axes, key, strict=True))))
            first = (
                f"{words} {label}"
                if axes[:1] == ["split"] and len(axes) <= 2
                else f"{label}, {words}"
                if words
                else label
            )
            yield f"{first} ({unit})" if unit and unit not in ("values", "eigenvalues") else first, of


def _axes_of(rows: pd.DataFrame, names: Sequence[str]) -> list[dict[str, Any]]:
    known = [name for name in names if name in rows]
    return [{str(name): value for name, value in row.items()} for row in rows[known].to_dict("records")]


def _axis(item: tuple[str, Any]) -> str:
    """Return an axis's value as a reader calls it; nothing where the quantity has no such axis."""
    axis, value = item
    if pd.isna(value):
        return ""
    return WORDS.get(axis, {}).get(value, f"{SIGNS.get(axis, f'{axis} ')}{axis_text(value)}")


def _value(text: str, span: int = 1) -> Cell:
    """Return a cell that stands at the right with the numbers of its column, also where it says that there is none."""
    return replace(cell_of(text), span=span, number=True)


def _at(rows: pd.DataFrame, name: str) -> Any:
    return rows.loc[name] if name in rows.index else None


def _spread(row: Any, runs: int) -> str:
    """Return mean ± standard deviation, with the number of seeds where some of the runs have no value."""
    if row is None:
        return "not measured"
    n = f" (n = {row['n']:.0f})" if row["n"] != runs else ""
    return spread(row["mean"], row["std"], row["n"]) + n


def _run_counts(runs: pd.DataFrame, sizes: Sequence[int], span: int) -> list[list[Cell]]:
    """Return rows with the number of runs that count at each batch size, and of those that failed."""
    made = []
    for status in ["ok", *sorted(set(runs["status"]) - {"ok"})]:
        name = "runs, n" if status == "ok" else f"runs that {status}"
        counts = [int(((runs["batch_size"] == size) & (runs["status"] == status)).sum()) for size in sizes]
        made.append([cell_of(name), *(replace(cell_of(f"{count}"), span=span) for count in counts)])
    return made


def of_starts(
    values: pd.DataFrame, starts: pd.DataFrame, labels: Mapping[str, str] = MappingProxyType({})
) -> list[Table]:
    """Return one table per model and data set: a row per start, mean ± standard deviation of what was measured there.

    Args:
        values: long table with an axis `start_epoch`.
        starts: one row per start, with its status.
        labels: quantity -> its label, where that depends on the study's records.
    """
    known = measures.quantities()
    called = {name: labels.get(name, of.label) for name, of in known.items()}
    quantities = {name: f"{called[name]} ({of.unit})" if of.unit else called[name] for name, of in known.items()}
    axes = [name for name in AXES if name in values and name not in ("start_epoch", "statistics")]
    tables = []
    for (model, dataset), pair in starts.groupby(["model", "dataset"], sort=False):
        here = values[(values["model"] == model) & (values["dataset"] == dataset)]
        here = here[here["quantity"].isin(quantities)].merge(pair[["seed", "start_epoch", "status"]])
        here = here[here["status"] == "ok"]
        columns = {
            key: ", ".join(filter(None, [quantities[key[0]], *map(_axis, zip(axes, key[1:], strict=True))]))
            for key, of in here.groupby(["quantity", *axes], sort=False, dropna=False)
            if key[0] in (*ERRORS, "perplexity", "sharpness_pct")
        }
        heads = [[Cell("started from epoch"), Cell("runs, n", number=True)]]
        heads[0] += [Cell(name, number=True) for name in columns.values()]
        rows, counts = [], []
        groups = dict(iter(here.groupby(["quantity", *axes, "start_epoch"], dropna=False)["value"]))
        for start, group in pair.groupby("start_epoch", sort=False):
            counts.append(int((group["status"] == "ok").sum()))
            found = [_values(groups, key, start) for key in columns]
            texts = [spread(of.mean(), of.std(), counts[-1]) for of in found]
            rows.append(row_of(f"{start}", [f"{counts[-1]}", *texts]))
        tables.append(Table(f"By start: {names.pair(model, dataset)}", heads, rows, [counted(pd.Series(counts))]))
    return tables


def _values(groups: Mapping[Any, "pd.Series[float]"], key: tuple[Any, ...], start: Any) -> "pd.Series[float]":
    same = (of for at, of in groups.items() if at[-1] == start and all(map(_equal, at[:-1], key)))
    return next(same, pd.Series(dtype=float))


def _equal(one: Any, other: Any) -> bool:
    return bool(pd.isna(one) and pd.isna(other)) or one == other
