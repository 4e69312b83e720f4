"""Tables 2 to 4 of Keskar et al. 2017 beside measured values made by hand."""

import pandas as pd
import pytest

from gapscope.errors import InputError
from gapscope.papers.keskar2017 import tables as keskar


def measured(model: str = "f1", sizes: tuple[int, ...] = (256, 1024, 6000)) -> tuple[str, pd.DataFrame, pd.DataFrame]:
    """Means and runs of a study, as the tables stage writes them."""
    rows = []
    for size in sizes:
        factor = {256: 1.0, 1024: 50.0, 6000: 100.0}[size]
        about = {"model": model, "dataset": "mnist", "batch_size": size, "n": 2}
        error = {**about, "quantity": "error_pct", "statistics": "reestimated"}
        rows += [
            {**error, "split": "train", "mean": 0.25, "std": 0.1},
            {**error, "split": "test", "mean": 2 + factor / 100, "std": 0.2},
            {**about, "quantity": "sharpness_pct", "split": "train", "space": "full", "epsilon": 1e-3}
            | {"mean": factor, "std": 0.5},
        ]
    cells = [
        {"model": model, "dataset": "mnist", "batch_size": size, "seed": s, "status": "ok"}
        for size in sizes
        for s in (0, 1)
    ]
    return "2, 3, 4", pd.DataFrame(rows), pd.DataFrame(cells)


MANIFOLD = "sharpness (%), random manifold, p = 100, ε = 0.001"


def test_all_networks_are_printed_in_all_tables() -> None:
    for network in ("F1", "F2", "C1", "C2", "C3", "C4"):
        assert keskar.printed(network)["table"].value_counts().to_dict() == {2: 4, 3: 4, 4: 4}
    f1 = keskar.printed("F1").set_index(["name", "side"])
    assert f1.loc[("sharpness (%), full space, ε = 0.001", "large"), ["printed", "printed_std"]].tolist() == [
        205.14,
        69.52,
    ]
    assert f1.loc[("test accuracy (%)", "small"), "printed"] == 98.03  # an accuracy


def test_the_smallest_and_the_largest_batch_stand_beside_it() -> None:
    rows = keskar.beside(*measured()).set_index(["name", "side"])
    assert rows.loc[("sharpness (%), full space, ε = 0.001", "large"), ["batch_size", "mean", "std"]].tolist() == [
        6000,
        100,
        0.5,
    ]
    assert rows.loc[("sharpness (%), full space, ε = 0.001", "small"), "mean"] == 1
    assert rows.loc[("train accuracy (%)", "small"), "mean"] == 99.75
    assert rows.loc[("test accuracy (%)", "large"), "mean"] == 97
    assert pd.isna(rows.loc[(MANIFOLD, "small"), "mean"])


def test_the_table_says_ratios_spreads_n_and_what_was_not_measured() -> None:
    text = keskar.markdown(keskar.beside(*measured()))
    full = "| 1.23 ± 0.83 | 205.1 ± 70 | 167 | 1 ± 0.5 | 100 ± 0.5 | 100 |"
    assert f"| sharpness (%), full space, ε = 0.001 {full}" in text
    assert "| test accuracy (%) | 98.03 | 97.81 |  | 97.99 ± 0.2 | 97 ± 0.2 |  |" in text
    assert "| not measured | not measured |  |" in text
    assert "| measured: b = 256 (n = 2) | b = 6000 (n = 2) |" in text
    assert len({line.count("|") for line in text.splitlines() if line.startswith("|")}) == 1


def test_a_suspect_cell_is_said_and_no_other() -> None:
    text = keskar.markdown(keskar.beside(*measured()))
    marked = "sharpness (%), random manifold, p = 100, ε = 0.0005"
    assert f"| {marked} † | 0.05 ± 0 | 9.17 ± 0.14 | 183 |" in text
    assert f"\n† {marked}: the large batch's 9.17 ± 0.14 is suspect. " in text
    assert text.count("†") == 2  # the row and its note
    assert "†" not in keskar.markdown(keskar.beside(*measured("c1")))


def test_the_note_on_the_suspect_cell_says_what_the_table_has() -> None:
    rows = pd.concat(
        [keskar.printed(network).assign(network=network) for network in ("F1", "F2", "C1", "C2", "C3", "C4")]
    )
    (note,) = rows["note"].dropna().unique()
    large = rows[(rows["side"] == "large") & (rows["table"] > 2)].sort_values("name", ascending=False)
    falls = large.groupby(["network", "table"])["printed"].agg(lambda pair: pair.min() / pair.max())
    suspect = falls.pop(("F1", 4))
    assert suspect > 0.99
    assert f"falls to {falls.min():.2f} to {falls.max():.2f} of itself" in note


def test_another_network_is_refused() -> None:
    with pytest.raises(InputError, match="lenet5"):
        keskar.beside(*measured("lenet5"))


def test_one_batch_size_is_refused() -> None:
    with pytest.raises(InputError, match="batch_size=N"):
        keskar.beside(*measured(sizes=(256,)))


def test_of_two_statistics_of_batch_norm_the_re_estimated_ones_stand_beside_it() -> None:
    name, batches, cells = measured()
    sharp = batches["quantity"] == "sharpness_pct"
    assert sharp.any()
    batch = batches[sharp].assign(statistics="batch", mean=1e6)
    both = pd.concat([batches.assign(statistics=batches["statistics"].mask(sharp, "reestimated")), batch])
    expected = keskar.beside(name, batches, cells)["mean"]
    pd.testing.assert_series_equal(keskar.beside(name, both, cells)["mean"], expected)
    alone = batches.assign(statistics=batches["statistics"].mask(sharp, "batch"))
    pd.testing.assert_series_equal(keskar.beside(name, alone, cells)["mean"], expected)
