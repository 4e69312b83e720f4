"""What every figure owes its reader: legends where no data are."""

from collections.abc import Iterator
from itertools import combinations

import matplotlib.pyplot as plt
import pandas as pd
import pytest
from made_up import ROOT, drawn_studies
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text

from gapscope import measures
from gapscope.drawing import axes as drawing
from gapscope.drawing import svg
from gapscope.drawing.figure import styled
from gapscope.drawing.labels import name_series
from gapscope.measures import spectra_figures
from gapscope.records.tables import read_table

PAGE = 72 * 16 - 2 * 20  # px that report.css leaves a figure on a desk
NAMES = [figure.name for measure in measures.names() for figure in measures.figures(measure)]


def misplaced(figure: Figure) -> list[str]:
    """Return the legends that lie over a panel, its axes or its title, over another, or past the figure's rim."""
    panels = [axes for axes in figure.axes if axes.get_visible()]
    legends = [*figure.legends, *filter(None, (axes.get_legend() for axes in panels))]
    parts = [part for axes in panels for part in (axes.xaxis, axes.yaxis)]
    taken = [box for axes in panels for box in (axes.get_window_extent(), axes.title.get_window_extent())]
    taken += [box for part in parts if (box := part.get_tightbbox())]
    found = []
    for legend in legends:
        box = legend.get_window_extent()
        others = [other.get_window_extent() for other in legends if other is not legend]
        inside = box.x0 >= 0 and box.y0 >= 0 and box.x1 <= figure.bbox.x1 and box.y1 <= figure.bbox.y1
        if box.count_overlaps([*taken, *others]) or not inside:
            found.append(", ".join(text.get_text() for text in legend.get_texts()))
    return found


def beside(figure: Figure) -> list[Text]:
    """Return the names of series that stand beside their lines."""
    named = [label for axes in figure.axes for label in axes.get_legend_handles_labels()[1]]
    return [text for axes in figure.axes for text in axes.texts if text.get_text() in named]


def crowded(figure: Figure) -> list[str]:
    """Return the names beside lines that lie over another one, over a panel, or past the figure's rim."""
    names = beside(figure)
    boxes = [name.get_window_extent() for name in names]
    panels = [axes.get_window_extent() for axes in figure.axes if axes.get_visible()]
    found = []
    for name, box in zip(names, boxes, strict=True):
        others = [other for other in boxes if other is not box]
        inside = box.x0 >= 0 and box.y0 >= 0 and box.x1 <= figure.bbox.x1 and box.y1 <= figure.bbox.y1
        found += [name.get_text()] if box.count_overlaps([*others, *panels]) or not inside else []
    return found


def test_names_that_lie_over_each_other_are_found() -> None:
    figure, axes = plt.subplots(figsize=(4, 3), layout="constrained")
    for place, name in ((1.0, "one"), (1.0, "other"), (2.0, "third")):
        axes.plot([1, 2], [1, place], label=name)
    name_series(figure)
    figure.draw_without_rendering()
    assert crowded(figure) == []
    first, second, third = beside(figure)
    second.set_y(first.get_position()[1])
    assert crowded(figure) == [first.get_text(), second.get_text()]
    second.set_y(0.5)
    third.set_x(1.9)
    assert crowded(figure) == [third.get_text()]
    plt.close(figure)


@pytest.mark.parametrize("name", NAMES)
def test_legends_stand_where_no_data_are_as_picture_and_on_the_page(name: str) -> None:
    shown, rows = drawn_studies()[name]
    figure = styled(shown.draw, rows)
    figure.draw_without_rendering()
    told = [*figure.legends, *filter(None, (axes.get_legend() for axes in figure.axes)), *beside(figure)]
    assert told or not any(axes.get_legend_handles_labels()[1] for axes in figure.axes)
    assert misplaced(figure) == []
    assert crowded(figure) == []
    svg.drawn(figure, name)
    assert misplaced(figure) == []
    assert crowded(figure) == []


def test_a_legend_over_a_panel_or_past_the_rim_is_found() -> None:
    figure, axes = plt.subplots()
    axes.plot([1, 2], [1, 2], label="a series")
    legend = axes.legend()
    assert misplaced(figure) == ["a series"]
    for where, wrong in (((0.1, -0.5), True), ((0.3, 0.01), True), ((1.4, 0.3), True), ((0.5, 1.07), False)):
        legend.set_loc("center")
        legend.set_bbox_to_anchor(where, axes.transAxes)
        assert bool(misplaced(figure)) == wrong, where
    plt.close(figure)


def test_panels_that_name_the_same_share_a_legend_and_others_have_their_own() -> None:
    laws, counts = (styled(shown.draw, rows) for shown, rows in map(drawn_studies().get, ("gradient_law", "near_rank")))
    assert len(laws.axes) > 1 == len(laws.legends)
    assert [axes.get_legend() for axes in laws.axes] == [None] * len(laws.axes)
    assert not counts.legends
    assert all(axes.get_legend() for axes in counts.axes[3:])
    plt.close("all")


def test_short_names_stand_beside_their_lines_and_need_no_legend() -> None:
    shown, rows = drawn_studies()["curves"]
    figure = styled(shown.draw, rows)
    assert not figure.legends
    assert [text.get_text() for text in beside(figure)]
    assert len(beside(figure)) == sum(len(axes.get_legend_handles_labels()[1]) for axes in figure.axes)
    plt.close(figure)


def test_a_panel_above_one_of_the_same_names_has_no_legend_and_no_panel_shrinks() -> None:
    shown, rows = drawn_studies()["near_rank"]
    plain, figure = shown.draw(rows), styled(shown.draw, rows)
    assert [axes.get_legend() is not None for axes in figure.axes] == [False] * 3 + [True] * 3
    bare = figure.get_figheight() - max(axes.get_legend().get_window_extent().height for axes in figure.axes[3:]) / 100
    assert bare == pytest.approx(plain.get_figheight())
    plt.close("all")


@pytest.mark.parametrize("name", NAMES)
def test_a_page_shows_every_text_at_12_px_or_more(name: str) -> None:
    shown, rows = drawn_studies()[name]
    figure = styled(shown.draw, rows)
    texts = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text()]
    assert [text.get_text() for text in texts if text.get_fontsize() * 96 / svg.UNIT < 12] == []
    assert figure.get_figwidth() * 96 <= PAGE  # or the page would shrink it, and its texts
    plt.close(figure)


def committed() -> Iterator[tuple[str, pd.DataFrame, str]]:
    """Study and figure, its table and its caption."""
    for measure in measures.names():
        for figure in measures.figures(measure):
            for path in sorted((ROOT / "plots").glob(f"*/{figure.name}.csv")):
                rows = read_table(path)
                yield f"{path.parent.name}/{figure.name}", rows, figure.caption(rows)


def test_a_caption_speaks_of_printed_values_if_and_only_if_there_are_some() -> None:
    has = {name: "paper" in set(rows.get("source", ())) for name, rows, _ in committed()}
    assert any(has.values())
    assert {name: "printed" in caption for name, _, caption in committed()} == has


def test_a_caption_speaks_of_seeds_only_where_there_are_several() -> None:
    of_seeds = [(name, rows["seed"].nunique(), caption) for name, rows, caption in committed() if "seed" in rows]
    assert any(count > 1 and "over seeds" in caption for _, count, caption in of_seeds)
    assert [name for name, count, caption in of_seeds if count <= 1 and "over seeds" in caption] == []


def test_a_caption_of_loss_curves_speaks_of_single_batches_only_where_they_are_drawn() -> None:
    has = {name: "batch" in set(rows["sample"]) for name, rows, _ in committed() if name.endswith("/loss_curves")}
    said = {name: "batch's" in caption for name, _, caption in committed() if name in has}
    assert said == has
    assert set(has.values()) == {True, False}


@pytest.mark.parametrize("name", ["gap", "curves", "near_rank", "sharpness"])
def test_titles_of_panels_stay_in_the_figure_and_apart(name: str) -> None:
    shown, rows = drawn_studies()[name]
    long = rows.assign(model="a_network_of_a_long_name", dataset="data of a long name too")
    figure = styled(shown.draw, pd.concat([long, long.assign(dataset="other data of a long name")], ignore_index=True))
    svg._lay_out(figure)
    titles = [axes.title for axes in figure.axes if axes.get_visible()]
    boxes = [title.get_window_extent() for title in titles]
    assert all(box.x0 >= 0 and box.x1 <= figure.bbox.width for box in boxes)
    assert not any(box.overlaps(other) for box, other in combinations(boxes, 2))
    plt.close(figure)


def test_printed_values_alone_are_dotted() -> None:
    shown, rows = drawn_studies()["gap"]
    printed = rows.assign(source="paper", value=rows["value"] + 1)
    sizes = [rows.assign(batch_size=size) for size in (1, 2, 3)]
    sizes += [printed.assign(batch_size=size) for size in (1, 2, 3)]
    figure = styled(shown.draw, pd.concat(sizes, ignore_index=True))
    dotted = {line.get_label().endswith("paper") for line in figure.axes[0].lines if is_dotted(line)}
    plt.close(figure)
    assert dotted == {True}


def is_dotted(line: Line2D) -> bool:
    dashes = line._unscaled_dash_pattern[1]  # type: ignore[attr-defined]
    return dashes is not None and max(dashes[::2]) <= line.get_linewidth()


@pytest.mark.parametrize(
    ("sizes", "named"),
    [
        ((128, 512, 1024, 8192), ["128", "", "1024", "8192"]),
        ((128, 4096, 8192, 16384, 24576), ["128", "", "8192", "", "24576"]),
        ((256, 4096, 6000), ["256", "", "6000"]),
        ((128,), ["128"]),
    ],
)
def test_batch_sizes_whose_names_would_run_into_each_other_are_not_all_named(
    sizes: tuple[int, ...], named: list[str]
) -> None:
    figure, axes = plt.subplots()
    drawing._batch_axis(axes, pd.Series(sizes))
    assert [label.get_text() for label in axes.get_xticklabels()] == named
    plt.close(figure)


def test_a_series_of_fewer_seeds_says_so_and_axes_of_other_networks_have_numbers() -> None:
    cells = [
        (series, b, seed)
        for series, seeds in (("trained", 3), ("control", 1))
        for b in (8, 16)
        for seed in range(seeds)
    ]
    rows = pd.DataFrame(cells, columns=["series", "batch_size", "seed"])
    rows = rows.assign(model="net", dataset="mine", panel="x", value=1.0, source="measured")
    figure = styled(lambda table: drawing.against_batch_size(table, "Title"), rows)
    assert figure.axes[0].get_legend_handles_labels()[1] == ["trained", "control, n = 1"]
    values = pd.DataFrame({"index": [1, 2], "value": [2.0, 1.0], "error_bound": [None, 1e-9], "method": [None, "qr"]})
    about = {"model": "net", "dataset": "mine", "batch_size": 8, "seed": 0, "layer": "attention", "thresholds": None}
    tokens = pd.concat([values.assign(**about, mode=mode) for mode in range(3)])
    titles = [axes.get_title() for axes in styled(spectra_figures.draw, tokens).axes]
    assert titles == ["attention, mode 1", "attention, mode 2", "attention, mode 3"]


def test_a_title_tells_how_few_seeds_a_batch_size_is_left_with() -> None:
    rows = pd.DataFrame(
        [("lenet5", "mnist", 128, seed) for seed in (0, 1, 2)] + [("lenet5", "mnist", 8192, 1)],
        columns=["model", "dataset", "batch_size", "seed"],
    )
    pair = ("lenet5", "mnist")
    assert drawing.pair_title(pair, rows) == "LeNet-5 on MNIST (n = 1 to 3 seeds)"
    assert drawing.pair_title(pair, rows[rows["batch_size"] == 128]) == "LeNet-5 on MNIST (n = 3 seeds)"
    assert drawing.pair_title(pair, rows.drop(columns="batch_size")) == "LeNet-5 on MNIST (n = 3 seeds)"
