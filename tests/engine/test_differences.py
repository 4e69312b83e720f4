"""What changed between two results of a study, in words; the results are made up and in a repository of their own."""

import json
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest

from gapscope.engine.differences import Difference, Results, results, with_committed

RUNS = [
    {"model": "net", "dataset": "dots", "batch_size": size, "seed": seed, "quantity": quantity, "value": value} | axes
    for size, shift in ((32, 0.0), (64, 2.0))
    for seed in (0, 1, 2)
    for quantity, value, axes in (
        ("error_pct", 5.0 + shift + seed / 2, {"split": "test", "statistics": "reestimated"}),
        ("error_pct", 1.0, {"split": "train", "statistics": "reestimated"}),
        ("near_rank_excess", 3.0, {"sample": "run", "threshold": 1e-4, "relative": False}),
    )
]
CLAIMS = [
    {"claim": claim, "model": "net", "dataset": "dots", "verdict": verdict}
    for claim, verdict in (("rises", "supported"), ("rises", "undecided"), ("falls", "undecided"))
]


def git(*arguments: str) -> None:
    who = ("-c", "user.name=test", "-c", "user.email=t@example.com")
    subprocess.run(["git", *who, *arguments], check=True, capture_output=True)


def write(runs: pd.DataFrame, claims: pd.DataFrame, processor: str = "A", params: str = "epochs: 3\n") -> None:
    for folder in ("metrics/made", "metrics/claims", "provenance/made/train", "data/datasets"):
        Path(folder).mkdir(parents=True, exist_ok=True)
    runs.to_csv("metrics/made/runs.csv", index=False)
    claims.to_csv("metrics/claims/made.csv", index=False)
    Path("metrics/made/params.yaml").write_text(params)
    Path("provenance/made/train/net.json").write_text(json.dumps({"processor": processor}))
    Path("data/datasets/dots.json").write_text(json.dumps({"test_images": 400}))


@pytest.fixture
def committed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The committed runs and claims, in the folder of the test."""
    monkeypatch.chdir(tmp_path)
    runs, claims = pd.DataFrame(RUNS), pd.DataFrame(CLAIMS)
    git("init", "-q")
    write(runs, claims)
    git("add", "-A")
    git("commit", "-qm", "results")
    return runs, claims


def difference() -> Difference:
    old, new = results("made", "HEAD"), results("made", None)
    assert old is not None
    assert new is not None
    return Difference(old, new)


def moved(runs: pd.DataFrame, points: float) -> pd.DataFrame:
    """Return the runs with one test error moved."""
    other = runs.copy()
    other.loc[0, "value"] += points
    return other


def test_equal_results_are_equal(committed: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    (line,) = with_committed("made")
    assert line.startswith("equal to the committed results: 3 of 3 verdicts equal, all 18 numbers")
    assert difference().lines() == ["runs: same", "numbers: same", "verdicts: all 3 same"]


@pytest.mark.parametrize(
    ("points", "processor", "begins", "says"),
    [
        (0.25, "B", "agrees", "0.25 points (1 image); your processor or torch rounds differently, which is normal"),
        (0.5, "A", "agrees", "0.5 points (2 images); processor and torch are the same"),
        (2.0, "B", "agrees", "2 points (8 images)"),  # the spread over seeds is 0.5, and 3 root 2 of that are 2.12
        (2.25, "B", "DIFFERS", "2.25 points (9 images)"),
    ],
)
def test_a_difference_is_judged_by_the_spread_and_explained_by_the_processor(
    committed: tuple[pd.DataFrame, pd.DataFrame], points: float, processor: str, begins: str, says: str
) -> None:
    runs, claims = committed
    write(moved(runs, points), claims, processor)
    (line,) = with_committed("made")
    assert line.startswith(begins)
    assert says.replace("2.25", "2.2") in line  # two digits
    assert "3 of 3 verdicts equal" in line


def test_changed_verdicts_are_named(committed: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    runs, claims = committed
    write(moved(runs, 0.25), claims.assign(verdict=["supported", "supported", "undecided"]), "B")
    said = with_committed("made")
    assert said[0].startswith("near")
    assert said[1:] == ["verdicts: 1 of 3 changed", "  rises: undecided -> supported"]


def test_a_changed_verdict_stands_with_its_evidence(committed: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    runs, claims = committed
    found = {"effect": 0.5, "effect_low": 0.25, "effect_high": 0.75, "effect_unit": "points", "p_slope": None, "n": 3}
    found |= {"family": "secondary", "p": 0.004, "p_corrected": None, "p_none": None}
    new = claims.assign(**found, verdict=["supported", "supported", "undecided"])
    said = Difference(Results(runs, claims, {}), Results(runs, new, {})).verdict_lines()
    assert all(part in said[1] for part in ("+0.5", "0.25 to 0.75", "raw p = 0.004", "n = 3"))


def test_other_runs_thresholds_and_params_are_told(committed: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    runs, claims = committed
    fewer = runs[runs["seed"] < 2].replace({"threshold": {1e-4: 1e-3}})
    more = pd.concat([fewer, runs[runs["seed"] == 2].assign(seed=7)])
    write(more, claims[:2], params="epochs: 4\npipelines: {evaluation: [made]}\n")
    assert with_committed("made")[1:] == [
        "  params: epochs 3 -> 4",
        "  runs: 4 in both, 2 new, 2 gone",
        "  numbers: same",
        "  near-rank counts: recounted at 1e-3, 1e-4 (before: 1e-4)",
        "  verdicts: all 2 same",
        "  claims: 0 new, 1 gone",
    ]


def test_without_git_or_a_commit_nothing_is_compared(committed: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    assert len(with_committed("other")) == 0
    shutil.copytree("metrics/made", "metrics/other")
    assert len(with_committed("other")) == 1
    shutil.rmtree(".git")
    assert with_committed("made") == []
