"""The tables of a study's page: Markdown tables as they are, and means by batch size or by start, with n."""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import takewhile
from typing import Any

import pandas as pd

from gapscope.drawing import names
from gapscope.drawing.numbers import fixed, interval, number, seeds, signed
from gapscope.report import gap

NUMBER = re.compile(r"[−+-]?[\d.,]+(e[+-]?\d+)?( ± [\d.,e+-]+)?")
POWER = re.compile(r"\d(?:\.\d+)?e\+0[1-6]\b")  # 2.4e+02, which a reader writes as 240


@dataclass(frozen=True)
class Cell:
    """A cell: its text, how many columns it spans, whether it is a number, whether it is marked."""

    text: str
    span: int = 1
    number: bool = False
    strong: bool = False


@dataclass(frozen=True)
class Table:
    """A table: its caption, rows of heads, rows, and the notes below it."""

    caption: str
    heads: Sequence[Sequence[Cell]]
    rows: Sequence[Sequence[Cell]]
    notes: Sequence[str] = field(default=())

    def in_words(self, said: Callable[[str], str]) -> "Table":
        """Return it with its texts in the words of another task."""
        heads, rows = (
            [[replace(cell, text=said(cell.text)) for cell in line] for line in lines]
            for lines in (self.heads, self.rows)
        )
        return Table(said(self.caption), heads, rows, [said(note) for note in self.notes])


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
        numeric = [any(cell_of(text).number for text in column) for column in zip(*rows, strict=True)]
        heads = [*map(_spanned, groups), [Cell(text, number=n) for text, n in zip(last, numeric, strict=True)]]
        after = takewhile(lambda lines: not lines[0].startswith("|"), blocks[start + 1 :])
        notes = [" ".join(lines) for lines in after]
        cells = [[replace(cell_of(text), number=n) for text, n in zip(row, numeric, strict=True)] for row in rows]
        tables.append(Table(caption, heads, cells, notes))
    return tables


def of_gaps(gaps: pd.DataFrame) -> list[Table]:
    """Return one table per model and data set: a row per batch size, with its test error minus that of the smallest.

    Args:
        gaps: `metrics/STUDY/gap.csv`; empty where there is one batch size.
    """
    tables = []
    for (model, dataset), group in gaps.groupby(["model", "dataset"], sort=False) if len(gaps) else ():
        smallest, tolerance = group["smallest"].iloc[0], group["tolerance"].iloc[0]
        columns = ("batch size b", "seeds, n", "updates", "train error (%)", "gap (points)", "95 % interval", "verdict")
        heads = [[Cell(name, number=name != "verdict") for name in columns]]
        rows = [
            row_of(f"{row['batch_size']}", [f"{row['n']}", *_trained(row), *_gap(row), str(row["verdict"])])
            for row in group.to_dict("records")
        ]
        within = f"Within: the whole interval is at most {tolerance:g} points; beyond: all of it is above"
        notes = [f"{within}; failed: a run diverged or learned nothing."]
        if group["smallest_train_error_pct"].notna().any():
            at = gap.trained(group.iloc[0], "smallest")
            notes.append(f"At {at}. A gap at few updates and a larger train error may be no more than under-training.")
        caption = f"Test error at b minus that at b = {smallest}, by seed: {names.pair(model, dataset)}"
        tables.append(Table(caption, heads, rows, notes))
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


def counted(counts: "pd.Series[int]") -> str:
    """Return the note on n: of what the values are means."""
    if counts.max() == 1:
        return "n = 1: one seed, so no spread."
    alone = "; where n = 1 there is no spread" if counts.min() == 1 else ""
    return f"Mean ± standard deviation, {seeds(counts)}{alone}."


def row_of(name: str, values: Sequence[str]) -> list[Cell]:
    """Return a row: its name, then its values."""
    return [cell_of(name), *(cell_of(value) for value in values)]


def cell_of(text: str) -> Cell:
    """Return a cell; `**` around its text marks it."""
    plain = POWER.sub(lambda found: f"{float(found[0]):,.0f}", text.replace("**", ""))
    plain = re.sub(r"^-(?=[\d.])", "−", plain)  # a minus, not a hyphen
    return Cell(plain, number=bool(NUMBER.fullmatch(plain)), strong="**" in text)


def _spanned(cells: Sequence[str]) -> list[Cell]:
    """Return heads of which one that is followed by empty ones spans them too."""
    heads: list[Cell] = []
    for text in cells:
        if text or not heads or not heads[-1].text:
            heads.append(cell_of(text))
        else:
            heads[-1] = Cell(heads[-1].text, heads[-1].span + 1, heads[-1].number)
    return heads


def records(rows: pd.DataFrame) -> list[Mapping[str, Any]]:
    """Return a table's rows as mappings of text to value; empty cells are None."""
    listed = rows.astype(object).where(rows.notna(), None).to_dict("records")
    return [{str(key): value for key, value in row.items()} for row in listed]
