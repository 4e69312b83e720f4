"""Table and figure of warm starts, from made-up rows whose answers are known."""

import math

import matplotlib.pyplot as plt
import pandas as pd
import pytest

from gapscope.report import figures, warmstart

SHARP = "sharpness_full_0.001_pct"


def record(seed: int, *rows: tuple[int, float, float, str]) -> tuple[dict, dict, pd.DataFrame]:
    """One run: start, test errors of iterate and solution, status. Sharpness: ten times the error."""
    made = [
        {"start_epoch": start, "small_test_error_pct": small, f"small_{SHARP}": 10 * small}
        | {"large_test_error_pct": large, f"large_{SHARP}": 10 * large, "status": status}
        for start, small, large, status in rows
    ]
    about = {"settings": {"small": 256, "large": 6000}, "device": "cpu (test)"}
    return {"model": "f1", "dataset": "mnist", "seed": seed}, about, pd.DataFrame(made)


@pytest.fixture
def table() -> pd.DataFrame:
    first = record(0, (0, 90.0, 5.0, "ok"), (10, 2.0, 4.0, "ok"), (20, 1.0, 3.0, "ok"))
    second = record(1, (0, 80.0, 6.0, "ok"), (10, 3.0, 8.0, "ok"), (20, 2.0, math.nan, "large diverged"))
    return warmstart.runs([first, second])


def test_every_start_of_every_run_is_a_row(table: pd.DataFrame) -> None:
    assert table["seed"].tolist() == [0, 0, 0, 1, 1, 1]
    assert table["start_epoch"].tolist() == [0, 10, 20] * 2
    assert table["large_batch_size"].unique().tolist() == [6000]
    assert table["device"].unique().tolist() == ["cpu (test)"]


def test_the_summary_has_means_and_n_of_the_runs_that_ended_well(table: pd.DataFrame) -> None:
    found = warmstart.summary(table)["f1-mnist"]
    assert found["start10"] == {
        "n": 2, "small_test_error_pct": 2.5, f"small_{SHARP}": 25.0,
        "large_test_error_pct": 6.0, f"large_{SHARP}": 60.0,
    }  # fmt: skip
    assert (found["start20"]["n"], found["start20"]["large_test_error_pct"]) == (1, 3.0)


def test_the_figure_s_table_has_accuracy_and_sharpness_of_both_sides(table: pd.DataFrame) -> None:
    rows = warmstart.warmstart(table)
    assert len(rows) == 6 * 2 * 2
    one = rows[(rows["seed"] == 1) & (rows["start_epoch"] == 10)].set_index(["panel", "series"])["value"].to_dict()
    assert one == {
        ("accuracy_pct", "small-batch iterate"): 97.0,
        ("accuracy_pct", "large-batch solution from there"): 92.0,
        (SHARP, "small-batch iterate"): 30.0,
        (SHARP, "large-batch solution from there"): 80.0,
    }


def lines(axes: plt.Axes) -> list[tuple[list[float], list[float]]]:
    """x and y of points and mean, of the one side and of the other; without the legend's empty ones."""
    drawn = [(line.get_xdata(), line.get_ydata()) for line in axes.lines if len(line.get_xdata())]
    return [([float(x) for x in xs], [float(y) for y in ys]) for xs, ys in drawn]


def test_the_figure_draws_seeds_as_points_and_means_as_lines(table: pd.DataFrame) -> None:
    figure = figures.styled(warmstart.draw_warmstart, warmstart.warmstart(table))
    accuracy, sharpness = figure.axes
    points, mean, other_points, other_mean = lines(accuracy)
    assert points == ([10, 20, 10, 20], [98, 99, 97, 98])  # not the untrained iterate
    assert mean[0] == [0, 10, 20]
    assert mean[1][1:] == [97.5, 98.5]
    assert math.isnan(mean[1][0])
    assert other_points == ([0, 10, 20, 0, 10], [95, 96, 97, 94, 92])
    assert other_mean == ([0, 10, 20], [94.5, 94, 97])
    assert lines(sharpness)[1] == ([0, 10, 20], [850, 25, 15])
    assert "(not shown: epoch 0 itself, untrained, 15.0 %)" in accuracy.get_xlabel()
    assert accuracy.get_title() == "f1 on mnist (n = 2 seeds; diverged: 1 of 12 points)"
    assert (accuracy.get_ylabel(), sharpness.get_ylabel(), sharpness.get_yscale()) == (
        "test accuracy (%)", "sharpness φ (%), full space, ε = 0.001", "log",
    )  # fmt: skip
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert texts == ["small-batch iterate, b = 256", "large-batch solution from there, b = 6000"]
    for axes in figure.axes:  # told apart without colour, and alike in both panels
        assert [(line.get_linestyle(), line.get_marker()) for line in axes.lines[2::3]] == [("-", "o"), ("--", "s")]
    plt.close(figure)


def test_where_every_run_diverged_the_figure_says_so() -> None:
    table = warmstart.runs([record(0, (10, math.nan, math.nan, "small diverged"))])
    rows = warmstart.warmstart(table)
    assert rows.empty
    assert "nothing to draw" in figures.styled(warmstart.draw_warmstart, rows).get_suptitle()
    assert warmstart.summary(table)["f1-mnist"] == {"start10": {"n": 0}}
    plt.close("all")
