"""Axes that several figures share: quantities against batch size, a line per batch size, names of series and panels."""

import math
from itertools import cycle
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from gapscope.drawing import numbers

# told apart without colour; a study has six batch sizes at most, and above nine they share dashes
DASHES: tuple[Any, ...] = (
    "-", "--", ":", "-.", (0, (8, 2)), (0, (4, 1, 1, 1, 1, 1)), (0, (1, 3)), (0, (8, 2, 2, 2)), (0, (2, 1)),
)  # fmt: skip
PRINTED = dict(zip("os^DvPX", "x+1234|", strict=True))  # marker of a measured series -> that of the printed one
BATCH_LABEL = "training batch size b"
LONG = ["model", "dataset", "batch_size", "seed", "panel", "series", "value", "source"]  # of `against_batch_size`
RUNS = "Points are runs, lines their means, and bars reach from the smallest run to the largest; one seed has no bar."


def rows_of(values: pd.DataFrame, panel: str, series: str, source: str = "measured") -> pd.DataFrame:
    """Return long rows of one quantity as rows of a figure against batch size.

    Args:
        values: model, dataset, batch_size, seed, value, and what else the figure needs.
        panel: label of the panel's y axis, with the unit.
        series: name of the line.
        source: measured, or paper for printed values.
    """
    return values.assign(panel=panel, series=series, source=source)


def against_batch_size(rows: pd.DataFrame, title: str, columns: int | None = None) -> Figure:
    """Draw quantities against batch size: one panel per quantity and pair of model and data set.

    Args:
        rows: columns `LONG`; `panel` is the label of a panel's y axis.
        title: of the figure.
        columns: of panels; default: all panels of a pair in one row.
    """
    panels = list(rows["panel"].drop_duplicates())
    pairs, columns = pairs_of(rows), columns or len(panels)
    lines = len(pairs) * -(-len(panels) // columns)
    figure, grid = plt.subplots(lines, columns, figsize=(4.8 * columns, 3.9 * lines), squeeze=False)
    for line, pair in zip(grid.reshape(len(pairs), -1), pairs, strict=True):
        here = of_pair(rows, pair)
        for axes, panel in zip(line, panels, strict=False):
            groups = here[here["panel"] == panel].groupby("series", sort=False)
            for (series, group), look in zip(groups, cycle(looks()), strict=False):
                _draw_series(axes, str(series), group, look, of=here["seed"].nunique())
            _batch_axis(axes, here["batch_size"])
            axes.set(ylabel=panel, title=pair_title(pair, here[here["source"] == "measured"]))
        for axes in line[len(panels) :]:
            axes.set_visible(False)
    figure.suptitle(f"{title} (points: runs; lines: means; bars: smallest to largest run)")
    return figure


def looks() -> list[dict[str, Any]]:
    """Return colour, marker and dashes of each series in turn; earlier lines are wider, so that all of them show."""
    cycled = list(plt.rcParams["axes.prop_cycle"])
    return [{**look, "linewidth": max(2.8 - 0.6 * turn, 1.2)} for turn, look in enumerate(cycled)]


def _draw_series(axes: Axes, series: str, group: pd.DataFrame, look: dict[str, Any], of: int) -> None:
    """Draw one series; where it has fewer seeds than the figure, as controls may, the legend says how many."""
    measured, paper = (group[group["source"] == source] for source in ("measured", "paper"))
    if not measured.empty:
        seeds = measured["seed"].nunique()
        name = series if seeds == of else f"{series}, n = {seeds}"
        by_size = measured.groupby("batch_size")["value"]
        mean = by_size.mean()
        # the range, because a standard deviation would reach below 0, where no count can be. Clipped: the mean of equal
        # values may be off by rounding, and matplotlib refuses a negative length
        reach = [(mean - by_size.min()).clip(lower=0), (by_size.max() - mean).clip(lower=0)]
        axes.errorbar(mean.index, mean, yerr=reach, label=name, capsize=2, elinewidth=1, **look)
        if by_size.size().max() > 1:
            style = look | {"linestyle": "", "markersize": 2.5, "alpha": 0.5}
            for seed, run in measured.groupby("seed"):
                axes.plot(run["batch_size"], run["value"], **style, gid=f"{series}, seed {seed}")
        if "undecidable" in measured and (unsure := measured[measured["undecidable"].astype(bool)]).size:
            ring: dict[str, Any] = {
                "marker": "o",
                "markersize": 12,
                "markerfacecolor": "none",
                "color": "black",
                "linestyle": "",
            }
            axes.plot(unsure["batch_size"], unsure["value"], label=f"{series}: undecidable", **ring)
    if not paper.empty:
        printed: dict[str, Any] = {
            "marker": PRINTED[look["marker"]],
            "markersize": 6,
            "linestyle": (0, (1, 1)),
            "linewidth": 1.0,
        }
        label = f"paper: {series}"
        axes.plot(paper["batch_size"], paper["value"], color=look["color"], label=label, **printed)


def _batch_axis(axes: Axes, sizes: pd.Series) -> None:
    ticks = sorted(sizes.unique())
    # where two lie close on a long axis only the larger is named, or the names would overlap
    near = (ticks[-1] / ticks[0]) ** (1 / 10)
    named = {size for size, after in zip(ticks, [*ticks[1:], math.inf], strict=True) if after > near * size}
    axes.set_xscale("log", base=2)
    axes.set_xticks(ticks)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}" if value in named else ""))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel(BATCH_LABEL)


def batch_looks(rows: pd.DataFrame) -> dict[Any, dict[str, Any]]:
    """Return colour and dashes of each batch size's line, darker for smaller ones."""
    sizes = sorted(rows["batch_size"].unique())
    colours = plt.get_cmap("viridis")(np.linspace(0, 0.9, len(sizes)))
    styles = zip(colours, cycle(DASHES), strict=False)
    return {s: {"color": c, "linestyle": d, "marker": ""} for s, (c, d) in zip(sizes, styles, strict=True)}


def pairs_of(rows: pd.DataFrame) -> list[tuple[str, str]]:
    """Return the pairs of model and data set, in their order."""
    return list(rows[["model", "dataset"]].drop_duplicates().itertuples(index=False, name=None))


def of_pair(rows: pd.DataFrame, pair: tuple[str, str]) -> pd.DataFrame:
    """Return the rows of one pair."""
    return rows[(rows["model"] == pair[0]) & (rows["dataset"] == pair[1])]


def pair_title(pair: tuple[str, str], rows: pd.DataFrame) -> str:
    """Return a panel's title with n: smallest to largest, where some batch sizes have fewer runs that did not fail."""
    counts = rows.groupby("batch_size")["seed"].nunique() if "batch_size" in rows else [rows["seed"].nunique()]
    return f"{pair[0]} on {pair[1]} ({numbers.seeds(counts)})"
