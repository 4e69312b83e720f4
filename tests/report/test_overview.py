"""The page of all studies, from made-up verdicts and from what is committed."""

import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from gapscope import papers
from gapscope.claims.wording import SIGNS, evidence, p_value
from gapscope.errors import InputError
from gapscope.records.tables import write_table
from gapscope.report import overview, sections, verdict_tables
from gapscope.report.sections import Link, Section, Table

ROOT = Path(__file__).parents[2]
NONE = SIGNS["not testable"]
SLOPE = "points, slope +0.5 (0.25 to 0.75) points, p = 0.01"


def verdicts(study: str, verdict: str, effect: float, model: str = "lenet5") -> pd.DataFrame:
    about = {"claim": "test_error_rises", "statement": "Test error rises", "model": model, "dataset": "mnist", "n": 3}
    rest = {"effect": effect, "effect_low": effect - 1, "effect_high": effect + 1, "effect_unit": "points"}
    tested = {"family": "primary", "p": 0.002, "p_corrected": 0.01, "p_none": 0.001, "p_none_corrected": 0.004}
    slope = {"p_slope": 0.003, "slope": 0.5, "slope_low": 0.25, "slope_high": 0.75, "slope_unit": "points per doubling"}
    said = {"levels": "128, 512, 8192", "verdict": verdict, "why": "reason", "also": None, "study": study}
    return pd.DataFrame([{**about, **rest, **tested, **slope, **said}])


def counted(study: str, threshold: float, verdict: str, effect: float) -> pd.DataFrame:
    rows = verdicts(study, verdict, effect).assign(claim="excess_rises", threshold=threshold, effect_unit="values")
    return rows.assign(p_slope=np.nan)


def test_claims_are_rows_and_studies_columns_with_sign_and_effect() -> None:
    both = pd.concat([verdicts("table05", "supported", 2.0), verdicts("table06", "contradicted", -2.0, "wide")])
    table = verdict_tables.matrix(both)
    assert table.heads == ["claim", "table05: LeNet-5 on MNIST, n = 3", "table06: wide on MNIST, n = 3"]
    assert [line[1:] for line in table.rows] == [[f"✔ +2 (1 to 3) {SLOPE}", f"✘ −2 (−3 to −1) {SLOPE}"]]


def test_a_claim_of_fewer_seeds_than_its_studys_says_so() -> None:
    other = counted("table05", 1e-4, "undecided", 0.5).assign(n=1)
    table = verdict_tables.matrix(pd.concat([verdicts("table05", "supported", 2.0), other]))
    assert [line[1] for line in table.rows] == [f"✔ +2 (1 to 3) {SLOPE}", "? +0.5 (−0.5 to 1.5) values, n = 1"]


def test_the_thresholds_of_a_claim_stand_side_by_side() -> None:
    rows = [counted("table05", 1e-4, "supported", 2.0), counted("table05", 1e-5, "undecided", 1.0)]
    other = counted("table06", 1e-4, "contradicted", -2.0)
    table = verdict_tables.matrix(pd.concat([*rows, other], ignore_index=True))
    ((statement, both, one),) = table.rows
    assert "1e-4, 1e-5" in str(statement)
    assert both == "1e-4: ✔ +2 (1 to 3) values, p = 0.01; 1e-5: ? +1 (0 to 2) values, p = 0.01"
    assert one == "1e-4: ✘ −2 (−3 to −1) values, p = 0.01"


def test_what_no_study_can_test_is_named_below_and_what_one_cannot_is_marked() -> None:
    tested = pd.concat([verdicts("table05", "supported", 2.0), verdicts("table06", "not testable", 0.0)])
    other = verdicts("table05", "not testable", 0.0).assign(claim="hessian_rises", statement="The Hessian rises")
    table = verdict_tables.matrix(pd.concat([tested, other]))
    assert [line[1:] for line in table.rows] == [[f"✔ +2 (1 to 3) {SLOPE}", NONE]]
    assert "Hessian" in table.notes[0]


def test_columns_stand_in_the_order_of_the_heads_asked_for() -> None:
    late = counted("table06", 1e-4, "contradicted", -2.0)
    both = pd.concat([late, verdicts("table05", "supported", 2.0)])
    table = verdict_tables.matrix(both, {"table06": "6", "table05": "5"})
    assert table.heads == ["claim", "6, n = 3", "5, n = 3"]
    assert [[cell[:1] for cell in line[1:]] for line in table.rows] == [["", "✔"], ["✘", ""]]
    two = pd.concat([both, verdicts("table05", "supported", 2.0, "wide")])
    with pytest.raises(InputError, match="one network"):
        verdict_tables.matrix(two, {"table05": "5"})


@pytest.mark.parametrize(
    ("verdict", "family", "n", "shown"),
    [
        ("supported", "primary", 3, "p = 0.01"),
        ("undecided", "secondary", 3, "raw p = 0.002"),
        ("no effect", "control", 3, "p = 0.004"),  # that of the verdict, not that of a change
        ("no effect", "twin", 3, "raw p = 0.001"),
        ("undecided", "primary", 2, ""),
        ("by construction", "primary", 3, ""),
        ("not comparable", "secondary", 3, ""),
    ],
)
def test_the_p_value_of_a_cell_is_the_one_that_its_verdict_rests_on(
    verdict: str, family: str, n: int, shown: str
) -> None:
    row = verdicts("table05", verdict, 2.0).assign(family=family, n=n).iloc[0].to_dict()
    assert p_value(row) == shown
    assert ("slope" in evidence(row)) == (verdict not in ("by construction", "not comparable"))
    assert evidence(row).endswith(f", n = {n}")


def test_printed_and_measured_gaps_are_those_of_the_ends(tmp_path: Path) -> None:
    about = {"quantity": "error_pct", "split": "test", "model": "lenet5", "dataset": "mnist"}
    rows = [
        {**about, "batch_size": b, "printed": p, "mean": m, "stuck": c}
        for b, p, m, c in ((512, 9, 9, 0), (8192, 3, 2.5, 1), (128, 1, 2, 0))
    ]
    rows += [{**row, "model": "another", "mean": 50} for row in rows]
    write_table(tmp_path / "table05/paper.csv", [{**row, "split": "train", "mean": 7} for row in rows] + rows)
    write_table(tmp_path / "table06/paper.csv", [{**row, "mean": None} for row in rows])  # all diverged
    write_table(tmp_path / "table06/gap.csv", [{"model": "lenet5", "dataset": "mnist", "batch_size": 512}])
    gaps = {"model": "lenet5", "dataset": "mnist", "smallest": 128, "n": 3, "gap_low": 0.1, "gap_high": 0.9}
    write_table(tmp_path / "table05/gap.csv", [{**gaps, "batch_size": b, "gap": g} for b, g in ((512, 7), (8192, 0.5))])
    write_table(tmp_path / "claims/table05.csv", verdicts("table05", "undecided", 0.5))

    def only_row() -> list[sections.Cell]:
        (row,) = overview.gap_table(tmp_path).rows
        return list(row)

    said = "? slope +0.5 (0.25 to 0.75) points, p = 0.01"
    assert only_row()[0] == Link("Table 5", "reports/table05.html")
    assert only_row()[2:] == ["128 → 8192", "1.00 → 3.00", "2.00 → 2.50 ‡", "3", "+2", "+0.5 (0.1 to 0.9)", said]
    write_table(tmp_path / "claims/table05.csv", verdicts("table05", "undecided", 0.5).assign(levels="128, 512"))
    assert only_row()[-1] == f"? to 512: +0.5 (−0.5 to 1.5) {SLOPE}, n = 3"  # of another range than this row's
    another = verdicts("table05", "supported", 0.5, "another")
    write_table(tmp_path / "claims/table05.csv", pd.concat([another, verdicts("table05", "undecided", 0.5)]))
    assert only_row()[-1] == said
    smaller = [{**gaps, "smallest": 64, "batch_size": b, "gap": 9} for b in (128, 512, 8192)]
    write_table(tmp_path / "table05/gap.csv", smaller)  # another gap than that between the ends of this row
    assert only_row()[-3:] == ["+2", "", ""]


def titled(found: list[Section]) -> dict[str, str]:
    return {section.title: sections.markdown([section]) for section in found}


def test_studies_stand_under_their_paper_remedies_apart_and_the_quick_study_nowhere(tmp_path: Path) -> None:
    for study in ("table05", "keskar_table3", "mine", "quick"):
        write_table(tmp_path / f"claims/{study}.csv", verdicts(study, "undecided", 0.5).drop(columns="study"))
    switched = verdicts("table11", "undecided", 0.5).assign(claim="gap_with_switching", also="the smallest itself +1")
    write_table(tmp_path / "claims/table11.csv", switched)
    found = titled(overview.sections(tmp_path, tmp_path / "plots"))
    where = {
        study: [
            title
            for title, text in found.items()
            if f"[{study}, n = 3]({study}.html)" in text or f"`{study}`: " in text
        ]
        for study in ("table05", "keskar_table3", "mine", "table11", "quick")
    }
    assert where == {
        "table05": ["Oyedotun et al. 2022"], "keskar_table3": ["Keskar et al. 2017"], "mine": ["Other studies"],
        "table11": ["Remedies, widths and warm starts"], "quick": [],
    }  # fmt: skip


def test_a_claim_of_another_paper_that_one_study_tests_stands_in_the_table_of_its_own_paper(tmp_path: Path) -> None:
    other = papers.PAPERS["gao_zhong"].claims[0]
    rows = verdicts("table05", "undecided", 0.5)
    write_table(tmp_path / "claims/table05.csv", pd.concat([rows, rows.assign(claim=other.name)]))
    write_table(tmp_path / "claims/table06.csv", verdicts("table06", "undecided", 0.5))
    found = titled(overview.sections(tmp_path, tmp_path / "plots"))
    oyedotun, gao = found["Oyedotun et al. 2022"], found["Gao & Zhong"]
    assert ["[table05, n" in oyedotun, "[table06, n" in oyedotun] == [True, True]
    assert ["[table05, n" in gao, "[table06, n" in gao] == [True, False]
    assert [text.count("\n| ") for text in (oyedotun, gao)] == [2, 2]  # heads and one claim


def test_without_a_verdict_there_are_no_tables_of_them(tmp_path: Path) -> None:
    found = overview.sections(tmp_path, tmp_path)
    assert not any(isinstance(part, Table) for section in found[:2] for part in section.parts)
    assert len(found) == 3


def test_what_was_run_is_read_from_the_tables_and_the_rest_has_its_reason(tmp_path: Path) -> None:
    runs = pd.DataFrame({"batch_size": [128, 128, 512], "seed": [0, 1, 0]})
    write_table(tmp_path / "metrics/table05/cells.csv", runs)
    (tmp_path / "metrics/table05/paper.md").write_text("")
    rows = overview.status_table(tmp_path / "metrics", tmp_path / "plots", "pages/").rows
    state = {str(row[1]): row[-1] for row in reversed(rows)}  # the first study of each item
    assert state["Table 5"] == Link("b = 128, 512; 2 seeds", "pages/table05.html")
    assert "GPU" in str(state["Table 1"])
    assert isinstance(state["Table 6"], str)
    assert len(state["Table 6"]) > 0


class Reader(HTMLParser):
    """Collects the tags of a page, and fails on one that is not closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open.append(tag)
        self.seen.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_same_content_is_html_and_escaped() -> None:
    table = Table(["a", "b"], [["1 < 2", Link("x & y", "p.html?a&b")]], ["see `metrics/`"])
    text = sections.html([Section("T <1>", 2, ["all", table])])
    reader = Reader()
    reader.feed(text)
    assert not reader.open
    assert (reader.seen.count("tr"), reader.seen.count("a"), reader.seen.count("code")) == (2, 1, 1)
    assert "1 &lt; 2" in text
    assert "T &lt;1&gt;" in text
    assert sections.markdown([Section("T", 2, [table])]).splitlines()[2:5] == [
        "| a | b |", "|---|---|", "| 1 < 2 | [x & y](p.html?a&b) |",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("hostile", "written"),
    [
        ("a | b", "a \\| b"),
        ("<img src=x>", "\\<img src=x>"),
        ("</td>", "\\</td>"),
        ("[here](javascript:x)", "[here\\](javascript:x)"),
        ("[[here]](x)", "[[here]\\](x)"),
        ("[here]: x", "[here\\]: x"),
        ("&lt;b>", "\\&lt;b>"),
        ("two\nlines\r\n", "two lines"),
        ("`<b>` and <b>", "`<b>` and \\<b>"),
        ("` <b>", "\\` \\<b>"),
        ("1 < 2, 0.5 [0.1, 0.9] (n = 3)", "1 < 2, 0.5 [0.1, 0.9] (n = 3)"),
    ],
)
def test_markdown_of_records_opens_no_tag_link_or_column(hostile: str, written: str) -> None:
    row = sections.table_markdown(Table(["a"], [[hostile]])).splitlines()[2:]
    assert row == [f"| {written} |"]
    if "|" not in hostile:
        assert sections.markdown([Section(hostile, 1, [hostile])]) == f"# {written}\n\n{written}\n"


def test_a_link_of_markdown_ends_where_it_is_written() -> None:
    row = sections.table_markdown(Table(["a"], [[Link("x](y)", "p.html) <b> (")]])).splitlines()[2]
    assert row == "| [x\\](y)](p.html%29%20%3Cb%3E%20%28) |"


def test_no_module_of_the_report_knows_a_study_by_name() -> None:
    studies = {path.stem for path in (ROOT / "conf/study").glob("*.yaml")} - {"width", "random_matrices", "example"}
    for name in ("overview", "verdict_tables", "sections", "page", "gap"):
        text = (ROOT / f"src/gapscope/report/{name}.py").read_text()
        assert not set(re.findall(r"[\"'/](\w+)", text)) & studies, name
