"""The page of a study: made of files in git alone, without torch, the same each time, and safe with any text."""

import base64
import hashlib
import os
import re
import subprocess
import sys
from html import unescape
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd
import pytest
from made_up import CLAIM, CLAIMS, ROOT, Made, study

from gapscope import measures
from gapscope.drawing import figure, numbers
from gapscope.errors import InputError
from gapscope.measures import near_rank, sharpness_figures, warm_start, warm_start_figures
from gapscope.records.long import read_long, select
from gapscope.records.tables import write_record, write_table
from gapscope.report import measure_tables, page_tables, site
from gapscope.report.page import about, by_family, claims, made, page


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


def test_a_site_has_an_index_and_the_page_of_every_study(quick: dict[str, Any], html: str, tmp_path: Path) -> None:
    folder = quick["metrics"].parents[1]
    (folder / "metrics/claims").mkdir(exist_ok=True)
    index, *pages = site.build(tmp_path, folder / "metrics", folder / "plots", ROOT / "conf/study")
    assert [path.name for path in pages] == ["overview.html", "remedies.html", "quick.html"]
    assert pages[2].read_text(encoding="utf-8") == html
    text = index.read_text(encoding="utf-8")
    assert re.findall(r'href="([^"]*)"', text) == ["overview.html", "remedies.html", "quick.html"]
    assert "index.html" in pages[0].read_text(encoding="utf-8")
    assert "batch sizes 32 to 1024, 3 seeds" in text_of(text)
    with pytest.raises(InputError, match="no results of a study"):
        site.build(tmp_path, tmp_path, tmp_path, ROOT / "conf/study")


def test_the_order_is_verdicts_figures_tables_how(html: str) -> None:
    assert re.findall(r'<section id="(\w+)">', html) == ["verdicts", "figures", "tables", "made"]


def test_it_refers_to_nothing_but_itself(html: str) -> None:
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", html)
    assert not re.search(r"<(link|img|iframe|script [^>]*src)", html)
    assert {target for target in re.findall(r'href="([^"]*)"', html) if not target.startswith("#")} == set()
    ids = re.findall(r'\bid="([^"]+)"', html)
    assert len(ids) == len(set(ids))


def test_the_page_allows_its_own_script_alone(html: str) -> None:
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', html)
    (script,) = re.findall(r"<script>(.*?)</script>", html, flags=re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy.split("; ")[-1] == f"script-src 'sha256-{digest}'"
    assert not re.search(r"\son\w+=", re.sub(r"<script>.*?</script>", "", html, flags=re.DOTALL))


def test_verdicts_are_said_in_words_with_effect_interval_n_and_p(html: str) -> None:
    text = text_of(html)
    assert "✔ supported Large batches generalise worse." in text
    assert "The interval lies above 0. Nobody 2000, section 1. Here: F1" in text
    slope = "+0.25 (0.1 to 0.4) points per doubling of b"
    assert f"+1.25 (0.5 to 2) percentage points {slope} 5 p = 0.018" in text
    assert f"+1.25 (−1 to 2) percentage points {slope} 5 p = 1" in text
    assert "✘ contradicted" in text
    assert f"−250,000 {slope} 5 " in text  # neither interval nor p


def test_a_claim_says_its_network_and_data_where_the_study_has_several(tmp_path: Path) -> None:
    both = [{**CLAIM, "model": "lenet5", "dataset": dataset} for dataset in ("mnist", "digits")]
    for rows, shown in ((both, True), (both[:1], False)):
        (folder := tmp_path / str(shown)).mkdir()
        html = page(**study(folder, "quick", rows))
        assert ('<span class="how">LeNet-5 on MNIST</span>' in html) is shown


def test_claims_stand_by_family_with_the_primary_ones_first_and_open(tmp_path: Path) -> None:
    rows = [
        {**CLAIM, "claim": name, "family": family}
        for name, family in (("b", "secondary"), ("c", "twin"), ("a", "primary"))
    ]
    untestable = {**CLAIM, "claim": "d", "verdict": "not testable"}
    html = page(**study(tmp_path, "quick", [*rows, untestable]))
    families = by_family(claims(tmp_path / "claims.csv") or [*rows, untestable])
    assert [(family.name, len(family.claims)) for family in families] == [
        ("primary", 1), ("secondary", 1), ("twin", 1), ("", 1)
    ]  # fmt: skip
    first, rest = html.split("<details>", 1)
    assert families[0].title in first
    assert all(family.title in rest for family in families[1:])


def test_a_secondary_claim_shows_that_its_p_is_not_corrected(tmp_path: Path) -> None:
    secondary = {**CLAIM, "family": "secondary", "p_corrected": ""}
    text = text_of(page(**study(tmp_path, "quick", [secondary])))
    assert "5 raw p = 0.001" in text


def test_what_must_be_read_with_care_is_said_and_how_large_a_batch_may_be(tmp_path: Path) -> None:
    made_up = study(tmp_path, "quick", CLAIMS)
    gaps = {"model": "net", "dataset": "mine", "batch_size": 64, "smallest": 32, "n": 3, "gap": 0.1, "gap_low": -0.05}
    gaps |= {"gap_high": 0.25, "tolerance": 0.5, "verdict": "within", "updates": 80.0, "train_error_pct": 19.04}
    table = pd.DataFrame([{**gaps, "smallest_updates": 16840.0, "smallest_train_error_pct": 0.0}])
    write_table(made_up["metrics"] / "gap.csv", table)
    text = text_of(page(**made_up))
    assert "With care: A box &lt;is&gt; no ball." in text
    assert text.count("With care:") == 1  # the others have nothing
    assert "How large may the batch be? Every batch size tried up to 64 is shown to be safe (at most 0.5 points" in text
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
    for path in made_up["plots"].glob("*.svg"):
        path.unlink()
    text = text_of(page(**made_up))
    assert "Verdicts" not in text
    assert "This study has no figure." in text


def test_an_unknown_verdict_is_refused(tmp_path: Path) -> None:
    arguments = study(tmp_path, "quick", [{**CLAIM, "verdict": "proved"}])
    with pytest.raises(InputError, match="got proved"):
        page(**arguments)


def test_how_it_was_made_counts_the_study_s_own_records(quick: dict[str, Any], tmp_path: Path) -> None:
    rows = made(quick["metrics"])
    trained = [row for row in rows if row["stage"] == "train"]
    cells = pd.read_csv(quick["metrics"] / "cells.csv")
    assert sum(row["records"] for row in trained) == len(cells) == 12
    other = study(tmp_path, "quick")["metrics"]
    cells.iloc[1:].to_csv(other / "cells.csv", index=False)  # its record is of an earlier choice of cells
    assert sum(row["records"] for row in made(other) if row["stage"] == "train") == len(cells) - 1


def test_every_param_as_it_was_run_stands_in_the_page(tmp_path: Path) -> None:
    made_up = study(tmp_path, "quick")
    assert "lr_start: 0.1\n" in page(**made_up)
    (made_up["metrics"] / "params.yaml").write_text("train: {lr_start: 0.5, name: <b>}\n")
    assert "train: {lr_start: 0.5, name: &lt;b&gt;}" in page(**made_up)


def label(measure: ModuleType, quantity: str, *axes: str) -> str:
    """The name of a quantity's row."""
    return ", ".join([measure.QUANTITIES[quantity].label, *axes])


def of_quick(quick: dict[str, Any], name: str) -> page_tables.Table:
    """The table of `quick` that has a row of this name."""
    cells = pd.read_csv(quick["metrics"] / "cells.csv")
    tables = measure_tables.of_batch_sizes(read_long(quick["metrics"] / "batch_sizes.csv"), cells)
    return next(table for table in tables if name in {row[0].text for row in table.rows})


def test_thresholds_stand_side_by_side_and_zeros_of_dead_units_below_both(quick: dict[str, Any]) -> None:
    excess = label(near_rank, "near_rank_excess", "over b images")
    zeros = label(near_rank, "exact_zeros", "over b images")
    table = of_quick(quick, excess)
    assert [(cell.text, cell.span) for cell in table.heads[0][1:]] == [(f"{b}", 2) for b in (32, 128, 256, 1024)]
    assert [cell.text for cell in table.heads[1][1:]] == ["≤ 1e-4", "≤ 1e-5"] * 4
    widths = {sum(cell.span for cell in row) for row in [*table.heads, *table.rows]}
    assert widths == {9}
    (row,) = [row for row in table.rows if row[0].text == zeros]
    assert [cell.span for cell in row[1:]] == [2] * 4
    batches = read_long(quick["metrics"] / "batch_sizes.csv")
    means = select(batches, "near_rank_excess", {"sample": "run", "threshold": 1e-5})["mean"].tolist()
    shown = [float(cell.text.split(" ")[0].replace(",", "")) for cell in of_row(table, excess)[2::2]]
    assert shown == pytest.approx(means, rel=0.1)


def of_row(table: page_tables.Table, name: str) -> list[page_tables.Cell]:
    return next(list(row) for row in table.rows if row[0].text == name)


def test_controls_of_fewer_seeds_say_so(quick: dict[str, Any]) -> None:
    """`quick` has controls of one seed only."""
    name = label(near_rank, "near_rank_excess", "control: untrained")
    _, *values = of_row(of_quick(quick, name), name)
    assert all("(n = 1)" in cell.text for cell in values)
    _, *values = of_row(of_quick(quick, "test error (%)"), "test error (%)")
    assert not any("n =" in cell.text for cell in values)  # as many as the row of runs says


def test_a_study_of_no_networks_has_its_records_too(tmp_path: Path) -> None:
    rows = made(study(tmp_path, "random_matrices")["metrics"])
    assert sum(row["records"] for row in rows) == 3


def test_the_study_s_file_stands_in_the_page_and_opens_it(html: str) -> None:
    opening = about((ROOT / "conf/study/quick.yaml").read_text())
    assert opening
    assert opening in unescape(html).replace("\xa0", " ")
    assert about("# @package _global_\n# One,\n# two.\nstudy: mine # three\n") == "One, two."
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


def test_one_seed_is_said_to_have_no_spread(quick: dict[str, Any]) -> None:
    cells = pd.read_csv(quick["metrics"] / "cells.csv").query("seed == 3")
    batches = read_long(quick["metrics"] / "batch_sizes.csv").assign(n=1, std=float("nan"))
    table = measure_tables.of_batch_sizes(batches, cells)[0]
    assert table.notes == ["n = 1: one seed, so no spread."]
    means = select(batches, "error_pct", {"split": "test", "statistics": "reestimated"})["mean"]
    assert [cell.text for cell in of_row(table, "test error (%)")[1:]] == [numbers.number(mean) for mean in means]


def start(seed: int, epoch: int, status: str) -> dict[str, Any]:
    box = {"split": "train", "space": "full", "epsilon": 1e-3, "quantity": "sharpness_pct"}
    values = [
        {"phase": "small", **warm_start.metric_row("test", "error_pct", 2.0 + seed)},
        {"phase": "small", **box, "value": 10.0},
    ]
    large = [
        {"phase": "large", **warm_start.metric_row("test", "error_pct", 5.0)},
        {"phase": "large", **box, "value": 20.0},
    ]
    return {"start_epoch": epoch, "status": status, "values": values + (large if status == "ok" else [])}


@pytest.fixture
def warm() -> Made:
    runs = {0: [start(0, 0, "ok"), start(0, 10, "ok")], 1: [start(1, 0, "ok"), start(1, 10, "large diverged")]}
    header = {"settings": {"small": 256, "large": 6000}, "device": "cpu"}
    made = Made()
    made.stages["warmstart"] = [
        (
            {"model": "f1", "dataset": "mnist", "seed": seed},
            header | {"starts": warm_start.statuses(starts)},
            pd.DataFrame(warm_start.rows(starts)),
        )
        for seed, starts in runs.items()
    ]
    made.tables["warmstart"] = warm_start.study_table(made)
    return made


def test_a_study_of_warm_starts_alone_has_its_page(tmp_path: Path, warm: Made) -> None:
    warm.folder = tmp_path / "metrics"
    write_table(tmp_path / "metrics/warmstart.csv", warm.tables["warmstart"])
    write_table(tmp_path / "metrics/cells.csv", warm_start.starts_table(warm))
    figure.save(warm_start_figures.FIGURES, warm, tmp_path / "plots")
    settings = ROOT / "conf/study/keskar_warmstart.yaml"
    text = page("keskar_warmstart", tmp_path / "metrics", tmp_path / "plots", settings, tmp_path / "none.csv")
    assert re.findall(r'<figure id="(\w+)">', text) == ["warmstart"]
    assert "By start: F1 on MNIST" in text
    assert 'data-series="small-batch iterate"' in text


def test_warm_starts_have_a_row_per_start_and_count_what_ended_well(warm: Made) -> None:
    (table,) = measure_tables.of_starts(warm.tables["warmstart"], warm_start.starts_table(warm))
    heads = [cell.text for cell in table.heads[0]]
    assert heads[:2] == ["started from epoch", "runs, n"]
    rows = [dict(zip(heads, (cell.text for cell in row), strict=True)) for row in table.rows]
    assert [row["runs, n"] for row in rows] == ["2", "1"]
    small = next(head for head in heads if "error" in head and "small-batch" in head)
    assert [row[small] for row in rows] == ["2.50 ± 0.71", "2"]
    assert table.notes == ["Mean ± standard deviation, n = 1 to 2 seeds; where n = 1 there is no spread."]


def test_every_committed_figure_belongs_to_a_measure() -> None:
    drawn = {path.stem for path in (ROOT / "plots").glob("*/*.csv")}
    assert drawn <= {each.name for name in measures.names() for each in measures.figures(name)}


def test_a_table_of_sharpness_has_one_note_on_its_starts_and_images(tmp_path: Path) -> None:
    kinds: list[dict[str, int]] = [{"restarts": 1}, {"restarts": 2}, {"restarts": 2, "converged_starts": 6}]
    found = []
    for number, settings in enumerate(kinds):
        for seed in (0, 1):
            record = {"settings": settings, "conditions": {"train": {"images": 1500}}}
            place = tmp_path / f"{number}/sharpness/net-s{seed}.json"
            place.parent.mkdir(parents=True, exist_ok=True)
            write_record(place, record)
        (note,) = measures.MEASURES["sharpness"].table_notes(tmp_path / f"{number}")
        assert "1,500" in note
        (label,) = measures.MEASURES["sharpness"].table_labels(tmp_path / f"{number}").values()
        assert ("one start, lower bound" in label) == ("One start, lower bound" in note) == (settings["restarts"] == 1)
        found.append(note)
    assert len(set(found)) == len(kinds)


def test_the_searches_whose_starts_do_not_agree_are_counted() -> None:
    """Of a committed study with the longer search, the number in its records stands below its table."""
    folder = ROOT / "metrics/table05_new_seeds"
    found = [
        read_long(path).set_index("quantity")["value"]["search_converged"]
        for path in (folder / "sharpness").glob("*.csv")
    ]
    values = [int(value) for of in found for value in of]
    note = measures.MEASURES["sharpness"].table_notes(folder)[-1]
    assert 0 < values.count(0) < len(values)
    assert f"{values.count(0)} of {len(values)} " in note


def test_the_figure_of_sharpness_draws_the_number_that_is_tested() -> None:
    runs = pd.DataFrame({"quantity": ["sharpness_pct", "sharpness_converged_pct"]})
    assert sharpness_figures.tested(runs) == "sharpness_converged_pct"
    assert sharpness_figures.tested(runs[:1]) == "sharpness_pct"


def test_a_sharpness_from_one_start_is_labelled_as_its_records_say(tmp_path: Path) -> None:
    """Committed studies of one start, of two, and of warm starts."""
    for name, starts in (("keskar_table3", "one start"), ("example", "best of 2"), ("keskar_warmstart_n5000", "one")):
        cells = [
            cell.text
            for table in measure_tables.of_study(ROOT / "metrics" / name)
            for row in [*table.heads, *table.rows]
            for cell in row
        ]
        shown = [text for text in cells if text.startswith("sharpness φ, ten iterations")]
        assert shown
        assert all(f"{starts}" in text and "lower bound" in text for text in shown)
