"""Tables 1 to 11 of Oyedotun et al. 2022 beside measured values made by hand."""

from typing import Any

import pandas as pd
import pytest

from gapscope.papers.oyedotun2022 import tables as paper

SIZES = (128, 512)
CELL = {"model": "lenet5", "dataset": "fashion_mnist"}


def measured(**errors: Any) -> pd.DataFrame:
    """Means at two batch sizes: errors as given, 0.5 nats, a penalty of 0.25."""
    rows: list[dict[str, Any]] = []
    for size in SIZES:
        for split in ("train", "test"):
            about = {**CELL, "batch_size": size, "split": split, "std": 0.0}
            running = {**about, "statistics": "running", "quantity": "error_pct", "mean": 99.0}
            own = {**about, "statistics": "reestimated"}
            rows += [
                running,
                {**own, "quantity": "error_pct", "mean": errors.get(split, 0.5)},
                {**own, "quantity": "cross_entropy", "mean": 0.5},
                {**own, "quantity": "loss", "mean": 0.75},
                {**about, "quantity": "loss_keras", "mean": 1.0},
            ]
    return pd.DataFrame(rows)


def cells(status: str = "ok", at: int = 0) -> pd.DataFrame:
    """Two runs at each of two batch sizes, the second one at size `at` with the given status."""
    return pd.DataFrame(
        {**CELL, "batch_size": size, "seed": seed, "status": status if seed and size == at else "ok"}
        for size in SIZES
        for seed in (0, 1)
    )


def line_of(text: str, size: int) -> str:
    return next(line for line in text.splitlines() if line.startswith(f"| {size} "))


def test_the_papers_values_stand_beside_the_measured_and_missing_rows_are_said() -> None:
    rows = paper.beside(5, measured(test=8.0), cells())
    assert len(rows) == 6 * 8
    text = paper.markdown(rows)
    assert line_of(text, 128).startswith(
        "| 128 | 0 | 0.50 ± 0.00 | 7.74 | 8.00 ± 0.00 | 0.0733 | 0.5000 ± 0.0000 | 0.7500 ± 0.0000 | 1.0000 ± 0.0000 | "
    )
    assert line_of(text, 8192).count("not run") == 8
    assert len({line.count("|") for line in text.splitlines() if line.startswith("|")}) == 1  # as many cells in each


def test_measured_values_are_those_of_their_quantity_and_axes() -> None:
    rows = paper.beside(5, measured(train=1.0, test=8.0), cells())
    first = rows[rows["batch_size"] == 128].set_index(["quantity", "split"])["mean"]
    assert first.to_dict() == {
        ("error_pct", "train"): 1.0, ("error_pct", "test"): 8.0,
        ("cross_entropy", "train"): 0.5, ("loss", "train"): 0.75, ("loss_keras", "train"): 1.0,
        ("cross_entropy", "test"): 0.5, ("loss", "test"): 0.75, ("loss_keras", "test"): 1.0,
    }  # fmt: skip


@pytest.mark.parametrize(("status", "column"), [("diverged", "diverged"), ("learned nothing", "stuck")])
def test_runs_that_failed_are_counted(status: str, column: str) -> None:
    rows = paper.beside(5, measured(), cells(status, at=512)).drop_duplicates("batch_size").set_index("batch_size")
    assert rows.loc[[128, 512], "n"].tolist() == [2, 1]
    assert rows.loc[[128, 512], column].tolist() == [0, 1]
    text = paper.markdown(paper.beside(5, measured(), cells(status, at=512)))
    assert line_of(text, 128).split(" | ")[1] == "2"
    assert line_of(text, 512).split(" | ")[1] == "1"
    assert ("1 of 2 at b = 512" in text) == (column == "stuck")


def test_a_batch_size_at_which_all_runs_diverged_is_not_called_not_run() -> None:
    lost = cells().assign(status="diverged")
    text = paper.markdown(paper.beside(5, measured().iloc[:0], lost))
    assert (line_of(text, 512).count("diverged"), line_of(text, 8192).count("not run")) == (8, 8)


def test_every_model_has_a_table_of_its_own() -> None:
    batches = pd.concat([measured(test=8.0), measured(test=1.0).assign(model="lenet5_caffe")])
    text = paper.markdown(paper.beside(5, batches, pd.concat([cells(), cells().assign(model="lenet5_caffe")])))
    first, second, _ = text.split("Measured (")
    assert "8.00" in line_of(first, 128)
    assert "1.00" in line_of(second.partition("\n")[2], 128)


def test_a_cell_that_is_lost_or_evidently_wrong_in_print_is_marked() -> None:
    lost, wrong, right = (paper.markdown(paper.beside(table, measured(), cells())) for table in (6, 7, 5))
    assert line_of(lost, 512).startswith("| 512 | lost † | 0.50 ± 0.00 | 0.62 |")
    assert "| 128 † | 0 | 0.50 ± 0.00 | 0.44 |" in lost  # the whole row
    assert line_of(wrong, 512).startswith("| 512 | 1.16 | 0.50 ± 0.00 | 9.13 | 0.50 ± 0.00 | 1.1031 † |")
    assert wrong.count("†") == 2  # the cell and its note, no other
    assert "†" not in right


def test_all_tables_of_the_paper_are_there() -> None:
    assert [len(paper.printed(number)) for number in range(1, 12)] == [5, 5, 5, 5, 6, 6, 6, 6, 6, 6, 5]


def test_the_values_that_figures_show_are_the_printed_ones() -> None:
    rows = paper.figure_values(6)
    errors = rows[(rows["quantity"] == "error_pct") & (rows["split"] == "test")].set_index("batch_size")["value"]
    assert (errors[128], errors[8192]) == (0.44, 0.99)
    assert not rows["value"].isna().any()  # what is lost is left out
