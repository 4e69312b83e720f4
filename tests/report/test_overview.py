"""The page of all studies, from made-up verdicts and from what is committed."""

import re
from pathlib import Path

import pandas as pd
import pytest
import yaml

from gapscope.records.tables import write_table
from gapscope.report import overview

ROOT = Path(__file__).parents[2]


def verdicts(study: str, verdict: str, effect: float, model: str = "lenet5") -> pd.DataFrame:
    about = {"claim": "test_error_rises", "statement": "Test error rises", "model": model, "dataset": "mnist", "n": 3}
    rest = {"effect": effect, "effect_low": effect - 1, "effect_high": effect + 1, "effect_unit": "points"}
    said = {"levels": "128, 512, 8192", "verdict": verdict, "why": "it leans", "also": None, "study": study}
    return pd.DataFrame([{**about, **rest, **said}])


def test_claims_are_rows_and_studies_columns_with_sign_and_effect() -> None:
    both = pd.concat([verdicts("table05", "supported", 2.0), verdicts("table06", "contradicted", -2.0, "wide")])
    head, _, line = overview.verdict_table(both).splitlines()
    assert head == "| claim | table05: lenet5 on mnist, n = 3 | table06: wide on mnist, n = 3 |"
    assert line == "| Test error rises | ✔ +2 (1 to 3) points | ✘ −2 (−3 to −1) points |"


def test_a_claim_of_fewer_seeds_than_its_studys_says_so() -> None:
    other = verdicts("table05", "undecided", 0.5).assign(claim="excess_rises", statement="Excess rises", n=1)
    table = overview.verdict_table(pd.concat([verdicts("table05", "supported", 2.0), other]))
    assert table.splitlines()[2:] == [
        "| Test error rises | ✔ +2 (1 to 3) points |",
        "| Excess rises | ? +0.5 (−0.5 to 1.5) points, n = 1 |",
    ]


def test_signs_stand_in_the_order_of_the_claims_and_of_the_heads_asked_for() -> None:
    late = verdicts("table06", "contradicted", -2.0).assign(claim="excess_rises", statement="Excess rises")
    table = overview.sign_table(
        pd.concat([late, verdicts("table05", "supported", 2.0)]), {"table06": "6", "table05": "5"}
    )
    assert table.splitlines() == [
        "| claim | 6 | 5 |", "|---|---|---|", "| Test error rises |   | ✔ |", "| Excess rises | ✘ |   |",
    ]  # fmt: skip


def test_printed_and_measured_gaps_are_those_of_the_ends(tmp_path: Path) -> None:
    about = {"measured_column": "test_error_pct", "model": "lenet5", "dataset": "mnist"}
    rows = [
        {**about, "batch_size": b, "printed": p, "mean": m, "stuck": c}
        for b, p, m, c in ((512, 9, 9, 0), (8192, 3, 2.5, 1), (128, 1, 2, 0))
    ]
    rows += [{**row, "model": "another", "mean": 50} for row in rows]
    write_table(tmp_path / "table05/paper.csv", rows)
    write_table(tmp_path / "table06/paper.csv", [{**row, "mean": None} for row in rows])  # all diverged
    write_table(tmp_path / "table06/gap.csv", [{"model": "lenet5", "dataset": "mnist", "batch_size": 512}])
    gaps = {"model": "lenet5", "dataset": "mnist", "smallest": 128, "n": 3, "gap_low": 0.1, "gap_high": 0.9}
    write_table(tmp_path / "table05/gap.csv", [{**gaps, "batch_size": b, "gap": g} for b, g in ((512, 7), (8192, 0.5))])
    write_table(tmp_path / "claims/table05.csv", verdicts("table05", "undecided", 0.5))
    (line,) = overview.gap_table(tmp_path).splitlines()[2:]
    assert line.endswith("| 128 → 8192 | 1.00 → 3.00 | 2.00 → 2.50 ‡ | 3 | +2 | +0.5 (0.1 to 0.9) | ? |")
    write_table(tmp_path / "claims/table05.csv", verdicts("table05", "undecided", 0.5).assign(levels="128, 512"))
    assert overview.gap_table(tmp_path).endswith("| ? (to 512) |")  # of another range than this row's
    another = verdicts("table05", "supported", 0.5, "another")
    write_table(tmp_path / "claims/table05.csv", pd.concat([another, verdicts("table05", "undecided", 0.5)]))
    assert overview.gap_table(tmp_path).endswith("| ? |")
    smaller = [{**gaps, "smallest": 64, "batch_size": b, "gap": 9} for b in (128, 512, 8192)]
    write_table(tmp_path / "table05/gap.csv", smaller)  # another gap than that between the ends of this row
    assert overview.gap_table(tmp_path).endswith("| 3 | +2 |   |   |")


def test_a_page_puts_arms_apart_and_leaves_the_quick_study_out(tmp_path: Path) -> None:
    for study in ("table05", "table11", "quick"):
        write_table(tmp_path / f"claims/{study}.csv", verdicts(study, "undecided", 0.5).drop(columns="study"))
    write_table(
        tmp_path / "claims/width.csv", verdicts("width", "undecided", 0.5).assign(also="the smallest itself +1")
    )
    page = overview.page(tmp_path, tmp_path / "plots")
    row = "lenet5 on mnist | Test error rises | ? undecided | +0.5 (−0.5 to 1.5) points | 128, 512, 8192 | 3 |"
    assert f"| `table11`: {row}   |\n" in page
    assert f"| `width`: {row} it leans; the smallest itself +1 |\n" in page
    assert "quick" not in page
    assert page.index("### Oyedotun") < page.index("table05: lenet5") < page.index("### Arms")
    assert page.index("### Arms") < page.index("## What is printed") < page.index("| Table 1 |")


def test_without_a_verdict_the_page_says_so(tmp_path: Path) -> None:
    assert "No study has tested its claims yet." in overview.page(tmp_path, tmp_path)


def test_what_was_run_is_read_from_the_tables_and_the_rest_has_its_reason(tmp_path: Path) -> None:
    runs = pd.DataFrame({"batch_size": [128, 128, 512], "seed": [0, 1, 0]})
    write_table(tmp_path / "metrics/table05/runs.csv", runs)
    (tmp_path / "metrics/table05/paper.md").write_text("")
    status = overview.status_table(tmp_path / "metrics", tmp_path / "plots", above="../")
    line = next(line for line in status.splitlines() if "| Table 5 |" in line)
    assert "b = 128, 512; 2 seeds" in line
    assert "table05/paper.md" in line
    assert "not run yet" in next(line for line in status.splitlines() if "| Table 6 |" in line)
    assert "sized for a GPU" in next(line for line in status.splitlines() if "| Table 1 |" in line)


def test_every_printed_table_and_figure_has_a_study() -> None:
    listed = overview.items()
    for item in listed:
        assert (ROOT / f"conf/study/{item['study']}.yaml").exists(), item
    oyedotun = [
        name.strip() for item in listed if item["paper"].startswith("Oyedotun") for name in item["item"].split(",")
    ]
    for number in range(1, 12):
        assert f"Table {number}" in oyedotun
    for name in ("Figure 1", "Figure 2", "Figures 3", "4", "Figure 5", "Figure 6", "Tables A1", "A2", "Figure A3"):
        assert name in oyedotun


def models(study: str) -> list[str]:
    """Return the networks of a study, or of the one that it is an arm of."""
    settings = yaml.safe_load((ROOT / f"conf/study/{study}.yaml").read_text())
    return list(settings["models"]) if "models" in settings else models(settings["defaults"][0])


@pytest.mark.parametrize(
    ("figure", "networks"),
    [("Figure 3", ["F1", "F2", "C1", "C2", "C3", "C4"]), ("Figure 4", ["F2", "C1"]), ("Figure 5", ["F2", "C1"])],
)
def test_keskars_figures_are_listed_by_network_and_their_studies_have_these(figure: str, networks: list[str]) -> None:
    rows = [item for item in overview.items() if item["paper"].startswith("Keskar") and item["item"] == figure]
    found = [(network, item["study"]) for item in rows for network in re.findall(r"[FC][1-4]", item["what"])]
    assert {*networks} <= {network for network, _ in found}
    for network, study in found:
        if study:
            assert network.lower() in models(study)
