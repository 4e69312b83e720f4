"""A figure as SVG for a page: each data point carries its value, for the mouse, the keyboard or a screen reader.

The points are transparent circles above what matplotlib drew, and not its own marks: those of lines without markers can
be read too, and all are large enough for a finger. Positions come from the axes' own transforms, after the drawing.
A series is called by its gid, else by its label in the legend; what has neither is no data, and gets no points.
"""

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.collections import LineCollection
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import StepPatch
from matplotlib.ticker import Formatter, LogFormatter, NullLocator

THINNED = 30  # points at most of a line without markers, and of a histogram
UNIT = 72  # of matplotlib's SVG files: to the inch
SVG, XLINK = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}"
NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))  # the same bytes on any day
TIMES = "\N{MULTIPLICATION SIGN}"
SUPERSCRIPT = str.maketrans("−0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
FONTS = ["DejaVu Sans", "Verdana", "Arial"]  # the second is as wide as the first, where a reader lacks that


class Plain(Formatter):
    """Powers of ten as text: TeX's layout takes most of the time of a figure, and wants one font's widths."""

    def __init__(self, inner: Formatter) -> None:
        self.inner = inner

    def set_locs(self, locs: Any) -> None:
        """Hand on all of the ticks, by which the inner one chooses those that it labels."""
        self.inner.set_locs(locs)

    def __call__(self, x: float, pos: int | None = None) -> str:
        """Return the label of one tick."""
        text = (
            re.sub(r"\$|\\mathdefault|[{}]", "", self.inner(x, pos)).replace("-", "−").replace(r"\times", f" {TIMES} ")
        )
        return re.sub(r"\^([−\d]+)", lambda power: power[1].translate(SUPERSCRIPT), text)


@dataclass(frozen=True)
class Point:
    """A data point: where it lies in the file, in points from the left and the top, and what it says."""

    left: float
    top: float
    series: str
    x: float
    y: float
    text: str


def inline(figure: Figure, name: str, label: str, *, readable: bool = True) -> str:
    """Return a figure as an `<svg>` element to stand in a page among others; the same figure gives the same bytes.

    Args:
        figure: drawn, and closed afterwards.
        name: unlike that of any other figure of the page; ids begin with it.
        label: what the figure shows, for those who do not see it.
        readable: whether points are put in; contours have none.
    """
    file = io.BytesIO()
    with plt.rc_context({"svg.hashsalt": name, "svg.fonttype": "none", "font.sans-serif": FONTS}):
        _lay_out(figure)
        FigureCanvasSVG(figure).print_svg(file, metadata=NO_METADATA)
    root = ElementTree.fromstring(file.getvalue())
    _own_ids(root, name)
    for style in root.findall(f"{SVG}defs[{SVG}style]"):
        root.remove(style)  # it would hold for the whole page
    for text in root.iter(f"{SVG}text"):
        if text.text and text.text.startswith(" "):  # a distance from a line, which a browser would leave out
            text.text = "\N{NO-BREAK SPACE}" + text.text.lstrip(" ")
    width = float(root.attrib.pop("width").removesuffix("pt"))
    del root.attrib["height"], root.attrib["version"]
    root.attrib |= {"class": "plot", "style": f"--natural: {width * 96 / UNIT:.0f}px", "role": "group"}
    root.attrib |= {"aria-label": label, "stroke-linejoin": "round"}
    for axes in figure.axes if readable else []:
        _put(root, points(axes))
    plt.close(figure)
    ElementTree.register_namespace("", SVG.strip("{}"))
    return ElementTree.tostring(root, encoding="unicode")


def points(axes: Axes) -> list[Point]:
    """Return the points of every series that one panel shows, in the order of drawing."""
    bars = [found for found in axes.containers if isinstance(found, ErrorbarContainer)]
    caps = {cap for found in bars for cap in found.lines[1]}
    reaches = {found.lines[0]: (str(found.get_label()), _reaches(found)) for found in bars}
    found: list[Point] = []
    for line in axes.lines:
        if line in caps or line.get_transform() != axes.transData:  # a reference line over the whole panel
            continue
        label, reach = reaches.get(line, (str(line.get_label()), []))
        if name := _name(line.get_gid(), label):
            found += _of_line(axes, line, name, reach)
    for patch in axes.patches:
        if isinstance(patch, StepPatch) and (name := _name(patch.get_gid(), str(patch.get_label()))):
            found += _of_histogram(axes, patch, name)
    return found


def _of_line(axes: Axes, line: Line2D, name: str, reach: list[str]) -> Iterator[Point]:
    xs, ys = (np.asarray(values, dtype=float) for values in line.get_data(orig=False))
    known = np.flatnonzero(np.isfinite(xs) & np.isfinite(ys) & _shown(axes, xs, ys))
    if line.get_marker() in ("", " ", "None", None):
        known = _thinned(known)
    bars = dict(enumerate(reach))
    for index in map(int, known):
        x, y = float(xs[index]), float(ys[index])
        where = axes.fmt_xdata(x) if axes.fmt_xdata else f"{x:.6g}"
        yield _point(axes, name, (x, y), where, bars.get(index, ""))


def _of_histogram(axes: Axes, patch: StepPatch, name: str) -> Iterator[Point]:
    values, edges, _ = patch.get_data()
    middles = (edges[1:] + edges[:-1]) / 2
    for index in _thinned(np.flatnonzero(np.isfinite(values) & _shown(axes, middles, values))):
        between = f"{edges[index]:.4g} to {edges[index + 1]:.4g}"
        yield _point(axes, name, (float(middles[index]), float(values[index])), between, "")


def _point(axes: Axes, name: str, xy: tuple[float, float], where: str | None, bar: str) -> Point:
    x, y = xy
    left, up = axes.transData.transform((x, y))
    place = f"; {_label(axes, 'x')} = {where}" if where else ""  # None: the place on the axis says nothing
    text = f"{name}{place}; {_label(axes, 'y')} = {y:.6g}{bar}"
    return Point(float(left), float(axes.figure.bbox.height - up), name, x, y, text)


def _name(gid: str | None, label: str) -> str:
    return gid or ("" if label.startswith("_") else label)


def _label(axes: Axes, which: str) -> str:
    shared = (axes.get_shared_x_axes() if which == "x" else axes.get_shared_y_axes()).get_siblings(axes)
    found = (getattr(one, f"get_{which}label")() for one in (axes, *shared))
    return " ".join(next(filter(None, found), which).split())


def _reaches(found: ErrorbarContainer) -> list[str]:
    """Return from where to where each vertical bar reaches; nothing of one without length, or of NaN."""
    segments = [part for part in found.lines[2] if isinstance(part, LineCollection)]
    ends = [ends[:, 1] if len(ends) else np.zeros(2) for part in segments for ends in part.get_segments()]
    return [f" (bar: {min(y):.6g} to {max(y):.6g})" if np.ptp(y) > 0 else "" for y in ends]


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


def _put(root: ElementTree.Element, found: list[Point]) -> None:
    if not found:
        return
    about = f"{len(found)} points; arrow keys step through them"
    group = ElementTree.SubElement(root, f"{SVG}g", {"class": "points", "tabindex": "0", "aria-label": about})
    for point in found:
        place = {"cx": f"{point.left:.2f}", "cy": f"{point.top:.2f}", "r": "5"}
        values = {"data-series": point.series, "data-x": f"{point.x:.10g}", "data-y": f"{point.y:.10g}"}
        circle = ElementTree.SubElement(group, f"{SVG}circle", {"class": "p", **place, **values})
        ElementTree.SubElement(circle, f"{SVG}title").text = point.text


def _lay_out(figure: Figure) -> None:
    """Fix the places of all panels, in the file's own units: Figure.savefig would lay out and draw twice."""
    figure.set_dpi(UNIT)
    for axis in [axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)]:
        if isinstance(axis.get_major_formatter(), LogFormatter):
            axis.set_major_formatter(Plain(axis.get_major_formatter()))
            axis.set_minor_formatter(Plain(axis.get_minor_formatter()))
            low, high = sorted(axis.get_view_interval())
            if low <= 0 or high > 100 * low:  # unlabelled, and half of the time
                axis.set_minor_locator(NullLocator())
    if engine := figure.get_layout_engine():
        engine.execute(figure)
        figure.set_layout_engine("none")


def _own_ids(root: ElementTree.Element, name: str) -> None:
    """Give what is referred to an id of this figure's own, and take the ids of all else."""
    used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', ElementTree.tostring(root, encoding="unicode")))
    for element in root.iter():
        if (own := element.attrib.pop("id", None)) in used:
            element.set("id", f"{name}-{own}")
        if target := element.attrib.pop(f"{XLINK}href", None):
            element.set("href", target.replace("#", f"#{name}-", 1))
        for key, value in element.attrib.items():
            if "url(#" in value:
                element.set(key, value.replace("url(#", f"url(#{name}-"))
