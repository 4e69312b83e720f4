"""Runs made by different revisions of the code are marked and not compared. Faults are planted in copies of studies."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
import yaml
from made_up_runs import PLAIN, evidence, made_up

from gapscope import papers
from gapscope.claims.evidence import read_evidence
from gapscope.claims.revisions import stages
from gapscope.claims.verdicts import ClaimSettings, evaluate
from gapscope.config import load_params

ROOT = Path(__file__).parents[2]
CLAIMS = {claim.name: claim for claim in papers.claims()}


@pytest.fixture
def copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with some committed studies and their provenance, as the folder of work."""
    for study in ("table05", "example", "example_switched", "gao_quick"):
        for folder in ("metrics", "provenance"):
            ignore = shutil.ignore_patterns("spectra", "*.jsonl") if folder == "metrics" else None
            shutil.copytree(ROOT / folder / study, tmp_path / folder / study, ignore=ignore)
    for stage in ("spectra", "controls"):  # the records themselves are large, and only their names are asked for
        for path in (ROOT / "provenance/table05" / stage).glob("*.json"):
            place = tmp_path / "metrics/table05" / stage / path.name
            place.parent.mkdir(exist_ok=True)
            place.touch()
    shutil.copy(ROOT / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def plant(records: str, revision: int | None = 2) -> None:
    """Write another revision into the provenance of records; None: leave it out."""
    paths = sorted(Path("provenance").glob(records))
    assert paths
    for path in paths:
        stated = {**json.loads(path.read_text()), "revision": revision}
        path.write_text(json.dumps({key: value for key, value in stated.items() if value is not None}))


def verdicts(study: str) -> pd.DataFrame:
    """Return the rows of a study's claims, by claim."""
    folder = Path("metrics") / study
    params = load_params(folder / "params.yaml")
    settings = params.section("claims", ClaimSettings)
    found = read_evidence(folder, params, papers.claims()), read_evidence(folder.parent / settings.reference)
    return evaluate(papers.claims(), *found, settings).set_index("claim")


def verdict_of(rows: pd.DataFrame, claim: str) -> str:
    """Return the verdict at the first of a claim's axes."""
    return str(rows.loc[[claim], "verdict"].iloc[0])


def committed(study: str) -> list[str]:
    return list(pd.read_csv(ROOT / f"metrics/claims/{study}.csv")["verdict"])


def test_runs_of_another_training_revision_are_not_compared(copied: Path) -> None:
    plant("table05/train/*-b8192-s1.json")
    rows = verdicts("table05")
    tested = rows[~rows["verdict"].isin(["not testable", "not tested"])]
    assert set(tested["verdict"]) == {"not comparable"}
    assert set(tested["p_corrected"].isna()) == {True}
    plant("table05/train/*.json")  # one revision for all
    assert list(verdicts("table05")["verdict"]) == committed("table05")


@pytest.mark.parametrize(
    ("records", "touched", "untouched"),
    [
        ("sharpness", "sharpness_rises", "near_rank_rises"),
        ("spectra", "near_rank_rises", "sharpness_rises"),
        ("controls", "excess_over_untrained_rises", "sharpness_rises"),
    ],
)
def test_only_claims_on_what_a_measure_gave_are_not_compared(
    copied: Path, records: str, touched: str, untouched: str
) -> None:
    plant(f"table05/{records}/*-s2.json")
    rows, before = verdicts("table05"), committed("table05")
    assert verdict_of(rows, touched) == "not comparable"
    assert verdict_of(rows, "test_error_rises") == "supported"
    assert verdict_of(rows, untouched) == before[list(rows.index).index(untouched)] != "not comparable"


def test_a_measurement_on_another_kind_of_device_is_not_compared(copied: Path) -> None:
    for path in Path("provenance/table05/sharpness").glob("*-s2.json"):
        path.write_text(json.dumps({**json.loads(path.read_text()), "device": "cuda (a GPU)"}))
    rows, before = verdicts("table05"), committed("table05")
    assert verdict_of(rows, "sharpness_rises") == "not comparable"
    assert "1 on cuda" in rows.loc[["sharpness_rises"], "why"].iloc[0]
    assert verdict_of(rows, "near_rank_rises") == before[list(rows.index).index("near_rank_rises")] != "not comparable"


def test_a_reference_of_another_revision_is_not_compared(copied: Path) -> None:
    assert list(verdicts("example_switched")["verdict"]) == committed("example_switched")
    plant("example/train/*.json")
    rows = verdicts("example_switched")
    assert set(rows.loc[["switching_shrinks_gap", "switching_removes_gap"], "verdict"]) == {"not comparable"}
    assert verdict_of(rows, "gap_with_switching") != "not comparable"  # it is about this study alone


def test_a_record_that_states_no_revision_is_of_another_one_unless_none_states_it(copied: Path) -> None:
    plant("table05/train/*-b128-s0.json", None)
    assert verdict_of(verdicts("table05"), "test_error_rises") == "not comparable"
    shutil.rmtree("provenance/table05")
    rows = verdicts("table05")
    assert list(rows["verdict"]) == committed("table05")
    assert "18 records" in rows.loc["test_error_rises", "caution"]  # and it is said


def test_a_measures_own_records_are_held_to_one_revision(copied: Path) -> None:
    assert "not comparable" not in set(verdicts("gao_quick")["verdict"])
    plant("gao_quick/gradient_law/*-s0.json")
    rows = verdicts("gao_quick")
    assert set(rows.loc[["gradient_power_law"], "verdict"]) == {"not comparable"}


def test_runs_that_are_not_tested_may_be_of_any_revision() -> None:
    """A run of another revision matters only where its value is used: failed runs and seen seeds are left out."""
    table = made_up(0.5, 0.2, seeds=4)
    table.loc[(table["seed"] == 3), "status"] = "diverged"
    found = evidence(table)
    found = type(found)(found.values, found.runs, revisions={"train": {f"lenet5-mnist-b{b}-s{s}": f"{1 + (s == 3)}"
        for b in table["batch_size"].unique() for s in range(4)}})  # fmt: skip
    claims = [CLAIMS["test_error_rises"]]
    assert evaluate(claims, found, found, PLAIN)["verdict"].item() == "supported"


def test_each_claim_rests_on_the_stages_that_gave_its_quantities() -> None:
    expected = {
        "test_error_rises": ["train"],
        "sharpness_rises": ["sharpness", "train"],
        "near_rank_with_train_loss": ["near_rank", "spectra", "train"],
        "excess_over_untrained_rises": ["controls", "near_rank", "spectra", "train"],
        "gradient_power_law": ["gradient_law"],
    }
    assert {name: stages(CLAIMS[name], warm_starts=False) for name in expected} == expected
    starts = yaml.safe_load((ROOT / "metrics/keskar_warmstart_n5000/params.yaml").read_text())["claims"]["arm"]
    tested = [claim for claim in CLAIMS.values() if claim.arm == starts]
    assert tested
    assert {stage for claim in tested for stage in stages(claim, warm_starts=True)} == {"warmstart"}
