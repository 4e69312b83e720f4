"""The papers' folders: every printed table and figure has a study, and every study one printed table at most."""

import re
from pathlib import Path

import pytest
import yaml

from gapscope import papers
from gapscope.errors import InputError
from gapscope.papers.paper import Item, Paper

ROOT = Path(__file__).parents[2]


def items(folder: str) -> list[Item]:
    return [item for paper, item in papers.items() if paper.folder == folder]


def test_every_folder_is_a_paper_and_every_paper_has_a_folder() -> None:
    folders = {path.parent.name for path in (ROOT / "src/gapscope/papers").glob("*/__init__.py")}
    assert set(papers.PAPERS) == folders
    for folder, paper in papers.PAPERS.items():
        assert paper.folder == folder
        assert paper.title
        assert paper.claims


def test_every_printed_table_and_figure_has_a_study() -> None:
    for _, item in papers.items():
        assert (ROOT / f"conf/study/{item.study}.yaml").exists() if item.study else item.why, item
    oyedotun = [name.strip() for item in items("oyedotun2022") for name in item.item.split(",")]
    for number in range(1, 12):
        assert f"Table {number}" in oyedotun
    gao = ", ".join(item.item for item in items("gao_zhong"))
    figures = {int(number) for number in re.findall(r"\d+", gao)}
    assert figures == {*range(1, 17)} - {6, 15}  # those two are sketches
    for name in ("Figure 1", "Figure 2", "Figures 3", "4", "Figure 5", "Figure 6", "Tables A1", "A2", "Figure A3"):
        assert name in oyedotun


def test_a_study_repeats_one_printed_table_at_most_and_its_number_is_the_items() -> None:
    printed = [item.study for _, item in papers.items() if item.printed is not None]
    assert len(printed) == len(set(printed)) > 15
    for item in items("oyedotun2022"):
        assert item.printed is None or item.item == f"Table {item.printed}"


def test_studies_whose_settings_are_quick_are_studies() -> None:
    assert papers.no_evidence() == {"quick", "smoke"}
    for study in papers.no_evidence():
        assert (ROOT / f"conf/study/{study}.yaml").exists()


def models(study: str) -> list[str]:
    """Return the networks of a study, or of the one that it is an arm of."""
    settings = yaml.safe_load((ROOT / f"conf/study/{study}.yaml").read_text())
    return list(settings["models"]) if "models" in settings else models(settings["defaults"][0])


@pytest.mark.parametrize(
    ("figure", "networks"),
    [("Figure 3", ["F1", "F2", "C1", "C2", "C3", "C4"]), ("Figure 4", ["F2", "C1"]), ("Figure 5", ["F2", "C1"])],
)
def test_keskars_figures_are_listed_by_network_and_their_studies_have_these(figure: str, networks: list[str]) -> None:
    rows = [item for item in items("keskar2017") if item.item == figure]
    found = [(network, item.study) for item in rows for network in re.findall(r"[FC][1-4]", item.what)]
    assert {*networks} <= {network for network, _ in found}
    for network, study in found:
        assert network.lower() in models(study)


def test_the_printed_values_of_a_study_are_found_by_its_name() -> None:
    assert len(papers.printed("table05")) == 6 * 4
    assert papers.printed("example").empty
    assert papers.printed("keskar_table3").empty  # its figures show no printed values


def test_a_claim_that_two_papers_name_alike_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(papers.PAPERS, "again", papers.PAPERS["own"])
    with pytest.raises(InputError, match="probe_excess_rises"):
        papers.claims()


def test_a_misspelt_key_of_an_item_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    paper = Paper("own")
    monkeypatch.setitem(paper.__dict__, "_file", {"title": "x", "items": [{"itme": "Table 1"}]})
    with pytest.raises(InputError, match="item"):
        _ = paper.items


def test_dvc_knows_the_files_that_the_stages_read() -> None:
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    folder = "src/gapscope/papers"
    claims = {f"{folder}/{name}/claims.yaml" for name in papers.PAPERS}
    assert {dep for dep in stages["claims"]["deps"] if dep.startswith(folder)} == claims
    with_printed = {name for name, paper in papers.PAPERS.items() if paper.beside}
    tables = {dep for dep in stages["tables"]["deps"] if dep.startswith(folder)}
    assert tables >= {f"{folder}/{name}/items.yaml" for name in with_printed}
    for stage in ("tables", "plots", "claims"):
        for dep in stages[stage]["deps"]:
            assert not dep.startswith(folder) or (ROOT / dep).exists(), dep
