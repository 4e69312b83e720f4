"""A figure: its table, its title and caption, what draws it, and the files that it is written to.

The figure is a pure redraw of its table NAME.csv, which `dvc plots diff` shows too. NAME.svg is what was drawn.
"""

import textwrap
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.figure
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.legend import Legend
from matplotlib.transforms import ScaledTranslation

from gapscope.drawing import svg
from gapscope.records.files import write_text
from gapscope.records.tables import read_table, write_table

Draw = Callable[[pd.DataFrame], matplotlib.figure.Figure]


@dataclass(frozen=True)
class Figure:
    """One figure of a measure.

    Attributes:
        name: of its files.
        title: for a reader.
        caption: its table -> how to read what is drawn, and nothing else.
        table: a study -> the table.
        draw: the table -> the figure.
        readable: whether its points can be read one by one; contours have none.
    """

    name: str
    title: str
    caption: Callable[[pd.DataFrame], str]
    table: Callable[[Any], pd.DataFrame]
    draw: Draw
    readable: bool = True


def save(figures: Iterable[Figure], study: Any, folder: Path) -> None:
    """Write each figure of a study as NAME.csv and, drawn from that file, as NAME.svg."""
    for figure in figures:
        path = folder / f"{figure.name}.csv"
        write_table(path, figure.table(study))
        rows = read_table(path)
        picture = svg.drawn(styled(figure.draw, rows), figure.name, readable=figure.readable and not rows.empty)
        write_text(path.with_suffix(".svg"), picture)


def styled(draw: Draw, rows: pd.DataFrame) -> matplotlib.figure.Figure:
    """Draw a figure in the project's one style; without a row, one that says so."""
    with as_file(files("gapscope.drawing") / "gapscope.mplstyle") as style, plt.style.context(style):
        if rows.empty:
            figure = plt.figure(figsize=(5, 1))
            figure.suptitle("nothing to draw: every run (or one of each pair) diverged")
            return figure
        figure = draw(rows)
        _put_legends(figure)
        # about 12 letters per inch at the size of a title; a narrow figure would cut it at both ends
        figure.suptitle(textwrap.fill(figure.get_suptitle(), int(12 * figure.get_figwidth())))
        return figure


def _put_legends(figure: matplotlib.figure.Figure) -> None:
    """Name the series below the panels: once if all panels have the same series, else under each panel.

    A panel above another one with the same series has no legend. The figure grows by its legends, so no panel shrinks.
    """
    found = {axes: axes.get_legend_handles_labels() for axes in figure.axes if axes.get_visible()}
    named = {axes: (handles, labels) for axes, (handles, labels) in found.items() if labels}
    if len({tuple(labels) for _, labels in named.values()}) == 1:
        handles, labels = next(iter(named.values()))
        columns = _legend_columns(labels, figure.get_figwidth())
        legend = figure.legend(handles, labels, loc="outside lower center", ncols=columns)
        heights = {0: legend.get_window_extent().height}
    else:
        told = {_place(axes): labels for axes, (_, labels) in named.items()}
        heights = {}
        for axes, (_, labels) in named.items():
            row, column = _place(axes)
            if told.get((row + 1, column)) != labels:
                height = _legend_under(figure, axes, labels).get_window_extent().height
                heights[row] = max(heights.get(row, 0), height)
    figure.set_figheight(figure.get_figheight() + sum(heights.values()) / figure.dpi)


def _legend_under(figure: matplotlib.figure.Figure, axes: Axes, labels: list[str]) -> Legend:
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
    """Return how many columns of a legend fit: 0.65 inches for a sample and gaps in each, and 0.07 per letter."""
    for count in range(len(labels), 1, -1):
        columns = np.array_split(labels, count)  # as matplotlib fills them
        if sum(0.65 + 0.07 * max(map(len, column)) for column in columns) <= inches:
            return -(-len(labels) // len(columns[0]))  # no more than the same height needs
    return 1


def _place(axes: Axes) -> tuple[int, int]:
    spec = axes.get_subplotspec()
    return (spec.rowspan.start, spec.colspan.start) if spec else (0, 0)
