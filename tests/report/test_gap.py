"""How large a batch a network stands, on made-up runs."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from gapscope.records.tables import read_table, write_table
from gapscope.report import gap

Runs = tuple[pd.DataFrame, pd.DataFrame]


def runs(errors: dict[int, list[float | None]]) -> Runs:
    """The long table and the cells of one list per batch size, one error per seed; None where it diverged."""
    made, cells = [], []
    for size, values in errors.items():
        for seed, error in enumerate(values):
            about = {"model": "net", "dataset": "mine", "batch_size": size, "seed": seed}
            cells.append({**about, "status": "diverged" if error is None else "ok"})
            made.append({**about, "quantity": "updates", "value": 64000 // size + seed})
            for split, value in (("test", error), ("train", None if error is None else error / 2)):
                axes = {"split": split, "statistics": "reestimated"}
                made += [] if value is None else [{**about, "quantity": "error_pct", **axes, "value": value}]
    return pd.DataFrame(made), pd.DataFrame(cells)


GROWING = {
    32: [5.0, 6.0, 7.0],
    64: [5.1, 6.0, 7.1],
    256: [5.6, 6.4, 7.5],
    1024: [7.1, 8.0, 9.0],
    4096: [None, None, None],
}


def test_each_batch_size_is_judged_by_the_interval_of_its_gap() -> None:
    table = gap.gap_table(*runs(GROWING), tolerance=0.5).set_index("batch_size")
    assert table["verdict"].to_dict() == {64: "within", 256: "undecided", 1024: "beyond", 4096: "failed"}
    low, high = stats.ttest_1samp([2.1, 2.0, 2.0], 0).confidence_interval(0.95)
    assert table.loc[1024, ["gap", "gap_low", "gap_high"]].tolist() == pytest.approx([6.1 / 3, low, high], rel=1e-9)
    assert table["n"].tolist() == [3, 3, 3, 0]


def test_the_answer_names_the_last_batch_size_before_the_first_doubt() -> None:
    (sentence,) = gap.answer(gap.gap_table(*runs(GROWING), tolerance=0.5))
    assert sentence == (
        "Every batch size tried up to 64 is shown to be safe (at most 0.5 points more test error). "
        "256 is undecided. Shown to cost more: 1024 and above. "
        "At 4096 runs diverged or learned nothing. At 1024: +2 points (1.9 to 2.2). "
        "At b = 32: 2,001 updates, train error 3 %; at b = 1024: 63 updates, train error 4.017 %."
    )
    doubtful = {**GROWING, 64: [5.0, 6.5, 7.9], 256: [5.0, 6.0, 7.0]}  # 256 would fit, and 64 is not shown to
    assert "No batch above 32 is shown" in gap.answer(gap.gap_table(*runs(doubtful), tolerance=0.5))[0]


def test_beside_each_gap_stand_updates_and_train_error_since_it_may_be_under_training() -> None:
    table = gap.gap_table(*runs(GROWING), tolerance=0.5).set_index("batch_size")
    assert table["updates"].tolist()[:3] == [1001, 251, 63]
    assert table["train_error_pct"].tolist()[:3] == pytest.approx([18.2 / 6, 19.5 / 6, 24.1 / 6])
    assert table.loc[4096, ["updates", "train_error_pct"]].isna().all()
    assert (table["smallest_updates"] == 2001).all()
    assert (table["smallest_train_error_pct"] == 3.0).all()


def test_seeds_are_paired() -> None:
    """Unpaired, the seeds' own spread of 1 point would hide a gap of 0.1."""
    table = gap.gap_table(*runs({32: [5.0, 6.0, 7.0], 64: [5.1, 6.1, 7.11]}), tolerance=0.2)
    assert table["verdict"].tolist() == ["within"]
    assert np.std([5.1, 6.1, 7.11]) > 0.5


def test_two_seeds_decide_nothing_and_the_answer_says_so() -> None:
    table = gap.gap_table(*runs({32: [5.0, 6.0], 64: [5.0, 6.0]}), tolerance=0.5)
    assert table["verdict"].tolist() == ["undecided"]
    assert "n = 2" in gap.answer(table)[0]


def test_a_seed_that_diverged_is_left_out_of_its_batch_size_alone() -> None:
    table = gap.gap_table(
        *runs({32: [5.0, 6.0, 7.0, 8.0], 64: [5.1, None, 7.1, 8.1], 128: [5, 6, 7, 8]}), tolerance=0.5
    )
    assert table["n"].tolist() == [3, 4]


def test_a_batch_size_at_which_a_run_diverged_is_never_within() -> None:
    half = {32: [5.0] * 6, 64: [5.0, 5.01, 5.02, None, None, None], 256: [5.0] * 6}
    table = gap.gap_table(*runs(half), tolerance=0.5)
    assert table["verdict"].tolist() == ["failed", "within"]
    assert table["n"].tolist() == [3, 6]
    assert "At 64 runs diverged or learned nothing. At 256: 0 points (0 to 0)." in gap.answer(table)[0]


def test_the_answer_tells_shown_costs_from_undecided_ones() -> None:
    unsure = {**GROWING, 4096: [7.0, 9.0, 7.0]}
    table = gap.gap_table(*runs(unsure), tolerance=0.5)
    assert table["verdict"].tolist() == ["within", "undecided", "beyond", "undecided"]
    (sentence,) = gap.answer(table)
    assert (
        "Shown to cost more: 1024. At 4096: +1.7 points (−2.1 to 5.5); whether that is more than 0.5 is undecided."
        in sentence
    )
    lost = {**unsure, 4096: [None, None, None], 8192: [9.0, 10.0, 11.0]}
    (sentence,) = gap.answer(gap.gap_table(*runs(lost), 0.5))
    assert "Shown to cost more: 1024 and above. At 4096 runs diverged" in sentence


def test_against_a_smallest_batch_that_diverged_nothing_is_judged() -> None:
    table = gap.gap_table(*runs({32: [None, None, 5.0], 64: [5.0, 5.0, 5.0]}), tolerance=0.5)
    assert table["verdict"].tolist() == ["undecided"]
    assert "cost more" not in gap.answer(table)[0]


def test_one_batch_size_has_no_gap_but_a_whole_table(tmp_path: Path) -> None:
    table = gap.gap_table(*runs({32: [5.0, 6.0, 7.0]}), tolerance=0.5)
    write_table(tmp_path / "gap.csv", table)
    read = read_table(tmp_path / "gap.csv")
    assert list(read) == list(gap.gap_table(*runs(GROWING), tolerance=0.5)) == gap.COLUMNS
    assert gap.answer(read) == []


@pytest.mark.parametrize("column", ["device", "made"])
def test_batch_sizes_of_other_devices_or_revisions_are_not_counted(column: str) -> None:
    values, cells = runs(GROWING)
    kinds = {"device": ("cpu (a)", "cpu (b)", "cuda (c)"), "made": ((("train", 1),), (("train", 1),), (("train", 2),))}
    first, same, other = kinds[column]
    for at_1024, said in ((same, "beyond"), (other, "not comparable")):
        marked = cells.assign(**{column: [at_1024 if b == 1024 else first for b in cells["batch_size"]]})
        table = gap.gap_table(values, marked, tolerance=0.5).set_index("batch_size")
        assert table["verdict"].to_dict() == {64: "within", 256: "undecided", 1024: said, 4096: "failed"}
        assert table["gap"][1024] == pytest.approx(np.mean([2.1, 2.0, 2.0]))  # it is still shown
