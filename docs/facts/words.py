"""Numbers, verdicts and tables in the form in which the pages show them."""

from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd

from gapscope.drawing import numbers


def with_interval(effect: float, low: float, high: float) -> str:
    """Return a change with its 95 % interval."""
    return f"{numbers.signed(effect)} ({numbers.interval(low, high)})"


def listed(values: Iterable[float], form: str = ".0f") -> str:
    """Return values as words: `1, 2 and 3`."""
    *first, last = (f"{value:{form}}" for value in values)
    return f"{', '.join(first)} and {last}"


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def significance(row: Any) -> str:
    """Return a verdict in a reader's words."""
    words = {"supported": "significant", "contradicted": "significant in the opposite direction"}
    verdict = str(row["verdict"])
    if verdict == "not comparable":
        return f"not compared, since {str(row['why']).removesuffix(': not counted')}"
    if verdict not in {*words, "undecided", "no effect"}:
        return verdict
    if verdict == "undecided" and "slope" in str(row["why"]):  # a trend whose two tests do not agree
        return f"undecided ({str(row['why']).partition('; about')[0]})"
    corrected, p = "p_corrected", "p"
    if verdict == "no effect":
        words[verdict], corrected, p = f"no effect as large as {row['margin']}", "p_none_corrected", "p_none"
    said = f"p = {row[p]:.2g}, not corrected" if pd.isna(row[corrected]) else f"corrected p = {row[corrected]:.2g}"
    return f"{words.get(verdict, 'not significant')}, {said}"
