"""The measure of docs/extend.md goes through the smoke study to table, page and claims, by touching few files."""

import json
from pathlib import Path

import pandas as pd
import pytest
from extend_page import commands, follow
from test_pipeline import edit, ran, run, tracked_copy

SECTION = "A measure"


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with the page's measure, whose study takes it beside evaluation, and nothing else."""
    folder = tracked_copy(tmp_path_factory.mktemp("toy") / "gapscope")
    assert set(follow(SECTION, folder)) == {
        "src/gapscope/measures/sign_share.py", "stages/sign_share.py", "dvc.yaml", "conf/config.yaml",
        "revisions.yaml", "docs/sign_share.md", "docs/README.md", "src/gapscope/papers/own/claims.yaml",
        "verified/cases.yaml", "tests/test_params.py", "tests/test_dvc_deps.py",
    }  # fmt: skip
    run(folder, *commands(SECTION)[0])
    return folder


@pytest.fixture(scope="module")
def stages_run(study: Path) -> set[str]:
    """The stages that the page's `dvc repro` runs, in `study`."""
    run(study, *commands(SECTION)[0])
    return {name.partition("@")[0] for name in ran(run(study, *commands(SECTION)[1]))}


@pytest.mark.integration
def test_it_reaches_table_page_and_claims_and_training_alone_is_a_study(study: Path, stages_run: set[str]) -> None:
    assert sorted(stages_run - {"check"}) == [
        "claims", "download", "plan", "plots", "report", "settings", "sign_share", "tables", "train",
    ]  # fmt: skip
    runs = pd.read_csv(study / "metrics/smoke/runs.csv")
    found = runs[runs["quantity"] == "positive_pct"]
    assert found["batch_size"].tolist() == [128, 1024]
    assert found["value"].between(0, 100, inclusive="neither").all()
    record = json.loads((study / "metrics/smoke/sign_share/lenet5-digits-b128-s0.json").read_text())
    assert (record["status"], record["model"]["name"]) == ("ok", "lenet5")
    assert record["settings"] == {"margin": 0.0, "threads": 1}
    page = (study / "reports/smoke.html").read_text()
    assert "positive weights (%)" in page
    assert f"{found['value'].iloc[0]:.4g}</td>" in page
    claims = pd.read_csv(study / "metrics/claims/smoke.csv").set_index("claim")
    assert claims.loc["positive_weights_rise", "quantity"] == "positive_pct"
    assert claims.loc["sharpness_rises", "verdict"] == "not testable"  # it was not measured


def test_the_projects_tests_of_stages_hold(study: Path) -> None:
    (command,) = [words for words in commands(SECTION) if "tests/test_dvc_deps.py" in words]
    assert " passed" in run(study, *command)


@pytest.mark.integration
@pytest.mark.usefixtures("stages_run")
def test_the_projects_tests_of_pages_hold(study: Path) -> None:
    (command,) = [words for words in commands(SECTION) if "tests/test_docs.py" in words]
    assert " passed" in run(study, *command)


@pytest.mark.integration
@pytest.mark.usefixtures("stages_run")
def test_a_param_of_the_measure_reruns_it_and_trains_nothing(study: Path) -> None:
    before = pd.read_csv(study / "metrics/smoke/sign_share/lenet5-digits-b128-s0.csv")["value"][0]
    edit(study / "params.yaml", "margin: 0.0", "margin: 0.1")
    stages = {name.partition("@")[0] for name in ran(run(study, "dvc", "repro"))}
    assert stages == {"sign_share", "tables", "plots", "settings", "claims", "report"}
    assert pd.read_csv(study / "metrics/smoke/sign_share/lenet5-digits-b128-s0.csv")["value"][0] < before
    edit(study / "params.yaml", "margin: 0.1", "margin: -1.0")
    assert "sign_share.margin must be at least 0, got -1.0" in run(study, "dvc", "repro", fails=True)


def test_a_measure_that_needs_another_is_refused_before_anything_runs(study: Path) -> None:
    run(study, "gapscope", "compose", "study=smoke", "measures=[evaluation,near_rank]")
    assert "near_rank needs spectra" in run(study, "dvc", "repro", fails=True)
    run(study, "gapscope", "compose", "study=smoke", "measures=[evaluation,sharpnes]")
    assert "did you mean 'sharpness'" in run(study, "dvc", "repro", fails=True)
