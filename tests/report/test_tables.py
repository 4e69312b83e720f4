"""Tables of a study from made-up records whose answers are known."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from made_up import Made

from gapscope.measures import effective_ranks, evaluation, near_rank
from gapscope.measures.spectra import methods
from gapscope.records.long import RUN, select
from gapscope.records.spectra import LayerRecord, ModeRecord
from gapscope.records.tables import Record
from gapscope.report import tables

CELL = {"model": "lenet5", "dataset": "fashion_mnist"}
TEST = {"split": "test", "statistics": "reestimated"}


def trained(error: float | None, **values: float) -> pd.DataFrame:
    """The long table of a run's final quantities; None: it diverged."""
    final = {"updates": 10, "epochs_run": 1, "penalty": 0.25, "train_error_pct_running": 0.5}
    if error is not None:
        final |= {"train_error_pct": 0.5, "test_error_pct": error, "train_cross_entropy": 0.5}
        final |= {"test_cross_entropy": 0.5, **values}
    return pd.DataFrame(evaluation.rows([], final)).assign(epoch=np.nan)


def counts(size: int, seed: int, *, relative: bool = False, excess: tuple[int, int] = (3, 1)) -> list[dict[str, Any]]:
    """near_rank.csv of a run: two modes of 10 values, 3 and 1 of them excess, as many structural zeros as b images."""
    of = {**CELL, "batch_size": size, "seed": seed, "sample": "run", "layer": "fc1"}
    at = {"threshold": 1e-4, "relative": relative, "quantity": "near_rank_excess"}
    rows = [of | at | {"mode": m, "value": e, "low": e, "high": e + m} for m, e in enumerate(excess)]
    if relative:
        return rows
    rows += [of | {"mode": mode, "quantity": "singular_values", "value": 10} for mode in (0, 1)]
    rows.append(of | {"mode": 0, "quantity": "near_rank_structural", "value": size})
    conditions = [of | {"mode": m, "quantity": "condition_number", "value": 100.0 * (m + 1) + size} for m in (0, 1)]
    return [*rows, *conditions]


CELLS = [(128, 0, 7.0), (128, 1, 9.0), (512, 0, 10.0), (512, 1, None)]


def study(cells: list[tuple[int, int, float | None]] = CELLS, **values: float) -> Made:
    runs = []
    for size, seed, error in cells:
        header = Record(
            Path("made-up.json"),
            {"status": "diverged" if error is None else "ok", "device": "cpu (test)", "model": {"classes": 10}},
        )
        runs.append(({**CELL, "batch_size": size, "seed": seed}, header, trained(error, **values)))
    made = Made(stages={"train": runs})
    made.cells = pd.DataFrame(evaluation.notes(made))
    return made


def near_rank_rows(rows: list[dict[str, Any]]) -> pd.DataFrame:
    made = Made(tables={"near_rank": pd.DataFrame(rows)})
    return pd.concat([near_rank.run_rows(made), effective_ranks.run_rows(made)], ignore_index=True)


def test_a_run_sums_its_counts_over_layers_and_modes() -> None:
    found = near_rank_rows(counts(128, 0)).set_index("quantity")
    assert found["value"].to_dict() == {
        "near_rank_full": 132, "near_rank_structural": 128, "near_rank_excess": 4,
        "near_rank_fraction": pytest.approx(4 / 20), "undecidable_spectra": 0,
        "condition_number": 228.0,  # of the first mode alone
    }  # fmt: skip
    assert found.loc["near_rank_excess", ["low", "high"]].tolist() == [4, 5]


def test_a_run_s_methods_are_named_once() -> None:
    modes = [ModeRecord(method, 1.0, 1.0, np.ones(1), np.ones(1)) for method in ("qr", "gram", "qr")]
    assert methods([LayerRecord("run", "conv1", (1, 1, 1), modes)]) == "gram qr"


def test_a_relative_threshold_has_rows_of_its_own() -> None:
    found = near_rank_rows(counts(128, 0) + counts(128, 0, relative=True, excess=(0, 0)))
    excess = found[found["quantity"] == "near_rank_excess"]
    assert excess.set_index("relative")["value"].to_dict() == {False: 4, True: 0}


def test_keras_counts_the_penalty_twice() -> None:
    rows = evaluation.run_rows(study())
    loss = rows[(rows["quantity"] == "loss_keras") & (rows["split"] == "train")]["value"].unique()
    assert loss == pytest.approx([0.5 + 2 * 0.25])


def test_best_epochs_are_a_run_s_own_and_the_one_of_the_other_seeds() -> None:
    equal = {(128, 0): [9, 5, 7], (128, 1): [9, 7, 6], (128, 2): [9, 8, 7]}
    others = {(512, 0): [9, 1, 8], (512, 1): [0, 0, 0], (64, 0): [4, 3], (64, 1): [4, 2, 3]}
    runs = []
    for (size, seed), errors in {**equal, **others}.items():
        history = [{"epoch": i + 1, "test_error_pct_running": float(error)} for i, error in enumerate(errors)]
        status = "diverged" if (size, seed) == (512, 1) else "ok"
        table = pd.DataFrame(evaluation.rows(history, {"penalty": 0.0, "train_cross_entropy": 1.0}))
        header = Record(Path("made-up.json"), {"status": status, "device": "cpu", "model": {}})
        runs.append(({**CELL, "batch_size": size, "seed": seed}, header, table))
    made = Made(stages={"train": runs})
    made.cells = pd.DataFrame(evaluation.notes(made))
    found = evaluation.run_rows(made)
    best = found[found["quantity"] == "best_epoch_error_pct"].set_index(["chosen_on", "batch_size", "seed"])["value"]
    own = dict(best["own"].items())
    assert own == {(128, 0): 5, (128, 1): 6, (128, 2): 7, (512, 0): 1, (64, 0): 3, (64, 1): 2}
    # others' sums: 17, 15, 13; 17, 13, 14; 18, 12, 13; alone; of unequal length
    assert dict(best["others"].items()) == {(128, 0): 7, (128, 1): 7, (128, 2): 8}


def test_a_batch_size_has_mean_deviation_and_n_without_the_diverged() -> None:
    made = study()
    batches = tables.batch_sizes(evaluation.run_rows(made), made.cells)
    found = select(batches, "error_pct", TEST).set_index("batch_size")
    assert found["n"].to_dict() == {128: 2, 512: 1}
    assert found["mean"].to_dict() == {128: 8.0, 512: 10.0}
    assert found.loc[128, "std"] == pytest.approx(np.sqrt(2))  # n - 1
    assert np.isnan(found.loc[512, "std"])  # one run has no spread
    assert made.cells["status"].tolist() == ["ok", "ok", "ok", "diverged"]


@pytest.mark.parametrize(
    ("entropy", "error", "stuck"),
    [(2.3026, 90.0, 1), (2.301, 88.8, 1), (2.2, 90.0, 0), (2.5, 30.0, 0), (0.5, 5.0, 0)],  # log 10 = 2.3026
)
def test_a_run_that_only_guesses_is_left_out_and_named(entropy: float, error: float, stuck: int) -> None:
    made = study([*CELLS, (128, 2, 70.0)], train_cross_entropy=entropy, train_error_pct=error)
    made.stages["train"][:4] = study().stages["train"]
    made.cells = pd.DataFrame(evaluation.notes(made))
    statuses = made.cells["status"].tolist()
    assert statuses == ["ok", "ok", "ok", "diverged", evaluation.STUCK if stuck else "ok"]
    batches = select(tables.batch_sizes(evaluation.run_rows(made), made.cells), "error_pct", TEST)
    assert batches.set_index("batch_size")["n"].to_dict() == {128: 3 - stuck, 512: 1}
    assert (batches["mean"].iloc[0] == 8.0) == bool(stuck)  # of the other two


def test_the_summary_names_every_threshold_and_holds_no_nan() -> None:
    made = study()
    near = near_rank_rows([row for size, seed, _ in CELLS for row in counts(size, seed)])
    twice = pd.concat([near, near.assign(threshold=1e-5)])
    rows = pd.concat([evaluation.run_rows(made), twice], ignore_index=True)
    shown = tables.summary(tables.batch_sizes(rows, made.cells))["lenet5-fashion_mnist"]
    assert shown["b128"] == {
        "test_error_pct": 8.0, "train_cross_entropy": 0.5,
        "near_rank_excess": {"threshold 1e-4": 4.0, "threshold 1e-5": 4.0},
    }  # fmt: skip
    assert tables.summary(tables.batch_sizes(rows, made.cells.assign(status="diverged"))) == {}


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
    assert near_rank.exact_zero_values(shape, dead, equal) == known
    mode = ModeRecord("qr", 1.0, 1.0, np.ones(1), np.ones(1))
    modes = [mode] * (len(shape) if len(shape) > 2 else 1)
    layers = [LayerRecord("run", name, shape, modes, None, range(dead), range(equal)) for name in ("one", "two")]
    layers.append(LayerRecord("probe", "one", shape, modes, None, [], []))
    run = {**CELL, "batch_size": 40, "seed": 0}
    rows = near_rank.rows(run, layers, [(1e-4, False)], cut=np.inf, path=Path("record"))
    found = near_rank.sums(pd.DataFrame(rows))
    zeros = found[found["quantity"] == "exact_zeros"].set_index("sample")["value"].to_dict()
    assert zeros == {"run": 2 * known, "probe": 0}


def test_runs_have_one_row_per_value_and_every_axis_in_a_column() -> None:
    rows = evaluation.run_rows(study())
    assert not rows.duplicated([*RUN, "quantity", "split", "statistics", "chosen_on"]).any()
    assert set(rows["quantity"]) <= set(evaluation.QUANTITIES)
