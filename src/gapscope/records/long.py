"""Long tables: one row per value, with its quantity and axes in columns, so that no column name has to be parsed.

Columns are those of `RUN`, `quantity`, the `AXES` that the table needs, `value`, and `low` and `high` if values have
bounds. An empty cell means that the quantity does not have this axis.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gapscope.errors import reading
from gapscope.records.tables import AGAIN, read_table, write_table

if TYPE_CHECKING:  # pandas takes a second to import
    import pandas as pd

RUN = ("model", "dataset", "batch_size", "seed")
AXES = (
    *("split", "statistics", "chosen_on", "sample", "layer", "mode", "threshold", "relative", "space", "dimension"),
    *("epsilon", "operator", "level", "radius", "epoch", "start_epoch", "phase"),
    # of tensors of weights: initial or trained, which estimate, weights or vectors, images in the gradient
    *("state", "estimate", "kind", "images"),
    # of single measures: one of two solutions, a direction from it and steps along it; the index of an eigenvalue
    *("end", "direction", "index", "step", "second_step"),
    # of random problems: a matrix's law, rows and columns; a histogram's bin; unknowns and samples; repetition
    *("law", "rows", "columns", "bin_low", "bin_high", "units", "samples", "repetition"),
    # of gradients and updates: what is discarded and how much; an update, and half of a run
    *("choice", "discarded", "update", "half"),
)
BESIDE = ("threshold", "relative", "epsilon")  # axes whose values stand side by side in a reader's table

INTEGERS = (
    *("batch_size", "seed", "mode", "dimension", "epoch", "start_epoch"),
    *("index", "rows", "columns", "units", "samples", "repetition", "images", "update"),
)
VALUES = ("value", "low", "high")


def ordered(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return rows of a long table with their columns in one order, and only the axes that some row has.

    Raises:
        ValueError: a column that is none of `RUN`, `AXES` and `VALUES`.
    """
    listed = list(rows)
    names = [*RUN, "quantity", *AXES, *VALUES]
    used = {name for row in listed for name, value in row.items() if value is not None}
    if unknown := {name for row in listed for name in row} - set(names):
        raise ValueError(f"a long table has no column {', '.join(sorted(unknown))}; its axes are {', '.join(AXES)}")
    columns = [name for name in names if name in used or name in ("quantity", "value")]
    return [{name: row.get(name) for name in columns} for row in listed]


def write_long(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a record as a long table; every number can be read back exactly."""
    listed = ordered(rows)
    write_table(path, listed or _empty(), exact=True)


def read_long(path: Path, *, needed: Sequence[str] = ("quantity",)) -> "pd.DataFrame":
    """Read a long table. Axes that count are integers, with <NA> for a quantity that does not have the axis.

    Args:
        path: .csv.
        needed: columns that it must have; the means of batch sizes have no `value`.

    Raises:
        InputError: as `read_table`.
    """
    table = read_table(path, exact=VALUES, needed=needed)
    with reading(path, "a complete long table", AGAIN):
        return table.astype({name: "Int64" for name in INTEGERS if name in table})


def _empty() -> "pd.DataFrame":
    import pandas as pd

    return pd.DataFrame(columns=["quantity", "value"])


def axis_text(value: Any) -> str:
    """Return an axis's value as a reader writes it: 10 significant digits at most, small numbers with an exponent.

    Example:
        >>> [axis_text(value) for value in (1e-4, 0.05, 5e-4, 100, 100.0, "full", False)]
        ['1e-4', '0.05', '5e-4', '100', '100', 'full', 'false']
    """
    if str(value) in ("True", "False"):  # also numpy's
        return str(value).lower()
    if not isinstance(value, float):
        return str(value)
    if value == 0 or abs(value) >= 1e-2:
        return f"{value:g}"
    digits, _, exponent = f"{value:.9e}".partition("e")
    return f"{digits.rstrip('0').rstrip('.')}e{int(exponent)}"


def select(table: "pd.DataFrame", quantity: str, where: Mapping[str, Any], *, along: str = "") -> "pd.DataFrame":
    """Return the rows of a quantity at the given axes.

    Args:
        table: a long table.
        quantity: its name.
        where: axis -> value. Any other axis may have one value only.
        along: the one axis that may have several values.

    Raises:
        ValueError: another axis has several values.

    Example:
        >>> import pandas as pd
        >>> table = pd.DataFrame({"quantity": "error_pct", "split": ["train", "test"], "value": [1.0, 2.0]})
        >>> select(table, "error_pct", {"split": "test"})["value"].tolist()
        [2.0]
    """
    chosen = table["quantity"] == quantity
    for axis, value in where.items():
        chosen &= table[axis] == value if axis in table else False
    rows = table[chosen]
    for axis in AXES:
        if axis in rows and axis not in where and axis != along and rows[axis].nunique(dropna=False) > 1:
            values = ", ".join(map(str, rows[axis].unique()))
            raise ValueError(f"{quantity} has several values of {axis}: {values}; name one")
    return rows


def by_run(table: "pd.DataFrame", quantity: str, where: Mapping[str, Any]) -> "pd.Series[float]":
    """Return a quantity's value per run, indexed by `RUN`; arguments and errors as in `select`."""
    rows = select(table, quantity, where)
    return rows.set_index(list(RUN))["value"]
