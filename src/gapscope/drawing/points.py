"""The data points of a figure: what a page tells a reader who points at one.

In a page the points are transparent circles above the picture, not matplotlib's own marks. So lines without markers can
be read too, and all points are large enough for a finger. Positions come from the axes' own transforms, after the
layout. A series takes its name from its gid, or else from its label in the legend. What has neither is no data.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary
from xml.etree.ElementTree import Element, SubElement

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import StepPatch

from gapscope.drawing.compact import PLACES, SVG

THINNED = 30  # points at most of a line without markers, and of a histogram
FIGURES = 6  # significant ones of a value, as a page shows it

_ranges: "WeakKeyDictionary[Line2D, np.ndarray]" = WeakKeyDictionary()


@dataclass(frozen=True)
class Point:
    """A data point.

    Attributes:
        left, top: its place in the file, in points from the left and the top.
        series: name of its series.
        x, y: its values.
        where: its place on the x axis in words, if it is not the number x; empty: the place says nothing.
        bounds: from where to where a bar or band reaches, if there is one.
    """

    left: float
    top: float
    series: str
    x: float
    y: float
    where: str | None = None
    bounds: tuple[float, float] | None = None


def tell_range(line: Line2D, low: Any, high: Any) -> None:
    """Let the points of a line say from where to where their bars or the line's band reach.

    Args:
        line: of n points.
        low: n values; where one equals that of `high` or is not finite, the point says nothing.
        high: n values.
    """
    _ranges[line] = np.column_stack([np.asarray(low, dtype=float), np.asarray(high, dtype=float)])


def points(axes: Axes) -> list[Point]:
    """Return the points of every series that one panel shows, in the order of drawing."""
    found: list[Point] = []
    for line in axes.lines:  # a reference line over the whole panel has a transform of its own
        if line.get_transform() == axes.transData and (name := _name(line)):
            found += _of_line(axes, line, name)
    for patch in axes.patches:
        if isinstance(patch, StepPatch) and (name := _name(patch)):
            found += _of_histogram(axes, patch, name)
    return found


def _of_line(axes: Axes, line: Line2D, name: str) -> Iterator[Point]:
    xs, ys = (np.asarray(values, dtype=float) for values in line.get_data(orig=False))
    known = np.flatnonzero(np.isfinite(xs) & np.isfinite(ys) & _shown(axes, xs, ys))
    if line.get_marker() in ("", " ", "None", None):
        known = _thinned(known)
    ranges = _ranges.get(line, np.full((len(xs), 2), np.nan))
    for index in map(int, known):
        low, high = map(float, ranges[index])
        where = (axes.fmt_xdata(float(xs[index])) or "") if axes.fmt_xdata else None
        yield _point(axes, name, (xs[index], ys[index]), where, (low, high) if low < high else None)


def _of_histogram(axes: Axes, patch: StepPatch, name: str) -> Iterator[Point]:
    values, edges, _ = patch.get_data()
    middles = (edges[1:] + edges[:-1]) / 2
    for index in _thinned(np.flatnonzero(np.isfinite(values) & _shown(axes, middles, values))):
        between = f"{edges[index]:.4g} to {edges[index + 1]:.4g}"
        yield _point(axes, name, (middles[index], values[index]), between)


def _point(
    axes: Axes, name: str, place: tuple[float, float], where: str | None, bounds: tuple[float, float] | None = None
) -> Point:
    (x, y), (left, up) = map(float, place), map(float, axes.transData.transform(place))
    return Point(left, float(axes.figure.bbox.height) - up, name, x, y, where, bounds)


def _name(artist: Line2D | StepPatch) -> str:
    label = str(artist.get_label())
    return artist.get_gid() or ("" if label.startswith("_") else label)


def _thinned(indices: np.ndarray) -> np.ndarray:
    if len(indices) <= THINNED:
        return indices
    kept: np.ndarray = indices[np.unique(np.rint(np.linspace(0, len(indices) - 1, THINNED)).astype(int))]
    return kept


def _shown(axes: Axes, xs: np.ndarray, ys: np.ndarray) -> np.ndarray:
    """Return which points lie within the panel, or on its rim."""
    x, y = axes.transData.transform(np.column_stack([xs, ys])).T
    box = axes.bbox.expanded(1 + 1e-6, 1 + 1e-6)
    return np.asarray((box.x0 <= x) & (x <= box.x1) & (box.y0 <= y) & (y <= box.y1))


def _axis_label(axes: Axes, which: str) -> str:
    """Return what an axis shows: its label, or else that of a panel that shares it, or the panel's title."""
    shared = (axes.get_shared_x_axes() if which == "x" else axes.get_shared_y_axes()).get_siblings(axes)
    labels = [getattr(one, f"get_{which}label")() for one in (axes, *shared)]
    title = axes.get_title().split("\n")[0] if which == "y" else ""
    return " ".join(next(filter(None, [*labels, title]), which).split())


def pack(root: Element, figure: Figure) -> None:
    """Put the points of every panel into a file's metadata, as JSON: an element per point would double the file."""
    panels = [_packed(axes, found) for axes in figure.axes if (found := points(axes))]
    if panels:
        metadata = Element(f"{SVG}metadata")
        metadata.text = json.dumps(panels, ensure_ascii=False, separators=(",", ":"))
        root.insert(0, metadata)


def _packed(axes: Axes, found: list[Point]) -> dict[str, Any]:
    """Return a panel's points: labels of its axes, and by series left, top, x, y, and what else a point says."""
    series: dict[str, list[list[Any]]] = {}
    for point in found:
        places = [_number(round(round(place, 6), PLACES)) for place in (point.left, point.top)]
        more: list[Any] = [_number(end) for end in point.bounds] if point.bounds else []
        if point.where is not None:
            more = [*(more or [None, None]), point.where]
        series.setdefault(point.series, []).append([*places, _number(point.x), _number(point.y), *more])
    return {"x": _axis_label(axes, "x"), "y": _axis_label(axes, "y"), "series": series}


def _number(value: float) -> float | int:
    rounded = float(f"{value:.{FIGURES}g}")
    return int(rounded) if rounded.is_integer() and abs(rounded) < 10**FIGURES else rounded


def unpack(root: Element) -> None:
    """Put an element with a title for each of a file's points in place of its metadata."""
    metadata = root.find(f"{SVG}metadata")
    if metadata is None:
        return
    root.remove(metadata)
    for panel in json.loads(metadata.text or "[]"):
        count = sum(map(len, panel["series"].values()))
        about = f"{count} points; arrow keys step through them"
        group = SubElement(root, f"{SVG}g", {"class": "points", "tabindex": "0", "aria-label": about})
        for series, found in panel["series"].items():
            for left, top, x, y, *more in found:
                low, high, where = [*more, None, None, None][:3]
                bounds = None if low is None else (low, high)
                _add_circle(group, panel, Point(left, top, series, x, y, where, bounds))


def _add_circle(group: Element, panel: dict[str, Any], point: Point) -> None:
    x, y = (f"{value:.{FIGURES}g}" for value in (point.x, point.y))
    where = x if point.where is None else point.where
    place = f"; {panel['x']} = {where}" if where else ""
    reach = " to ".join(f"{end:.{FIGURES}g}" for end in point.bounds or ())
    about = {"class": "p", "cx": f"{point.left:g}", "cy": f"{point.top:g}", "r": "5"}
    circle = SubElement(group, f"{SVG}circle", about | {"data-series": point.series, "data-x": x, "data-y": y})
    said = f"{point.series}{place}; {panel['y']} = {y}"
    SubElement(circle, f"{SVG}title").text = f"{said} (range: {reach})" if reach else said
