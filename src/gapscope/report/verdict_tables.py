"""The verdicts of several studies as tables: claims by studies, signs alone, and one row per claim and study."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from gapscope import papers
from gapscope.claims.claim import Claim
from gapscope.claims.wording import SIGNS
from gapscope.drawing import names, numbers
from gapscope.errors import InputError
from gapscope.records.long import axis_text
from gapscope.records.tables import read_table
from gapscope.report.sections import Cell, Table

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


def matrix(verdicts: pd.DataFrame) -> Table:
    """Return a row per claim and a column per study, with sign and effect in each cell; claims in the papers' order.

    A claim that was tested at several thresholds or box sizes has all of them in its row. A claim that none of the
    studies can test is named below the table.
    """
    groups = verdicts[["study", "model", "dataset"]].drop_duplicates().to_dict("records")
    found = [_of(verdicts, group) for group in groups]
    seeds = [rows["n"].max() for rows in found]
    heads = [
        f"{g['study']}: {names.pair(g['model'], g['dataset'])}, n = {n:.0f}" for g, n in zip(groups, seeds, strict=True)
    ]
    lines: list[list[str]] = []
    untested: list[str] = []
    for claim, rows in _by_claim(verdicts):
        tested = rows[rows["verdict"] != NOT_TESTABLE]
        if tested.empty:
            untested.append(_statement(claim, rows))
            continue
        values = _axis_values(claim, tested)
        cells = [_effects(_of(rows, group), values, most) for group, most in zip(groups, seeds, strict=True)]
        lines.append([_statement(claim, tested), *cells])
    notes = [f"Not testable in any of these studies: {'; '.join(untested)}."] if untested else []
    return Table(["claim", *heads], lines, notes)


def signs(verdicts: pd.DataFrame, heads: Mapping[str, Cell]) -> Table:
    """Return a row per claim and a column per study, with the verdict's sign in each cell.

    A claim that was tested at several thresholds or box sizes has one sign for each, in the order of the statement.

    Args:
        verdicts: rows of claims tables, with a column `study`.
        heads: study -> head of its column.

    Raises:
        InputError: a study of several models or data sets, which would need several columns.
    """
    if len(verdicts[["study", "model", "dataset"]].drop_duplicates()) > verdicts["study"].nunique():
        raise InputError("a table of signs has one column per study: give it studies of one model on one data set")
    lines = []
    for claim, rows in _by_claim(verdicts):
        tested = rows[rows["verdict"] != NOT_TESTABLE]
        shown = tested if len(tested) else rows
        values = _axis_values(claim, shown)
        cells = [_signs(_of(rows, {"study": study}), values) for study in heads]
        lines.append([_statement(claim, shown), *cells])
    return Table(["claim", *heads.values()], lines)


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
        lines.append([about, row["statement"], verdict, numbers.effect(row), levels, f"{row['n']:.0f}", beside])
    return Table(["study", "claim", "verdict", "effect", "levels", "n", ""], lines)


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


def _effects(rows: pd.DataFrame, values: list[dict[str, Any]], most: int) -> str:
    if rows.empty:
        return ""
    cells = []
    for at in values:
        found = _of(rows, at)
        label = f"{', '.join(map(axis_text, at.values()))}: " if len(values) > 1 else ""
        if len(found) and found["verdict"].iloc[0] != NOT_TESTABLE:
            row = found.iloc[0].to_dict()
            fewer = f", n = {row['n']:.0f}" if row["n"] < most else ""
            cells.append(f"{label}{SIGNS[row['verdict']]} {numbers.effect(row)}{fewer}")
    return "; ".join(cells) or SIGNS[NOT_TESTABLE]


def _signs(rows: pd.DataFrame, values: list[dict[str, Any]]) -> str:
    if rows.empty or (rows["verdict"] == NOT_TESTABLE).all():
        return SIGNS[NOT_TESTABLE] if len(rows) else ""
    found = [_of(rows, at)["verdict"] for at in values]
    return " ".join(SIGNS[of.iloc[0]] if len(of) else SIGNS[NOT_TESTABLE] for of in found)


def _of(rows: pd.DataFrame, at: Mapping[Any, Any]) -> pd.DataFrame:
    chosen = pd.Series(True, index=rows.index)
    for column, value in at.items():
        chosen &= rows[column] == value
    return rows[chosen]
