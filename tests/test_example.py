"""The worked example of docs/own_model.md, cut to two batch sizes, one seed and a few epochs, through DVC."""

import re
from pathlib import Path

import pandas as pd
import pytest
import yaml
from test_pipeline import ROOT, run, tracked_copy

from gapscope.records.long import select

GUIDE = (ROOT / "docs/own_model.md").read_text()
CUT = ["-S", "seeds=[0]", "-S", "batch_sizes=[16,1024]", "-S", "epochs=3", "-S", "sharpness.images=500"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the tracked files in which the example's data were made."""
    made = tracked_copy(tmp_path_factory.mktemp("example") / "gapscope")
    run(made, "python", "examples/make_data.py")
    return made


@pytest.mark.integration
def test_the_example_answers_its_question_and_a_remedy_is_set_against_it(folder: Path) -> None:
    run(folder, "gapscope", "run", "example", "-j", "2", *CUT)
    gap = pd.read_csv(folder / "metrics/example/gap.csv").set_index("batch_size")
    runs = pd.read_csv(folder / "metrics/example/runs.csv")
    errors = select(runs, "error_pct", {"split": "test", "statistics": "reestimated"}).set_index("batch_size")["value"]
    assert gap.loc[1024, "gap"] == pytest.approx(errors[1024] - errors[16])
    assert gap["verdict"].tolist() == ["undecided"]  # one seed
    axes = {"sample": "run", "threshold": 1e-4, "relative": False}
    structural = select(runs, "near_rank_structural", axes)["value"].tolist()
    assert structural == [(128 - 16) + (64 - 16), (1024 - 128) + (1024 - 64)]
    page = (folder / "reports/example.html").read_text()
    assert "examples.nets:Net" in page
    switch = ["-S", "train.schedule.batch_schedule=[{epoch: 3, batch_size: 16, lr: null}]"]
    run(folder, "gapscope", "run", "example_switched", "-j", "2", *CUT, *switch, "-S", "measures=[evaluation]")
    claims = pd.read_csv(folder / "metrics/claims/example_switched.csv").set_index("claim")
    both = [pd.read_csv(folder / f"metrics/{s}/gap.csv")["gap"][0] for s in ("example_switched", "example")]
    assert claims.loc["switching_shrinks_gap", "effect"] == pytest.approx(both[0] - both[1], rel=1e-6)
    run(folder, "gapscope", "site")
    assert "example_switched.html" in (folder / "site/index.html").read_text()


def test_the_guide_shows_the_study_files_as_they_are() -> None:
    shown = re.findall(r"```yaml\n(.*?)```", GUIDE, re.DOTALL)
    for text, name in zip(shown[:2], ("example", "example_switched"), strict=True):
        file = (ROOT / f"conf/study/{name}.yaml").read_text()
        assert file.endswith(text), name
        assert len(text.splitlines()) <= 10
        assert yaml.safe_load(text)["study"] == name


def test_every_path_that_the_guide_names_exists_or_is_made_by_it() -> None:
    made = {"metrics/example/gap.csv", "conf/study/mine.yaml", "reports/mine.html", "examples/noisy_digits.npz"}
    named = set(re.findall(r"`((?:examples|conf|src|metrics|reports)/[\w./*]+)`", GUIDE)) - made
    assert len(named) >= 5
    for name in named:
        assert list(ROOT.glob(name)), name
