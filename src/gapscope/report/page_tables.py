"""The tables of a study's page: Markdown tables as they stand, and means against batch size or start, with n."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import Any

import pandas as pd

from gapscope.drawing.numbers import fixed, interval, number, seeds, signed
from gapscope.records.tables import read_table
from gapscope.report import gap, names

NUMBER = re.compile(r"[−+-]?[\d.,]+(e[+-]?\d+)?( ± [\d.,e+-]+)?")
POWER = re.compile(r"\d(?:\.\d+)?e\+0[1-6]\b")  # 2.4e+02, which a reader writes as 240
MEASURES = {  # column -> how a reader calls it
    "train_error_pct": "train error (%)",
    "test_error_pct": "test error (%)",
    "train_cross_entropy": "train cross-entropy (nats)",
    "test_cross_entropy": "test cross-entropy (nats)",
    "penalty": "weight penalty, 0.5 λ Σw² (nats)",
    "weight_norm": "norm of the weights",
    "distance_from_initial": "distance from the initial weights",
}
COUNTED = {  # what is counted of near-rank values -> how a reader calls it
    "run_{}_structural": "structural, over b images",
    "run_{}_excess": "excess, over b images",
    "reference_{}_excess": "control, trained at the first batch size",
    "untrained_{}_excess": "control, untrained",
    "probe_{}_excess": "excess, over the fixed probe",
}
SIDES = {"small": "small-batch iterate", "large": "large-batch solution"}


@dataclass(frozen=True)
class Cell:
    """A cell: its text, how many columns it spans, whether it is a number, whether it is marked."""

    text: str
    span: int = 1
    number: bool = False
    strong: bool = False


@dataclass(frozen=True)
class Table:
    """A table: its caption, rows of heads, rows, and what is to be said below it."""

    caption: str
    heads: Sequence[Sequence[Cell]]
    rows: Sequence[Sequence[Cell]]
    notes: Sequence[str] = field(default=())


def of_markdown(text: str, caption: str) -> list[Table]:
    """Return the tables of a Markdown text, each with the paragraphs that follow it; a text without one gives none.

    A row of heads with empty cells groups the columns, and the row after it names them.
    """
    blocks = [block.splitlines() for block in text.strip().split("\n\n") if block.strip()]
    tables: list[Table] = []
    for start, block in enumerate(blocks):
        if not block[0].startswith("|"):
            continue
        first, _, *rows = [[cell.strip() for cell in line.strip()[1:-1].split("|")] for line in block]
        groups, last = ([first], rows.pop(0)) if "" in first else ([], first)
        numeric = [any(_cell(text).number for text in column) for column in zip(*rows, strict=True)]
        heads = [*map(_spanned, groups), [Cell(text, number=n) for text, n in zip(last, numeric, strict=True)]]
        after = takewhile(lambda lines: not lines[0].startswith("|"), blocks[start + 1 :])
        notes = [" ".join(lines) for lines in after]
        tables.append(Table(caption, heads, [[_cell(text) for text in row] for row in rows], notes))
    return tables


def of_gaps(gaps: pd.DataFrame) -> list[Table]:
    """Return a table a model and data set: a row a batch size, its test error less that of the smallest.

    Args:
        gaps: `metrics/STUDY/gap.csv`; empty where there is one batch size.
    """
    tables = []
    for (model, dataset), group in gaps.groupby(["model", "dataset"], sort=False) if len(gaps) else ():
        smallest, tolerance = group["smallest"].iloc[0], group["tolerance"].iloc[0]
        columns = ("batch size b", "seeds, n", "updates", "train error (%)", "gap (points)", "95 % interval", "verdict")
        heads = [[Cell(name, number=name != "verdict") for name in columns]]
        rows = [
            _row(f"{row['batch_size']}", [f"{row['n']}", *_trained(row), *_gap(row), str(row["verdict"])])
            for row in group.to_dict("records")
        ]
        within = f"Within: the whole interval is at most {tolerance:g} points; beyond: all of it is above"
        notes = [f"{within}; failed: a run diverged or learned nothing."]
        if group["smallest_train_error_pct"].notna().any():
            at = gap.trained(group.iloc[0], "smallest")
            notes.append(f"At {at}. A gap at few updates and a larger train error may be no more than under-training.")
        caption = f"Test error at b less that at b = {smallest}, by seed: {model} on {dataset}"
        tables.append(Table(caption, heads, rows, notes))
    return tables


def of_batch_sizes(batches: pd.DataFrame) -> list[Table]:
    """Return a table a model and data set: a row a quantity, a column a batch size, mean ± standard deviation.

    Args:
        batches: `metrics/STUDY/batch_sizes.csv`.
    """
    named = {**MEASURES, **_near_rank(batches), **_sharpness(batches)}
    tables = []
    for (model, dataset), group in batches.groupby(["model", "dataset"], sort=False):
        columns = group.to_dict("records")
        heads = [[Cell("batch size b"), *(Cell(f"{column['batch_size']}", number=True) for column in columns)]]
        rows = [_row("runs, n", [f"{column['n']}" for column in columns])]
        if (group["diverged"] > 0).any():
            rows.append(_row("runs that diverged", [f"{column['diverged']}" for column in columns]))
        if (group["stuck"] > 0).any():
            rows.append(_row("runs that learned nothing", [f"{column['stuck']}" for column in columns]))
        rows.append(_row("updates, at most", [number(column["updates"]) for column in columns]))
        rows += [
            _row(name, [spread(column[f"{key}_mean"], column[f"{key}_std"], column["n"]) for column in columns])
            for key, name in named.items()
            if f"{key}_mean" in group and group[f"{key}_mean"].notna().any()
        ]
        notes = [_counted(group["n"])]
        if "controls_n" in group and (group["controls_n"] < group["n"]).any():
            notes.append(f"Controls: {seeds(group['controls_n'])}.")
        tables.append(Table(f"By batch size: {model} on {dataset}", heads, rows, notes))
    return tables


def of_warm_starts(runs: pd.DataFrame) -> list[Table]:
    """Return a table a model and data set: a row a start, both ends of it, mean ± standard deviation.

    Args:
        runs: `metrics/STUDY/warmstart.csv`.
    """
    named = {
        column: f"{SIDES[side]}: {_measure(name)}"
        for column in runs.columns
        for side, _, name in [column.partition("_")]
        if side in SIDES and (name == "test_error_pct" or name.startswith("sharpness_"))
    }
    tables = []
    for (model, dataset), pair in runs.groupby(["model", "dataset"], sort=False):
        heads = [
            [
                Cell("started from epoch"),
                Cell("runs, n", number=True),
                *(Cell(name, number=True) for name in named.values()),
            ]
        ]
        rows, counts = [], []
        for start, group in pair.groupby("start_epoch", sort=False):
            good = group[group["status"] == "ok"]
            counts.append(len(good))
            values = [spread(good[column].mean(), good[column].std(), len(good)) for column in named]
            rows.append(_row(f"{start}", [f"{len(good)}", *values]))
        tables.append(Table(f"By start: {model} on {dataset}", heads, rows, [_counted(pd.Series(counts))]))
    return tables


def of_study(folder: Path) -> list[Table]:
    """Return the tables of a folder metrics/STUDY: the paper's beside the measured, then means with n."""
    tables: list[Table] = []
    if (folder / "paper.md").exists():
        tables += of_markdown((folder / "paper.md").read_text(encoding="utf-8"), "Paper and measured")
    if (folder / "gap.csv").exists():
        tables += of_gaps(read_table(folder / "gap.csv"))
    if (folder / "batch_sizes.csv").exists():
        tables += of_batch_sizes(read_table(folder / "batch_sizes.csv"))
    if (folder / "warmstart.csv").exists():
        tables += of_warm_starts(read_table(folder / "warmstart.csv"))
    return tables


def spread(mean: Any, std: Any, n: int) -> str:
    """Return mean ± standard deviation, rounded to the second figure of the latter; a single run has none."""
    if n == 0:
        return "none"
    if pd.isna(mean):
        return "not measured"
    if n == 1 or pd.isna(std):
        return number(mean)
    if std == 0:
        return f"{number(mean)} ± 0"
    places = 1 - math.floor(math.log10(std))
    if abs(std) < 1e-4 or abs(mean) >= 1e7:
        return f"{number(mean)} ± {number(std, 2)}"
    return f"{fixed(mean, places)} ± {fixed(std, places)}"


def _trained(row: Mapping[Any, Any]) -> list[str]:
    return ["" if pd.isna(row[name]) else number(row[name]) for name in ("updates", "train_error_pct")]


def _gap(row: Mapping[Any, Any]) -> list[str]:
    if pd.isna(row["gap"]):
        return ["", ""]
    return [signed(row["gap"]), "one seed" if pd.isna(row["gap_low"]) else interval(row["gap_low"], row["gap_high"])]


def _near_rank(batches: pd.DataFrame) -> dict[str, str]:
    pattern = re.compile(r"near_rank_run_(.+)_excess_mean")
    thresholds = [found[1] for column in batches.columns if (found := pattern.fullmatch(column))]
    named = {
        f"near_rank_{what.format(threshold)}": f"values ≤ {names.threshold(threshold)}: {name}"
        for threshold in thresholds
        for what, name in COUNTED.items()
    }
    return named | {"near_rank_run_exact_zeros": "of each excess, zeros of dead units and duplicate images"}


def _sharpness(batches: pd.DataFrame) -> dict[str, str]:
    measured = [column.removesuffix("_mean") for column in batches.columns if column.endswith("_pct_mean")]
    return {column: _measure(column) for column in measured if column.startswith("sharpness_")}


def _measure(column: str) -> str:
    if not column.startswith("sharpness_"):
        return MEASURES.get(column, column)
    split, space, epsilon = names.sharpness(column)
    return f"sharpness (%) of the {split} loss, {space}, ε = {epsilon}"


def _counted(counts: "pd.Series[int]") -> str:
    if counts.max() == 1:
        return "n = 1: one seed, so no spread."
    alone = "; where n = 1 there is no spread" if counts.min() == 1 else ""
    return f"Mean ± standard deviation, {seeds(counts)}{alone}."


def _row(name: str, values: Sequence[str]) -> list[Cell]:
    return [_cell(name), *(_cell(value) for value in values)]


def _cell(text: str) -> Cell:
    plain = POWER.sub(lambda found: f"{float(found[0]):,.0f}", text.replace("**", ""))
    return Cell(plain, number=bool(NUMBER.fullmatch(plain)), strong="**" in text)


def _spanned(cells: Sequence[str]) -> list[Cell]:
    """Return heads of which one that is followed by empty ones spans them too."""
    heads: list[Cell] = []
    for text in cells:
        if text or not heads or not heads[-1].text:
            heads.append(_cell(text))
        else:
            heads[-1] = Cell(heads[-1].text, heads[-1].span + 1, heads[-1].number)
    return heads


def records(rows: pd.DataFrame) -> list[Mapping[str, Any]]:
    """Return a table's rows as mappings of text to value; empty cells are None."""
    listed = rows.astype(object).where(rows.notna(), None).to_dict("records")
    return [{str(key): value for key, value in row.items()} for row in listed]
