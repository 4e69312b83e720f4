"""Tables and figures of the loss landscape, from made-up records whose answers are known."""

import math
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
import pytest

from gapscope.report import figures, landscape

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


def record(seed: int = 0, status: str = "ok", dataset: str = "mnist") -> dict[str, Any]:
    about = {"status": status, "model": {"name": "f1"}, "dataset": dataset, "seed": seed, "batch_sizes": SIZES}
    if status != "ok":
        return about
    ends = {
        end: {
            "weight_norm": 7.0,
            "eigenvalues": [8.0 * factor, 2.0 * factor],
            "residuals": [1e-3, 2e-3],
            "rises": {"radius": 0.5, "eigenvectors": [0.9 * factor, 0.3 * factor], "random": [1e-3, 2e-3, 6e-3]},
        }
        for end, factor in (("small", 1.0), ("large", 10.0))
    }
    conditions = {"train": {"images": 64, "batch_norm": "statistics of batches of 64", "precision": "float32"}}
    return {**about, "distance": 3.0, "ends": ends, "conditions": conditions}


@pytest.fixture
def records() -> list[landscape.Record]:
    return [(record(0), rows()), (record(1), rows(scale=2.0)), (record(2, "diverged"), rows().iloc[:0])]


def drawn(draw: figures.Draw, table: pd.DataFrame) -> list[plt.Axes]:
    figure = figures.styled(draw, table)
    figure.draw_without_rendering()
    plt.close(figure)
    return figure.axes


def named(panels: list[plt.Axes]) -> list[str]:
    """Return what the figure's one legend names."""
    (legend,) = panels[0].figure.legends
    return [text.get_text() for text in legend.get_texts()]


def test_the_summary_has_a_row_an_end_and_seed_the_diverged_too(records: list[landscape.Record]) -> None:
    table = landscape.summary(records)
    assert table["status"].tolist() == ["ok"] * 4 + ["diverged"] * 2
    assert table["end"].tolist() == ["small", "large"] * 3
    assert table["batch_size"].tolist() == [32, 512] * 3
    assert table.loc[0, ["images", "batch_norm"]].tolist() == [64, "statistics of batches of 64"]
    assert table.loc[4:, "largest_eigenvalue"].isna().all()
    small, large = table.iloc[0], table.iloc[1]
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
    assert landscape.summary([(record(), rows(heights))])["barrier"].tolist() == [barrier] * 2


def test_a_rise_that_is_infinite_is_no_number(records: list[landscape.Record]) -> None:
    broken = record()
    broken["ends"]["small"]["rises"]["eigenvectors"][0] = None  # infinities are null in JSON
    table = landscape.summary([(broken, rows())])
    assert math.isnan(table.loc[0, "eigenvector_rise_mean"])
    assert table.loc[1, "eigenvector_rise_mean"] == pytest.approx(6)
    assert landscape.rises([(broken, rows())])["rise"].isna().sum() == 1


def test_the_line_figure_has_both_splits_and_every_seed(records: list[landscape.Record]) -> None:
    table = landscape.line(records)
    assert table["seed"].unique().tolist() == [0, 1]
    assert table.loc[table["seed"] == 0, "train_loss"].tolist() == list(LINE)
    loss, accuracy = panels = drawn(landscape.draw_line, table)
    assert (loss.get_ylabel(), accuracy.get_ylabel()) == ("cross-entropy (nats)", "accuracy (%)")
    assert loss.get_xlabel() == "α (0: small batch, b = 32; 1: large batch, b = 512)"
    assert loss.get_title() == "f1 on mnist (n = 2 seeds)"
    assert loss.get_yscale() == "log"
    shown = [line.get_ydata() for line in loss.lines if len(line.get_xdata()) == len(ALPHAS)]
    assert [list(values) for values in shown] == [list(LINE)] * 2 + [[2 * value for value in LINE]] * 2
    assert {*accuracy.lines[0].get_ydata(), *accuracy.lines[2].get_ydata()} == {80.0, 90.0}  # 100 less the error
    assert named(panels) == ["train", "test"]
    assert [line.get_xdata() for line in loss.lines[-2:]] == [[0, 0], [1, 1]]
    train, test = loss.lines[0], loss.lines[2]  # told apart without colour
    assert (train.get_linestyle(), train.get_marker()) != (test.get_linestyle(), test.get_marker())


def test_the_directions_figure_draws_each_profile_of_each_end(records: list[landscape.Record]) -> None:
    table = landscape.directions(records)
    assert table.groupby(["kind", "end", "batch_size"])["direction"].nunique().to_dict() == {
        ("eigenvector", "large", 512): 2, ("eigenvector", "small", 32): 2,
        ("random", "large", 512): 3, ("random", "small", 32): 3,
    }  # fmt: skip
    axes = drawn(landscape.draw_directions, table)
    assert [len(panel.lines) for panel in axes] == [3 * 2 * 2, 3 * 2 * 2, 2 * 2 * 2, 2 * 2 * 2]
    assert axes[0].lines[0].get_ydata().tolist() == pytest.approx([0.02, 0.01, 0.02])
    assert {line.get_linestyle() for line in axes[0].lines[:6]} == {"-"}
    assert {line.get_linestyle() for line in axes[0].lines[6:]} == {"--"}
    assert axes[0].get_title() == "3 random directions\nf1 on mnist (n = 2 seeds)"
    assert axes[2].get_title().startswith("2 top eigenvectors")
    assert axes[0].get_xlabel() == "step a, in units of each filter's norm"
    assert axes[2].get_xlabel() == "distance a from the solution"
    assert axes[3].get_ylabel() == "training error (%)"
    assert named(axes) == ["b = 32", "b = 512"]


def test_the_planes_of_one_seed_share_their_levels(records: list[landscape.Record]) -> None:
    other = [(record(5, dataset="digits"), rows())]
    table = landscape.plane([records[2], *records[:2], *other])
    assert table[["dataset", "seed"]].drop_duplicates().to_numpy().tolist() == [["mnist", 0], ["digits", 5]]
    axes = drawn(landscape.draw_plane, table)
    assert len(axes) == 4
    contours = [panel.collections[0] for panel in axes[:2]]
    levels = [list(found.levels) for found in contours]
    assert levels[0] == pytest.approx([0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0])
    assert levels[0] == levels[1]
    assert axes[0].get_title() == "b = 32: f1 on mnist (n = 1: seed 0)"
    assert axes[3].get_title() == "b = 512: f1 on digits (n = 1: seed 5)"
    # ten times as steep along a as along b: the contour at 0.1 of the small-batch end crosses a's axis sooner
    (path,) = [found.get_paths()[levels[0].index(0.1)] for found in contours[:1]]
    assert abs(path.vertices[:, 0]).max() < 0.5 < abs(path.vertices[:, 1]).max()


def test_a_plane_with_points_that_diverged_is_drawn_without_them() -> None:
    made = rows()
    made.loc[(made["kind"] == "plane") & (made["a"] == 1), "train_loss"] = math.inf
    axes = drawn(landscape.draw_plane, landscape.plane([(record(), made)]))
    assert max(axes[0].collections[0].levels) < math.inf
    vertices = [path.vertices[:, 0] for path in axes[0].collections[0].get_paths() if len(path.vertices)]
    assert max(x.max() for x in vertices) <= 0


def test_the_rises_figure_sets_eigenvectors_against_random_directions(records: list[landscape.Record]) -> None:
    table = landscape.rises(records)
    assert len(table) == 2 * 2 * (2 + 3)
    first = table.iloc[0]
    assert (first["end"], first["kind"], first["rise"]) == ("small", "eigenvector", 0.9)
    assert first["quadratic"] == pytest.approx(0.5**2 * 8 / 2)
    assert table.loc[table["kind"] == "random", ["eigenvalue", "quadratic"]].isna().all(axis=None)
    (axes,) = panels = drawn(landscape.draw_rises, table)
    assert axes.get_ylabel() == "rise of the training loss (nats) at distance r = 0.5"
    assert [label.get_text() for label in axes.get_xticklabels()] == ["λ1", "λ2", "3 random\na seed"]
    assert axes.get_yscale() == "log"
    assert named(panels) == [f"b = {size}{what}" for size in (32, 512) for what in ("", ": r² λ / 2, as if quadratic")]
    assert "not shown" not in axes.get_xlabel()
    points = [list(line.get_ydata()) for line in axes.lines]
    assert points.count([0.9, 0.3]) == 2  # seeds
    assert points.count([9.0, 3.0]) == 2
    assert points.count([1e-3, 2e-3, 6e-3] * 2) == 2  # ends, both seeds in each
    assert all(line.get_xdata().min() > 2.65 for line in axes.lines if len(line.get_ydata()) == 6)


def test_rises_that_a_log_axis_cannot_show_are_counted() -> None:
    fallen = record()
    fallen["ends"]["large"]["rises"]["random"][:2] = [-1e-3, 0.0]
    (axes,) = drawn(landscape.draw_rises, landscape.rises([(fallen, rows())]))
    assert axes.get_xlabel().endswith("(not shown: 2 that are ≤ 0)")


@pytest.mark.parametrize("name", ["line", "directions", "plane", "rises"])
def test_a_study_that_diverged_has_empty_tables_and_figures_that_say_so(
    records: list[landscape.Record], name: str
) -> None:
    table = getattr(landscape, name)(records[2:])
    assert table.empty
    assert list(table.columns) == list(getattr(landscape, name)(records).columns)
    figure = figures.styled(getattr(landscape, f"draw_{name}"), table)
    assert "diverged" in figure.get_suptitle()
    plt.close(figure)
