"""Long tables: one row per value, with its quantity and axes in columns. A reader filters; nobody parses a name.

Columns are those of `RUN`, `quantity`, the `AXES` that the table needs, `value`, and `low` and `high` where a value has
bounds. An empty cell says that the quantity has no such axis.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # pandas takes a second to import
    import pandas as pd

RUN = ("model", "dataset", "batch_size", "seed")
AXES = (
    *("split", "statistics", "chosen_on", "sample", "layer", "mode", "threshold", "relative", "space", "dimension"),
    *("epsilon", "operator", "level", "radius", "epoch", "start_epoch", "phase"),
)


def select(table: "pd.DataFrame", quantity: str, where: Mapping[str, Any], *, along: str = "") -> "pd.DataFrame":
    """Return the rows of a quantity at the given axes.

    Args:
        table: a long table.
        quantity: its name.
        where: axis -> value. An axis that is not named may have one value only.
        along: an axis that may have several values all the same.

    Raises:
        ValueError: an axis that is not named has several values, so that the rows are of several quantities.

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
            raise ValueError(f"{quantity} is given at several values of {axis}: {values}; name one")
    return rows


def by_run(table: "pd.DataFrame", quantity: str, where: Mapping[str, Any]) -> "pd.Series[float]":
    """Return a quantity's value per run, indexed by `RUN`; arguments and errors as in `select`."""
    rows = select(table, quantity, where)
    return rows.set_index(list(RUN))["value"]
