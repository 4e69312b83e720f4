"""Curvature's tables and figures, against records made by hand."""

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from gapscope.report import curvature, figures

CELL = {"model": "lenet5", "dataset": "digits"}


def record(scale: float, status: str = "ok") -> dict[str, Any]:
    if status != "ok":
        return {"status": status}
    found = {"nodes": [-scale, 0.0, 5 * scale], "weights": [0.1, 0.7, 0.2], "residuals": [1e-3, 0.5, 1e-6]}
    found |= {"trace": 4 * scale, "trace_standard_error": 0.1}
    ball = {"plain": {"rise": 0.1 * scale}, "adaptive": {"rise": 0.2 * scale}}
    about = {"gradient_norm": 1e-3, "weight_norm": 3.0, "parameters": 9, "settings": {"steps": 3}}
    conditions = {"conditions": {"images": 64, "batch_norm": "running", "precision": "float32"}}
    gauss_newton = found | {"nodes": [0.0, 3 * scale], "residuals": [0.0, 1e-6]}
    return {"status": status, "hessian": found, "gauss_newton": gauss_newton, "ball": ball, **about, **conditions}


RECORDS = [
    ({**CELL, "batch_size": 32, "seed": 0}, record(1.0)),
    ({**CELL, "batch_size": 32, "seed": 1}, record(3.0)),
    ({**CELL, "batch_size": 512, "seed": 0}, record(10.0)),
    ({**CELL, "batch_size": 512, "seed": 1}, record(0.0, "diverged")),
]


@pytest.fixture
def rows() -> pd.DataFrame:
    return curvature.curvature(RECORDS, level=4.0)


def test_a_row_has_both_ends_with_their_residuals_and_the_conditions(rows: pd.DataFrame) -> None:
    first = rows.iloc[2]
    assert (first["hessian_largest"], first["hessian_largest_residual"], first["hessian_smallest"]) == (50, 1e-6, -10)
    assert (first["gauss_newton_largest"], first["hessian_trace"], first["hessian_above_level"]) == (30, 40, 1)
    assert (first["ball_plain_rise"], first["ball_adaptive_rise"], first["images"], first["level"]) == (1, 2, 64, 4)
    assert rows["status"].tolist() == ["ok", "ok", "ok", "diverged"]
    assert np.isnan(rows.iloc[3]["hessian_largest"])


def test_the_figure_draws_every_run_but_a_diverged_one(rows: pd.DataFrame) -> None:
    long = curvature.against_size(rows)
    assert len(long) == 3 * len(curvature.SERIES)
    assert set(long.loc[long["panel"] == "count", "series"]) == {"Hessian, above 4", "Gauss-Newton, above 4"}
    largest = long[long["series"] == "Gauss-Newton, largest"]
    assert largest["value"].tolist() == [3, 9, 30]
    figure = figures.styled(curvature.draw_curvature, long)
    assert [axes.get_ylabel() for axes in figure.axes] == [
        "extreme eigenvalue", "trace", "large eigenvalues, at least", "rise of the loss (nats)",
    ]  # fmt: skip
    assert all("(n = 1 to 2 seeds)" in axes.get_title() for axes in figure.axes)
    plt.close(figure)


def test_a_density_holds_all_eigenvalues_on_one_grid() -> None:
    rows = curvature.density(RECORDS)
    runs = rows.groupby(["batch_size", "seed"])
    assert list(runs.groups) == [(32, 0), (32, 1), (512, 0)]
    np.testing.assert_allclose(runs["share"].sum(), 1, rtol=1e-3)
    large = rows[rows["batch_size"] == 512]
    peak = large.loc[large["eigenvalue"].between(45, 55), "share"].sum()
    assert peak == pytest.approx(0.2, rel=1e-2)
    figure = figures.styled(curvature.draw_density, rows)
    assert [line.get_label() for line in figure.axes[0].lines] == ["b = 32", "b = 512"]
    plt.close(figure)


def scales() -> pd.DataFrame:
    table = pd.DataFrame({"epoch": [0, 1, 2], "noise_scale": [50.0, 900.0, np.inf], "low": [40.0, 300.0, 2000.0]})
    table["high"] = [60.0, np.inf, np.inf]
    records = [({**CELL, "seed": seed}, {"status": "ok", "settings": {"batch_size": 128}}, table) for seed in (0, 1)]
    return curvature.noise_scale(records, (25, 100, 25))


def test_the_noise_scale_predicts_steps_and_examples_at_the_study_s_batch_sizes() -> None:
    first = scales().iloc[0]
    assert (first["steps_ratio_b25"], first["examples_ratio_b25"]) == (3, 1.5)
    assert (first["steps_ratio_b100"], first["examples_ratio_b100"]) == (1.5, 3)
    assert (first["trained_at"], first["status"], first["seed"]) == (128, "ok", 0)


def test_the_noise_scale_is_drawn_with_its_interval_also_where_that_has_no_end() -> None:
    figure = figures.styled(curvature.draw_noise_scale, scales())
    (axes,) = figure.axes
    assert axes.get_ylabel() == "critical batch size (images)"
    known, limit = axes.lines[:2]
    assert (known.get_label(), list(known.get_ydata())) == ("seed 0", [50, 900])
    assert (list(limit.get_xdata()), list(limit.get_ydata())) == (
        [2],
        [2000],
    )  # only a lower limit is known
    band = axes.collections[0].get_paths()[0].vertices
    assert band[:, 1].max() == 9000  # drawn to the top where it has no end
    assert len(axes.collections) == 2
    plt.close(figure)


def test_a_study_of_which_every_run_diverged_draws_a_note() -> None:
    rows = curvature.curvature([RECORDS[3]], level=1.0)
    assert figures.styled(curvature.draw_curvature, curvature.against_size(rows)).get_suptitle().startswith("nothing")
    assert figures.styled(curvature.draw_density, curvature.density([RECORDS[3]])).get_suptitle().startswith("nothing")
    plt.close("all")
