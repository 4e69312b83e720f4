"""Names of a figure's series: at the ends of their lines where these are short, else in legends below the panels."""

from typing import Any, TypeGuard

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.lines import Line2D
from matplotlib.transforms import ScaledTranslation

Named = dict[Axes, tuple[list[Any], list[str]]]  # panel -> its series: what is drawn, and the name

LONGEST, MOST = 17, 8  # letters of a name, and series of a panel, that fit beside it
NARROWEST = 3.3  # inches of a panel that has room for names beside it
LINE = 12.5  # points from one name to the next
LEADER = 0.07  # of the panel's width: from its rim to the name, with the look of the series
UNJOINED = 2  # marks at most of a series without a line that is named at its last mark


def name_series(figure: Figure) -> None:
    """Name the series of each panel beside their ends, or if that is not possible in legends."""
    found = {axes: axes.get_legend_handles_labels() for axes in figure.axes if axes.get_visible()}
    named: Named = {axes: (handles, labels) for axes, (handles, labels) in found.items() if labels}
    if named and all(_fits_beside(figure, axes, *series) for axes, series in named.items()):
        for axes, series in named.items():
            _label_ends(figure, axes, *series)
    else:
        _put_legends(figure, named)


def _fits_beside(figure: Figure, axes: Axes, handles: list[Any], labels: list[str]) -> bool:
    spec = axes.get_subplotspec()
    width = figure.get_figwidth() / (spec.get_gridspec().ncols if spec else 1)
    short = len(labels) <= MOST and max(map(len, labels)) <= LONGEST
    return short and width >= NARROWEST and all(map(_has_end, handles))


def _has_end(handle: Any) -> TypeGuard[Line2D]:
    """Return whether a series is a line, or so few marks that the last one stands for it."""
    if not isinstance(handle, Line2D):
        return False
    known = np.isfinite(np.asarray(handle.get_data(orig=False), dtype=float)).all(axis=0).sum()
    return bool(known and (handle.get_linestyle() != "None" or known <= UNJOINED))


def _label_ends(figure: Figure, axes: Axes, handles: list[Line2D], labels: list[str]) -> None:
    """Write each name to the right of the panel, as near to the end of its line as the other names allow."""
    spec = axes.get_subplotspec()
    height = axes.get_position().height * figure.get_figheight() * 72
    height = min(height, 0.72 * figure.get_figheight() * 72 / (spec.get_gridspec().nrows if spec else 1))
    ends = np.array([_end(axes, handle) for handle in handles])
    order = np.argsort(ends, kind="stable")
    for index, place in zip(order, spread(ends[order], LINE / height), strict=True):
        look = {
            name: getattr(handles[index], f"get_{name}")() for name in ("color", "linestyle", "linewidth", "marker")
        }
        if look["linestyle"] == "None":
            look |= {"linestyle": "-", "linewidth": 0.8}
        look |= {"markerfacecolor": handles[index].get_markerfacecolor(), "markevery": [1]}
        heights = [ends[index], place]
        figure.add_artist(Line2D([1.0, 1 + LEADER], heights, transform=axes.transAxes, **look))
        axes.text(1 + 1.5 * LEADER, place, labels[index], transform=axes.transAxes, va="center", fontsize="medium")


def _end(axes: Axes, line: Line2D) -> float:
    """Return the height of a line's last point, as a part of the panel's."""
    axes.get_ylim()  # or the limits may still be to be found
    x, y = np.asarray(line.get_data(orig=False), dtype=float)
    last = np.flatnonzero(np.isfinite(x) & np.isfinite(y))[-1]
    place = axes.transAxes.inverted().transform(axes.transData.transform((x[last], y[last])))[1]
    return float(np.clip(place, 0, 1))


def spread(places: np.ndarray, apart: float) -> np.ndarray:
    """Return ascending places moved up, and at the rim down again, until neighbours are at least a distance apart.

    Args:
        places: n values in [0, 1], ascending.
        apart: the distance; n of them should fit.

    Example:
        >>> spread(np.array([0.1, 0.1, 0.95, 0.96]), 0.2).round(2).tolist()
        [0.1, 0.3, 0.8, 1.0]
    """
    moved = places.copy()
    for index in range(1, len(moved)):
        moved[index] = max(moved[index], moved[index - 1] + apart)
    moved[-1] = min(moved[-1], 1.0)
    for index in reversed(range(len(moved) - 1)):
        moved[index] = min(moved[index], moved[index + 1] - apart)
    return moved


def _put_legends(figure: Figure, named: Named) -> None:
    """Name the series below the panels: once if all panels have the same series, else under each panel.

    A panel above another one with the same series has no legend. The figure grows by its legends, so no panel shrinks.
    """
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
    """Return how many columns of a legend fit: 0.65 inches for a sample and gaps in each, and 0.07 per letter."""
    for count in range(len(labels), 1, -1):
        columns = np.array_split(labels, count)  # as matplotlib fills them
        if sum(0.65 + 0.07 * max(map(len, column)) for column in columns) <= inches:
            return -(-len(labels) // len(columns[0]))  # no more than the same height needs
    return 1


def _place(axes: Axes) -> tuple[int, int]:
    spec = axes.get_subplotspec()
    return (spec.rowspan.start, spec.colspan.start) if spec else (0, 0)
