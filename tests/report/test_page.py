"""The page of a study: made of files in git alone, without torch, the same each time, and safe with any text."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from made_up import CLAIM, CLAIMS, ROOT, study

from gapscope.errors import InputError
from gapscope.records.tables import read_record, write_table
from gapscope.report import figure_catalogue, page_tables, warmstart
from gapscope.report.page import about, claims, made, page


def text_of(html: str) -> str:
    bare = re.sub(r"<(script|style)>.*?</\1>", "", html, flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]+>", " ", bare).split())


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return study(tmp_path_factory.mktemp("quick"), "quick", CLAIMS)


@pytest.fixture(scope="module")
def html(quick: dict[str, Any]) -> str:
    return page(**quick)


def test_it_is_made_without_torch_and_gives_the_same_bytes(quick: dict[str, Any], html: str) -> None:
    script = (
        "import sys, pathlib; from gapscope.report.page import page;"
        "study, *paths = sys.argv[1:];"
        "sys.stdout.reconfigure(encoding='utf-8');"
        "sys.stdout.write(page(study, *map(pathlib.Path, paths)));"
        "sys.exit(1 if 'torch' in sys.modules else 0)"
    )
    command = [sys.executable, "-c", script, *map(str, quick.values())]
    done = subprocess.run(command, capture_output=True, env={**os.environ, "PYTHONHASHSEED": "7"}, check=False)
    assert done.returncode == 0, done.stderr.decode()[-500:]
    assert done.stdout.decode() == html


@pytest.mark.parametrize("study", sorted(path.stem for path in (ROOT / "reports").glob("*.html")))
def test_a_committed_page_is_what_the_committed_records_give(study: str) -> None:
    folders = [ROOT / folder / study for folder in ("metrics", "plots")]
    paths = [*folders, ROOT / f"conf/study/{study}.yaml", ROOT / f"metrics/claims/{study}.csv"]
    assert (ROOT / f"reports/{study}.html").read_text(encoding="utf-8") == page(study, *paths)


def test_the_order_is_verdicts_tables_figures_how(html: str) -> None:
    assert re.findall(r'<section id="(\w+)">', html) == ["verdicts", "tables", "figures", "made"]


def test_it_refers_to_nothing_but_itself(html: str) -> None:
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", html)
    assert not re.search(r"<(link|img|iframe|script [^>]*src)", html)
    assert {target for target in re.findall(r'href="([^"]*)"', html) if not target.startswith("#")} == set()
    ids = re.findall(r'\bid="([^"]+)"', html)
    assert len(ids) == len(set(ids))


def test_verdicts_are_said_in_words_with_effect_interval_n_and_p(html: str) -> None:
    text = text_of(html)
    assert "1 supported, 1 contradicted, 1 undecided." in text
    assert (
        "✔ supported Large batches generalise worse. Nobody 2000, section 1. Here: f1 on mnist, test_error_pct" in text
    )
    assert "+1.25 (0.5 to 2) percentage points 5 0.018" in text
    assert "+1.25 (−1 to 2) percentage points 5 1" in text
    assert "✘ contradicted" in text
    assert "−250,000 5 " in text  # neither interval nor p


def test_what_must_be_read_with_care_is_said_and_how_large_a_batch_may_be(tmp_path: Path) -> None:
    made_up = study(tmp_path, "quick", CLAIMS)
    gaps = {"model": "net", "dataset": "mine", "batch_size": 64, "smallest": 32, "n": 3, "gap": 0.1, "gap_low": -0.05}
    gaps |= {"gap_high": 0.25, "tolerance": 0.5, "verdict": "within", "updates": 80.0, "train_error_pct": 19.04}
    table = pd.DataFrame([{**gaps, "smallest_updates": 16840.0, "smallest_train_error_pct": 0.0}])
    write_table(made_up["metrics"] / "gap.csv", table)
    text = text_of(page(**made_up))
    assert "With care: A box &lt;is&gt; no ball." in text
    assert text.count("With care:") == 1  # the others have nothing
    assert "How large may the batch be? net on mine: up to b = 64 it stays within 0.5 points" in text
    assert "64 3 80 19.04 +0.1 −0.05 to 0.25 within" in text
    assert "At b = 32: 16,840 updates, train error 0 %." in text
    assert "At b = 32: 16,840 updates, train error 0 %; at b = 64: 80 updates, train error 19.04 %." in text
    write_table(made_up["metrics"] / "gap.csv", table.iloc[:0])
    assert "How large may the batch be?" not in page(**made_up)


def test_any_text_is_text(html: str) -> None:
    assert "Flat minima are &lt;always&gt; better &amp; safe." in html
    assert "<always>" not in html


@pytest.mark.parametrize("content", [None, "", "\n", ",".join(CLAIM) + "\n"])
def test_a_study_without_claims_says_so(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "claims.csv").write_text(content)
    assert claims(tmp_path / "claims.csv") == []


def test_the_page_says_that_no_claim_is_tested(tmp_path: Path) -> None:
    made_up = study(tmp_path, "quick")
    for path in made_up["plots"].glob("*.csv"):
        path.unlink()
    text = text_of(page(**made_up))
    assert "This study tests no claim." in text
    assert "This study has no figure." in text


def test_an_unknown_verdict_is_refused(tmp_path: Path) -> None:
    arguments = study(tmp_path, "quick", [{**CLAIM, "verdict": "proved"}])
    with pytest.raises(InputError, match="got proved"):
        page(**arguments)


def test_how_it_was_made_counts_the_study_s_own_records(quick: dict[str, Any], tmp_path: Path) -> None:
    rows = made(quick["metrics"])
    trained = [row for row in rows if row["stage"] == "train"]
    runs = pd.read_csv(quick["metrics"] / "runs.csv")
    assert sum(row["records"] for row in trained) == len(runs)
    how = [read_record(path) for path in (ROOT / "provenance/quick/train").iterdir()]
    assert sum(row["seconds"] for row in trained) == pytest.approx(sum(record["wall_s"] for record in how))
    assert {row["commit"] for row in trained} == {record["commit"] for record in how}
    other = study(tmp_path, "quick")["metrics"]
    runs.iloc[1:].to_csv(other / "runs.csv", index=False)  # its record is of an earlier choice of cells
    assert sum(row["records"] for row in made(other) if row["stage"] == "train") == len(runs) - 1


def test_a_run_that_was_stopped_and_went_on_has_the_seconds_of_both_parts(tmp_path: Path) -> None:
    """The stage's seconds are those of the latest start; those of training begin with the first."""
    folder = study(tmp_path, "table05")["metrics"]
    how = {path.stem: read_record(path) for path in (ROOT / "provenance/table05/train").iterdir()}
    resumed = how["lenet5-fashion_mnist-b4096-s0"]
    assert 10 * resumed["wall_s"] < resumed["training_s"]
    trained = [row["seconds"] for row in made(folder) if row["stage"] == "train"]
    assert sum(trained) == pytest.approx(sum(max(record["wall_s"], record["training_s"]) for record in how.values()))


def test_records_that_do_not_say_how_they_were_made_are_named(tmp_path: Path) -> None:
    made_up = study(tmp_path, "table05")
    for sample in ("spectra", "controls"):
        shutil.copytree(ROOT / f"metrics/table05/{sample}", made_up["metrics"] / sample, dirs_exist_ok=True)
    text = text_of(page(**made_up))
    assert "controls 3 not recorded" in text
    assert "spectra 18 not recorded" in text
    assert "train 18 not recorded" not in text


def test_every_param_as_it_was_run_stands_in_the_page(tmp_path: Path) -> None:
    made_up = study(tmp_path, "table06")
    assert "lr_start: 0.1\n" in page(**made_up)
    (made_up["metrics"] / "params.yaml").write_text("train: {lr_start: 0.5, name: <b>}\n")
    assert "train: {lr_start: 0.5, name: &lt;b&gt;}" in page(**made_up)


def test_zeros_of_dead_units_are_one_row_whatever_the_threshold(quick: dict[str, Any]) -> None:
    batches = pd.read_csv(quick["metrics"] / "batch_sizes.csv")
    names = [row[0].text for table in page_tables.of_batch_sizes(batches) for row in table.rows]
    for threshold in ("0.0001", "1e-05"):
        assert f"values ≤ {threshold}: excess, over b images" in names
    assert [name for name in names if "dead" in name] == ["of each excess, zeros of dead units and duplicate images"]


def test_controls_of_fewer_seeds_say_so() -> None:
    batches = pd.read_csv(ROOT / "metrics/quick/batch_sizes.csv").assign(controls_n=1)
    (table,) = page_tables.of_batch_sizes(batches)
    assert table.notes == ["Mean ± standard deviation, n = 2 seeds.", "Controls: n = 1."]
    (table,) = page_tables.of_batch_sizes(batches.assign(controls_n=2))
    assert len(table.notes) == 1


def test_a_study_of_no_networks_has_its_records_too() -> None:
    rows = made(ROOT / "metrics/random_matrices")
    assert sum(row["records"] for row in rows) == 3


def test_the_study_s_file_stands_in_the_page_and_opens_it(html: str) -> None:
    configuration = (ROOT / "conf/study/quick.yaml").read_text()
    assert about(configuration).startswith("A few minutes on two cores, offline.")
    assert "study: quick\nmodels: [lenet5]" in html
    assert about("study: bare\n") == ""


def test_a_markdown_table_keeps_every_cell_and_groups_its_heads() -> None:
    text = "| | paper | | measured |\n|---|---|---|---|\n| b | x | y | y |\n| 1 | 2.5 | **off** | 2.4e+02 ± 3 |\n\nNote\nit."  # noqa: E501
    (table,) = page_tables.of_markdown(text, "Title")
    assert [(cell.text, cell.span) for cell in table.heads[0]] == [("", 1), ("paper", 2), ("measured", 1)]
    assert [cell.text for cell in table.heads[1]] == ["b", "x", "y", "y"]
    assert [(cell.text, cell.number, cell.strong) for cell in table.rows[0]] == [
        ("1", True, False), ("2.5", True, False), ("off", False, True), ("240 ± 3", True, False),
    ]  # fmt: skip
    assert table.notes == ["Note it."]
    assert page_tables.of_markdown("This study repeats no printed table.\n", "Title") == []


@pytest.mark.parametrize("name", ["table05", "keskar_table3", "random_matrices"])
def test_the_committed_tables_are_whole(name: str) -> None:
    text = (ROOT / f"metrics/{name}/paper.md").read_text()
    (table,) = page_tables.of_markdown(text, "Title")
    assert len(table.rows) + len(table.heads) + 1 == text.count("\n|") + 1
    widths = {sum(cell.span for cell in row) for row in [*table.heads, *table.rows]}
    assert len(widths) == 1


@pytest.mark.parametrize(
    ("mean", "std", "n", "shown"),
    [
        (8.512345, float("nan"), 1, "8.512"),
        (5783.1, 243.0, 2, "5,780 ± 240"),
        (99.9725, 0.00825, 2, "99.9725 ± 0.0083"),
        (2.277e-05, 6.7e-07, 2, "2.277e-05 ± 6.7e-07"),
        (1280.0, 0.0, 2, "1,280 ± 0"),
        (float("nan"), float("nan"), 2, "not measured"),
        (float("nan"), float("nan"), 0, "none"),
        (-2.0, 0.5, 3, "−2.00 ± 0.50"),
    ],
)
def test_a_mean_is_rounded_to_its_spread(mean: float, std: float, n: int, shown: str) -> None:
    assert page_tables.spread(mean, std, n) == shown


def test_one_seed_is_said_to_have_no_spread() -> None:
    (table,) = page_tables.of_batch_sizes(pd.read_csv(ROOT / "metrics/keskar_figure4/batch_sizes.csv"))
    assert table.notes == ["n = 1: one seed, so no spread."]
    row = next(row for row in table.rows if row[0].text == "test error (%)")
    runs = pd.read_csv(ROOT / "metrics/keskar_figure4/runs.csv")
    assert [cell.text for cell in row[1:]] == [f"{value:g}" for value in runs["test_error_pct"]]


def starts() -> pd.DataFrame:
    rows = [
        {"model": "f1", "dataset": "mnist", "seed": seed, "small_batch_size": 256}
        | {"start_epoch": start, "status": status}
        | {"small_test_error_pct": 2.0 + seed, "small_sharpness_full_0.001_pct": 10.0, "large_test_error_pct": 5.0}
        for seed, start, status in ((0, 0, "ok"), (1, 0, "ok"), (0, 10, "ok"), (1, 10, "large diverged"))
    ]
    return pd.DataFrame(rows)


def test_a_study_of_warm_starts_alone_has_its_page(tmp_path: Path) -> None:
    table = starts().assign(**{"large_batch_size": 6000, "large_sharpness_full_0.001_pct": 20.0})
    write_table(tmp_path / "metrics/warmstart.csv", table)
    write_table(tmp_path / "plots/warmstart.csv", warmstart.warmstart(table))
    settings = ROOT / "conf/study/keskar_warmstart.yaml"
    text = page("keskar_warmstart", tmp_path / "metrics", tmp_path / "plots", settings, tmp_path / "none.csv")
    assert re.findall(r'<figure id="(\w+)">', text) == ["warmstart"]
    assert "By start: f1 on mnist" in text
    assert 'data-series="small-batch iterate"' in text


def test_warm_starts_have_a_row_a_start_and_count_what_ended_well() -> None:
    (table,) = page_tables.of_warm_starts(starts())
    assert [[cell.text for cell in row] for row in table.rows] == [
        ["0", "2", "2.50 ± 0.71", "10 ± 0", "5 ± 0"], ["10", "1", "2", "10", "5"],
    ]  # fmt: skip
    assert table.heads[0][2].text == "small-batch iterate: test error (%)"
    assert table.notes == ["Mean ± standard deviation, n = 1 to 2 seeds; where n = 1 there is no spread."]


def test_every_committed_figure_is_in_the_registry() -> None:
    drawn = {path.stem for path in (ROOT / "plots").glob("*/*.csv")}
    assert drawn <= set(figure_catalogue.SHOWN)


def test_thresholds_are_those_of_the_near_rank_figure(tmp_path: Path) -> None:
    panels = ["0.0001: excess", "1e-05: excess", "0.001-relative: excess"]
    pd.DataFrame({"panel": panels}).to_csv(tmp_path / "near_rank.csv", index=False)
    assert figure_catalogue.thresholds(tmp_path) == (1e-4, 1e-5)
    assert figure_catalogue.thresholds(tmp_path / "none") == ()
