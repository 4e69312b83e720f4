"""A figure: its table, its title and caption, what draws it, and the files that it is written to.

The figure is a pure redraw of its table NAME.csv, which `dvc plots diff` shows too. NAME.svg is what was drawn.
"""

import math
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
import pandas as pd
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path

from gapscope.drawing import svg
from gapscope.drawing.labels import name_series
from gapscope.records.files import write_text
from gapscope.records.tables import read_table, write_table

Draw = Callable[[pd.DataFrame], matplotlib.figure.Figure]
MARGIN = 50.0  # points of a panel's part of the figure that its title leaves free: labels of ticks, a gap to the next
SHORT, SLACK = 15, 3  # letters: a title so short fits; an equal share of a line need not end between two words
Said = Callable[[str], str] | None


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
        optional: a study whose table is empty does not have the figure.
        note: folder metrics/STUDY -> what else a reader must know, which the table does not say; empty if nothing.
    """

    name: str
    title: str
    caption: Callable[[pd.DataFrame], str]
    table: Callable[[Any], pd.DataFrame]
    draw: Draw
    readable: bool = True
    optional: bool = False
    note: Callable[[Path], str] | None = None

    def told(self, rows: pd.DataFrame, metrics: Path) -> str:
        """Return the caption with its note."""
        return " ".join(filter(None, (self.caption(rows), self.note(metrics) if self.note else "")))


def save(figures: Iterable[Figure], study: Any, folder: Path, said: Said = None) -> None:
    """Write each figure of a study as NAME.csv and, drawn from that file, as NAME.svg.

    Args:
        figures: of its measures.
        study: what the tables are made of.
        folder: to write into.
        said: puts what a figure says into the words of the study's task; None: as it is.
    """
    for figure in figures:
        path = folder / f"{figure.name}.csv"
        table = figure.table(study)
        if figure.optional and table.empty:
            continue
        write_table(path, table)
        rows = read_table(path)
        picture = svg.drawn(styled(figure.draw, rows, said), figure.name, readable=figure.readable and not rows.empty)
        write_text(path.with_suffix(".svg"), picture)


def _say(figure: matplotlib.figure.Figure, said: Callable[[str], str]) -> None:
    """Put titles, labels of axes and names of series into other words."""
    of_axes = [text for axes in figure.axes for text in (axes.title, axes.xaxis.label, axes.yaxis.label, *axes.texts)]
    for text in (*figure.texts, *of_axes):  # not those of ticks, which would be made before the limits are known
        text.set_text(said(text.get_text()))
    for artist in (artist for axes in figure.axes for artist in (*axes.lines, *axes.collections)):
        artist.set_label(said(str(artist.get_label())))


def _fit_titles(figure: matplotlib.figure.Figure) -> None:
    """Break the titles of panels into lines that stay within their panel's part of the figure."""
    for axes in figure.axes:
        spec = axes.get_subplotspec()
        room = 72 * figure.get_figwidth() / (spec.get_gridspec().ncols if spec else 1) - MARGIN
        font = axes.title.get_fontproperties()
        lines = [_broken(line, room, font) for line in axes.get_title().splitlines()]
        axes.title.set_text("\n".join(lines))


def _broken(line: str, room: float, font: FontProperties) -> str:
    """Return a line as lines of at most `room` points, about equally long."""
    width = text_to_path.get_text_width_height_descent(line, font, ismath=False)[0] if len(line) > SHORT else 0.0
    letters = math.ceil(len(line) / max(math.ceil(width / room), 1)) + SLACK
    return line if width <= room else textwrap.fill(line, letters, break_on_hyphens=False)


def styled(draw: Draw, rows: pd.DataFrame, said: Said = None) -> matplotlib.figure.Figure:
    """Draw a figure in the project's one style; without a row, one that says so. `said` is as in `save`."""
    with as_file(files("gapscope.drawing") / "gapscope.mplstyle") as style, plt.style.context(style):
        if rows.empty:
            figure = plt.figure(figsize=(5, 1))
            figure.suptitle("nothing to draw: every run (or one of each pair) diverged")
            return figure
        figure = draw(rows)
        if said:
            _say(figure, said)
        name_series(figure)
        _fit_titles(figure)
        # about 12 letters per inch at the size of a title; a narrow figure would cut it at both ends
        title = textwrap.fill(figure.get_suptitle(), int(12 * figure.get_figwidth()))
        figure.suptitle(title, x=0.01, ha="left")  # a phone shows the left panel first
        return figure
