"""A figure as an SVG file that holds the values of its data points, which a page lets its reader see."""

import io
import math
import re
from typing import Any
from xml.etree import ElementTree

import matplotlib.pyplot as plt
from matplotlib.axis import Axis, XAxis
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import Formatter, LogFormatter, NullLocator

from gapscope.drawing.compact import FONT_SIZE, SVG, compact
from gapscope.drawing.points import pack, unpack
from gapscope.errors import InputError

UNIT = 72  # of matplotlib's SVG files: to the inch
NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))  # the same bytes on any day
TIMES = "\N{MULTIPLICATION SIGN}"
SUPERSCRIPT = str.maketrans("−0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
FINEST, COARSEST = 1e-3, 1e4  # numbers between them are short without a power of ten
LABEL, LETTER = 10.0, 5.2  # points: height of a tick's label, and width of its letters, of which powers are smaller
FONTS = ["DejaVu Sans", "Verdana", "Arial"]  # the second is as wide as the first, where a reader lacks that


class Plain(Formatter):
    """Powers of ten as text: TeX's layout takes most of the time of a figure, and wants one font's widths.

    Attributes:
        inner: chooses which ticks have a label.
        short: whether the axis has ticks between powers, which are read more easily as numbers: 0.6, not 6 x 10^-1.
    """

    def __init__(self, inner: Formatter, *, short: bool) -> None:
        self.inner, self.short = inner, short

    def set_locs(self, locs: Any) -> None:
        """Hand on all of the ticks, by which the inner one chooses those that it labels."""
        self.inner.set_locs(locs)

    def __call__(self, x: float, pos: int | None = None) -> str:
        """Return the label of one tick."""
        text = re.sub(r"\$|\\mathdefault|[{}]", "", self.inner(x, pos)).replace("-", "−")
        if text and self.short and FINEST <= x < COARSEST:
            return f"{x:g}"
        text = text.replace(r"\times", f" {TIMES} ")
        return re.sub(r"\^([−\d]+)", lambda power: power[1].translate(SUPERSCRIPT), text)


def drawn(figure: Figure, name: str, *, readable: bool = True) -> str:
    """Return a figure as an SVG file; the same figure gives the same bytes.

    Args:
        figure: drawn, and closed afterwards.
        name: ids begin with it, so that two figures can stand in one page.
        readable: whether points are put in; contours have none.
    """
    file = io.BytesIO()
    with plt.rc_context({"svg.hashsalt": name, "svg.fonttype": "none", "font.sans-serif": FONTS}):
        _lay_out(figure)
        FigureCanvasSVG(figure).print_svg(file, metadata=NO_METADATA)
    root = compact(ElementTree.fromstring(file.getvalue()), name)
    root.attrib |= {"stroke-linejoin": "round", "font-size": FONT_SIZE}
    root.set("font-family", ", ".join([*(f"'{font}'" for font in FONTS), "sans-serif"]))
    if readable:
        pack(root, figure)
    plt.close(figure)
    return _text(root) + "\n"


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
    root.attrib.pop("height", None)
    root.attrib |= {"class": "plot", "style": f"--natural: {width * 96 / UNIT:.0f}px", "role": "group"}
    root.set("aria-label", label)
    unpack(root)
    return _text(root)


def _text(root: ElementTree.Element) -> str:
    ElementTree.register_namespace("", SVG.strip("{}"))
    return ElementTree.tostring(root, encoding="unicode")


def _lay_out(figure: Figure) -> None:
    """Fix the places of all panels, in the file's own units: Figure.savefig would lay out and draw twice."""
    figure.set_dpi(UNIT)
    # a hidden panel shares its ticks with those in its row, and has no data to choose them by
    shown = [axis for axes in figure.axes if axes.get_visible() for axis in (axes.xaxis, axes.yaxis)]
    for axis in shown:
        if axis.get_scale() == "log" and not math.isfinite(axis.get_minpos()):  # all runs have diverged
            axis.set_view_interval(0.1, 1.0, ignore=True)
        if isinstance(axis.get_major_formatter(), LogFormatter):
            low, high = sorted(axis.get_view_interval())
            short = low > 0 and high <= 100 * low
            axis.set_major_formatter(Plain(axis.get_major_formatter(), short=short))
            axis.set_minor_formatter(Plain(axis.get_minor_formatter(), short=short))
            if not short:  # unlabelled, and half of the time
                axis.set_minor_locator(NullLocator())
    if engine := figure.get_layout_engine():
        if figure.axes:  # else there is nothing to place, and matplotlib warns
            engine.execute(figure)
        figure.set_layout_engine("none")
    for axis in shown:
        if isinstance(axis.get_major_formatter(), Plain):
            _hide_overlapping(axis)


def _hide_overlapping(axis: Axis) -> None:
    """Hide the labels of a logarithmic axis that would overlap others; 0 comes first, and then powers of ten."""
    across = isinstance(axis, XAxis)
    place = axis.axes.get_xaxis_transform() if across else axis.axes.get_yaxis_transform()
    axis.get_majorticklabels()  # which puts the ticks in their places
    major = sorted(axis.get_major_ticks(), key=lambda tick: tick.get_loc() != 0)
    taken: list[tuple[float, float]] = []
    for tick in (*major, *axis.get_minor_ticks()):
        text, (low, high) = tick.label1.get_text(), sorted(axis.get_view_interval())
        if text and tick.label1.get_visible() and low <= tick.get_loc() <= high:
            at = place.transform([(tick.get_loc(), 0) if across else (0, tick.get_loc())])[0, 0 if across else 1]
            half = (LETTER * len(text) + LETTER if across else LABEL) / 2
            overlaps = any(at - half < end and start < at + half for start, end in taken)
            if overlaps:
                tick.label1.set_visible(False)
            else:
                taken.append((at - half, at + half))
