"""Figures of the measures on networks, from made-up values whose answers are known."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from made_up import Made

from gapscope.drawing import axes as drawing
from gapscope.drawing.figure import save, styled
from gapscope.measures import (
    curvature,
    curvature_figures,
    evaluation_figures,
    near_rank_figures,
    noise_scale_figures,
    sharpness_figures,
    spectra_figures,
    warm_start,
    warm_start_figures,
)
from gapscope.measures import gradient_law_figures as gradients
from gapscope.papers.oyedotun2022 import tables as paper
from gapscope.records.spectra import LOG_POINTS, LayerRecord, ModeRecord
from gapscope.records.tables import write_table

CELL = {"model": "lenet5", "dataset": "fashion_mnist"}
RUNS = [(128, 0), (128, 1), (512, 0), (512, 1)]
CELLS = pd.DataFrame([{**CELL, "batch_size": size, "seed": seed} for size, seed in RUNS])
CELLS["status"] = ["ok", "ok", "ok", "diverged"]


def values(quantity: str, of: list[float], **axes: Any) -> pd.DataFrame:
    """Long rows of the first runs of RUNS, with these values."""
    return CELLS.drop(columns="status").iloc[: len(of)].assign(quantity=quantity, **axes, value=of)


def of_errors() -> list[pd.DataFrame]:
    axes = {"statistics": "reestimated"}
    errors = [values("error_pct", [7.0, 9.0, 10.0], split="test", **axes)]
    errors += [values("error_pct", [0.5] * 3, split="train", **axes)]
    losses = [values("cross_entropy", [0.5] * 3, split=split, **axes) for split in ("train", "test")]
    return [*errors, *losses, values("penalty", [0.25] * 3), values("loss", [0.75] * 3, split="train", **axes)]


def of_sharpness() -> list[pd.DataFrame]:
    box = {"space": "full", "epsilon": 1e-3}
    factors = {"train": 2.0, "test": 3.0}
    return [values("sharpness_pct", [f * b for b, _ in RUNS[:3]], split=split, **box) for split, f in factors.items()]


def of_counts(sample: str, excess: list[float], undecidable: int = 0, **axes: Any) -> list[pd.DataFrame]:
    """Counts at 1e-4, with as many structural zeros as the batch size in the run's own sample."""
    at = {"sample": sample, "threshold": 1e-4, "relative": False, **axes}
    structural = [float(b) for b, _ in RUNS[: len(excess)]]
    full = [a + b for a, b in zip(excess, structural, strict=True)]
    made = {"near_rank_excess": excess, "near_rank_structural": structural, "near_rank_full": full}
    made["undecidable_spectra"] = [undecidable] * len(excess)
    return [values(name, of, **at) for name, of in made.items()]


def study(*parts: pd.DataFrame, **more: Any) -> Made:
    table = pd.concat(parts, ignore_index=True)
    for axis in ("split", "statistics", "space", "dimension", "epsilon", "sample", "threshold", "relative", "level"):
        if axis not in table:
            table[axis] = np.nan
    return Made(table, CELLS, **more)


# --- error and loss ---


def test_the_gap_figure_draws_its_rows_and_says_of_printed_values_only_where_there_are_some() -> None:
    rows = evaluation_figures.gap(study(*of_errors(), printed=paper.figure_values(5)))
    assert set(rows["source"]) == {"measured", "paper"}
    assert not rows["value"].isna().any()
    figure = styled(evaluation_figures.draw_gap, rows)
    left, right = figure.axes
    assert (left.get_title(), right.get_title()) == (evaluation_figures.ERROR, evaluation_figures.LOSS)
    assert left.get_xlabel() == "training batch size b"
    assert figure.get_suptitle().endswith("LeNet-5 on Fashion-MNIST (n = 1 to 2 seeds)")
    means = [line.get_ydata().tolist() for line in left.lines if list(line.get_xdata()) == [128, 512]]
    assert [8.0, 10.0] in means  # the means of the measured test errors
    measured = evaluation_figures.gap(study(*of_errors()))
    assert "printed" in evaluation_figures.gap_caption(rows)
    assert "printed" not in evaluation_figures.gap_caption(measured)
    plt.close(figure)


def test_the_width_figure_has_the_gap_of_each_seed_and_none_where_there_is_one_width() -> None:
    errors = of_errors()
    widths = {"lenet5": 1.0, "lenet5_w2": 2.0}
    values = pd.concat(
        [table.assign(model=name, value=table["value"] * w) for name, w in widths.items() for table in errors]
    )
    cells = pd.concat([CELLS.assign(model=name) for name in widths])
    rows = evaluation_figures.by_width(Made(values, cells))
    gaps = rows[rows["panel"] == evaluation_figures.GAP]
    assert set(rows["model"]) == {"lenet5"}
    assert gaps[["width", "seed", "value"]].to_numpy().tolist() == [[1, 0, 3], [2, 0, 6]]  # of seed 0: 10 minus 7
    errors_drawn = rows[rows["panel"] == evaluation_figures.TEST_ERROR].groupby(["series", "width"])["value"].mean()
    assert errors_drawn.to_dict() == {("b = 128", 1): 8, ("b = 128", 2): 16, ("b = 512", 1): 10, ("b = 512", 2): 20}
    assert "bars" in evaluation_figures.by_width_caption(rows)
    plt.close(styled(evaluation_figures.draw_by_width, rows))
    assert evaluation_figures.by_width(study(*of_errors())).empty


def test_a_study_has_no_file_of_an_optional_figure_that_is_empty(tmp_path: Path) -> None:
    figures = [one for one in evaluation_figures.FIGURES if one.name in ("gap", "gap_by_width")]
    save(figures, study(*of_errors()), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["gap.csv", "gap.svg"]


def test_a_single_epoch_is_drawn_as_marks_and_so_described() -> None:
    rows = pd.DataFrame([{**CELL, "batch_size": 128, "seed": seed, "epoch": 1, "value": 2.0 + seed} for seed in (0, 1)])
    rows = rows.rename(columns={"value": "test_error_pct"}).assign(train_cross_entropy=1.0)
    figure = styled(evaluation_figures.draw_curves, rows)
    (line,) = [line for line in figure.axes[0].lines if line.get_label() == "b = 128"]
    assert (line.get_marker(), line.get_ydata().tolist()) == ("o", [2.5])
    caption = evaluation_figures.curves_caption(rows)
    assert ("bars" in caption, "bands" in caption) == (True, False)
    plt.close(figure)


def test_two_batch_sizes_have_no_line_between_them_and_three_have() -> None:
    row = {**CELL, "seed": 0, "panel": "a", "series": "a", "source": "measured", "value": 1.0}
    printed = [{**row, "batch_size": size, "source": "paper"} for size in (64, 128, 256, 512)]
    for sizes, styles in (((128, 512), {"None"}), ((128, 512, 1024), {"-"})):
        rows = pd.DataFrame([{**row, "batch_size": size} for size in sizes] + printed)
        figure = styled(lambda table: drawing.against_batch_size(table, "Title"), rows)
        assert {line.get_linestyle() for line in figure.axes[0].lines if line.get_label() == "a"} == styles
        plt.close(figure)


def test_a_curve_is_the_mean_over_seeds_and_its_band_reaches_from_run_to_run() -> None:
    runs = [(8, 0, 1.0), (8, 1, 4.0), (16, 0, 2.0)]
    rows = pd.DataFrame(
        [{**CELL, "batch_size": b, "seed": s, "epoch": e, "test_error_pct": v * e} for b, s, v in runs for e in (1, 2)]
    )
    figure = styled(evaluation_figures.draw_curves, rows.assign(train_cross_entropy=rows["test_error_pct"]))
    for axes in figure.axes:
        assert [line.get_ydata().tolist() for line in axes.lines if line.get_label() != "_bars"] == [[2.5, 5], [2, 4]]
        (band,) = axes.collections  # one run has none
        assert sorted({(x, y) for x, y in band.get_paths()[0].vertices.tolist()}) == [(1, 1), (1, 4), (2, 2), (2, 8)]
    assert [title.split(" (")[0] for title in (axes.get_title() for axes in figure.axes)] == [
        "test error",
        "train cross-entropy",
    ]
    plt.close(figure)


def test_a_study_of_which_every_run_diverged_still_has_its_figures() -> None:
    figure = styled(evaluation_figures.draw_gap, pd.DataFrame(columns=drawing.LONG))
    assert "diverged" in figure.get_suptitle()
    plt.close(figure)


# --- near-rank counts ---


def near_rank(undecidable: int = 0, own: int = 0) -> pd.DataFrame:
    """The model trained at the first batch size has 1 value in excess at 128 images and 6 at 512, the run 4."""
    reference = of_counts("reference", [1.0, 1.0, 6.0], undecidable)
    return near_rank_figures.table(study(*of_counts("run", [4.0] * 3, own), *reference))


def test_the_near_rank_figure_keeps_structural_and_excess_apart() -> None:
    rows = near_rank_figures.table(study(*of_counts("run", [4.0] * 3)))
    by_series = rows[rows["batch_size"] == 128].groupby("series")["value"].mean().to_dict()
    assert by_series == {"structural + excess": 132, "structural (zero by shape)": 128, "trained at b": 4}
    figure = styled(near_rank_figures.draw, rows)
    assert figure.axes[0].get_title() == "values ≤ 1e-4: as the paper counts"
    plt.close(figure)


def test_what_remains_is_the_excess_minus_that_of_the_model_of_the_first_batch_size() -> None:
    rows = near_rank()
    remains = rows[rows["series"] == "trained at b, minus trained at 128"].groupby("batch_size")["value"].mean()
    assert remains.to_dict() == {128: 4 - 1, 512: 4 - 6}
    assert set(rows["question"]) == set(near_rank_figures.QUESTIONS)
    assert not rows["undecidable"].any()
    assert "ring" not in near_rank_figures.caption(rows)


def test_an_undecidable_count_is_marked_in_table_and_figure() -> None:
    rows = near_rank(undecidable=2)
    flagged = rows[rows["undecidable"]]["series"].unique()
    assert set(flagged) == {"control: trained at b = 128", "trained at b, minus trained at 128"}
    own = near_rank(own=1)
    assert set(own[own["undecidable"]]["series"]) == {  # zeros by shape are exact
        "structural + excess", "trained at b", "trained at b, minus trained at 128",
    }  # fmt: skip
    figure = styled(near_rank_figures.draw, rows)
    labels = [text for axes in figure.axes for text in axes.get_legend_handles_labels()[1]]
    assert [label.removesuffix(": undecidable") for label in labels if "undecidable" in label] == list(flagged)
    assert "ring" in near_rank_figures.caption(rows)
    plt.close(figure)


def test_a_relative_threshold_has_panels_of_its_own() -> None:
    relative = of_counts("run", [0.0] * 3, relative=True)
    figure = styled(near_rank_figures.draw, near_rank_figures.table(study(*of_counts("run", [4.0] * 3), *relative)))
    labels = [axes.get_title().replace("\n", " ") for axes in figure.axes]
    assert "values ≤ 1e-4 of the largest: excess over b images" in labels
    assert "values ≤ 1e-4: excess over b images" in labels
    plt.close(figure)


def test_bars_reach_from_the_smallest_run_to_the_largest_and_no_count_below_0() -> None:
    row = {**CELL, "batch_size": 128, "panel": "a", "question": "a", "series": "a", "source": "measured"}
    rows = pd.DataFrame([row | {"seed": seed, "value": value} for seed, value in enumerate([0, 0, 3])])
    equal = rows.assign(batch_size=512, value=0.1)  # whose mean is not 0.1
    figure = styled(near_rank_figures.draw, pd.concat([rows, equal], ignore_index=True))
    (bars,) = [line for line in figure.axes[0].lines if line.get_label() == "_bars"]
    assert bars.get_xdata()[:2].tolist() == [128, 128]
    assert bars.get_ydata()[:2].tolist() == [0, 3]  # a deviation, 1.7, would reach below 0 from the mean, 1
    assert len(bars.get_xdata()) == 3  # with the gap behind it: runs that are equal have no bar
    plt.close(figure)


# --- sharpness ---


def test_the_sharpness_figure_has_accuracy_beside_it() -> None:
    rows = sharpness_figures.table(study(*of_errors(), *of_sharpness()))
    assert rows.loc[rows["series"] == "test accuracy", "value"].tolist() == [93.0, 91.0, 90.0]
    assert rows.loc[rows["panel"] == "sharpness φ of the test loss (%)", "value"].tolist() == [384.0, 384.0, 1536.0]
    figure = styled(sharpness_figures.draw, rows)
    labels = ["test accuracy (%)", "sharpness φ of the train loss (%)", "sharpness φ of the test loss (%)"]
    assert [axes.get_title() for axes in figure.axes] == labels
    for axes, panel in zip(figure.axes, rows["panel"].drop_duplicates(), strict=True):
        drawn = {text.get_text() for text in axes.get_legend().get_texts()}
        assert drawn == set(rows.loc[rows["panel"] == panel, "series"])
    plt.close(figure)


# --- spectra ---


def layer(name: str, known: list[float], bounds: list[float], method: str = "qr", sample: str = "run") -> LayerRecord:
    """A record that lists every value of one spectrum."""
    mode = ModeRecord(method, known[0], known[-1], np.array(bounds), np.array(known))
    return LayerRecord(sample, name, (len(known), len(known)), [mode])


def spectra(monkeypatch: pytest.MonkeyPatch, records: list[LayerRecord]) -> pd.DataFrame:
    class Cell:
        model, dataset, seed = "lenet5", "fashion_mnist", 0
        columns = staticmethod(lambda: {**CELL, "batch_size": 500, "seed": 0})
        record = staticmethod(lambda *_: None)

    monkeypatch.setattr(spectra_figures, "cells", lambda _: [Cell])
    monkeypatch.setattr(spectra_figures, "read_spectra", lambda _: ({}, records))
    return spectra_figures.table(Made())


def test_a_thinned_spectrum_keeps_both_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    known = list(np.geomspace(10, 1e-6, 500))
    fc1 = layer("fc1", known, [1e-9] * 400 + [1e-13] * 100, "deflation")
    rows = spectra(monkeypatch, [fc1, replace(fc1, sample="probe")])
    assert rows["index"].is_monotonic_increasing
    assert rows["value"].tolist() == [known[index - 1] for index in rows["index"]]
    assert {1, 500} <= set(rows["index"])
    assert len(rows) == spectra_figures.POINTS < LOG_POINTS
    assert rows[["error_bound", "method"]].dropna().to_numpy().tolist() == [[1e-13, "deflation"]]
    assert rows[["error_bound", "method"]].iloc[-1].notna().all()
    figure = styled(spectra_figures.draw, rows)
    assert figure.axes[0].get_ylim()[0] == 1e-5  # a decade below the threshold
    assert "grey" not in spectra_figures.caption(rows)
    assert "grey" in spectra_figures.caption(rows.assign(error_bound=1e-4))
    assert figure.axes[0].get_title() == "fc1, samples x units"
    assert [line.get_ydata()[0] for line in figure.axes[0].lines if line.get_linestyle() == "--"] == [1e-4]
    plt.close(figure)


def test_of_a_deep_network_some_layers_are_drawn_the_ends_among_them(monkeypatch: pytest.MonkeyPatch) -> None:
    most = spectra_figures.LAYERS
    for depth, shown in ((55, most), (most, most), (3, 3), (1, 1)):
        rows = spectra(monkeypatch, [layer(f"layer{i}", [1.0], [1e-9]) for i in range(depth)])
        assert len(rows) == shown
        assert {"layer0", f"layer{depth - 1}"} <= set(rows["layer"])


# --- curvature ---


def curved(scale: float) -> pd.DataFrame:
    found = {"nodes": [-scale, 0.0, 5 * scale], "weights": [0.1, 0.7, 0.2], "residuals": [1e-3, 0.5, 1e-6]}
    found |= {"trace": 4 * scale, "trace_standard_error": 0.1}
    ball = {"plain": {"rise": 0.1 * scale}, "adaptive": {"rise": 0.2 * scale}}
    ball = {name: of | {"radius": 0.05, "base": 0.0} for name, of in ball.items()}
    gauss_newton = found | {"nodes": [0.0, 3 * scale], "residuals": [0.0, 1e-6], "weights": [0.5, 0.5]}
    record = {"hessian": found, "gauss_newton": gauss_newton, "ball": ball}
    return pd.DataFrame(curvature.rows(record | {"gradient_norm": 1e-3, "weight_norm": 3.0, "parameters": 9}))


def curvature_study() -> Made:
    runs = []
    for (size, seed), scale in zip(RUNS, (1.0, 3.0, 10.0, None), strict=True):
        about, status = {**CELL, "batch_size": size, "seed": seed}, "diverged" if scale is None else "ok"
        runs.append((about, {"status": status}, pd.DataFrame() if scale is None else curved(scale)))
    made = Made(cells=CELLS, stages={"curvature": runs})
    made.values = curvature.run_rows(made)
    return made


def test_a_run_has_both_ends_with_their_residuals_and_the_count_at_its_level() -> None:
    rows = curvature_study().values
    first = rows[rows["batch_size"] == 512].set_index("quantity")
    assert first["value"].to_dict() == pytest.approx({
        "hessian_largest": 50, "hessian_largest_residual": 1e-6, "hessian_smallest": -10,
        "hessian_smallest_residual": 1e-3, "hessian_trace": 40, "hessian_trace_standard_error": 0.1,
        "hessian_above_level": 1, "gauss_newton_largest": 30, "gauss_newton_largest_residual": 1e-6,
        "gauss_newton_smallest": 0, "gauss_newton_smallest_residual": 0, "gauss_newton_trace": 40,
        "gauss_newton_trace_standard_error": 0.1, "gauss_newton_above_level": 1,
        "ball_plain_rise": 1, "ball_adaptive_rise": 2, "gradient_norm": 1e-3, "parameters": 9,
    })  # fmt: skip
    assert (first.loc["hessian_above_level", "level"], first.loc["ball_plain_rise", "radius"]) == (4, 0.05)
    assert rows[["batch_size", "seed"]].drop_duplicates().to_numpy().tolist() == [[128, 0], [128, 1], [512, 0]]


def test_the_figure_draws_every_run_but_a_diverged_one() -> None:
    rows = curvature_figures.against_batch_size(curvature_study())
    assert len(rows) == 3 * len(curvature_figures.SERIES)
    counted = rows.loc[rows["panel"] == "large eigenvalues, at least", "series"]
    assert set(counted) == {"Hessian, above 4", "Gauss-Newton, above 4"}
    assert rows.loc[rows["series"] == "Gauss-Newton, largest", "value"].tolist() == [3, 9, 30]
    figure = styled(curvature_figures.draw, rows)
    assert [axes.get_title() for axes in figure.axes] == [
        "extreme eigenvalue", "trace", "large eigenvalues, at least", "rise of the loss (nats)",
    ]  # fmt: skip
    assert "(n = 1 to 2 seeds)" in figure.get_suptitle()
    plt.close(figure)


def test_a_density_holds_all_eigenvalues_on_one_grid() -> None:
    rows = curvature_figures.density(curvature_study())
    runs = rows.groupby(["batch_size", "seed"])
    assert list(runs.groups) == [(128, 0), (128, 1), (512, 0)]
    np.testing.assert_allclose(runs["share"].sum(), 1, rtol=1e-3)
    large = rows[rows["batch_size"] == 512]
    assert large.loc[large["eigenvalue"].between(45, 55), "share"].sum() == pytest.approx(0.2, rel=1e-2)
    figure = styled(curvature_figures.draw_density, rows)
    assert [line.get_label() for line in figure.axes[0].lines] == ["b = 128", "b = 512"]
    plt.close(figure)


# --- noise scale ---


def test_the_noise_scale_is_drawn_with_its_interval_also_where_that_has_no_end() -> None:
    table = pd.DataFrame({"epoch": [0, 1, 2], "value": [50.0, 900.0, np.inf], "low": [40.0, 300.0, 2000.0]})
    table = table.assign(high=[60.0, np.inf, np.inf], quantity="noise_scale", **CELL)
    made = Made(tables={"noise_scale": pd.concat([table.assign(seed=seed) for seed in (0, 1)])})
    figure = styled(noise_scale_figures.draw_noise_scale, noise_scale_figures.table(made))
    (axes,) = figure.axes
    assert axes.get_title() == "critical batch size (images)\nLeNet-5 on Fashion-MNIST (n = 2 seeds)"
    known, limit = axes.lines[:2]
    assert (known.get_label(), list(known.get_ydata())) == ("seed 0", [50, 900])
    assert (list(limit.get_xdata()), list(limit.get_ydata())) == ([2], [2000])  # only a lower limit is known
    band = axes.collections[0].get_paths()[0].vertices
    assert band[:, 1].max() == 9000  # drawn to the top where it has no end
    assert len(axes.collections) == 2
    plt.close(figure)


# --- warm starts ---


def start(epoch: int, small: float | None, large: float | None, status: str) -> dict[str, Any]:
    """A start with these test errors, and a sharpness of ten times the error."""
    rows = []
    for phase, error in (("small", small), ("large", large)):
        if error is not None:
            box = {"split": "train", "space": "full", "epsilon": 1e-3}
            rows.append({"phase": phase, **warm_start.metric_row("test", "error_pct", error)})
            rows.append({"phase": phase, **box, "quantity": "sharpness_pct", "value": 10 * error})
    return {"start_epoch": epoch, "status": status, "values": rows}


def warm_study(folder: Any, *runs: list[dict[str, Any]]) -> Made:
    found = []
    for seed, starts in enumerate(runs):
        about = {"model": "f1", "dataset": "mnist", "seed": seed}
        header = {"settings": {"small": 256, "large": 6000}, "device": "cpu", "starts": warm_start.statuses(starts)}
        table = pd.DataFrame(warm_start.rows(starts), columns=[
            "start_epoch", "phase", "split", "statistics", "space", "epsilon", "quantity", "value",
        ])  # fmt: skip
        found.append((about, header, table))
    made = Made(stages={"warmstart": found}, folder=folder)
    made.tables["warmstart"] = warm_start.study_table(made)
    write_table(folder / "cells.csv", warm_start.starts_table(made))
    return made


@pytest.fixture
def warm(tmp_path: Any) -> Made:
    first = [start(0, 90.0, 5.0, "ok"), start(10, 2.0, 4.0, "ok"), start(20, 1.0, 3.0, "ok")]
    second = [start(0, 80.0, 6.0, "ok"), start(10, 3.0, 8.0, "ok"), start(20, 2.0, None, "large diverged")]
    return warm_study(tmp_path, first, second)


def test_every_start_of_every_run_is_a_row(warm: Made) -> None:
    starts = warm_start.starts_table(warm)
    assert starts["seed"].tolist() == [0, 0, 0, 1, 1, 1]
    assert starts["start_epoch"].tolist() == [0, 10, 20] * 2
    assert starts["status"].tolist() == ["ok"] * 5 + ["large diverged"]
    assert starts["large_batch_size"].unique().tolist() == [6000]


def test_the_summary_has_means_and_n_of_the_runs_that_ended_well(warm: Made) -> None:
    found = warm_start.summary(warm.tables["warmstart"], warm_start.starts_table(warm))["f1-mnist"]
    assert found["start10"] == {
        "n": 2,
        "small": {"test_error_pct": 2.5, "train_sharpness_pct": {"epsilon 1e-3": 25.0}},
        "large": {"test_error_pct": 6.0, "train_sharpness_pct": {"epsilon 1e-3": 60.0}},
    }
    assert (found["start20"]["n"], found["start20"]["large"]["test_error_pct"]) == (1, 3.0)


SHARP = "sharpness φ (%), full space, ε = 1e-3"


def test_the_figure_s_table_has_accuracy_and_sharpness_of_both_sides(warm: Made) -> None:
    rows = warm_start_figures.table(warm)
    assert len(rows) == 6 * 2 * 2
    one = rows[(rows["seed"] == 1) & (rows["start_epoch"] == 10)].set_index(["panel", "series"])["value"].to_dict()
    assert one == {
        ("test accuracy (%)", "small-batch iterate"): 97.0,
        ("test accuracy (%)", "large-batch solution from there"): 92.0,
        (SHARP, "small-batch iterate"): 30.0,
        (SHARP, "large-batch solution from there"): 80.0,
    }


def lines(axes: plt.Axes) -> list[tuple[list[float], list[float]]]:
    """x and y of points and mean, of the one side and of the other; without the legend's empty ones."""
    drawn = [(line.get_xdata(), line.get_ydata()) for line in axes.lines if len(line.get_xdata())]
    return [([float(x) for x in xs], [float(y) for y in ys]) for xs, ys in drawn]


def test_the_figure_draws_seeds_as_points_and_means_as_lines(warm: Made) -> None:
    figure = styled(warm_start_figures.draw_warmstart, warm_start_figures.table(warm))
    accuracy, sharpness = figure.axes
    points, mean, other_points, other_mean = lines(accuracy)
    assert points == ([10, 20, 10, 20], [98, 99, 97, 98])  # not the untrained iterate
    assert mean[0] == [0, 10, 20]
    assert mean[1][1:] == [97.5, 98.5]
    assert np.isnan(mean[1][0])
    assert other_points == ([0, 10, 20, 0, 10], [95, 96, 97, 94, 92])
    assert other_mean == ([0, 10, 20], [94.5, 94, 97])
    assert lines(sharpness)[1] == ([0, 10, 20], [850, 25, 15])
    assert "15.0 %" in accuracy.get_xlabel()
    about = "F1 on MNIST (n = 2 seeds; diverged: 1 of 12 points)"
    assert accuracy.get_title() == f"test accuracy (%)\n{about}"
    assert (sharpness.get_title(), sharpness.get_yscale()) == (f"{SHARP}\n{about}", "log")
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert texts == ["small-batch iterate, b = 256", "large-batch solution from there, b = 6000"]
    for axes in figure.axes:  # told apart without colour, and alike in both panels
        assert [(line.get_linestyle(), line.get_marker()) for line in axes.lines[2::3]] == [("-", "o"), ("--", "s")]
    plt.close(figure)


def test_where_every_run_diverged_the_figure_says_so(tmp_path: Any) -> None:
    made = warm_study(tmp_path, [start(10, None, None, "small diverged")])
    rows = warm_start_figures.table(made)
    assert rows.empty
    assert "nothing to draw" in styled(warm_start_figures.draw_warmstart, rows).get_suptitle()
    plt.close("all")


# --- gradient law ---


def gradients_measured() -> Made:
    """Two seeds whose gradients have n* = 100 and follow the law; discarding a share p multiplies them by 1/(1 - p)."""
    rows: list[dict[str, Any]] = []
    for epoch in (0, 3):
        for layer in ("conv.weight", "conv.bias", "head.weight"):
            about = {"epoch": epoch, "layer": layer}
            high = np.inf if layer == "conv.bias" else 120.0
            scale = np.inf if layer == "conv.bias" else 100.0
            rows.append({**about, "quantity": "layer_noise_scale", "value": scale, "low": 80.0, "high": high})
            for n in (32, 64, 128):
                at = {**about, "images": n}
                value = (1 + 100 / n) ** 0.5
                rows.append({**at, "quantity": "mean_abs", "value": value})
                rows.append({**at, "quantity": "exponent", "value": -0.5 * 100 / (n + 100)})
                rows += [{**at, "quantity": "mean_abs_law", "law": law, "value": value} for law in gradients.LAWS]
            for share in (0.0, 0.5):
                kept = {"choice": "small_loss", "discarded": share, "quantity": "discarded_mean_abs"}
                rows.append({**about, **kept, "value": 3.0 / (1 - share)})
        for n in (32, 64):
            for _, quantity, sample in gradients.DECREMENTS:
                value = -1e-5 if sample == "probe" else 1.0 / n
                rows.append({"epoch": epoch, "images": n, "quantity": quantity, "sample": sample, "value": value})
    return Made(stages={"gradient_law": [({**CELL, "seed": seed}, {}, pd.DataFrame(rows)) for seed in (0, 1)]})


def test_the_gradient_figures_draw_their_tables() -> None:
    for figure in gradients.FIGURES:
        rows = figure.table(gradients_measured())
        assert not rows.empty
        drawn = styled(figure.draw, rows)
        shown = [axes for axes in drawn.axes if axes.get_visible()]
        assert all(axes.get_xlabel() for axes in shown)
        assert "2 seeds" in drawn.get_suptitle()
        assert figure.caption(rows)
        plt.close(drawn)


def test_the_gradient_law_shows_measured_laws_and_noise_scale_of_the_first_epoch() -> None:
    rows = gradients.gradients(gradients_measured())
    assert set(rows["epoch"]) == {0}
    figure = styled(gradients.draw_gradients, rows)
    first, second = (axes for axes in figure.axes if axes.get_visible())
    assert [axes.get_title().splitlines()[1] for axes in (first, second)] == [
        "initial weights, conv.weight", "initial weights, head.weight",
    ]  # fmt: skip
    lines = {line.get_label(): line for line in first.lines}
    np.testing.assert_allclose(lines["measured"].get_ydata(), [(1 + 100 / n) ** 0.5 for n in (32, 64, 128)])
    assert list(lines["measured"].get_xdata()) == [32, 64, 128]
    assert [line.get_xdata()[0] for line in first.lines if line.get_gid() == "noise scale n*"] == [100]
    plt.close(figure)


def test_a_noise_scale_without_an_upper_end_is_drawn_at_its_lower_one() -> None:
    figure = styled(gradients.draw_noise_scales, gradients.noise_scales(gradients_measured()))
    lower = [line for line in figure.axes[0].lines if str(line.get_gid()).endswith("lower end of the interval")]
    assert [list(line.get_xdata()) for line in lower] == [[80], [80]]
    plt.close(figure)


def test_discarding_is_drawn_as_a_ratio_to_the_whole_batch() -> None:
    rows = gradients.discarded(gradients_measured())
    assert rows.groupby("discarded")["value"].unique().map(list).to_dict() == {0.0: [1.0], 0.5: [2.0]}
