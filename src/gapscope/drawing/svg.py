"""A figure as an SVG file that holds the values of its data points, which a page lets its reader see.

In a page the points are transparent circles above what matplotlib drew, not its own marks, so that lines without
markers can be read too, and all points are large enough for a finger. Positions come from the axes' own transforms,
after the drawing. A series takes its name from its gid, or else from its label in the legend. What has neither is no
data: no points.
"""

import io
import json
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

from gapscope.errors import InputError

THINNED = 30  # points at most of a line without markers, and of a histogram
UNIT = 72  # of matplotlib's SVG files: to the inch
SVG, XLINK = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}"
NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))  # the same bytes on any day
TIMES = "\N{MULTIPLICATION SIGN}"
SUPERSCRIPT = str.maketrans("−0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
PLACES = {"d", "x", "y", "x1", "y1", "x2", "y2", "width", "height", "transform", "points"}  # hold coordinates
FAMILY = re.compile(r"font-family: [^;]*;?")
DECIMALS = re.compile(r"-?\d+\.\d+(?:e-?\d+)?")
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
    where: str | None  # its place on the x axis, in words; None: it says nothing
    bar: str  # from where to where its bar reaches


def drawn(figure: Figure, name: str, *, readable: bool = True) -> str:
    """Return a figure as an SVG file; the same figure gives the same bytes.

    Args:
        figure: drawn, and closed afterwards.
        name: ids begin with it, so that two figures can stand in one page.
        readable: whether points are put in; contours have none.
    """
    root = _drawn(figure, name)
    root.set("stroke-linejoin", "round")
    _compact(root)
    if readable:
        _put(root, figure)
    plt.close(figure)
    return ElementTree.tostring(root, encoding="unicode") + "\n"


def inline(text: str, label: str) -> str:
    """Return an SVG file of `drawn` as an element to stand in a page, as wide as the page allows.

    Args:
        text: the file.
        label: what the figure shows, for those who do not see it.

    Raises:
        InputError: the text is no SVG file.
    """
    try:
        root = ElementTree.fromstring(text)
        width = float(root.attrib.pop("width").removesuffix("pt"))
    except (ElementTree.ParseError, KeyError, ValueError) as error:
        raise InputError(f"this is no SVG file of a figure ({error}); run the stage plots again") from error
    for name in ("height", "version"):
        root.attrib.pop(name, None)
    root.attrib |= {"class": "plot", "style": f"--natural: {width * 96 / UNIT:.0f}px", "role": "group"}
    root.set("aria-label", label)
    _unpack(root)
    ElementTree.register_namespace("", SVG.strip("{}"))
    return ElementTree.tostring(root, encoding="unicode")


def _drawn(figure: Figure, name: str) -> ElementTree.Element:
    """Return what matplotlib draws, without what one figure does not need or what would differ between machines."""
    file = io.BytesIO()
    with plt.rc_context({"svg.hashsalt": name, "svg.fonttype": "none", "font.sans-serif": FONTS}):
        _lay_out(figure)
        FigureCanvasSVG(figure).print_svg(file, metadata=NO_METADATA)
    root = ElementTree.fromstring(file.getvalue())
    _own_ids(root, name)
    for style in root.findall(f"{SVG}defs[{SVG}style]"):
        root.remove(style)  # in a page it would hold for the whole page
    for text in root.iter(f"{SVG}text"):
        if text.text and text.text.startswith(" "):  # a distance from a line, which a browser would leave out
            text.text = "\N{NO-BREAK SPACE}" + text.text.lstrip(" ")
    for element in root.iter():
        for key in PLACES & set(element.attrib):
            element.set(key, DECIMALS.sub(_rounded, element.attrib[key]))
    ElementTree.register_namespace("", SVG.strip("{}"))
    return root


def _rounded(number: re.Match[str]) -> str:
    """Return a coordinate to a hundredth of a point: closer than can be seen."""
    text = f"{float(number[0]):.2f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


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
    return Point(float(left), float(axes.figure.bbox.height - up), name, x, y, where, bar)


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


def _put(root: ElementTree.Element, figure: Figure) -> None:
    """Put the points of every panel into the file's metadata, as JSON: an element each would double the file."""
    panels = [_packed(axes, found) for axes in figure.axes if (found := points(axes))]
    if panels:
        metadata = ElementTree.Element(f"{SVG}metadata")
        metadata.text = json.dumps(panels, ensure_ascii=False, separators=(",", ":"))
        root.insert(0, metadata)


def _packed(axes: Axes, found: list[Point]) -> dict[str, Any]:
    """Return a panel's points: labels of its axes, and by series left, top, x, y, and what else a point says."""
    series: dict[str, list[list[Any]]] = {}
    for point in found:
        more = [point.where, point.bar] if point.bar or point.where != f"{point.x:.6g}" else []
        numbers = [round(point.left, 2), round(point.top, 2), float(f"{point.x:.10g}"), float(f"{point.y:.10g}")]
        series.setdefault(point.series, []).append([*numbers, *more])
    return {"x": _label(axes, "x"), "y": _label(axes, "y"), "series": series}


def _unpack(root: ElementTree.Element) -> None:
    """Put an element with a title for each of the file's points in place of its metadata."""
    metadata = root.find(f"{SVG}metadata")
    if metadata is None:
        return
    root.remove(metadata)
    for panel in json.loads(metadata.text or "[]"):
        count = sum(map(len, panel["series"].values()))
        about = f"{count} points; arrow keys step through them"
        group = ElementTree.SubElement(root, f"{SVG}g", {"class": "points", "tabindex": "0", "aria-label": about})
        for series, found in panel["series"].items():
            for left, top, x, y, *more in found:
                where, bar = more or (f"{x:.6g}", "")
                place = f"; {panel['x']} = {where}" if where else ""  # null: the place on the axis says nothing
                values = {"data-series": series, "data-x": f"{x:.10g}", "data-y": f"{y:.10g}"}
                at = {"class": "p", "cx": f"{left:.2f}", "cy": f"{top:.2f}", "r": "5"}
                circle = ElementTree.SubElement(group, f"{SVG}circle", at | values)
                title = ElementTree.SubElement(circle, f"{SVG}title")
                title.text = f"{series}{place}; {panel['y']} = {y:.6g}{bar}"


def _compact(root: ElementTree.Element) -> None:
    """Leave out what a drawing does not need: blanks, groups without attributes, a font named in each text."""
    for parent in list(root.iter()):
        children = [grown for child in parent for grown in _unwrapped(child)]
        if children != list(parent):
            for child in list(parent):
                parent.remove(child)
            parent.extend(children)
    for element in root.iter():
        if element.tag != f"{SVG}text":
            element.text = None if element.text is None or not element.text.strip() else element.text
        element.tail = None
        if (style := element.get("style")) and FAMILY.search(style):
            element.set("style", FAMILY.sub("", style).strip("; "))
        if element.get("transform", "").startswith("rotate(-0 "):
            del element.attrib["transform"]
        if path := element.get("d"):
            element.set("d", " ".join(path.split()))
    root.set("font-family", ", ".join([*(f"'{name}'" for name in FONTS), "sans-serif"]))


def _unwrapped(element: ElementTree.Element) -> list[ElementTree.Element]:
    """Return a group's children where it says nothing of them, else the element itself."""
    if element.tag != f"{SVG}g" or element.attrib:
        return [element]
    return [grown for child in element for grown in _unwrapped(child)]


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
        if figure.axes:  # else there is nothing to place, and matplotlib warns
            engine.execute(figure)
        figure.set_layout_engine("none")


def _own_ids(root: ElementTree.Element, name: str) -> None:
    """Name the ids that something refers to by the figure and their turn, and drop the others.

    Matplotlib's own ids are hashes of coordinates, whose last digits differ between processors.
    """
    used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', ElementTree.tostring(root, encoding="unicode")))
    named: dict[str, str] = {}
    for element in root.iter():
        if (own := element.attrib.pop("id", None)) in used:
            element.set("id", named.setdefault(str(own), f"{name}-{len(named) + 1}"))
    for element in root.iter():
        if target := element.attrib.pop(f"{XLINK}href", None):
            element.set("href", f"#{named[target.removeprefix('#')]}")
        for key, value in element.attrib.items():
            if "url(#" in value:
                element.set(key, re.sub(r"url\(#([^)]+)\)", lambda found: f"url(#{named[found[1]]})", value))
