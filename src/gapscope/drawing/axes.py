"""Axes that several figures share: quantities against batch size, a line per batch size, names of series and panels."""

import math
from collections.abc import Iterable, Mapping
from itertools import cycle
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from gapscope.drawing import names, numbers
from gapscope.drawing.points import tell_range

# told apart without colour; a study has six batch sizes at most, and above nine they share dashes
DASHES: tuple[Any, ...] = (
    "-", "--", ":", "-.", (0, (8, 2)), (0, (4, 1, 1, 1, 1, 1)), (0, (1, 3)), (0, (8, 2, 2, 2)), (0, (2, 1)),
)  # fmt: skip
PRINTED = "x+"  # markers of printed values, in turn
WIDTH = 11.5  # inches at most of a figure: a page shows it at its natural width, with letters of 12 px
PANEL = 3.75, 3.3  # inches of a panel against batch size: a phone shows one whole panel
FEW = 2  # so many batch sizes have no line between them, and so many runs no dots beside their bar's ends
BATCH_LABEL = "training batch size b"
LONG = ["model", "dataset", "batch_size", "seed", "panel", "series", "value", "source"]  # of `against_batch_size`


def rows_of(values: pd.DataFrame, panel: str, series: str, source: str = "measured") -> pd.DataFrame:
    """Return long rows of one quantity as rows of a figure against batch size.

    Args:
        values: model, dataset, batch_size, seed, value, and what else the figure needs.
        panel: title of the panel, with the unit.
        series: name of the line.
        source: measured, or paper for printed values.
    """
    return values.assign(panel=panel, series=series, source=source)


def runs_caption(rows: pd.DataFrame) -> str:
    """Return how runs are drawn in a figure of `against_batch_size`."""
    measured = rows[rows["source"] == "measured"]
    series = ["model", "dataset", "panel", "series"]
    most = measured.groupby([*series, "batch_size"]).size().max()
    if not most > 1:
        return "Marks are single runs."
    ranges = {"bands" if is_line(of["batch_size"]) else "bars" for _, of in measured.groupby(series)}
    caption = (
        f"Marks are means over seeds, and {' and '.join(sorted(ranges))} reach from the smallest run to the largest."
    )
    return caption + (" Small dots are single runs, where these differ." if most > FEW and "bars" in ranges else "")


def lines_caption(rows: pd.DataFrame) -> str:
    """Return what the lines of a figure along training are."""
    if rows["seed"].nunique() == 1:
        return "Lines are single runs."
    return "Lines are means over seeds, and bands reach from the smallest run to the largest."


def over_seeds(rows: pd.DataFrame, words: str) -> str:
    """Return words on means over seeds; nothing where there is one seed."""
    return words if rows["seed"].nunique() > 1 else ""


def is_line(places: pd.Series) -> bool:
    """Return whether a line joins so many places; between two it would say what nobody measured."""
    return int(places.nunique()) > FEW


def against_batch_size(rows: pd.DataFrame, title: str, columns: int | None = None) -> Figure:
    """Draw quantities against batch size: one panel per quantity and pair of model and data set.

    Args:
        rows: columns `LONG`; `panel` is the title of a panel, with the unit.
        title: of the figure.
        columns: of panels; default: all panels of a pair in one row.
    """
    panels = list(rows["panel"].drop_duplicates())
    pairs, columns = pairs_of(rows), columns or len(panels)
    lines = len(pairs) * -(-len(panels) // columns)
    figure, grid = plt.subplots(lines, columns, figsize=size(columns, lines, *PANEL), squeeze=False)
    for line, pair in zip(grid.reshape(len(pairs), -1), pairs, strict=True):
        here = of_pair(rows, pair)
        for axes, panel in zip(line, panels, strict=False):
            groups = here[here["panel"] == panel].groupby("series", sort=False)
            for turn, ((series, group), look) in enumerate(zip(groups, cycle(looks()), strict=False)):
                _draw_series(axes, str(series), group, look | {"printed": PRINTED[turn % 2]}, here["seed"].nunique())
            _batch_axis(axes, here["batch_size"])
        for axes in line[len(panels) :]:
            axes.set_visible(False)
        entitle(line, panels, pair, here[here["source"] == "measured"], several=len(pairs) > 1)
    entitle_figure(figure, title, rows[rows["source"] == "measured"])
    return figure


def size(columns: int, lines: int, width: float, height: float) -> tuple[float, float]:
    """Return the size in inches of a figure whose panels have at most this width, and this height."""
    return min(width * columns, WIDTH), height * lines


def entitle(
    panels: Iterable[Axes], quantities: Iterable[str], pair: tuple[str, str], rows: pd.DataFrame, *, several: bool
) -> None:
    """Give each panel its quantity as title, and the network below it where the figure has several networks."""
    for axes, quantity in zip(panels, quantities, strict=False):
        axes.set_title(f"{quantity}\n{pair_title(pair, rows)}" if several else quantity)


def entitle_figure(figure: Figure, title: str, rows: pd.DataFrame) -> None:
    """Give a figure its title; the network and n stand in it where the figure has one network only."""
    pairs = pairs_of(rows)
    figure.suptitle(title if len(pairs) > 1 else f"{title}: {pair_title(pairs[0], rows)}")


def looks() -> list[dict[str, Any]]:
    """Return colour, marker and dashes of each series in turn; earlier lines are wider, so that all of them show."""
    cycled = list(plt.rcParams["axes.prop_cycle"])
    return [{**look, "linewidth": max(2.8 - 0.6 * turn, 1.2)} for turn, look in enumerate(cycled)]


def _draw_series(axes: Axes, series: str, group: pd.DataFrame, look: dict[str, Any], of: int) -> None:
    """Draw one series; where it has fewer seeds than the figure, as controls may, the legend says how many."""
    measured, paper = (group[group["source"] == source] for source in ("measured", "paper"))
    printed: dict[str, Any] = {
        "marker": look.pop("printed"),
        "markersize": 6,
        "linestyle": (0, (1, 1)),
        "linewidth": 1.0,
    }
    joined = is_line(measured["batch_size"])
    look |= {} if joined else {"linestyle": ""}
    printed |= {} if is_line(paper["batch_size"]) else {"linestyle": ""}
    if not measured.empty:
        seeds = measured["seed"].nunique()
        name = series if seeds == of else f"{series}, n = {seeds}"
        by_size = measured.groupby("batch_size")["value"]
        # the range, because a standard deviation would reach below 0, where no count can be
        draw_means(axes, by_size, band=joined, label=name, **look)
        shown = (by_size.transform("size") > FEW) & (by_size.transform(np.ptp) > 0) & (not joined)
        apart = measured.astype({"seed": int})[shown]
        for seed, run in apart.groupby("seed"):
            dots = {"marker": "o", "linestyle": "", "markersize": 2.5, "alpha": 0.5, "color": look["color"]}
            axes.plot(run["batch_size"], run["value"], **dots, gid=f"{series}, seed {seed}")
        if "undecidable" in measured and (unsure := measured[measured["undecidable"].astype(bool)]).size:
            ring: dict[str, Any] = {"marker": "o", "markersize": 12, "markerfacecolor": "none", "linestyle": ""}
            label = f"{series}: undecidable"
            axes.plot(unsure["batch_size"], unsure["value"], **ring, color="black", label=label)
    if not paper.empty:
        axes.plot(paper["batch_size"], paper["value"], color=look["color"], label=f"{series}, paper", **printed)


def draw_means(axes: Axes, runs: Any, *, band: bool = False, **look: Any) -> None:
    """Draw the mean of each group of runs, and from where to where the runs reach.

    Args:
        axes: to draw on.
        runs: values grouped by their place on the x axis.
        band: as in `draw_line`.
        look: of the line.
    """
    mean = runs.mean()
    draw_line(axes, mean.index, mean, runs.min(), runs.max(), band=band, **look)


def draw_line(axes: Axes, x: Any, y: Any, low: Any, high: Any, *, band: bool = False, **look: Any) -> None:
    """Draw a line, and a range at each of its points.

    Args:
        axes: to draw on.
        x: n places.
        y: n values.
        low: the ranges' lower ends, n values; where one equals that of `high` there is no range.
        high: the upper ends.
        band: the ranges are one band, else a bar each.
        look: of the line, with `color`.
    """
    if not band or len(x) == 1:  # a band, like a line, needs two places
        draw_bars(axes, x, low, high, look["color"])
    elif (low < high).any():
        axes.fill_between(x, low, high, color=look["color"], alpha=0.18, linewidth=0)
    if len(x) == 1 and not look.get("marker"):  # a single place has no line to be seen
        look |= {"marker": "o", "markersize": 4}
    (line,) = axes.plot(x, y, **look)
    tell_range(line, low, high)


def draw_bars(axes: Axes, x: Any, low: Any, high: Any, color: str) -> None:
    """Draw a vertical bar at each place where `low` and `high` differ; all bars are one line with gaps."""
    ends = np.array([x, low, high], dtype=float)
    x, low, high = ends[:, ends[1] < ends[2]]
    gap = np.full(len(x), np.nan)
    bars = [np.stack(parts, 1).ravel() for parts in ((x, x, gap), (low, high, gap))]
    axes.plot(*bars, color=color, linestyle="-", linewidth=1, marker="", label="_bars")


def _batch_axis(axes: Axes, sizes: pd.Series) -> None:
    ticks = sorted(sizes.unique())
    # where two lie close on a long axis only the larger is named, or the names would overlap
    near, named = (ticks[-1] / ticks[0]) ** (1 / 5), [math.inf]
    for size in reversed(ticks):
        named += [size] if named[-1] > near * size else []
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
    return f"{names.pair(*pair)} ({numbers.seeds(counts)})"


def layers_shown(rows: pd.DataFrame, most: int) -> list[str]:
    """Return the parameter tensors that a figure shows: weights of layers, evenly spaced where there are more than fit.

    Tables and records have all of them.
    """
    names = [str(name) for name in rows["layer"].dropna().drop_duplicates()]
    kernels = [name for name in names if name.endswith("weight") and "norm" not in name] or names
    places = np.linspace(0, len(kernels) - 1, min(most, len(kernels))).round().astype(int)
    return [kernels[place] for place in places]


def rows_by_layer(rows: pd.DataFrame, panels: Mapping[str, str], most: int) -> pd.DataFrame:
    """Return rows against batch size, with a panel for each quantity and a series for each layer that is shown.

    Args:
        rows: long rows of runs.
        panels: quantity -> panel.
        most: number of layers.
    """
    frames = []
    for quantity, panel in panels.items():
        of = rows[rows["quantity"] == quantity]
        frames += [
            rows_of(of[of["layer"] == layer], panel, layer) for layer in (layers_shown(of, most) if len(of) else [])
        ]
    return pd.concat(frames, ignore_index=True).reindex(columns=LONG) if frames else pd.DataFrame(columns=LONG)
