"""Tables 2 to 4 of Keskar et al. 2017 beside measured values made by hand."""

import pandas as pd
import pytest

from gapscope.errors import InputError
from gapscope.papers.keskar2017 import tables as keskar


def batches(model: str = "f1") -> pd.DataFrame:
    rows = []
    for size, factor in ((256, 1.0), (1024, 50.0), (6000, 100.0)):
        row = {"model": model, "dataset": "mnist", "batch_size": size, "n": 2}
        row |= {"train_error_pct_mean": 0.25, "train_error_pct_std": 0.1, "test_error_pct_mean": 2 + factor / 100}
        row |= {"test_error_pct_std": 0.2, "sharpness_full_0.001_pct_mean": factor, "sharpness_full_0.001_pct_std": 0.5}
        rows.append(row)
    return pd.DataFrame(rows)


def test_all_networks_are_printed_in_all_tables() -> None:
    for network in ("F1", "F2", "C1", "C2", "C3", "C4"):
        assert keskar.printed(network)["table"].value_counts().to_dict() == {2: 4, 3: 4, 4: 4}
    f1 = keskar.printed("F1").set_index(["column", "side"])
    assert f1.loc[("sharpness_full_0.001_pct", "large"), ["printed", "printed_std"]].tolist() == [205.14, 69.52]
    assert f1.loc[("test_error_pct", "small"), "printed"] == 98.03  # an accuracy


def test_the_smallest_and_the_largest_batch_stand_beside_it() -> None:
    rows = keskar.beside(batches()).set_index(["column", "side"])
    assert rows.loc[("sharpness_full_0.001_pct", "large"), ["batch_size", "mean", "std"]].tolist() == [6000, 100, 0.5]
    assert rows.loc[("sharpness_full_0.001_pct", "small"), "mean"] == 1
    assert rows.loc[("train_error_pct", "small"), "mean"] == 99.75
    assert rows.loc[("test_error_pct", "large"), "mean"] == 97
    assert pd.isna(rows.loc[("sharpness_random100_0.001_pct", "small"), "mean"])


def test_the_table_says_ratios_spreads_n_and_what_was_not_measured() -> None:
    text = keskar.markdown(keskar.beside(batches()))
    full = "| 1.23 ± 0.83 | 205.1 ± 70 | 167 | 1 ± 0.5 | 100 ± 0.5 | 100 |"
    assert f"| sharpness (%), full space, ε = 0.001 {full}" in text
    assert "| test accuracy (%) | 98.03 | 97.81 |  | 97.99 ± 0.2 | 97 ± 0.2 |  |" in text
    assert "| not measured | not measured |  |" in text
    assert "measured: n = 2" in text
    assert len({line.count("|") for line in text.splitlines() if line.startswith("|")}) == 1


def test_a_suspect_cell_is_said_and_no_other() -> None:
    text = keskar.markdown(keskar.beside(batches()))
    marked = "sharpness (%), random manifold, p = 100, ε = 0.0005"
    assert f"| {marked} † | 0.05 ± 0 | 9.17 ± 0.14 | 183 |" in text
    assert f"\n† {marked}: the large batch's 9.17 ± 0.14 is suspect: " in text
    assert text.count("†") == 2  # the row and its note
    assert "†" not in keskar.markdown(keskar.beside(batches("c1")))


def test_the_note_on_the_suspect_cell_says_what_the_table_has() -> None:
    rows = pd.concat(
        [keskar.printed(network).assign(network=network) for network in ("F1", "F2", "C1", "C2", "C3", "C4")]
    )
    (note,) = rows["note"].dropna().unique()
    large = rows[(rows["side"] == "large") & (rows["table"] > 2)].sort_values("quantity", ascending=False)
    falls = large.groupby(["network", "table"])["printed"].agg(lambda pair: pair.min() / pair.max())
    suspect = falls.pop(("F1", 4))
    assert suspect > 0.99
    assert f"falls to {falls.min():.2f} to {falls.max():.2f} of itself" in note


def test_another_network_is_refused() -> None:
    with pytest.raises(InputError, match="have no lenet5"):
        keskar.beside(batches("lenet5"))


def test_one_batch_size_is_refused() -> None:
    with pytest.raises(InputError, match="two batch sizes"):
        keskar.beside(batches().iloc[:1])
