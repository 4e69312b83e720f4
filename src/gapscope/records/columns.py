"""The names of the columns of sharpness and of counts, in records and in tables of runs."""

from typing import Any


def sharpness_column(split: str, space: str, epsilon: float) -> str:
    """Return the column of the sharpness of a split's loss, `space` being full or randomP."""
    return f"sharpness_{'' if split == 'train' else f'{split}_'}{space}_{epsilon:g}_pct"


def threshold_label(threshold: Any, relative: Any) -> str:
    """Return how a threshold is called in column names; a relative one is a part of each mode's largest value."""
    return f"{threshold:g}{'-relative' if relative else ''}"
