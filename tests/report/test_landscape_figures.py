"""Table and figures of the loss landscape, from made-up records whose answers are known."""

import copy
import math
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
import pytest
from made_up import Made

from gapscope.drawing.figure import Draw, styled
from gapscope.measures import landscape, landscape_figures
from gapscope.records.long import AXES

SIZES = {"small": 32, "large": 512}
ALPHAS = (-1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0)
GRID = (-1.0, 0.0, 1.0)
LINE = (4.0, 2.0, 1.0, 3.0, 1.5, 2.0, 90.0)  # barrier: 3 - 1.5, though 90 lies beyond the ends


def rows(heights: tuple[float, ...] = LINE, scale: float = 1.0) -> pd.DataFrame:
    made: list[dict[str, Any]] = []

    def add(kind: str, end: str | None, direction: int, loss: float, *, a: float, b: float | None = None) -> None:
        where = {"kind": kind, "end": end, "direction": direction, "a": a, "b": b}
        made.append(
            {**where, "train_loss": loss, "train_error_pct": 10.0, "test_loss": 2 * loss, "test_error_pct": 20.0}
        )

    for alpha, height in zip(ALPHAS, heights, strict=True):
        add("line", None, 0, height, a=alpha)
    for end, base in (("small", 0.01 * scale), ("large", 0.1 * scale)):
        for kind, count in (("random", 3), ("eigenvector", 2)):
            for direction in range(count):
                for a in GRID:
                    add(kind, end, direction, base * (1 + direction + a**2), a=a)
        for a in GRID:
            for b in GRID:
                add("plane", end, 0, base * (1 + 100 * a**2 + 10 * b**2 + b), a=a, b=b)
    return pd.DataFrame(made)


ENDS = {
    end: {
        "weight_norm": 7.0,
        "eigenvalues": [8.0 * factor, 2.0 * factor],
        "residuals": [1e-3, 2e-3],
        "products": 9,
        "rises": {"radius": 0.5, "eigenvectors": [0.9 * factor, 0.3 * factor], "random": [1e-3, 2e-3, 6e-3]},
    }
    for end, factor in (("small", 1.0), ("large", 10.0))
}
Record = tuple[dict[str, Any], dict[str, Any], pd.DataFrame]


def record(
    seed: int = 0,
    status: str = "ok",
    dataset: str = "mnist",
    walked: pd.DataFrame | None = None,
    ends: dict[str, Any] = ENDS,
) -> Record:
    """What identifies a run, its record and its long table."""
    about = {"model": "f1", "dataset": dataset, "seed": seed}
    header = {"status": status, "batch_sizes": SIZES}
    if status != "ok":
        return about, header, pd.DataFrame()
    points = (rows() if walked is None else walked).to_dict("records")
    table = pd.DataFrame(landscape.rows(points, ends, 3.0))
    table = table.reindex(columns=["quantity", *(a for a in AXES if a in table), "value"])
    return about, header, table.astype({"index": "Int64"})


def study(*records: Record) -> Made:
    return Made(stages={"landscape": list(records)})


@pytest.fixture
def records() -> list[Record]:
    return [record(0), record(1, walked=rows(scale=2.0)), record(2, "diverged")]


def drawn(draw: Draw, table: pd.DataFrame) -> list[plt.Axes]:
    figure = styled(draw, table)
    figure.draw_without_rendering()
    plt.close(figure)
    return figure.axes


def named(panels: list[plt.Axes]) -> list[str]:
    """Return the series that all of a figure's panels name."""
    (names,) = {tuple(panel.get_legend_handles_labels()[1]) for panel in panels}
    return list(names)


def summary(*records: Record) -> dict[tuple[int, str], dict[str, float]]:
    """Seed and end -> quantity -> value; loss and error with their split."""
    table = landscape.study_table(study(*records))
    table["name"] = table["split"].fillna("").where(table["split"].isna(), table["split"] + "_") + table["quantity"]
    return {key: of.set_index("name")["value"].to_dict() for key, of in table.groupby(["seed", "end"])}


def test_the_table_has_both_ends_of_each_seed_but_a_diverged_one(records: list[Record]) -> None:
    table = landscape.study_table(study(*records))
    assert table[["seed", "end", "batch_size"]].drop_duplicates().to_numpy().tolist() == [
        [0, "small", 32], [0, "large", 512], [1, "small", 32], [1, "large", 512],
    ]  # fmt: skip
    found = summary(*records)
    small, large = found[0, "small"], found[0, "large"]
    assert (small["largest_eigenvalue"], large["largest_eigenvalue"]) == (8, 80)
    assert small["largest_residual"] == 1e-3
    assert (small["train_loss"], large["train_loss"], large["test_loss"]) == (1.0, 1.5, 3.0)  # at alpha 0 and 1
    assert small["eigenvector_rise_mean"] == pytest.approx(0.6)
    assert small["random_rise_mean"] == pytest.approx(3e-3)
    assert small["random_rise_std"] == pytest.approx(math.sqrt(7) * 1e-3)  # n - 1
    assert small["rise_ratio"] == pytest.approx(200)
    assert large["rise_ratio"] == pytest.approx(2000)
    assert (small["eigenvectors"], small["random_directions"], small["distance"]) == (2, 3, 3.0)


@pytest.mark.parametrize(
    ("between", "barrier"),
    [(3.0, 1.5), (1.5, 0.0), (1.2, 0.0), (math.inf, math.inf)],  # not 3 - 1, and never negative
)
def test_the_barrier_is_above_the_higher_end(between: float, barrier: float) -> None:
    heights = (*LINE[:3], between, *LINE[4:])
    assert [of["barrier"] for of in summary(record(walked=rows(heights))).values()] == [barrier] * 2


def test_a_rise_that_is_infinite_is_kept() -> None:
    broken = copy.deepcopy(ENDS)
    broken["small"]["rises"]["eigenvectors"][0] = math.inf
    found = summary(record(ends=broken))
    assert found[0, "small"]["eigenvector_rise_mean"] == math.inf
    assert found[0, "large"]["eigenvector_rise_mean"] == pytest.approx(6)


def test_the_line_figure_has_both_splits_and_every_seed(records: list[Record]) -> None:
    table = landscape_figures.line(study(*records))
    assert table["seed"].unique().tolist() == [0, 1]
    assert table.loc[table["seed"] == 0, "train_loss"].tolist() == list(LINE)
    loss, accuracy = panels = drawn(landscape_figures.draw_line, table)
    assert loss.get_xlabel() == "α (0: small batch, b = 32; 1: large batch, b = 512)"
    assert loss.get_title() == "cross-entropy (nats)\nF1 on MNIST (n = 2 seeds)"
    assert accuracy.get_title() == "accuracy (%)\nF1 on MNIST (n = 2 seeds)"
    assert loss.get_yscale() == "log"
    shown = [line.get_ydata() for line in loss.lines if len(line.get_xdata()) == len(ALPHAS)]
    assert [list(values) for values in shown] == [list(LINE)] * 2 + [[2 * value for value in LINE]] * 2
    assert {*accuracy.lines[0].get_ydata(), *accuracy.lines[2].get_ydata()} == {80.0, 90.0}  # 100 less the error
    assert named(panels) == ["train", "test"]
    assert [line.get_xdata() for line in loss.lines[-2:]] == [[0, 0], [1, 1]]
    train, test = loss.lines[0], loss.lines[2]  # told apart without colour
    assert (train.get_linestyle(), train.get_marker()) != (test.get_linestyle(), test.get_marker())


@pytest.mark.parametrize(("error", "title"), [("rmse_pct", "error (%)"), ("furlongs", "furlongs")])
def test_another_task_has_its_own_error_in_place_of_the_accuracy(error: str, title: str) -> None:
    about, header, table = record(walked=rows(heights=(4.0, -2.0, *LINE[2:])))
    table["quantity"] = table["quantity"].replace("error_pct", error)
    found = landscape_figures.line(study((about, header, table)))
    assert list(found)[-4:] == ["train_loss", f"train_{error}", "test_loss", f"test_{error}"]
    loss, right = drawn(landscape_figures.draw_line, found)
    assert loss.get_yscale() == "linear"  # a loss of one's own may fall below 0
    assert right.get_title().startswith(title)
    assert {*right.lines[0].get_ydata(), *right.lines[1].get_ydata()} == {10.0, 20.0}  # one line per split


def test_the_directions_figure_draws_each_profile_of_each_end(records: list[Record]) -> None:
    table = landscape_figures.directions(study(*records))
    assert table.groupby(["kind", "end", "batch_size"])["direction"].nunique().to_dict() == {
        ("eigenvector", "large", 512): 2, ("eigenvector", "small", 32): 2,
        ("random", "large", 512): 3, ("random", "small", 32): 3,
    }  # fmt: skip
    axes = drawn(landscape_figures.draw_directions, table)
    assert [len(panel.lines) for panel in axes] == [3 * 2 * 2, 3 * 2 * 2, 2 * 2 * 2, 2 * 2 * 2]
    assert axes[0].lines[0].get_ydata().tolist() == pytest.approx([0.02, 0.01, 0.02])
    assert {line.get_linestyle() for line in axes[0].lines[:6]} == {"-"}
    assert {line.get_linestyle() for line in axes[0].lines[6:]} == {"--"}
    assert axes[0].get_title() == "training cross-entropy (nats)\n3 random directions, F1 on MNIST (n = 2 seeds)"
    assert axes[3].get_title() == "training error (%)\n2 top eigenvectors, F1 on MNIST (n = 2 seeds)"
    assert axes[0].get_xlabel() == "step a, in units of each filter's norm"
    assert axes[2].get_xlabel() == "distance a from the solution"
    assert named(axes) == ["b = 32", "b = 512"]


def test_the_planes_of_one_seed_share_their_levels(records: list[Record]) -> None:
    other = record(5, dataset="digits")
    table = landscape_figures.plane(study(records[2], *records[:2], other))
    assert table[["dataset", "seed"]].drop_duplicates().to_numpy().tolist() == [["mnist", 0], ["digits", 5]]
    axes = drawn(landscape_figures.draw_plane, table)
    assert len(axes) == 4
    contours = [panel.collections[0] for panel in axes[:2]]
    levels = [list(found.levels) for found in contours]
    assert levels[0] == pytest.approx([0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0])
    assert levels[0] == levels[1]
    assert axes[0].get_title() == "cross-entropy (nats) at b = 32\nF1 on MNIST (n = 1: seed 0)"
    assert axes[3].get_title() == "cross-entropy (nats) at b = 512\nF1 on scikit-learn's digits (n = 1: seed 5)"
    # ten times as steep along a as along b: the contour at 0.1 of the small-batch end crosses a's axis sooner
    (path,) = [found.get_paths()[levels[0].index(0.1)] for found in contours[:1]]
    assert abs(path.vertices[:, 0]).max() < 0.5 < abs(path.vertices[:, 1]).max()


def test_a_plane_with_points_that_diverged_is_drawn_without_them() -> None:
    made = rows()
    made.loc[(made["kind"] == "plane") & (made["a"] == 1), "train_loss"] = math.inf
    axes = drawn(landscape_figures.draw_plane, landscape_figures.plane(study(record(walked=made))))
    assert max(axes[0].collections[0].levels) < math.inf
    vertices = [path.vertices[:, 0] for path in axes[0].collections[0].get_paths() if len(path.vertices)]
    assert max(x.max() for x in vertices) <= 0


def test_the_rises_figure_sets_eigenvectors_against_random_directions(records: list[Record]) -> None:
    table = landscape_figures.rises(study(*records))
    assert len(table) == 2 * 2 * (2 + 3)
    first = table.iloc[0]
    assert (first["end"], first["kind"], first["rise"]) == ("small", "eigenvector", 0.9)
    assert first["quadratic"] == pytest.approx(0.5**2 * 8 / 2)
    assert table.loc[table["kind"] == "random", ["eigenvalue", "quadratic"]].isna().all(axis=None)
    (axes,) = panels = drawn(landscape_figures.draw_rises, table)
    assert axes.get_title().startswith("rise of the training loss (nats) at distance r = 0.5\n")
    assert [label.get_text() for label in axes.get_xticklabels()] == ["λ1", "λ2", "3 random\nper seed"]
    assert axes.get_yscale() == "log"
    assert named(panels) == [f"b = {size}{what}" for size in (32, 512) for what in ("", ": r² λ / 2, as if quadratic")]
    assert "not shown" not in axes.get_xlabel()
    points = [list(line.get_ydata()) for line in axes.lines]
    assert points.count([0.9, 0.3]) == 2  # seeds
    assert points.count([9.0, 3.0]) == 2
    assert points.count([1e-3, 2e-3, 6e-3] * 2) == 2  # ends, both seeds in each
    assert all(line.get_xdata().min() > 2.65 for line in axes.lines if len(line.get_ydata()) == 6)


def test_rises_that_a_log_axis_cannot_show_are_counted() -> None:
    fallen = copy.deepcopy(ENDS)
    fallen["large"]["rises"]["random"][:2] = [-1e-3, 0.0]
    (axes,) = drawn(landscape_figures.draw_rises, landscape_figures.rises(study(record(ends=fallen))))
    assert axes.get_xlabel().endswith("(not shown: 2 that are ≤ 0)")


@pytest.mark.parametrize("name", ["line", "directions", "plane", "rises"])
def test_a_study_that_diverged_has_empty_tables_and_figures_that_say_so(records: list[Record], name: str) -> None:
    table = getattr(landscape_figures, name)(study(records[2]))
    assert table.empty
    assert list(table.columns) == list(getattr(landscape_figures, name)(study(*records)).columns)
    figure = styled(getattr(landscape_figures, f"draw_{name}"), table)
    assert "diverged" in figure.get_suptitle()
    plt.close(figure)
