"""Printed cells beside measured ones, and the figures, from made-up values whose answers are known."""

import math

import matplotlib.pyplot as plt
import pandas as pd
import pytest
from made_up import Made

from gapscope.drawing.figure import styled
from gapscope.measures import perturbation, perturbation_figures
from gapscope.measures import random_matrices as measure
from gapscope.measures import random_matrices_figures as drawing
from gapscope.papers.oyedotun2022 import random_matrices

STDS = {"gaussian": 1.0, "uniform": 12**-0.5}


def repeated(law: str, m: int, n: int, mean: float, half_spread: float = 1.0) -> list[dict]:
    """50 matrices at mean - half_spread and 50 at mean + half_spread: standard error half_spread / sqrt(99)."""
    return [
        {"law": law, "m": m, "n": n, "sigma_min": mean + sign * half_spread, "sigma_max": 40.0 + sign}
        for sign in (-1, 1)
        for _ in range(50)
    ]


def matrices() -> pd.DataFrame:
    rows = repeated("gaussian", 100, 25, 6.0) + repeated("uniform", 100, 25, 20.0) + repeated("uniform", 100, 4, 9.0)
    return pd.DataFrame(rows)


@pytest.fixture
def cells() -> pd.DataFrame:
    return measure.means(matrices(), STDS)


def paper(*values: tuple[str, int, float]) -> pd.DataFrame:
    rows = [{"table": "A1", "law": law, "m": 100, "n": n, "sigma_min": value, "note": ""} for law, n, value in values]
    return pd.DataFrame(rows)


SE = 1 / math.sqrt(99)
STEP = SE * math.sqrt(2)  # the printed mean has the same standard error


def test_a_cell_has_mean_standard_error_n_and_margins(cells: pd.DataFrame) -> None:
    first = cells.iloc[0]
    assert (first["repetitions"], first["sigma_min_mean"]) == (100, 6.0)
    assert first["sigma_min_se"] == pytest.approx(SE)
    assert (first["lower"], first["upper"]) == (5.0, 15.0)
    assert first["lower_margin_se"] == pytest.approx(1 / SE)  # holds
    assert first["upper_margin_se"] == pytest.approx(-25 / SE)  # does not
    assert cells.iloc[1]["lower"] == pytest.approx(5 / math.sqrt(12))


@pytest.mark.parametrize(
    ("value", "verdict", "fits"),
    [
        (6.0, "agrees", ""),
        (6.0 + 3.9 * STEP, "agrees", ""),
        (6.0 - 3.9 * STEP, "agrees", ""),
        (6.0 + 4.1 * STEP, "off", ""),
        (6.0 - 4.1 * STEP, "off", ""),
        (20.1, "off", "uniform 100 x 25"),
        (9.0, "off", "uniform 100 x 4"),
    ],
)
def test_a_printed_value_far_from_the_measured_one_is_marked(
    cells: pd.DataFrame, value: float, verdict: str, fits: str
) -> None:
    (row,) = random_matrices.beside(paper(("gaussian", 25, value)), cells).to_dict("records")
    assert (row["verdict"], row["fits"]) == (verdict, fits)
    assert row["difference_se"] == pytest.approx((value - 6.0) / STEP, rel=1e-6)
    text = random_matrices.markdown(pd.DataFrame([row]))
    assert ("**off**" in text) == (verdict == "off")
    assert f": fits {fits} |" in text or not fits


def test_rounding_in_print_counts_where_the_spread_is_small() -> None:
    cells = measure.means(pd.DataFrame(repeated("gaussian", 9, 4, 0.003, 1e-9)), STDS)
    assert random_matrices.differences(0.00305, cells).abs().max() < 2
    assert random_matrices.differences(0.0032, cells).abs().max() > 4


def test_fewer_matrices_than_the_papers_make_only_our_own_error_larger(cells: pd.DataFrame) -> None:
    fewer = cells.assign(repetitions=25, sigma_min_se=2 * SE)  # the same spread
    expected = 1.0 / math.sqrt((2 * SE) ** 2 + SE**2)
    assert random_matrices.differences(7.0, fewer).iloc[0] == pytest.approx(expected, rel=1e-6)


def test_a_shape_that_was_not_measured_is_said(cells: pd.DataFrame) -> None:
    rows = random_matrices.beside(paper(("gaussian", 25, 6.0), ("gaussian", 99, 1.0)), cells)
    assert rows["verdict"].tolist() == ["agrees", "not measured"]
    text = random_matrices.markdown(rows)
    assert "| A1 | gaussian | 100 x 99 | 1.0000 | | | not measured |" in text
    assert len({line.count("|") for line in text.splitlines() if line.startswith("|")}) == 1


def test_the_printed_tables_are_whole() -> None:
    tables = random_matrices.printed()
    assert tables.groupby("table").size().to_dict() == {"A1": 15, "A2": 15, "A3": 15}
    assert tables.groupby("table")["law"].unique().str[0].to_dict() == {
        "A1": "gaussian", "A2": "uniform", "A3": "lognormal",
    }  # fmt: skip
    shapes = [tuple(zip(group["m"], group["n"], strict=True)) for _, group in tables.groupby("table")]
    assert len(set(shapes)) == 1


# --- Proposition 3 ----------------------------------------------------------------------------------------------------


def perturbed() -> pd.DataFrame:
    rows = []
    for samples, estimate in ((10, 0.9), (40, 1e-6)):
        for repetition in range(3):
            values = {"estimate": estimate, "smallest": 1e-6, "worst_estimate": estimate, "worst_smallest": 2e-6}
            values |= {"bound": 3e-5, "tight": 2e-6}
            rows.append({"units": 20, "samples": samples, "repetition": repetition, **values})
    return perturbation.by_samples(pd.DataFrame(rows))


def test_violations_are_counted_in_each_regime(cells: pd.DataFrame) -> None:
    table = perturbed().set_index("samples")
    assert table["violations"].to_dict() == {10: 3, 40: 0}
    assert table["violations_smallest"].to_dict() == {10: 0, 40: 0}
    assert table.loc[40, "bound_over_tight"] == pytest.approx(15)
    summary = random_matrices.summary(random_matrices.beside(paper(("gaussian", 25, 99.0)), cells), perturbed())
    assert summary["eq5_b_below_h"] == {"violated": 3, "violated_smallest": 0, "of": 3}
    assert summary["eq5_b_at_least_h"] == {"violated": 0, "violated_smallest": 0, "of": 3}
    assert summary["printed_cells"] == {"agrees": 0, "off": 1}


# --- figures ----------------------------------------------------------------------------------------------------------


def histograms() -> pd.DataFrame:
    """Bins of 2 for 100 x 25: two matrices whose values fill two bins on the axis, and one far beyond it."""
    counts = ((6.0, 24), (10.0, 24), (500.0, 2))
    about = {"law": "uniform", "m": 100, "n": 25, "repetitions": 2}
    return pd.DataFrame([{**about, "low": low, "high": low + 2, "count": c, "expected": 5.0} for low, c in counts])


def read(monkeypatch: pytest.MonkeyPatch, stds: dict[str, float], values: pd.DataFrame | None = None) -> None:
    monkeypatch.setattr(measure, "read", lambda _: (stds, values, histograms()))


def test_a_histogram_draws_values_per_matrix_with_empty_bins_between_and_says_what_lies_beyond(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read(monkeypatch, {"uniform": 1.0})
    rows = drawing.distributions(Made(), "uniform")
    assert rows["axis_end"].unique().tolist() == pytest.approx([drawing.AXIS_STDS * 10])
    figure = styled(drawing.draw_distributions, rows)
    (axes,) = figure.axes
    (line,) = axes.patches
    assert line.get_data().values.tolist() == [12.0, 0.0, 12.0]
    assert line.get_data().edges.tolist() == [6.0, 8.0, 10.0, 12.0]
    assert line.get_label() == "n = 25 (2); 1 per matrix up to 502"
    assert (axes.get_title(), axes.get_xlabel()) == ("m = 100", "singular value")
    plt.close(figure)


def test_the_density_of_proposition_1_counts_every_value(monkeypatch: pytest.MonkeyPatch) -> None:
    read(monkeypatch, {"uniform": 1.0})
    rows = drawing.marchenko_pastur(Made())
    assert (rows["count_density"] * (rows["high"] - rows["low"])).sum() == pytest.approx(1.0)
    assert rows["low"].tolist() == pytest.approx([0.6, 1.0, 50.0])
    assert (rows["edge_low"].iloc[0], rows["edge_high"].iloc[0]) == (0.5, 1.5)
    figure = styled(drawing.draw_marchenko_pastur, rows)
    assert "96.00 % between the edges; largest value: 50.2" in figure.axes[0].get_title()
    plt.close(figure)


def test_proposition_2_draws_means_and_margins(monkeypatch: pytest.MonkeyPatch) -> None:
    read(monkeypatch, STDS, matrices())
    rows = drawing.extremes(Made())
    assert rows["sigma_min_scaled"].iloc[0] == pytest.approx(0.6)
    assert rows["sigma_min_margin"].tolist() == pytest.approx([1.0, 20 * math.sqrt(12) - 5, 9 * math.sqrt(12) - 8])
    assert rows["sigma_max_margin"].iloc[0] == pytest.approx(-25.0)
    figure = styled(drawing.draw_extremes, rows)
    assert figure.axes[0].get_ylabel() == "mean σ_min / (s √m)"
    plt.close(figure)


def test_proposition_3_marks_where_the_proof_does_not_apply() -> None:
    figure = styled(perturbation_figures.draw_perturbation, perturbed())
    assert [axes.get_title() for axes in figure.axes] == ["random ΔX", "worst ΔX"]
    assert "b = h = 20" in figure.axes[0].texts[0].get_text()
    assert {line.get_label() for line in figure.axes[0].lines} >= {"tight: ‖ΔX‖ / σ_min"}
    plt.close(figure)
