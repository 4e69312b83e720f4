"""Every study at a glance, as Markdown: which claims hold where, which of the papers' tables and figures were run.

No stage of the pipeline, which is of one study: `gapscope run` and `gapscope report` write it when they are done.
"""

from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from gapscope.claims.hypothesis_tests import SIGNS
from gapscope.claims.verdicts import load_claims
from gapscope.drawing import numbers
from gapscope.errors import InputError
from gapscope.records.tables import read_table

NO_EVIDENCE = {"quick", "smoke"}  # their settings are chosen for time
TABLES = sorted([*(f"table{number:02d}" for number in range(1, 12)), "table10_linear"])  # at the size that is printed
MATRICES = {
    "Oyedotun et al. 2022": sorted({*TABLES, "table01_n5000", "table03_epochs16"} - {"table11"}),
    "Keskar et al. 2017": [
        f"keskar_{name}"
        for name in (
            *("table3", "table3_cifar10", "table3_cifar10_n5000", "table3_cifar100", "table3_timit"),
            *("figure4", "figure4_cifar10", "figure4_timit"),
        )
    ],
}

RISES = {"table11": "gap_with_switching"}  # study -> its claim that test error rises, where it is an arm's

KEY = (
    ", ".join(f"{sign} {word}" for word, sign in SIGNS.items())
    + ". A claim is decided at `claims.level` (default: 2 %), corrected for all that its study tests (Holm), over at"
    " least 3 seeds. The figure is the change from the smallest batch size (width, start) to the largest (times: a"
    " factor; correlation: of ranks within a seed); for a remedy the gap less that of the study without it, or less"
    " half of it where that is the claim. Mean and 95 % interval over seeds."
)


def read_verdicts(folder: Path) -> pd.DataFrame:
    """Return the claims tables of all studies, one after the other, with a column `study`."""
    paths = [path for path in sorted(folder.glob("*.csv")) if path.stem not in NO_EVIDENCE]
    tables = [read_table(path).assign(study=path.stem) for path in paths]
    found = [table for table in tables if not table.empty]
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame()


def page(metrics: Path, plots: Path, above: str = "../") -> str:
    """Return the whole page: a table of verdicts for each paper, one of the arms, and the status of what is printed.

    Args:
        metrics: folder of all studies' tables.
        plots: folder of all studies' figures.
        above: how the page reaches the folder that holds both.
    """
    verdicts = read_verdicts(metrics / "claims")
    parts = [
        "# Every study at a glance",
        "Made from `metrics/` by `gapscope report`. A study's own page, `STUDY.html`, has figures and notes.",
        "## Verdicts",
        KEY,
    ]
    for paper, studies in MATRICES.items():
        here = verdicts[verdicts["study"].isin(studies)] if len(verdicts) else verdicts
        parts += [f"### {paper}", verdict_table(here) if len(here) else "No study has tested its claims yet."]
    listed = {study for studies in MATRICES.values() for study in studies}
    arms = verdicts[~verdicts["study"].isin(listed)] if len(verdicts) else verdicts
    if len(arms):
        parts += ["### Arms, and studies of your own", arm_table(arms)]
    gaps = gap_table(metrics, pages="")
    parts += ["## Printed and measured gaps", gaps] if gaps.count("\n") > 1 else []
    parts += ["## What is printed, and what was run", status_table(metrics, plots, above)]
    return "\n\n".join(part.rstrip() for part in parts) + "\n"


def gap_table(metrics: Path, pages: str = "reports/") -> str:
    """Return Markdown: a row a printed table that was run, its test error at both ends, the gap, and the verdict on it.

    The ends are the smallest and the largest batch size that are both printed and measured; ‡: runs that learned
    nothing are left out there. Where a smaller batch size was run, gap and verdict are about that one, and left out.

    Args:
        metrics: folder of all studies' tables.
        pages: how the text reaches the studies' pages.
    """
    lines = [
        "| | network, data | b | test error %, printed | measured | n | gap, printed | measured, points | rises |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for study in TABLES:
        if not (metrics / study / "paper.csv").exists():
            continue
        rows, gaps = (read_table(metrics / study / f"{name}.csv") for name in ("paper", "gap"))
        rows = rows[rows["measured_column"].eq("test_error_pct") & rows["printed"].notna() & rows["mean"].notna()]
        if rows["batch_size"].nunique() < 2:
            continue
        own = rows[["model", "dataset"]].iloc[0]  # the paper's network, where a study has others too
        rows, gaps = (table[(table[list(own.index)] == own).all(axis=1)] for table in (rows, gaps))
        ends = rows.sort_values("batch_size").iloc[[0, -1]]
        last = gaps.set_index("batch_size").loc[ends["batch_size"].iloc[-1]]
        printed = " → ".join(numbers.fixed(value, 2) for value in ends["printed"])
        means = ends.to_dict("records")
        measured = " → ".join(numbers.fixed(row["mean"], 2) + (" ‡" if row.get("stuck") else "") for row in means)
        same = last["smallest"] == ends["batch_size"].iloc[0]
        changes = numbers.signed(ends["printed"].iloc[-1] - ends["printed"].iloc[0]), _gap(last) if same else " "
        sizes = " → ".join(f"{size}" for size in ends["batch_size"])
        link = f"[{int(study[5:7])}]({pages}{study}.html)"
        cells = [link, _network(study), sizes, printed, measured, f"{last['n']:.0f}"]
        verdict = _verdict(metrics / "claims" / f"{study}.csv", study, own, sizes) if same else " "
        lines.append(f"| {' | '.join([*cells, *changes, verdict])} |")
    return "\n".join(lines)


def sign_table(here: pd.DataFrame, heads: Mapping[str, str]) -> str:
    """Return Markdown: a row a claim, in the order of their file, a column a study, in each cell the verdict's sign.

    Args:
        here: verdicts.
        heads: study -> head of its column.

    Raises:
        InputError: a study of several models or data sets, which would need several columns.
    """
    if len(here[["study", "model", "dataset"]].drop_duplicates()) > here["study"].nunique():
        raise InputError("a table of signs has one column a study: give it studies of one model on one data set")
    lines = [f"| claim | {' | '.join(heads.values())} |", "|---" * (len(heads) + 1) + "|"]
    place = {claim.name: number for number, claim in enumerate(load_claims())}
    for (_, statement), rows in here.groupby([here["claim"].map(place), "statement"]):
        signs = {row["study"]: SIGNS[row["verdict"]] for row in rows.to_dict("records")}
        lines.append(f"| {statement} | {' | '.join(signs.get(study, ' ') for study in heads)} |")
    return "\n".join(lines)


def _gap(row: Mapping[Any, Any] | pd.Series) -> str:
    between = "" if pd.isna(row["gap_low"]) else f" ({numbers.interval(row['gap_low'], row['gap_high'])})"
    return f"{numbers.signed(row['gap'])}{between}"


def _network(study: str) -> str:
    return next(item["what"] for item in items() if item["study"] == study)


def _verdict(path: Path, study: str, own: pd.Series, sizes: str) -> str:
    """Return the sign of the verdict that test error rises, and the largest batch size that it is about, if another."""
    found = read_table(path) if path.exists() else pd.DataFrame(columns=["claim", *own.index])
    rows = found[(found[list(own.index)] == own).all(axis=1) & found["claim"].eq(RISES.get(study, "test_error_rises"))]
    if rows.empty:
        return " "
    sign, largest = SIGNS[str(rows["verdict"].iloc[0])], str(rows["levels"].iloc[0]).rpartition(", ")[2]
    return sign if largest == sizes.rpartition(" → ")[2] else f"{sign} (to {largest})"


def arm_table(verdicts: pd.DataFrame) -> str:
    """Return Markdown: a row a claim and study; of one set against another study, what became of either end."""
    lines = ["| study | claim | verdict | effect | levels | n | |", "|---|---|---|---|---|---|---|"]
    for row in verdicts.to_dict("records"):
        about = f"`{row['study']}`: {row['model']} on {row['dataset']}"
        verdict = f"{SIGNS[row['verdict']]} {row['verdict']}"
        beside = f"{row['why']}; {row['also']}" if isinstance(row["also"], str) and row["also"] else " "
        cells = [about, row["statement"], verdict, numbers.effect(row), row["levels"], f"{row['n']:.0f}", beside]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def verdict_table(here: pd.DataFrame) -> str:
    """Return Markdown: a row a claim, a column a study; in each cell the verdict's sign and the effect."""
    groups = here[["study", "model", "dataset"]].drop_duplicates().to_dict("records")
    heads = [f"{group['study']}: {group['model']} on {group['dataset']}" for group in groups]
    seeds = [here[(here[list(group)] == pd.Series(group)).all(axis=1)]["n"].max() for group in groups]
    lines = [f"| claim | {' | '.join(f'{h}, n = {n:.0f}' for h, n in zip(heads, seeds, strict=True))} |"]
    lines.append("|---" * (len(groups) + 1) + "|")
    for (_, statement), rows in here.groupby(["claim", "statement"], sort=False):
        cells = []
        for group, most in zip(groups, seeds, strict=True):
            of = rows[(rows[list(group)] == pd.Series(group)).all(axis=1)]
            row = of.iloc[0].to_dict() if len(of) else None
            fewer = f", n = {row['n']:.0f}" if row and row["n"] < most else ""
            cells.append(f"{SIGNS[row['verdict']]} {numbers.effect(row)}{fewer}" if row else " ")
        lines.append(f"| {statement} | {' | '.join(cells)} |")
    return "\n".join(lines)


def items() -> list[dict[str, str]]:
    """Return the papers' tables and figures: paper, item, what, study and file, why (it was not run)."""
    text = (files("gapscope.papers") / "items.yaml").read_text(encoding="utf-8")
    return list(yaml.safe_load(text)["items"])


def status_table(metrics: Path, plots: Path, above: str) -> str:
    """Return Markdown: a row a table or figure of the papers, the file that repeats it, and how far it was run.

    Args:
        metrics: folder of all studies' tables.
        plots: folder of all studies' figures.
        above: how the page reaches the folder that holds both, such as `../`.
    """
    lines = ["| paper | printed | what | study | run so far |", "|---|---|---|---|---|"]
    for item in items():
        study, done = item["study"], item["why"]
        path = (plots if item["file"].endswith(".png") else metrics) / study / item["file"]
        if path.exists():
            done = f"[{extent(metrics / study)}]({above}{path.as_posix()})"
        lines.append(f"| {item['paper']} | {item['item']} | {item['what']} | `{study}` | {done} |")
    return "\n".join(lines) + "\n"


def extent(study: Path) -> str:
    """Return how far a study was run, in words."""
    for name in ("runs", "warmstart"):
        path = study / f"{name}.csv"
        if path.exists():
            table: Any = read_table(path)
            sizes = sorted(table["batch_size" if name == "runs" else "large_batch_size"].unique())
            seeds = table["seed"].nunique()
            return f"b = {', '.join(map(str, sizes))}; {seeds} seed{'s' if seeds > 1 else ''}"
    return "run"
