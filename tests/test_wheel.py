"""The wheel: what `gapscope init` makes of it, in an empty folder and an environment of its own, runs to a page."""

import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pandas as pd
import pytest
import yaml
from test_cli import ROOT, call

from gapscope.cli import init
from gapscope.records import closure

STUDY = ("gapscope", "run", "smoke", "-S", "measures=[evaluation]")
BARE = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "GAPSCOPE_DATA")}


def do(folder: Path, *command: str, **environment: str) -> str:
    done = subprocess.run(command, cwd=folder, env=BARE | environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with few of the files that a wheel has."""
    packed = tmp_path / "packed"
    (packed / ".dvc").mkdir(parents=True)
    (packed / "dvc.yaml").write_text((ROOT / "dvc.yaml").read_text())
    monkeypatch.setattr(init, "PROJECT", packed)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "demo"


def test_the_pipeline_depends_on_no_file_of_the_package(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert call(monkeypatch, "init", "demo") == 0
    clone, made = (yaml.safe_load((folder / "dvc.yaml").read_text())["stages"] for folder in (ROOT, project))
    assert made != clone
    for name, stage in clone.items():
        kept = [dep for dep in stage.get("deps", []) if not dep.startswith("src/")]
        assert made[name] == stage | ({"deps": kept} if "deps" in stage else {})
        assert kept or "deps" not in stage
    assert (project / ".git").is_dir()
    assert not (project / ".dvc/config.local").exists()


def test_without_git_dvc_is_told_so(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert call(monkeypatch, "init", "demo") == 0
    assert not (project / ".git").exists()
    assert (project / ".dvc/config.local").read_text() == init.NO_GIT


def test_within_a_repository_no_other_is_made(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    do(project.parent, "git", "init", "-q")
    assert call(monkeypatch, "init", "demo") == 0
    assert not (project / ".git").exists()
    assert not (project / ".dvc/config.local").exists()


def test_a_folder_that_holds_something_is_left_as_it_is(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    project.mkdir()
    (project / "mine.txt").write_text("mine")
    assert call(monkeypatch, "init", "demo") == 2
    assert "demo" in capsys.readouterr().err
    assert [path.name for path in project.iterdir()] == ["mine.txt"]


def test_a_clone_is_a_project_already(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert call(monkeypatch, "init", "demo") == 2
    assert not (tmp_path / "demo").exists()


@pytest.mark.parametrize("command", [("compose", "study=smoke"), ("run",)])
def test_a_folder_of_another_version_says_so_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: tuple[str, ...]
) -> None:
    packed = tmp_path / "packed/revisions.yaml"
    packed.parent.mkdir()
    monkeypatch.setattr(init, "PROJECT", packed.parent)
    monkeypatch.chdir(tmp_path)  # no project, so what follows the warning fails
    revisions = {"train": {"revision": 1}, "plots": {"revision": 5}}
    Path("revisions.yaml").write_text(yaml.safe_dump(revisions))
    for installed, expected in ((1, []), (2, ["train"])):
        packed.write_text(yaml.safe_dump(revisions | {"train": {"revision": installed}}))
        call(monkeypatch, *command)
        warned = [line for line in capsys.readouterr().err.splitlines() if "revisions.yaml" in line]
        assert [name for line in warned for name in revisions if name in line] == expected


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment that has the wheel, and of this environment's packages all but gapscope."""
    folder = tmp_path_factory.mktemp("wheel")
    do(ROOT, "uv", "build", "--quiet", "--out-dir", str(folder / "dist"))  # the wheel is made from the source archive
    (wheel,) = (folder / "dist").glob("*.whl")
    do(folder, "uv", "venv", "--quiet", "--python", sys.executable, "fresh")
    programs = folder / "fresh/bin"
    (site,) = (folder / "fresh/lib").glob("python*/site-packages")
    # gapscope is there by a .pth file, and the .pth files of a folder that is named in one are not read
    (site / "shared.pth").write_text(sysconfig.get_path("purelib"))
    do(folder, "uv", "pip", "install", "--quiet", "--no-deps", "--python", str(programs / "python"), str(wheel))
    return programs


@pytest.mark.integration
def test_a_study_runs_from_the_wheel_to_its_page(environment: Path, tmp_path: Path) -> None:
    gapscope = str(environment / "gapscope")  # the environment is not activated
    do(tmp_path, gapscope, "init", "demo")
    demo = tmp_path / "demo"
    assert "page: reports/smoke.html" in do(demo, gapscope, *STUDY[1:], GAPSCOPE_DEVICE="cpu")
    assert "<figure" in (demo / "reports/smoke.html").read_text()
    assert pd.read_csv(demo / "metrics/smoke/cells.csv")["status"].tolist() == ["ok", "ok"]
    (how,) = (demo / "provenance/smoke/train").glob("*-b128-*.json")
    assert json.loads(how.read_text())["code"] == closure.closure_hash("train", ROOT)


@pytest.mark.integration
def test_the_library_runs_from_the_wheel(environment: Path, tmp_path: Path) -> None:
    said = do(tmp_path, str(environment / "python"), "-c", LIBRARY)
    assert Path(said.strip()).is_relative_to(environment.parent)


LIBRARY = """
import gapscope, torch
torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 3), torch.nn.ReLU())
assert len(gapscope.near_rank(model, torch.rand(9, 1, 2, 2)).to_frame())
print(gapscope.__file__)
"""
