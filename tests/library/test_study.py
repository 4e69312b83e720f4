"""`gapscope.load` against the committed tables, read as text."""

import csv
import math
from pathlib import Path
from typing import Any

import pytest

import gapscope
from gapscope.errors import InputError
from gapscope.library.study import StudyResult, column_name

ROOT = Path(__file__).parents[2]
METRICS = ROOT / "metrics"
RUN = ("model", "dataset", "batch_size", "seed")


def lines_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as lines:
        return list(csv.DictReader(lines))


@pytest.fixture(scope="module")
def table05() -> StudyResult:
    return gapscope.load("table05", ROOT)


def test_there_is_one_row_per_run_with_every_final_figure(table05: StudyResult) -> None:
    cells, values = lines_of(METRICS / "table05/cells.csv"), lines_of(METRICS / "table05/runs.csv")
    assert [tuple(map(str, row)) for row in table05.runs[list(RUN)].to_numpy()] == [
        tuple(cell[name] for name in RUN) for cell in cells
    ]
    by_run = table05.runs.set_index(list(RUN))
    figures = by_run.drop(columns="status")
    assert figures.notna().to_numpy().sum() == len(values)
    for row in values:
        run = (row["model"], row["dataset"], int(row["batch_size"]), int(row["seed"]))
        typed = {name: number(text) for name, text in row.items() if text}
        assert by_run.loc[run, column_name(typed)] == float(row["value"])


def number(text: str) -> Any:
    try:
        return float(text)
    except ValueError:
        return {"True": True, "False": False}.get(text, text)


def test_a_figures_column_names_its_axes(table05: StudyResult) -> None:
    wanted = {"error_pct", "test", "reestimated", "8192", "0"}
    (row,) = [
        line
        for line in lines_of(METRICS / "table05/runs.csv")
        if wanted <= {line[name] for name in ("quantity", "split", "statistics", "batch_size", "seed")}
    ]
    runs = table05.runs
    found = runs.loc[(runs["batch_size"] == 8192) & (runs["seed"] == 0), "test_error_pct[statistics=reestimated]"]
    assert found.tolist() == [float(row["value"])]
    assert column_name({"quantity": "q", "threshold": 1e-4, "relative": True}) == "q[threshold=1e-4, relative=true]"


def test_verdicts_are_those_of_the_claims_table(table05: StudyResult) -> None:
    lines, verdicts = lines_of(METRICS / "claims/table05.csv"), table05.verdicts
    first = ["claim", "family", "verdict", "effect", "low", "high", "p", "n"]
    assert verdicts.columns[:8].tolist() == first
    assert verdicts["verdict"].tolist() == [line["verdict"] for line in lines]
    for name, column in {"effect": "effect", "low": "effect_low", "high": "effect_high", "p": "p"}.items():
        found = ["" if math.isnan(value) else value for value in verdicts[name].tolist()]
        assert found == [float(line[column]) if line[column] else "" for line in lines]


def test_records_are_the_long_tables_of_all_runs(table05: StudyResult) -> None:
    train = table05.records["train"]
    files = sorted((METRICS / "table05/train").glob("*.csv"))
    assert len(train) == sum(len(lines_of(file)) for file in files)
    one = train[(train["batch_size"] == 8192) & (train["seed"] == 1)]
    lines = lines_of(METRICS / "table05/train/lenet5-fashion_mnist-b8192-s1.csv")
    assert one["value"].tolist() == [float(line["value"]) for line in lines]
    assert {"runs", "near_rank", "train", "sharpness"} <= set(table05.records)


@pytest.mark.parametrize("name", ["random_matrices", "keskar_warmstart_n5000", "keskar_table3"])
def test_a_study_without_runs_or_with_records_of_other_kinds_loads(name: str) -> None:
    study = gapscope.load(name, ROOT)
    assert len(study.runs) == (6 if name == "keskar_table3" else 0)
    assert all(len(table) for table in study.records.values())
    assert name in str(study)


def test_a_notebook_finds_the_clone_that_it_lies_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT / "examples")  # where Jupyter runs it
    assert len(gapscope.load("table05").verdicts)
    with pytest.raises(InputError, match="clone of gapscope"):
        gapscope.load("table05", ".")  # a root that is given is taken as it is


def test_an_unknown_study_is_answered_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="did you mean 'table05'"):
        gapscope.load("table5", ROOT)
    with pytest.raises(InputError, match="clone of gapscope"):
        gapscope.load("table05", tmp_path)
