"""Numbers as a reader sees them, the same on every page: grouped digits, a true minus sign, few figures."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

UNSIGNED = ("times", "correlation")  # units of effects that are no change


def number(value: float, figures: int = 4) -> str:
    """Return a number with so many significant figures, but its whole part whole."""
    if value < 0:
        return f"−{number(-value, figures)}"
    if not 1e-4 <= value < 1e7:
        return f"{value:.{figures}g}"
    text = fixed(value, max(0, figures - 1 - math.floor(math.log10(value))))
    return text.rstrip("0").rstrip(".") if "." in text else text


def fixed(value: float, places: int) -> str:
    """Return a number rounded to so many decimal places; below 0 of them to tens, hundreds."""
    return f"{round(value, places) + 0.0:,.{max(places, 0)}f}".replace("-", "−")  # + 0.0: no minus before a zero


def signed(value: float) -> str:
    """Return a change, with its sign and three figures."""
    return f"{'+' if value > 0 else ''}{number(value, 3)}"


def interval(low: float, high: float) -> str:
    """Return an interval's ends, with three figures."""
    return f"{number(low, 3)} to {number(high, 3)}"


def seeds(counts: Iterable[int]) -> str:
    """Return n, where the parts of what is shown have so many seeds: `n = 3 seeds`, `n = 1 to 3 seeds`, `n = 1`."""
    low, high = min(found := set(counts), default=0), max(found, default=0)
    return f"n = {low}{'' if low == high else f' to {high}'}{'' if high == 1 else ' seeds'}"


def starts(counts: Iterable[int]) -> str:
    """Return from how many starts of a search a number comes: `one start`, `best of 2 starts`."""
    found = sorted(set(counts))
    return "one start" if found == [1] else f"best of {' or '.join(map(str, found))} starts"


def effect(row: Mapping[Any, Any]) -> str:
    """Return the effect of a row of a table of claims: mean, 95 % interval where there is one, unit."""
    if pd.isna(row["effect"]):
        return "no finite effect"
    unit = "" if pd.isna(row["effect_unit"]) else row["effect_unit"]
    mean = number(row["effect"], 3) if unit in UNSIGNED else signed(row["effect"])
    between = "" if pd.isna(row["effect_low"]) else f" ({interval(row['effect_low'], row['effect_high'])})"
    return f"{mean}{between} {unit}".rstrip()


def slope(row: Mapping[Any, Any], *, per: bool = True) -> str:
    """Return the slope of a row of a table of claims with its 95 % interval; empty where there is none.

    Args:
        row: the row.
        per: with what the slope is per, such as a doubling of b.
    """
    if pd.isna(row["slope"]):
        return ""
    unit = str(row["slope_unit"])
    mean = number(row["slope"], 3) if unit.startswith(UNSIGNED) else signed(row["slope"])
    between = "" if pd.isna(row["slope_low"]) else f" ({interval(row['slope_low'], row['slope_high'])})"
    return f"{mean}{between} {unit if per else unit.partition(' per ')[0]}"
