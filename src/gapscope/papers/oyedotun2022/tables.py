"""The papers' printed tables, kept as data with their source, beside what was measured."""

from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import pandas as pd

from gapscope.drawing import numbers


@dataclass(frozen=True)
class TableSettings:
    """Params of the tables stage; `conf/config.yaml` says what each is."""

    paper_table: int | None
    keskar: bool
    tolerance_points: float


MARK = " †"
COUNTS = ("n", "diverged", "stuck")  # of runs
COLUMNS = {  # printed column -> measured columns set beside it
    "train_error_pct": ["train_error_pct"],
    "test_error_pct": ["test_error_pct"],
    # the paper's "loss" seems to hold a weight penalty, of PyTorch's form (lambda / 2) or of Keras's (lambda)
    "train_loss": ["train_cross_entropy", "train_loss", "train_loss_keras"],
    "test_loss": ["test_cross_entropy", "test_loss", "test_loss_keras"],
}


def printed(table: int) -> pd.DataFrame:
    """Return a table of Oyedotun et al. 2022 as printed.

    `note` says what is lost or evidently wrong: in the column that `cell` names, or in the whole row.
    """
    with (files("gapscope.papers.oyedotun2022") / "tables.csv").open(encoding="utf-8") as file:
        frame = pd.read_csv(file)
    return frame[frame["table"] == table].reset_index(drop=True)


def beside(paper: pd.DataFrame, batches: pd.DataFrame) -> pd.DataFrame:
    """Return long rows: batch size, printed column, value, note, model, data set, measured column, mean, std, COUNTS.

    A note on one cell is in the rows of its printed column alone, one on a whole row in all of them.
    """
    rows: list[dict[str, Any]] = []
    for (model, dataset), ran in batches.groupby(["model", "dataset"], sort=False):
        for _, line in paper.iterrows():
            here = ran[ran["batch_size"] == line["batch_size"]]
            found = here.iloc[0] if len(here) else dict.fromkeys(COUNTS, 0)
            about = {"model": model, "dataset": dataset, **{name: found[name] for name in COUNTS}}
            for column, measures in COLUMNS.items():
                row = {"batch_size": line["batch_size"], "printed_column": column, "printed": line[column]}
                row |= {"note": line["note"] if pd.isna(line["cell"]) or line["cell"] == column else None, **about}
                rows += [
                    {**row, "measured_column": measure}
                    | {part: found.get(f"{measure}_{part}") for part in ("mean", "std")}
                    for measure in measures
                ]
    return pd.DataFrame(rows)


def markdown(rows: pd.DataFrame) -> str:
    """Return `beside` as a Markdown table, paper and measured side by side; notes on printed cells below it (†)."""
    groups = list(rows.groupby(["model", "dataset"], sort=False))
    names = [f" ({model} on {dataset})" if len(groups) > 1 else "" for (model, dataset), _ in groups]
    return "\n".join(_table(group, name) for name, (_, group) in zip(names, groups, strict=True))


def _table(rows: pd.DataFrame, name: str) -> str:
    heads = ["batch size", "train error %", "test error %", "train loss", "test loss"]
    for split in ("train", "test"):
        heads += [f"{split} cross-entropy", "+ penalty", "+ Keras penalty"]
    measures = [measure for part in COLUMNS.values() for measure in part]
    lines = [
        f"| | paper |{' |' * 3} measured |{' |' * (len(measures) - 1)}",
        "|---" * (5 + len(measures)) + "|",
        f"| {' | '.join([*heads[:5], *heads[1:3], *heads[5:]])} |",
    ]
    for size, group in rows.groupby("batch_size", sort=False):
        paper = group.drop_duplicates("printed_column").set_index("printed_column")["printed"]
        measured = {str(row["measured_column"]): row for _, row in group.iterrows()}
        noted = set(group.dropna(subset=["note"])["printed_column"])
        whole = noted == {*COLUMNS}
        cells = [f"{size}{MARK if whole else ''}"]
        cells += [_printed(paper[c]) + (MARK if c in noted and not whole else "") for c in COLUMNS]
        lines.append(f"| {' | '.join([*cells, *(_measured(measured[c], c) for c in measures)])} |")
    of_notes = rows.dropna(subset=["note"]).drop_duplicates("batch_size").groupby("note", sort=False)["batch_size"]
    notes = "".join(f"† {', '.join(map(str, sizes))}: {note}.\n\n" for note, sizes in of_notes)
    return "\n".join(lines) + f"\n\n{notes}Measured{name}: {_spread(rows)}.\n{_stuck(rows)}"


def _stuck(rows: pd.DataFrame) -> str:
    counts = rows.drop_duplicates("batch_size").query("stuck > 0").to_dict("records")
    if not counts:
        return ""
    of = [f"{row['stuck']} of {sum(row[name] for name in COUNTS)} at b = {row['batch_size']}" for row in counts]
    return f"\nLeft out, since they learned nothing and ended as by guessing: {', '.join(of)}.\n"


def _printed(value: float) -> str:
    return "lost" if pd.isna(value) else f"{value:g}"


def _measured(row: pd.Series, column: str) -> str:
    digits = 2 if column.endswith("pct") else 4
    spread = "" if pd.isna(row["std"]) else f" ± {row['std']:.{digits}f}"
    if pd.isna(row["mean"]):
        return "diverged" if row["diverged"] else "learned nothing" if row["stuck"] else "not run"
    return f"{row['mean']:.{digits}f}{spread}"


def _spread(rows: pd.DataFrame) -> str:
    n = numbers.seeds(rows["n"])
    return f"{n}, one seed, so no spread" if rows["n"].max() == 1 else f"mean ± standard deviation, {n}"
