"""Tables and figures from made-up records whose answers are known."""

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from gapscope import papers
from gapscope.measures.near_rank import exact_zero_values
from gapscope.records.spectra import LOG_POINTS, LayerRecord, ModeRecord
from gapscope.report import figure_catalogue, figure_tables, figures, tables

CELL = {"model": "lenet5", "dataset": "fashion_mnist"}


def trained(error: float, status: str = "ok") -> dict[str, Any]:
    values = {name: 0.5 for name in tables.TRAINED if status == "ok" or name.endswith("_running")}
    values |= {"test_error_pct": error} if status == "ok" else {}
    return {"status": status, "updates": 10, "epochs_run": 1, "penalty": 0.25, "device": "cpu (test)", **values} | (
        {"train_cross_entropy": 0.5, "penalty": 0.25} if status == "ok" else {}
    )


def counts(size: int, seed: int) -> list[dict[str, Any]]:
    """Two modes of 10 values, 3 and 1 of them excess, and as many structural zeros as the batch size; 3 exact zeros."""
    about = {**CELL, "batch_size": size, "seed": seed, "sample": "run", "layer": "fc1"}
    at = {"threshold": 1e-4, "relative": False, "quantity": "near_rank_excess"}
    return [
        *(about | {"mode": mode, "quantity": "singular_values", "value": 10} for mode in (0, 1)),
        about | {"mode": 0, "quantity": "near_rank_structural", "value": size},
        about | {"mode": 0, **at, "value": 3, "low": 3, "high": 3},
        about | {"mode": 1, **at, "value": 1, "low": 1, "high": 2},
        about | {"quantity": "exact_zeros", "value": 3},
        about | {"mode": 0, "quantity": "condition_number", "value": 100.0 + size},
    ]


METHODS = {"spectra_methods": "gram qr"}


@pytest.fixture
def runs() -> pd.DataFrame:
    cells = [(128, 0, 7.0), (128, 1, 9.0), (512, 0, 10.0), (512, 1, None)]
    near_rank = pd.DataFrame([row for size, seed, _ in cells for row in counts(size, seed)])
    rows = []
    for size, seed, error in cells:
        sharp = {
            "sharpness": [
                {"split": split, "space": "full", "epsilon": 1e-3, "sharpness": factor * size}
                for split, factor in (("train", 2.0), ("test", 3.0))
            ],
            "conditions": {"train": {"images": 64}, "test": {"images": 32}},
        }
        record = trained(error) if error is not None else trained(0.0, "diverged")
        rows.append(tables.run_row({**CELL, "batch_size": size, "seed": seed}, record, sharp, near_rank, **METHODS))
    return pd.DataFrame(rows)


def test_a_run_sums_its_counts_over_layers_and_modes(runs: pd.DataFrame) -> None:
    first = runs.iloc[0]
    assert first["near_rank_run_0.0001_excess"] == 4
    assert first["near_rank_run_0.0001_structural"] == 128
    assert first["near_rank_run_0.0001_full"] == 132
    assert first["near_rank_run_exact_zeros"] == 3
    assert first["near_rank_run_0.0001_fraction"] == pytest.approx(4 / 20)
    assert (first["near_rank_run_0.0001_certain"], first["near_rank_run_0.0001_possible"]) == (4, 5)
    assert first["near_rank_run_0.0001_undecidable"] == 0
    assert first["spectra_methods"] == "gram qr"
    assert first["sharpness_full_0.001_pct"] == 256.0
    assert first["sharpness_test_full_0.001_pct"] == 384.0
    assert first["sharpness_images"] == 64
    assert first["condition_number_run"] == 228.0  # of the first mode alone
    assert first["train_loss_keras"] == pytest.approx(0.5 + 2 * 0.25)


def test_best_epochs_are_a_run_s_own_and_the_one_of_the_other_seeds() -> None:
    equal = {(128, 0): [9, 5, 7], (128, 1): [9, 7, 6], (128, 2): [9, 8, 7]}
    others = {(512, 0): [9, 1, 8], (512, 1): [0, 0, 0], (64, 0): [4, 3], (64, 1): [4, 2, 3]}
    errors = {**equal, **others}
    failed = {(512, 1): "diverged"}
    rows = [{**CELL, "batch_size": b, "seed": seed, "status": failed.get((b, seed), "ok")} for b, seed in errors]
    histories = [pd.DataFrame({"epoch": range(1, len(of) + 1), "test_error_pct_running": of}) for of in errors.values()]
    own, best = (column.tolist() for _, column in tables.best_epochs(pd.DataFrame(rows), histories).items())
    assert own == pytest.approx([5, 6, 7, 1, np.nan, 3, 2], nan_ok=True)
    # others' sums: 17, 15, 13; 17, 13, 14; 18, 12, 13; alone; of unequal length
    assert best == pytest.approx([7, 7, 8, *[np.nan] * 4], nan_ok=True)


def test_a_batch_size_has_mean_deviation_and_n_without_the_diverged(runs: pd.DataFrame) -> None:
    table = tables.batch_table(runs).set_index("batch_size")
    assert table.loc[128, "test_error_pct_mean"] == 8.0
    assert table.loc[128, "test_error_pct_std"] == pytest.approx(np.sqrt(2))  # n - 1
    assert table["n"].tolist() == [2, 1]
    assert table["diverged"].tolist() == [0, 1]
    assert table.loc[512, "test_error_pct_mean"] == 10.0
    assert np.isnan(table.loc[512, "test_error_pct_std"])  # one run has no spread


@pytest.mark.parametrize(
    ("entropy", "error", "stuck"),
    [(2.3026, 90.0, 1), (2.301, 88.8, 1), (2.2, 90.0, 0), (2.5, 30.0, 0), (0.5, 5.0, 0)],  # log 10 = 2.3026
)
def test_a_run_that_only_guesses_is_left_out_and_named(
    runs: pd.DataFrame, entropy: float, error: float, stuck: int
) -> None:
    record = trained(70.0) | {"train_cross_entropy": entropy, "train_error_pct": error, "model": {"classes": 10}}
    cell = {**CELL, "batch_size": 128, "seed": 2}
    row = tables.run_row(cell, record, {"sharpness": []}, pd.DataFrame(counts(128, 2)), **METHODS)
    both = pd.concat([runs, pd.DataFrame([row])], ignore_index=True)
    table = tables.batch_table(both).set_index("batch_size")
    assert table["stuck"].to_dict() == {128: stuck, 512: 0}
    assert table["n"].to_dict() == {128: 3 - stuck, 512: 1}
    assert (table.loc[128, "test_error_pct_mean"] == 8.0) == bool(stuck)  # of the other two
    assert (70.0 in set(figure_tables.gap(both, pd.DataFrame())["value"])) != bool(stuck)


def test_the_summary_is_short_and_holds_no_nan(runs: pd.DataFrame) -> None:
    shown = tables.summary(tables.batch_table(runs))["lenet5-fashion_mnist"]
    assert shown["b128"] == {
        "test_error_pct": 8.0, "train_cross_entropy": 0.5, "near_rank_excess": 4.0, "sharpness_pct": 256.0,
    }  # fmt: skip
    nothing = tables.summary(tables.batch_table(runs[runs["status"] == "diverged"]))
    assert nothing["lenet5-fashion_mnist"]["b512"]["test_error_pct"] is None


def test_the_gap_figure_draws_its_rows(runs: pd.DataFrame) -> None:
    rows = figure_tables.gap(runs, papers.printed("table05"))
    assert set(rows["source"]) == {"measured", "paper"}
    assert not rows["value"].isna().any()
    figure = figures.styled(figures.draw_gap, rows)
    left, right = figure.axes
    assert (left.get_ylabel(), right.get_ylabel()) == ("error (%)", "loss (nats)")
    assert left.get_xlabel() == "training batch size b"
    assert left.get_title() == "lenet5 on fashion_mnist (n = 1 to 2 seeds)"
    means = [line.get_ydata().tolist() for line in left.lines if list(line.get_xdata()) == [128, 512]]
    assert [8.0, 10.0] in means  # the means of the measured test errors
    plt.close(figure)


def test_the_near_rank_figure_keeps_structural_and_excess_apart(runs: pd.DataFrame) -> None:
    rows = figure_tables.near_rank(runs)
    by_series = rows[rows["batch_size"] == 128].groupby("series")["value"].mean().to_dict()
    assert by_series == {"structural + excess": 132, "structural (zero by shape)": 128, "trained at b": 4}
    figure = figures.styled(figures.draw_near_rank, rows)
    assert figure.axes[0].get_ylabel() == "values ≤ 0.0001: as the paper counts"
    plt.close(figure)


def test_bars_reach_from_the_smallest_run_to_the_largest_and_no_count_below_0() -> None:
    row = {**CELL, "batch_size": 128, "panel": "0.0001: as the paper counts", "series": "a", "source": "measured"}
    rows = pd.DataFrame([row | {"seed": seed, "value": value} for seed, value in enumerate([0, 0, 3])])
    equal = rows.assign(batch_size=512, value=0.1)  # whose mean is not 0.1
    figure = figures.styled(figures.draw_near_rank, pd.concat([rows, equal], ignore_index=True))
    (bars,) = figure.axes[0].containers[0].lines[2]
    reach = [ends[:, 1].tolist() for ends in bars.get_segments()]
    assert reach[0] == [0, 3]  # mean 1, less a deviation of 1.7 is below 0
    assert reach[1] == pytest.approx([0.1, 0.1])
    assert "bars: smallest to largest run" in figure.get_suptitle()
    assert "from the smallest run to the largest" in figure_catalogue.SHOWN["near_rank"].reading
    plt.close(figure)


def with_controls(runs: pd.DataFrame, undecidable: int) -> pd.DataFrame:
    """Let the model trained at the first batch size have 1 value in excess at 128 images and 6 at 512."""
    excess = runs["batch_size"].map({128: 1, 512: 6})
    return runs.assign(
        **{"near_rank_reference_0.0001_excess": excess, "near_rank_reference_0.0001_undecidable": undecidable}
    )


def test_what_remains_is_the_excess_less_that_of_the_model_of_the_first_batch_size(runs: pd.DataFrame) -> None:
    rows = figure_tables.near_rank(with_controls(runs, 0))
    remains = rows[rows["series"] == "trained at b, less trained at 128"].groupby("batch_size")["value"].mean()
    assert remains.to_dict() == {128: 4 - 1, 512: 4 - 6}
    assert set(rows["panel"]) == {
        f"0.0001: {q}" for q in ("as the paper counts", "excess over b images", "what remains")
    }
    assert not rows["undecidable"].any()


def test_an_undecidable_count_is_marked_in_table_and_figure(runs: pd.DataFrame) -> None:
    rows = figure_tables.near_rank(with_controls(runs, 2))
    flagged = rows[rows["undecidable"]]["series"].unique()
    assert set(flagged) == {"control: trained at b = 128", "trained at b, less trained at 128"}
    own = figure_tables.near_rank(with_controls(runs, 0).assign(**{"near_rank_run_0.0001_undecidable": 1}))
    assert set(own[own["undecidable"]]["series"]) == {  # zeros by shape are exact
        "structural + excess", "trained at b", "trained at b, less trained at 128",
    }  # fmt: skip
    figure = figures.styled(figures.draw_near_rank, rows)
    labels = [text for axes in figure.axes for text in axes.get_legend_handles_labels()[1]]
    assert [label.removesuffix(": undecidable") for label in labels if "undecidable" in label] == list(flagged)
    plt.close(figure)


def test_a_relative_threshold_has_columns_and_a_panel_of_its_own() -> None:
    also = [row | {"relative": True, "value": 0} for row in counts(128, 0) if row["quantity"] == "near_rank_excess"]
    rows = pd.DataFrame(counts(128, 0) + also)
    sharp = {"sharpness": []}
    runs = pd.DataFrame([tables.run_row({**CELL, "batch_size": 128, "seed": 0}, trained(7.0), sharp, rows, **METHODS)])
    assert runs["near_rank_run_0.0001_excess"].tolist() == [4]
    assert runs["near_rank_run_0.0001-relative_excess"].tolist() == [0]
    figure = figures.styled(figures.draw_near_rank, figure_tables.near_rank(runs))
    assert "values ≤ 0.0001 of the largest: what remains" not in [axes.get_ylabel() for axes in figure.axes]
    assert "values ≤ 0.0001 of the largest: excess over b images" in [axes.get_ylabel() for axes in figure.axes]
    plt.close(figure)


def spectrum(values: list[float], bounds: np.ndarray | None = None, method: str = "gram") -> ModeRecord:
    bounds = np.full(len(values), 1e-9) if bounds is None else bounds
    ranks = {"stable_rank": 1.5, "effective_rank": 2.0, "participation_ratio": 3.0}
    return ModeRecord(method, values[0], values[-1], bounds, np.array(values), ranks=ranks)


def test_a_layers_dead_units_and_duplicates_are_listed_beside_its_effective_ranks() -> None:
    cell = {**CELL, "batch_size": 128, "seed": 0}
    layer = LayerRecord("run", "fc1", (128, 9), [spectrum([4.0] * 8 + [1.0])], None, [2, 5], [])
    (row,) = tables.layer_table([(cell, [layer])]).to_dict("records")
    assert (row["samples"], row["units"]) == (128, 9)
    assert (row["dead_units"], row["dead_units_count"], row["duplicate_samples_count"]) == ("2 5", 2, 0)
    assert (row["stable_rank"], row["condition_number"]) == (1.5, 4.0)


@pytest.mark.parametrize("shape", [(40, 6, 2, 2), (40, 12, 2, 3), (9, 5), (5, 9)])
@pytest.mark.parametrize(("dead", "equal"), [(0, 0), (2, 0), (0, 3), (3, 2), (5, 1)])
def test_zeros_of_dead_units_and_equal_images_are_those_that_the_spectra_have(
    shape: tuple[int, ...], dead: int, equal: int
) -> None:
    tensor = np.random.default_rng(0).normal(size=shape)
    tensor[:, :dead], tensor[1 : 1 + equal] = 0, tensor[:1]
    unfoldings = [np.moveaxis(tensor, mode, 0).reshape(size, -1) for mode, size in enumerate(shape)]
    zeros = [np.linalg.svd(unfolding, compute_uv=False) < 1e-12 for unfolding in unfoldings]
    known = sum(int(found.sum()) for found in (zeros if len(shape) > 2 else zeros[:1]))
    assert exact_zero_values(shape, dead, equal) == known


def test_the_sharpness_figure_has_accuracy_beside_it(runs: pd.DataFrame) -> None:
    rows = figure_tables.sharpness(runs)
    assert rows.loc[rows["series"] == "test accuracy", "value"].tolist() == [93.0, 91.0, 90.0]
    figure = figures.styled(figures.draw_sharpness, rows)
    labels = ["test accuracy (%)", "sharpness φ of the train loss (%)", "sharpness φ of the test loss (%)"]
    assert [axes.get_ylabel() for axes in figure.axes] == labels
    for axes, panel in zip(figure.axes, rows["panel"].drop_duplicates(), strict=True):
        drawn = {text.get_text() for text in axes.get_legend().get_texts()}
        assert drawn == set(rows.loc[rows["panel"] == panel, "series"])
    plt.close(figure)


def test_a_thinned_spectrum_keeps_both_ends() -> None:
    values = list(np.geomspace(10, 1e-6, 500))
    mode = spectrum(values, np.repeat([1e-9, 1e-13], [400, 100]), "deflation")
    layers = [LayerRecord(sample, "fc1", (500, 600), [mode]) for sample in ("run", "probe")]
    rows = figure_tables.spectra([({**CELL, "batch_size": 500, "seed": 0}, layers)])
    assert rows["index"].is_monotonic_increasing
    assert rows["value"].tolist() == [values[index - 1] for index in rows["index"]]
    assert {1, 2, 499, 500} <= set(rows["index"])
    assert rows["error_bound"].tolist() == [1e-9 if index <= 400 else 1e-13 for index in rows["index"]]
    assert len(rows) <= LOG_POINTS
    figure = figures.styled(lambda table: figures.draw_spectra(table, (1e-4,)), rows)
    assert figure.axes[0].get_title() == "fc1, samples x units"
    assert "solver: deflation" in figure.get_suptitle()
    plt.close(figure)


def test_of_a_deep_network_some_layers_are_drawn_the_ends_among_them() -> None:
    cell = {**CELL, "batch_size": 500, "seed": 0}
    for depth, shown in ((55, figure_tables.LAYERS), (figure_tables.LAYERS, figure_tables.LAYERS), (3, 3), (1, 1)):
        rows = figure_tables.spectra(
            [(cell, [LayerRecord("run", f"layer{i}", (9, 1), [spectrum([1.0])]) for i in range(depth)])]
        )
        assert len(rows) == shown
        assert {"layer0", f"layer{depth - 1}"} <= set(rows["layer"])


def test_a_study_of_which_every_run_diverged_still_has_its_figures() -> None:
    figure = figures.styled(figures.draw_gap, pd.DataFrame(columns=figure_tables.LONG))
    assert "diverged" in figure.get_suptitle()
    plt.close(figure)
