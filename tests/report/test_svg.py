"""Figures as SVG: every point says what the figure's data are at its place, and nothing else is a point."""

import re
from collections.abc import Callable
from itertools import combinations
from xml.etree import ElementTree

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from made_up import drawn_studies
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from gapscope.drawing import axes as drawing
from gapscope.drawing import points, svg
from gapscope.drawing.compact import short_path
from gapscope.drawing.figure import styled
from gapscope.errors import InputError
from gapscope.measures import evaluation_figures

NEAR = 0.1  # points; half of what one decimal of a place may be off, for mark and point
SVG = points.SVG


def drawn(draw: Callable[[Axes], object]) -> Figure:
    figure, axes = plt.subplots()
    axes.set(xlabel="batch size", ylabel="error (%)")
    draw(axes)
    return figure


def page(figure: Figure, name: str = "one") -> str:
    return svg.inline(svg.drawn(figure, name), "l")


def circles(text: str) -> list[ElementTree.Element]:
    return list(ElementTree.fromstring(text).iter(f"{SVG}circle"))


def told(text: str) -> list[tuple[str, float, float]]:
    return [(c.attrib["data-series"], float(c.attrib["data-x"]), float(c.attrib["data-y"])) for c in circles(text)]


def astray(text: str, xs: list[float], ys: list[float]) -> list[int]:
    """Return the points that do not lie on matplotlib's own marks, or say other values than those marks have."""
    marks = marks_of_line(text)
    assert len(marks) == len(xs)
    values = dict(zip(marks, zip(xs, ys, strict=True), strict=True))
    wrong = []
    for index, circle in enumerate(circles(text)):
        place = np.array([float(circle.attrib["cx"]), float(circle.attrib["cy"])])
        nearest = min(marks, key=lambda mark: float(np.hypot(*(place - mark))))
        said = (float(circle.attrib["data-x"]), float(circle.attrib["data-y"]))
        if np.hypot(*(place - nearest)) > NEAR or said != values[nearest]:
            wrong.append(index)
    return wrong


def marks_of_line(text: str) -> list[tuple[float, float]]:
    """The marks of the line: those of ticks and of the legend are not clipped."""
    (group,) = [g for g in ElementTree.fromstring(text).iter(f"{SVG}g") if "clip-path" in g.attrib and marked(g)]
    start, *steps = [float(number) for number in re.findall(r"-?[\d.]+", marked(group)[0].attrib["d"])]
    corners = np.cumsum(np.reshape([start, *steps], (-1, 2)), axis=0)
    return [(float(x), float(y)) for x, y in corners]


def marked(group: ElementTree.Element) -> list[ElementTree.Element]:
    return [path for path in group.findall(f"{SVG}path") if "marker:" in path.get("style", "")]


XS, YS = [1.0, 2.0, 4.0, 8.0], [3.0, 1.0, 2.0, 7.5]


def test_each_point_lies_on_its_mark_and_says_its_value_and_one_off_is_found() -> None:
    text = page(drawn(lambda axes: axes.plot(XS, YS, "o-", label="test") and axes.legend()))
    assert astray(text, XS, YS) == []
    said = iter([*YS[1:], YS[0]])  # the next one's
    shifted = re.sub(r'data-y="[^"]*"', lambda _: f'data-y="{next(said):.10g}"', text)
    assert astray(shifted, XS, YS) == [0, 1, 2, 3]
    lower = re.sub(r'cy="([^"]*)"', lambda found: f'cy="{float(found[1]) + 1:.2f}"', text)
    assert astray(lower, XS, YS) == [0, 1, 2, 3]


def test_a_title_says_series_and_both_values_with_their_axes() -> None:
    text = page(drawn(lambda axes: axes.plot(XS, YS, "o", label="test")))
    titles = [title.text for title in ElementTree.fromstring(text).iter(f"{SVG}title")]
    assert titles[3] == "test; batch size = 8; error (%) = 7.5"


def test_values_that_are_no_numbers_or_out_of_view_are_no_points() -> None:
    def draw(axes: Axes) -> None:
        axes.plot([1, 2, 3, 4, 5], [1, np.nan, np.inf, 2, 300], "o", label="test")
        axes.set_ylim(0, 10)

    assert told(page(drawn(draw))) == [("test", 1, 1), ("test", 4, 2)]


def test_curves_of_runs_that_have_all_diverged_are_drawn() -> None:
    """A loss that is no number has no place on a logarithmic axis."""
    rows = pd.DataFrame({"model": "net", "dataset": "mine", "batch_size": [16, 64], "seed": 0, "epoch": 1})
    rows = rows.assign(**dict.fromkeys(evaluation_figures.CURVES, np.nan))
    assert svg.drawn(styled(evaluation_figures.draw_curves, rows), "curves").startswith("<svg")


def test_legends_caps_and_reference_lines_are_no_points_and_bars_are_told() -> None:
    def draw(axes: Axes) -> None:
        low, high = np.array([2.75, 4.0]), np.array([3.25, 4.0])
        drawing.draw_line(axes, [1, 2], [3.0, 4.0], low, high, marker="o", color="black", label="mean")
        axes.plot([1, 1], [2.5, 3.5], "s", gid="mean, seed 0")
        axes.plot([1, 2], [3, 3], "s")  # without a name
        axes.plot([], [], "s", label="for the legend")
        axes.axhline(3.5, label="threshold")
        axes.axvline(1.5, label="edge")
        axes.legend()

    text = page(drawn(draw))
    assert told(text) == [("mean", 1, 3), ("mean", 2, 4), ("mean, seed 0", 1, 2.5), ("mean, seed 0", 1, 3.5)]
    assert "error (%) = 3 (range: 2.75 to 3.25)</title>" in text
    assert "error (%) = 4</title>" in text


def test_a_curve_without_marks_has_thirty_points_from_end_to_end() -> None:
    xs = list(range(400))
    found = told(page(drawn(lambda axes: axes.plot(xs, [x / 7 for x in xs], label="run"))))
    assert len(found) == points.THINNED
    assert (found[0][1], found[-1][1]) == (0, 399)
    assert all(y == pytest.approx(x / 7, rel=1e-5) for _, x, y in found)  # six figures


def test_a_histogram_is_told_by_its_bins() -> None:
    text = page(drawn(lambda axes: axes.stairs([2.0, 5.0], [0, 1, 3], label="values")))
    assert told(text) == [("values", 0.5, 2), ("values", 2, 5)]
    assert "values; batch size = 1 to 3; error (%) = 5" in text


def test_the_same_figure_gives_the_same_bytes_and_two_share_no_id() -> None:
    def one(name: str) -> str:
        return page(drawn(lambda axes: axes.plot(XS, YS, "o-", label="test")), name)

    assert one("a") == one("a")
    ids = [set(re.findall(r'\bid="([^"]+)"', one(name))) for name in "ab"]
    assert all(ids)
    assert not ids[0] & ids[1]
    text = one("a")
    referred = re.findall(r'(?:href="#|url\(#)([^")]+)', text)
    assert set(referred) == ids[0]
    assert "<style" not in text  # it would hold for the page
    assert "<metadata" not in text


def test_powers_of_ten_are_text() -> None:
    text = page(drawn(lambda axes: axes.plot([1, 2], [1e-5, 1e3]) and axes.set_yscale("log")))
    labels = [element.text for element in ElementTree.fromstring(text).iter(f"{SVG}text")]
    assert "10⁻⁵" in labels
    assert "10³" in labels
    assert "tspan" not in text


def dashes(line: Line2D) -> str:
    return "none" if line.get_linestyle() == "None" else str(line._unscaled_dash_pattern)  # type: ignore[attr-defined]


def looks(axes: Axes) -> list[tuple[object, ...]]:
    """Marker, whether it is filled, dashes and width of each series that a panel names; not its colour."""
    lines = [line for line in axes.lines if not str(line.get_label()).startswith("_")]
    found: list[tuple[object, ...]] = [
        (line.get_marker(), line.get_markerfacecolor() == "none", line.get_markersize(), dashes(line)) for line in lines
    ]
    steps = [patch for patch in axes.patches if hasattr(patch, "get_data")]
    return found + [(p.get_linestyle(), p.get_linewidth(), p.get_fill()) for p in steps]


def test_the_series_of_a_panel_differ_without_colour_and_all_can_be_read() -> None:
    alike, unreadable = [], set()
    for name, (shown, rows) in drawn_studies().items():
        figure = styled(shown.draw, rows)
        figure.draw_without_rendering()  # as a page does: until then an axis may not have its limits
        for axes in figure.axes:
            alike += [name] if len(set(looks(axes))) < len(looks(axes)) else []
            unreadable |= {name} if axes.get_visible() and not points.points(axes) else set()
        plt.close("all")
    assert alike == []
    assert unreadable <= {"landscape_plane"}


def test_ids_and_coordinates_do_not_depend_on_the_last_digits_of_floats() -> None:
    """Another processor rounds the layout otherwise: the file must not hold a hash of coordinates."""

    def one(shift: float) -> str:
        figure, axes = plt.subplots()
        axes.plot(XS, YS, "o-", label="test")
        axes.set_position([0.125 + shift, 0.11, 0.775, 0.77])
        return svg.drawn(figure, "one")

    assert one(0.0) == one(1e-12)
    assert one(0.0) != one(1e-3)


@pytest.mark.parametrize(
    ("path", "short"),
    [
        ("M 10.04 20 L 11.06 19.5 L 12 19.5", "M10 20l1.1-.5 .9 0"),
        ("M 0 0 L 0.04 0 L 0.08 0 L 0.12 0", "M0 0l0 0 .1 0 0 0"),  # errors of rounding do not add up
        ("M 1 2 L 3 2 z M 5 6 L 5 7 ", "M1 2l2 0zM5 6l0 1"),
        ("M 0 -0.04 C 0.25 1 1 1.26 2 2 C 3 3 -4 4 5 5 ", "M0 0C.2 1 1 1.3 2 2 3 3-4 4 5 5"),
    ],
)
def test_a_path_has_few_digits_and_ends_where_it_did(path: str, short: str) -> None:
    assert short_path(path, 1) == short


def test_marks_and_lines_of_one_style_share_a_path_and_texts_a_group() -> None:
    text = svg.drawn(drawn(lambda axes: axes.plot(XS, YS, "o-", label="test") and axes.grid()), "one")
    root = ElementTree.fromstring(text)
    assert not list(root.iter(f"{SVG}use"))
    drawn_with = [(path.get("style"), path.get("clip-path")) for path in root.findall(f"{SVG}path")]
    assert len(drawn_with) == len(set(drawn_with)) + 1  # each axis has a grid of its own
    groups = [group.attrib for group in root.findall(f"{SVG}g")]
    assert {"style": "font-size:10px;text-anchor:end"} in groups  # matplotlib's own size, not the project's


def test_in_a_page_a_figure_is_as_wide_as_there_is_room_and_says_what_it_shows() -> None:
    text = svg.inline(svg.drawn(drawn(lambda axes: axes.plot(XS, YS, "o-", label="test")), "one"), "A label & more")
    root = ElementTree.fromstring(text)
    assert root.attrib["aria-label"] == "A label & more"
    assert {"width", "height"}.isdisjoint(root.attrib)
    assert len(circles(text)) == 4
    with pytest.raises(InputError, match="no SVG file"):
        svg.inline("<p>", "l")


def test_series_that_differ_by_colour_alone_are_found() -> None:
    figure = drawn(lambda axes: (axes.plot(XS, YS, "C0", label="a"), axes.plot(XS, XS, "C1", label="b")))
    assert len(set(looks(figure.axes[0]))) == 1
    plt.close("all")


def test_a_legend_below_its_panel_stays_on_the_page() -> None:
    figure, axes = plt.subplots(layout="constrained")
    axes.plot(XS, YS, label="a series")
    legend = axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.3))
    text = svg.drawn(figure, "one")
    assert "a series" in text
    assert legend.get_window_extent().y0 >= 0


@pytest.mark.parametrize(
    ("ends", "powers"), [((0.06, 0.9), False), ((0.3, 12.0), False), ((0.1, 100.0), True), ((2e-5, 4e-4), True)]
)
def test_a_short_logarithmic_axis_has_plain_numbers_and_a_long_or_a_small_one_powers(
    ends: tuple[float, float], powers: bool
) -> None:
    def draw(axes: Axes) -> None:
        axes.plot([0, 1], ends)
        axes.set_yscale("log")

    text = page(drawn(draw))
    assert ("10⁰" in text or "10⁻" in text) == powers
    assert powers or re.search(r">\s*0\.[46]\s*<", text)


def test_labels_of_a_logarithmic_axis_do_not_overlap() -> None:
    figure, (left, right) = plt.subplots(1, 2, figsize=(4, 2))
    left.plot([150, 900], [1, 2])
    left.set_xscale("log")
    right.plot([1, 2], [-1, 1])
    right.set_yscale("symlog", linthresh=1e-7)
    svg._lay_out(figure)
    for axis in (left.xaxis, right.yaxis):
        low, high = sorted(axis.get_view_interval())
        ticks = [tick for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks()) if low <= tick.get_loc() <= high]
        labels = [tick.label1 for tick in ticks if tick.label1.get_visible() and tick.label1.get_text()]
        boxes = [label.get_window_extent() for label in labels]
        assert len(boxes) >= 2
        assert not any(box.overlaps(other) for box, other in combinations(boxes, 2))
    assert "0" in [tick.label1.get_text() for tick in right.yaxis.get_major_ticks() if tick.label1.get_visible()]
    plt.close(figure)


def test_a_hidden_panel_does_not_choose_the_ticks_of_its_row() -> None:
    figure, (left, right) = plt.subplots(1, 2, sharey=True)
    left.plot([1, 2], [1e-6, 1e4])
    left.set_yscale("log")
    right.set_visible(False)
    svg._lay_out(figure)
    locations = left.yaxis.get_majorticklocs()
    assert locations.min() <= 1e-4
    assert locations.max() >= 1e2
    plt.close(figure)
