"""The index of a site: every study with what it is about, its extent, its verdicts, and a link to its page."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from gapscope.claims.wording import SIGNS
from gapscope.records.tables import read_table
from gapscope.report import page

PRIMARY = ("primary", "exploratory")  # families that an index counts


def index(names: Iterable[str], metrics: Path, conf: Path) -> str:
    """Return the index page.

    Args:
        names: the studies, in their order.
        metrics: folder of all studies' tables.
        conf: folder of the studies' files.
    """
    rows = [_row(name, metrics, conf) for name in names]
    return page.environment().get_template("index.html.j2").render(studies=rows, signs=SIGNS)


def _row(name: str, metrics: Path, conf: Path) -> dict[str, Any]:
    rows = page.claims(metrics / "claims" / f"{name}.csv")
    found = Counter(row["verdict"] for row in rows if row["family"] in PRIMARY)
    return {
        "name": name,
        "about": page.about((conf / f"{name}.yaml").read_text(encoding="utf-8")),
        "extent": extent(metrics / name),
        "verdicts": {verdict: found[verdict] for verdict in SIGNS if found[verdict]},
        "answers": page.answers(metrics / name / "gap.csv"),
    }


def extent(folder: Path) -> str:
    """Return what a study has run, in words; empty where its runs are no trained networks."""
    if not (folder / "cells.csv").exists():
        return ""
    cells = read_table(folder / "cells.csv")
    seeds = cells["seed"].nunique()
    counted = f"{seeds} seed{'s' if seeds > 1 else ''}"
    if "batch_size" not in cells:
        return f"{cells['start_epoch'].nunique()} starts, {counted}"
    sizes = sorted(cells["batch_size"].unique())
    return f"b = {sizes[0]} to {sizes[-1]}, {counted}" if len(sizes) > 1 else f"b = {sizes[0]}, {counted}"
