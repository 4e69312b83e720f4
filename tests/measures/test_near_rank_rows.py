"""near_rank.csv: rows of a record, their sums per run, and a threshold above the cut."""

import subprocess
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from gapscope.errors import InputError
from gapscope.measures import effective_ranks, near_rank
from gapscope.measures.spectra import methods, mode_record
from gapscope.numerics.hosvd.spectrum import ModeSpectrum
from gapscope.records.columns import threshold_label
from gapscope.records.long import RUN
from gapscope.records.spectra import LayerRecord, parse_spectra
from gapscope.records.tables import read_table, write_table

ROOT = Path(__file__).parents[2]
OLD = "54c90e6"  # the last commit whose near_rank.csv and runs.csv are wide
CELL: dict[str, Any] = {"model": "lenet5", "dataset": "digits", "batch_size": 9, "seed": 0}
PATH = Path("metrics/mine/spectra/lenet5-digits-b9-s0.jsonl")
NAMES = {  # quantity of a run -> end of a column of 0.1
    "near_rank_full": "full", "near_rank_structural": "structural", "near_rank_excess": "excess",
    "near_rank_fraction": "fraction", "undecidable_spectra": "undecidable",
}  # fmt: skip


def layer(name: str = "fc1", *, cut: float = 1e-2, dead: int = 0) -> LayerRecord:
    values = np.array([5.0, 2.0, 1e-4, 2e-5, 0.0])
    mode = ModeSpectrum(values, 9, np.array([1e-9, 1e-9, 1e-9, 1.5e-5, 1e-9]), "gram")
    return LayerRecord("run", name, (9, 5), [mode_record(mode, cut)], None, [*range(dead)], [])


def table(tmp_path: Path, *layers: LayerRecord, of: list[near_rank.Threshold] | None = None) -> pd.DataFrame:
    of = of or [(1e-4, False), (1e-5, False), (1e-5, True)]
    rows = [*near_rank.rows(CELL, layers, of, cut=1e-2, path=PATH), *effective_ranks.rows(CELL, layers)]
    write_table(tmp_path / "near_rank.csv", rows)
    return read_table(tmp_path / "near_rank.csv")


def test_each_value_has_a_row_of_its_own(tmp_path: Path) -> None:
    found = table(tmp_path, layer())
    assert found.columns.tolist() == list(near_rank.COLUMNS)
    excess = found[found["quantity"] == "near_rank_excess"]
    assert excess[["threshold", "relative", "value", "low", "high"]].fillna(-1).to_numpy().tolist() == [
        [1e-4, False, 3, 2, 3],  # 1e-4 itself may be above
        [1e-5, False, 1, 1, 2],
        [1e-5, True, 2, -1, -1],  # of 5: 5e-5; no other count is possible
    ]
    others = found[found["quantity"] != "near_rank_excess"].set_index("quantity")["value"]
    assert (others["singular_values"], others["near_rank_structural"], others["exact_zeros"]) == (5, 4, 0)
    assert others["condition_number"] == np.inf


def test_a_run_sums_over_layers(tmp_path: Path) -> None:
    found = near_rank.sums(table(tmp_path, layer("fc1", dead=1), layer("fc2")))
    assert set(found["quantity"]) == set(near_rank.QUANTITIES)
    at = found[(found["threshold"] == 1e-5) & (found["relative"] == False)].set_index("quantity")  # noqa: E712
    assert at["value"].to_dict() == {
        "near_rank_full": 10, "near_rank_structural": 8, "near_rank_excess": 2, "near_rank_fraction": 0.2,
        "undecidable_spectra": 0,
    }  # fmt: skip
    assert at.loc["near_rank_excess", ["low", "high"]].tolist() == [2, 4]
    assert found.loc[found["quantity"] == "exact_zeros", "value"].tolist() == [1]


def test_a_sample_without_any_excess_has_one_row_and_its_sum_is_zero(tmp_path: Path) -> None:
    mode = mode_record(ModeSpectrum(np.array([5.0, 2e-4]), 2, 1e-9, "qr"), 1e-2)
    layers = [
        LayerRecord(sample, name, (2, 2), [mode], size)
        for sample, size in (("random", 2), ("random", 9))
        for name in "ab"
    ]
    made = table(tmp_path, *layers, of=[(1e-4, False), (1e-3, False)])
    rows = made.loc[made["quantity"] == "near_rank_excess", ["batch_size", "layer", "threshold", "value"]].fillna("")
    assert rows.to_numpy().tolist() == [
        [size, *row] for size in (2, 9) for row in (["", 1e-4, 0], ["a", 1e-3, 1], ["b", 1e-3, 1])
    ]
    found = near_rank.sums(made)
    excess = found.loc[found["quantity"] == "near_rank_excess", ["batch_size", "threshold", "value", "low", "high"]]
    assert excess.to_numpy().tolist() == [[size, *row] for size in (2, 9) for row in ([1e-4, 0, 0, 0], [1e-3, 2, 2, 2])]
    assert found.loc[found["quantity"] == "near_rank_fraction", "value"].tolist() == [0, 0.5, 0, 0.5]


def test_an_excess_of_zero_that_may_be_more_has_a_row(tmp_path: Path) -> None:
    mode = mode_record(ModeSpectrum(np.array([5.0, 1.1e-5]), 2, 2.0**-18, "qr"), 1e-2)  # a bound of 3.8e-6
    made = table(tmp_path, LayerRecord("run", "a", (2, 2), [mode]), of=[(1e-5, False)])
    excess = made.loc[made["quantity"] == "near_rank_excess", ["layer", "value", "low", "high"]]
    assert excess.to_numpy().tolist() == [["a", 0, 0, 1]]


def test_an_undecidable_spectrum_is_counted(tmp_path: Path) -> None:
    values = np.append(5.0, np.full(4, 1e-5))
    unsure = LayerRecord("run", "fc1", (9, 5), [mode_record(ModeSpectrum(values, 9, 2.0**-40, "qr"), 1e-2)])
    found = near_rank.sums(table(tmp_path, unsure, of=[(1e-5, False)])).set_index("quantity")["value"]
    assert (found["near_rank_excess"], found["undecidable_spectra"]) == (4, 1)


def test_a_runs_condition_number_is_the_median_over_its_layers(tmp_path: Path) -> None:
    layers = [
        LayerRecord("run", name, (9, 2), [mode_record(ModeSpectrum(np.array([top, 1.0]), 9, 1e-9, "qr"), 1e-2)])
        for name, top in (("a", 2.0), ("b", 9.0), ("c", 4.0))
    ]
    found = effective_ranks.medians(table(tmp_path, *layers))
    assert found[["quantity", "sample", "value"]].to_numpy().tolist() == [["condition_number", "run", 4.0]]
    assert methods(layers) == "qr"


@pytest.mark.parametrize(
    ("threshold", "what", "cut"),
    [((0.02, False), "threshold 0.02", "0.02"), ((0.01, True), "relative threshold, 0.05", "0.1")],
)
def test_a_threshold_above_the_cut_is_refused_with_the_command_that_computes_the_spectra_again(
    threshold: near_rank.Threshold, what: str, cut: str
) -> None:
    with pytest.raises(InputError, match=r"every value only up to 0\.01") as refusal:
        list(near_rank.rows(CELL, [layer()], [threshold], cut=1e-2, path=PATH))
    assert what in str(refusal.value)
    assert str(refusal.value).endswith(f"gapscope run mine -S spectra.cut={cut}")


def show(path: str) -> str:
    return subprocess.run(["git", "show", f"{OLD}:{path}"], cwd=ROOT, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("study", ["quick", "keskar_table3_cifar10_n5000"])
def test_the_counts_are_those_of_the_wide_tables(study: str, tmp_path: Path) -> None:
    old, runs = (pd.read_csv(StringIO(show(f"metrics/{study}/{name}.csv"))) for name in ("near_rank", "runs"))
    of = [(t, bool(r)) for t, r in old[["threshold", "relative"]].drop_duplicates().itertuples(index=False)]
    rows: list[dict[str, Any]] = []
    for run in runs[list(RUN)].to_dict("records"):
        rows += of_record(f"metrics/{study}/spectra/{{model}}-{{dataset}}-b{{batch_size}}-s{{seed}}.jsonl", run, of)
    for seed in old.loc[old["sample"] == "input", "seed"].unique().tolist():
        rows += of_record(f"metrics/{study}/controls/{{model}}-{{dataset}}-s{{seed}}.jsonl", run | {"seed": seed}, of)
    write_table(tmp_path / "near_rank.csv", rows)
    new = read_table(tmp_path / "near_rank.csv")
    key = [*RUN, "sample", "layer", "mode"]
    at = [*key, "threshold", "relative"]
    excess = new[(new["quantity"] == "near_rank_excess") & new["layer"].notna()].astype({"relative": bool})
    excess = excess.set_index(at)
    assert set(excess.index) <= set(old.set_index(at).index)
    every = excess[["value", "low", "high"]].reindex(pd.MultiIndex.from_frame(old[at]))
    value = every["value"].fillna(0)
    assert value.tolist() == old["economy"].tolist()
    assert every["low"].fillna(value).tolist() == old["certain"].tolist()
    assert every["high"].fillna(value).tolist() == old["possible"].tolist()
    known = old.drop_duplicates(key).set_index(key)
    for name, column in (("singular_values", "values"), ("near_rank_structural", "structural")):
        value = new[new["quantity"] == name].set_index(key)["value"].reindex(known.index, fill_value=0)
        assert (value == known[column]).all()
    wide = runs.set_index(list(RUN))
    for row in pd.concat([near_rank.sums(new), effective_ranks.medians(new)]).itertuples(index=False):
        label = f"near_rank_{row.sample}_{threshold_label(row.threshold, row.relative)}"
        column = f"{label}_{NAMES[row.quantity]}" if row.quantity in NAMES else None
        column = column or {"exact_zeros": f"near_rank_{row.sample}_exact_zeros"}.get(row.quantity)
        column = column or f"condition_number_{row.sample}"
        was = wide.loc[(row.model, row.dataset, row.batch_size, row.seed), column]
        assert f"{was:.10g}" == f"{row.value:.10g}", column


def of_record(path: str, run: dict[str, Any], of: list[near_rank.Threshold]) -> list[dict[str, Any]]:
    path = path.format(**run)
    header, layers = parse_spectra(show(path))
    rows = near_rank.rows(run, layers, of, cut=header["cut"], path=Path(path))
    return [*rows, *effective_ranks.rows(run, layers)]
