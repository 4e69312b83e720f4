"""The verdicts of several studies as tables: claims by studies, and one row per claim and study.

Each sign stands beside its evidence: effect and interval, slope where it is tested too, p and n.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from gapscope import papers
from gapscope.claims.claim import Claim
from gapscope.claims.wording import SIGNS, evidence
from gapscope.drawing import names
from gapscope.errors import InputError
from gapscope.records.long import axis_text
from gapscope.records.tables import read_table
from gapscope.report.sections import Cell, Folded, Link, Table

NOT_TESTABLE = "not testable"


def read_verdicts(folder: Path) -> pd.DataFrame:
    """Return the claims tables of all studies, one after the other, with a column `study`.

    Args:
        folder: metrics/claims. Studies whose settings are chosen to be quick are left out: they are no evidence.
    """
    paths = [path for path in sorted(folder.glob("*.csv")) if path.stem not in papers.no_evidence()]
    tables = [read_table(path).assign(study=path.stem) for path in paths]
    found = [table for table in tables if not table.empty]
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame()


def matrix(verdicts: pd.DataFrame, heads: Mapping[str, Cell] | None = None, *, folded: bool = False) -> Table:
    """Return a row per claim and a column per study, with sign and evidence in each cell; claims in the papers' order.

    A claim that was tested at several thresholds or box sizes has all of them in its row. A claim that none of the
    studies can test is named below the table.

    Args:
        verdicts: rows of claims tables, with a column `study`.
        heads: study -> head of its column, in the order of the columns; default: the studies by their names, with
            network and data set.
        folded: a page shows the signs alone, and the evidence where a reader opens the cell.

    Raises:
        InputError: heads for a study of several networks or data sets, which has several columns.
    """
    groups = verdicts[["study", "model", "dataset"]].drop_duplicates().to_dict("records")
    if heads is not None:
        if len(groups) > verdicts["study"].nunique():
            raise InputError("a head is for one column: give it studies of one network on one data set")
        groups = sorted((g for g in groups if g["study"] in heads), key=lambda g: list(heads).index(g["study"]))
    found = [_of(verdicts, group) for group in groups]
    seeds = [rows["n"].max() for rows in found]
    named: list[Cell] = [
        heads[g["study"]] if heads else f"{g['study']}: {names.pair(g['model'], g['dataset'])}" for g in groups
    ]
    lines: list[list[Cell]] = []
    untested: list[str] = []
    for claim, rows in _by_claim(verdicts):
        tested = rows[rows["verdict"] != NOT_TESTABLE]
        if tested.empty:
            untested.append(_statement(claim, rows))
            continue
        values = _axis_values(claim, tested)
        own = [_of(rows, group) for group in groups]
        cells: list[Cell] = [_cells(of, values, most) for of, most in zip(own, seeds, strict=True)]
        if folded:
            cells = [Folded(_signs(of, values), f"{cell}") for of, cell in zip(own, cells, strict=True)]
        lines.append([_statement(claim, tested), *cells])
    notes = [f"Not testable in any of these studies: {'; '.join(untested)}."] if untested else []
    return Table(["claim", *(_counted(head, n) for head, n in zip(named, seeds, strict=True))], lines, notes)


def _head(group: Mapping[Any, Any]) -> Cell:
    return f"{group['study']}: {names.pair(group['model'], group['dataset'])}"


def _counted(head: Cell, n: float) -> Cell:
    return Link(f"{head.text}, n = {n:.0f}", head.target) if isinstance(head, Link) else f"{head}, n = {n:.0f}"


def arms(verdicts: pd.DataFrame) -> Table:
    """Return a row per study and claim; the last cell says what became of either end of a compared gap."""
    lines = []
    for row in verdicts.to_dict("records"):
        about = f"`{row['study']}`: {names.pair(row['model'], row['dataset'])}"
        verdict = f"{SIGNS[row['verdict']]} {row['verdict']}"
        if row["verdict"] == NOT_TESTABLE:
            lines.append([about, row["statement"], verdict, "", "", "", row["why"]])
            continue
        beside = f"{row['why']}; {row['also']}" if isinstance(row["also"], str) and row["also"] else ""
        one = not isinstance(row["levels"], str)  # which the table is read with as a number
        levels = f"{row['levels']:g}" if one else row["levels"]
        lines.append([about, row["statement"], verdict, evidence(row, n=False), levels, f"{row['n']:.0f}", beside])
    return Table(["study", "claim", "verdict", "effect, slope, p", "levels", "n", ""], lines)


def _by_claim(verdicts: pd.DataFrame) -> list[tuple[Claim | None, pd.DataFrame]]:
    """The rows of each claim, in the papers' order; a claim that no file has any more comes last."""
    claims = {claim.name: claim for claim in papers.claims()}
    places = {name: place for place, name in enumerate(claims)}
    groups = sorted(verdicts.groupby("claim", sort=False), key=lambda group: places.get(str(group[0]), len(places)))
    return [(claims.get(str(name)), rows) for name, rows in groups]


def _axis_values(claim: Claim | None, rows: pd.DataFrame) -> list[dict[str, Any]]:
    """The values of the claim's axes at which it was tested, in their order; of a claim without axes, one without."""
    axes = [axis for axis in (*claim.each, *claim.first) if axis in rows] if claim else []
    known = rows[axes].dropna().drop_duplicates() if axes else pd.DataFrame()
    found: list[dict[str, Any]] = known.to_dict("records")  # type: ignore[assignment]
    return found or [{}]


def _statement(claim: Claim | None, rows: pd.DataFrame) -> str:
    if claim is None:
        return str(rows["statement"].iloc[0])
    values = _axis_values(claim, rows)
    return claim.stated({axis: ", ".join(axis_text(of[axis]) for of in values) for axis in values[0]})


def _cells(rows: pd.DataFrame, values: list[dict[str, Any]], most: int) -> str:
    if rows.empty:
        return ""
    cells = []
    for at in values:
        found = _of(rows, at)
        label = f"{', '.join(map(axis_text, at.values()))}: " if len(values) > 1 else ""
        if len(found) and found["verdict"].iloc[0] != NOT_TESTABLE:
            row = found.iloc[0].to_dict()
            cells.append(f"{label}{SIGNS[row['verdict']]} {evidence(row, n=row['n'] < most)}")
    return "; ".join(cells) or SIGNS[NOT_TESTABLE]


def _signs(rows: pd.DataFrame, values: list[dict[str, Any]]) -> str:
    found = [_of(rows, at)["verdict"] for at in values] if len(rows) else []
    return " ".join(SIGNS[of.iloc[0]] if len(of) else SIGNS[NOT_TESTABLE] for of in found)


def _of(rows: pd.DataFrame, at: Mapping[Any, Any]) -> pd.DataFrame:
    chosen = pd.Series(True, index=rows.index)
    for column, value in at.items():
        chosen &= rows[column] == value
    return rows[chosen]
