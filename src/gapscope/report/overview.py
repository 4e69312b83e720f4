"""Every study at a glance, as Markdown: which claims hold where, which of the papers' tables and figures were run.

No stage of the pipeline, which is of one study: `gapscope run` and `gapscope report` write it when they are done.
"""

from importlib.resources import files
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from gapscope.artifacts.records import read_table
from gapscope.report import numbers
from gapscope.report.evidence import SIGNS

NO_EVIDENCE = {"quick", "smoke"}  # their settings are chosen for time
MATRICES = {
    "Oyedotun et al. 2022": [f"table{number:02d}" for number in range(1, 11)],
    "Keskar et al. 2017": [
        f"keskar_{name}"
        for name in ("table3", "table3_cifar10", "table3_cifar10_n5000", "table3_cifar100", "table3_timit", "figure4")
    ],
}

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
    parts += ["## What is printed, and what was run", status_table(metrics, plots, above)]
    return "\n\n".join(part.rstrip() for part in parts) + "\n"


def arm_table(verdicts: pd.DataFrame) -> str:
    """Return Markdown: a row a claim and study."""
    lines = ["| study | claim | verdict | effect | levels | n |", "|---|---|---|---|---|---|"]
    for row in verdicts.to_dict("records"):
        about = f"`{row['study']}`: {row['model']} on {row['dataset']}"
        verdict = f"{SIGNS[row['verdict']]} {row['verdict']}"
        cells = [about, row["statement"], verdict, numbers.effect(row), row["levels"], f"{row['n']:.0f}"]
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
    """Return the papers' tables and figures: paper, item, what, study, file, why (it was not run)."""
    text = (files("gapscope.report") / "papers" / "items.yaml").read_text(encoding="utf-8")
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
        path = (plots if item["file"].endswith(".png") else metrics) / item["study"] / item["file"]
        done = f"[{extent(metrics / item['study'])}]({above}{path.as_posix()})" if path.exists() else item["why"]
        lines.append(f"| {item['paper']} | {item['item']} | {item['what']} | `{item['study']}` | {done} |")
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
