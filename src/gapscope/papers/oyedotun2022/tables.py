"""Tables 1 to 11 of Oyedotun et al. 2022, error and loss at each batch size, beside what a study measured."""

from typing import Any

import pandas as pd

from gapscope.drawing import numbers
from gapscope.papers.paper import STATUSES, counts, measured, of_pair, table_file

MARK = " †"
# column of tables.csv -> the quantity and split that it prints: both errors, then both losses
PRINTED = {f"{split}_{name}": (name, split) for name in ("error_pct", "loss") for split in ("train", "test")}
BESIDE = {  # printed quantity -> the measured ones set beside it
    "error_pct": ["error_pct"],
    # the paper's "loss" seems to hold a weight penalty, of PyTorch's form (lambda / 2) or of Keras's (lambda)
    "loss": ["cross_entropy", "loss", "loss_keras"],
}
GROUPS = {"error_pct": "error %", "loss": "loss"}
HEADS = {
    **{"error_pct": "measured", "cross_entropy": "measured cross-entropy"},
    **{"loss": "+ penalty", "loss_keras": "+ Keras penalty"},
}


def printed(table: int) -> pd.DataFrame:
    """Return a table as printed, one row per batch size.

    `note` says what is lost or evidently wrong, in the column that `cell` names, or in the whole row.
    """
    frame = table_file("oyedotun2022", "tables")
    return frame[frame["table"] == table].reset_index(drop=True)


def figure_values(table: int) -> pd.DataFrame:
    """Return a printed table as long rows: batch_size, quantity, split, value."""
    rows = [
        {"batch_size": line["batch_size"], "quantity": quantity, "split": split, "value": line[column]}
        for line in printed(table).to_dict("records")
        for column, (quantity, split) in PRINTED.items()
    ]
    return pd.DataFrame(rows).dropna(subset=["value"])


def beside(table: int, batches: pd.DataFrame, cells: pd.DataFrame) -> pd.DataFrame:
    """Return one row per network, printed batch size, printed value and measured quantity set beside it.

    Args:
        table: its number.
        batches: the study's `batch_sizes.csv`.
        cells: the study's `cells.csv`.

    Returns:
        Columns batch_size, printed_quantity, split, printed, note, model, dataset, n, diverged and stuck (numbers of
        runs), quantity (measured), mean, std. A note on one printed cell is in its rows alone.
    """
    paper, runs = printed(table), counts(cells)
    rows: list[dict[str, Any]] = []
    for (model, dataset), group in runs.groupby(["model", "dataset"], sort=False):
        ran, own = of_pair(batches, model, dataset), group.set_index("batch_size")
        values = {
            (quantity, split): measured(ran, quantity, _axes(quantity, split))
            for name, split in PRINTED.values()
            for quantity in BESIDE[name]
        }
        for line in paper.to_dict("records"):
            size = line["batch_size"]
            about = {"model": model, "dataset": dataset}
            about |= {name: own[name][size] if size in own.index else 0 for name in STATUSES}
            rows += [row | about | part for row in _printed_rows(line) for part in _measured_rows(row, values, size)]
    return pd.DataFrame(rows)


def markdown(rows: pd.DataFrame) -> str:
    """Return `beside` as a Markdown table, printed and measured values in pairs; notes on printed cells below (†)."""
    groups = list(rows.groupby(["model", "dataset"], sort=False))
    names = [f" ({model} on {dataset})" if len(groups) > 1 else "" for (model, dataset), _ in groups]
    return "\n".join(_table(group, name) for name, (_, group) in zip(names, groups, strict=True))


def _axes(quantity: str, split: str) -> dict[str, str]:
    return {"split": split} if quantity == "loss_keras" else {"split": split, "statistics": "reestimated"}


def _printed_rows(line: dict[Any, Any]) -> list[dict[str, Any]]:
    return [
        {"batch_size": line["batch_size"], "printed_quantity": quantity, "split": split, "printed": line[column]}
        | {"note": line["note"] if pd.isna(line["cell"]) or line["cell"] == column else None}
        for column, (quantity, split) in PRINTED.items()
    ]


def _measured_rows(row: dict[str, Any], values: dict[Any, pd.DataFrame], size: int) -> list[dict[str, Any]]:
    found = []
    for quantity in BESIDE[row["printed_quantity"]]:
        table = values[quantity, row["split"]]
        known = {part: table[part][size] if size in table.index else None for part in ("mean", "std")}
        found.append({"quantity": quantity, **known})
    return found


def _table(rows: pd.DataFrame, name: str) -> str:
    uneven = rows.loc[rows["n"] > 0, "n"].nunique() > 1
    groups, heads = ["", *([""] if uneven else [])], ["batch size", *(["n"] if uneven else [])]
    for quantity, split in PRINTED.values():
        own = BESIDE[quantity]
        groups += [f"{split} {GROUPS[quantity]}", *([""] * len(own))]
        heads += ["paper", *(HEADS[measured] for measured in own)]
    lines = [f"| {' | '.join(groups)} |", "|---" * len(heads) + "|", f"| {' | '.join(heads)} |"]
    for size, group in rows.groupby("batch_size", sort=False):
        printed = [part.to_dict("records") for _, part in group.groupby(["printed_quantity", "split"], sort=False)]
        whole = all(pd.notna(part[0]["note"]) for part in printed)
        cells = [f"{size}{MARK if whole else ''}", *([f"{printed[0][0]['n']}"] if uneven else [])]
        for part in printed:
            mark = MARK if pd.notna(part[0]["note"]) and not whole else ""
            cells += [_printed(part[0]["printed"]) + mark, *map(_measured, part)]
        lines.append(f"| {' | '.join(cells)} |")
    of_notes = rows.dropna(subset=["note"]).drop_duplicates("batch_size").groupby("note", sort=False)["batch_size"]
    notes = "".join(f"† {', '.join(map(str, sizes))}: {note}.\n\n" for note, sizes in of_notes)
    return "\n".join(lines) + f"\n\n{notes}Measured{name}: {_spread(rows)}.\n{_stuck(rows)}"


def _stuck(rows: pd.DataFrame) -> str:
    runs = rows.drop_duplicates("batch_size").query("stuck > 0").to_dict("records")
    if not runs:
        return ""
    of = [f"{row['stuck']} of {sum(row[name] for name in STATUSES)} at b = {row['batch_size']}" for row in runs]
    return f"\nRuns that learned nothing, and end no better than by guessing, are left out: {', '.join(of)}.\n"


def _printed(value: float) -> str:
    return "lost" if pd.isna(value) else f"{value:g}"


def _measured(row: dict[Any, Any]) -> str:
    digits = 2 if row["quantity"].endswith("pct") else 4
    spread = "" if pd.isna(row["std"]) else f" ± {row['std']:.{digits}f}"
    if pd.isna(row["mean"]):
        return "diverged" if row["diverged"] else "learned nothing" if row["stuck"] else "not run"
    return f"{row['mean']:.{digits}f}{spread}"


def _spread(rows: pd.DataFrame) -> str:
    n = numbers.seeds(rows.loc[rows["n"] > 0, "n"])
    return f"{n}, one seed, so no spread" if rows["n"].max() == 1 else f"mean ± standard deviation, {n}"
