"""Figures: each a pure redraw of its table in plots/<study>. Axes name quantity and unit, titles name n."""

import math
import textwrap
from collections.abc import Callable, Mapping
from importlib.resources import files
from itertools import cycle
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullFormatter, NullLocator
from matplotlib.transforms import ScaledTranslation

from gapscope.drawing import numbers
from gapscope.records.files import atomic_path
from gapscope.records.tables import read_table, write_table
from gapscope.report import names

# told apart without colour; a study has six batch sizes at most, more than nine share dashes
DASHES: tuple[Any, ...] = (
    "-", "--", ":", "-.", (0, (8, 2)), (0, (4, 1, 1, 1, 1, 1)), (0, (1, 3)), (0, (8, 2, 2, 2)), (0, (2, 1)),
)  # fmt: skip
PRINTED = dict(zip("os^DvPX", "x+1234|", strict=True))  # a measured series' marker -> that of the paper's
MODES = {1: ["samples x units"], 4: ["mode 1: samples", "mode 2: channels", "mode 3: rows", "mode 4: columns"]}
BATCH_LABEL = "training batch size b"


Draw = Callable[[pd.DataFrame], Figure]


def save(drawn: Mapping[str, tuple[pd.DataFrame, Draw]], folder: Path) -> None:
    """Write each table as NAME.csv, and the figure that is drawn from that file as NAME.png."""
    for name, (rows, draw) in drawn.items():
        table = folder / f"{name}.csv"
        write_table(table, rows)
        figure = styled(draw, read_table(table))
        with atomic_path(table.with_suffix(".png")) as temporary:
            figure.savefig(temporary, format="png")


def styled(draw: Draw, rows: pd.DataFrame) -> Figure:
    """Draw a figure in the project's one style; without a row, one that says so."""
    with plt.style.context(Path(str(files("gapscope.drawing") / "gapscope.mplstyle"))):
        if rows.empty:
            figure = plt.figure(figsize=(5, 1))
            figure.suptitle("nothing to draw: every run (or one of each pair) diverged")
            return figure
        figure = draw(rows)
        _put_legends(figure)
        # about 12 letters to the inch at the size of a title; a narrow figure would cut it at both ends
        figure.suptitle(textwrap.fill(figure.get_suptitle(), int(12 * figure.get_figwidth())))
        return figure


def _put_legends(figure: Figure) -> None:
    """Name the series below the panels, where no data are: once where all panels name the same, else under each.

    A panel above another of the same title and names has none. The figure grows by its legends, so no panel shrinks.
    """
    found = {axes: axes.get_legend_handles_labels() for axes in figure.axes if axes.get_visible()}
    named = {axes: (handles, labels) for axes, (handles, labels) in found.items() if labels}
    if len({tuple(labels) for _, labels in named.values()}) == 1:
        handles, labels = next(iter(named.values()))
        columns = _legend_columns(labels, figure.get_figwidth())
        legend = figure.legend(handles, labels, loc="outside lower center", ncols=columns)
        heights = {0: legend.get_window_extent().height}
    else:
        told = {_place(axes): (axes.get_title(), labels) for axes, (_, labels) in named.items()}
        heights = {}
        for axes, (_, labels) in named.items():
            row, column = _place(axes)
            if told.get((row + 1, column)) != told[row, column]:
                height = _legend_under(figure, axes, labels).get_window_extent().height
                heights[row] = max(heights.get(row, 0), height)
    figure.set_figheight(figure.get_figheight() + sum(heights.values()) / figure.dpi)


def _legend_under(figure: Figure, axes: Axes, labels: list[str]) -> Legend:
    ticks = axes.xaxis.get_tightbbox()  # with the axis's own label
    depth = (axes.bbox.y0 - ticks.y0) / figure.dpi if ticks else 0
    spec = axes.get_subplotspec()
    # a panel's share of the width, less what stands to its left
    room = figure.get_figwidth() / (spec.get_gridspec().ncols if spec else 1) - 0.8
    return axes.legend(
        loc="upper center",
        bbox_to_anchor=(0.5, 0),
        bbox_transform=axes.transAxes + ScaledTranslation(0, -depth, figure.dpi_scale_trans),
        ncols=_legend_columns(labels, room),
    )


def _legend_columns(labels: list[str], inches: float) -> int:
    """Return how many columns of a legend fit: 0.55 inches of each are a sample and gaps, and 0.06 a letter."""
    for count in range(len(labels), 1, -1):
        columns = np.array_split(labels, count)  # as matplotlib fills them
        if sum(0.55 + 0.06 * max(map(len, column)) for column in columns) <= inches:
            return -(-len(labels) // len(columns[0]))  # no more than the same height needs
    return 1


def _place(axes: Axes) -> tuple[int, int]:
    spec = axes.get_subplotspec()
    return (spec.rowspan.start, spec.colspan.start) if spec else (0, 0)


def draw_gap(rows: pd.DataFrame) -> Figure:
    """Error and loss against batch size; the paper's printed values dashed, where there are any."""
    panels = {"error_pct": "error (%)", "loss": "loss (nats)"}
    return against_batch_size(rows, panels, "Error and loss, whole training and test sets")


def draw_near_rank(rows: pd.DataFrame) -> Figure:
    """Near-rank counts against batch size: as the paper counts, each control, what remains; a row a threshold."""
    panels = {panel: _counted(panel) for panel in rows["panel"].drop_duplicates()}
    columns = rows["panel"].str.partition(": ")[2].nunique()
    title = "Near-rank loss, summed over layers and modes"
    figure = against_batch_size(rows, panels, title, columns)
    for axes in figure.axes:
        axes.set_yscale("symlog", linthresh=1)  # counts of 0 are results too
        low, high = axes.dataLim.intervaly
        axes.set_ylim(min(-0.3, 3 * low), 3 * max(1.0, high))
    return figure


def _counted(panel: str) -> str:
    threshold, _, question = panel.partition(": ")
    return f"values ≤ {names.threshold(threshold)}: {question}"


def draw_sharpness(rows: pd.DataFrame) -> Figure:
    """Test accuracy and sharpness against batch size: Keskar et al. 2017, Figure 4."""
    panels = {"accuracy_pct": "test accuracy (%)"}
    panels |= {f"{split}_sharpness_pct": f"sharpness φ of the {split} loss (%)" for split in ("train", "test")}
    panels = {panel: label for panel, label in panels.items() if panel in set(rows["panel"])}
    figure = against_batch_size(rows, panels, "Test accuracy, and sharpness of the cross-entropy")
    for axes in figure.axes:
        if axes.get_ylabel().startswith("sharpness"):
            axes.set_yscale("log")
    return figure


def draw_curves(rows: pd.DataFrame) -> Figure:
    """Training curves, a line a run, coloured by batch size; batch norm's running statistics as training has them."""
    panels = {"test_error_pct": "test error (%)", "train_cross_entropy": "train cross-entropy (nats)"}
    pairs = pairs_of(rows)
    figure, grid = plt.subplots(len(pairs), 2, figsize=(9, 3.4 * len(pairs)), squeeze=False)
    for line, pair in zip(grid, pairs, strict=True):
        here = of_pair(rows, pair)
        looks = batch_looks(here)
        for axes, (column, label) in zip(line, panels.items(), strict=True):
            for (size, seed), run in here.groupby(["batch_size", "seed"]):
                first = seed == here["seed"].min()
                name, label_of_size = f"b = {size}, seed {seed}", f"b = {size}" if first else None
                axes.plot(run["epoch"], run[column], **looks[size], label=label_of_size, gid=name)
            axes.set(xlabel="epoch", ylabel=label, title=pair_title(pair, here))
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            axes.set_yscale("log")
            if "error" in column:  # errors of 0 too
                axes.set_yscale("symlog", linthresh=0.1)
                axes.yaxis.set_major_locator(FixedLocator([0, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100]))
                axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    figure.suptitle("Training curves (eval mode, running batch-norm statistics)")
    return figure


def draw_spectra(rows: pd.DataFrame, thresholds: tuple[float, ...] = ()) -> Figure:
    """Singular values over b images: a row a layer, a column a mode, a line a batch size; the first pair and seed."""
    pair = pairs_of(rows)[0]
    here = of_pair(rows, pair)
    here = here[here["seed"] == here["seed"].min()]
    layers, looks = list(here["layer"].drop_duplicates()), batch_looks(here)
    wide = int(here["mode"].max()) + 1
    figure, grid = plt.subplots(
        len(layers), wide, figsize=(2.6 * wide + 0.6, 2.1 * len(layers) + 0.5), squeeze=False, sharey=True
    )
    for line, layer in zip(grid, layers, strict=True):
        of_layer = here[here["layer"] == layer]
        count = of_layer["mode"].nunique()
        modes = MODES.get(count, [f"mode {mode + 1}" for mode in range(count)])
        for mode, axes in enumerate(line):
            of_mode = of_layer[of_layer["mode"] == mode]
            if of_mode.empty:
                axes.set_visible(False)
                continue
            for size, run in of_mode.groupby("batch_size"):
                axes.plot(run["index"], run["value"], **looks[size], label=f"b = {size}")
            floor = of_mode.loc[of_mode["index"] == of_mode["count"], "error_bound"].max()  # of the smallest values
            axes.axhspan(1e-17, floor, color="0.88", zorder=0)
            for threshold in thresholds:
                axes.axhline(threshold, color="0.3", linewidth=0.8, linestyle="--")
            axes.set(
                xscale="log",
                yscale="log",
                title=f"{layer}, {modes[mode]}",
                ylim=(1e-17, here["value"].max() * 3),
                xlabel="index",
            )
            axes.xaxis.set_minor_formatter(NullFormatter())
        line[0].set_ylabel("singular value")
    solvers = ", ".join(here["method"].drop_duplicates())
    figure.suptitle(
        f"Spectra over b images, {' on '.join(pair)}, one seed "
        f"(dashed: thresholds; grey: below the error of the solver: {solvers})"
    )
    return figure


def against_batch_size(rows: pd.DataFrame, panels: dict[str, str], title: str, columns: int | None = None) -> Figure:
    """Draw rows (model, dataset, batch_size, seed, panel, series, value, source), a panel a quantity and pair."""
    pairs, columns = pairs_of(rows), columns or len(panels)
    lines = len(pairs) * -(-len(panels) // columns)
    figure, grid = plt.subplots(lines, columns, figsize=(4.8 * columns, 3.9 * lines), squeeze=False)
    for line, pair in zip(grid.reshape(len(pairs), -1), pairs, strict=True):
        here = of_pair(rows, pair)
        for axes, (panel, label) in zip(line, panels.items(), strict=True):
            groups = here[here["panel"] == panel].groupby("series", sort=False)
            for (series, group), look in zip(groups, cycle(_looks()), strict=False):
                _draw_series(axes, str(series), group, look, of=here["seed"].nunique())
            _batch_axis(axes, here["batch_size"])
            axes.set(ylabel=label, title=pair_title(pair, here[here["source"] == "measured"]))
    figure.suptitle(f"{title} (points: runs; lines: means; bars: smallest to largest run)")
    return figure


def _looks() -> list[dict[str, Any]]:
    """Colour, marker and dashes of each series in turn; earlier ones are wider, so that coinciding lines all show."""
    looks = list(plt.rcParams["axes.prop_cycle"])
    return [{**look, "linewidth": max(2.8 - 0.6 * turn, 1.2)} for turn, look in enumerate(looks)]


def _draw_series(axes: Axes, series: str, group: pd.DataFrame, look: dict[str, Any], of: int) -> None:
    """Draw one series; of one with fewer seeds than the figure has, such as a control, the legend says how many."""
    measured, paper = (group[group["source"] == source] for source in ("measured", "paper"))
    if not measured.empty:
        seeds = measured["seed"].nunique()
        name = series if seeds == of else f"{series}, n = {seeds}"
        by_size = measured.groupby("batch_size")["value"]
        mean = by_size.mean()
        # the range: a standard deviation would reach below 0, where no count can be. A mean of equal values may be off
        # them by rounding, and matplotlib refuses a length below 0
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
    # of two that lie close on a long axis the larger is named: two names would run into each other
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
    looks = zip(colours, cycle(DASHES), strict=False)
    return {s: {"color": c, "linestyle": d, "marker": ""} for s, (c, d) in zip(sizes, looks, strict=True)}


def pairs_of(rows: pd.DataFrame) -> list[tuple[str, str]]:
    """Return the pairs of model and data set, in their order."""
    return list(rows[["model", "dataset"]].drop_duplicates().itertuples(index=False, name=None))


def of_pair(rows: pd.DataFrame, pair: tuple[str, str]) -> pd.DataFrame:
    """Return the rows of one pair."""
    return rows[(rows["model"] == pair[0]) & (rows["dataset"] == pair[1])]


def pair_title(pair: tuple[str, str], rows: pd.DataFrame) -> str:
    """Return a panel's title, with n: smallest to largest, where runs left out leave fewer at some batch sizes."""
    counts = rows.groupby("batch_size")["seed"].nunique() if "batch_size" in rows else [rows["seed"].nunique()]
    return f"{pair[0]} on {pair[1]} ({numbers.seeds(counts)})"
