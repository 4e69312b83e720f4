"""The sections of docs/extend.md on claims and papers, followed in a copy of the repository."""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml
from extend_page import follow

ROOT = Path(__file__).parents[2]


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The code, the settings and the records of the study quick."""
    for name in ("src", "stages", "conf", "migrations", "metrics/quick"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def stage(folder: Path, name: str) -> None:
    """Run a stage of the study quick by its command in dvc.yaml."""
    command = yaml.safe_load((folder / "dvc.yaml").read_text())["stages"][name]["cmd"]
    words = shlex.split(command.replace("${item.study}", "quick").replace("${claims.reference}", "quick"))
    environment = {**os.environ, "PYTHONPATH": str(folder / "src")}
    subprocess.run([sys.executable, *words[1:]], cwd=folder, env=environment, check=True)


def test_a_claim_is_one_entry(copy: Path) -> None:
    assert follow("A claim", copy) == ["src/gapscope/papers/own/claims.yaml"]
    stage(copy, "claims")
    found = pd.read_csv(copy / "metrics/claims/quick.csv")
    rows = found[found["claim"] == "share_rises"]
    assert rows["threshold"].tolist() == [1e-4, 1e-5]
    assert rows["verdict"].tolist() == ["undecided"] * 2  # no value changes in any seed
    assert rows["effect"].notna().all()
    before = pd.read_csv(ROOT / "metrics/claims/quick.csv")
    assert len(found) == len(before) + 2


def test_a_papers_table_is_one_folder_and_its_line(copy: Path) -> None:
    touched = follow("A paper's table", copy)
    folders = {str(Path(name).parent) for name in touched}
    assert folders == {"src/gapscope/papers", "src/gapscope/papers/doe2026"}
    stage(copy, "tables")
    table = pd.read_csv(copy / "metrics/quick/paper.csv").set_index("batch_size")
    assert table["printed"].to_dict() == {32: 3.1, 1024: 9.4}
    assert table["n"].tolist() == [3, 3]
    assert "| 32 | 3.1 |" in (copy / "metrics/quick/paper.md").read_text()
    stage(copy, "claims")
    claims = pd.read_csv(copy / "metrics/claims/quick.csv").set_index("claim")
    assert claims.loc["doe_norm_falls", "paper"] == "doe2026"
    assert claims.loc["doe_norm_falls", "verdict"] == "supported"
