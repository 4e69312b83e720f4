"""The pipeline itself, end to end on the smoke study, in a copy of the tracked files: what runs, and what does not."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from gapscope.records.long import select
from gapscope.records.spectra import read_spectra
from tests.campaigns.kills import MOMENTS, campaign

ROOT = Path(__file__).parents[1]
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "GAPSCOPE_DATA"} | {
    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    "GAPSCOPE_DEVICE": "cpu",
    "GIT_AUTHOR_NAME": "test", "GIT_AUTHOR_EMAIL": "t@example.com",
    "GIT_COMMITTER_NAME": "test", "GIT_COMMITTER_EMAIL": "t@example.com",
}  # fmt: skip
CELL = "lenet5-digits-b{}-s0"


def run(folder: Path, *command: str, fails: bool = False) -> str:
    """Run a command in the folder, with the package imported from there, and return all that it printed."""
    environment = ENVIRONMENT | {"PYTHONPATH": str(folder / "src")}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    output = done.stdout + done.stderr
    assert (done.returncode != 0) == fails, output
    return output


def ran(output: str) -> list[str]:
    return re.findall(r"Running stage '([^']+)'", output)


def tracked_copy(folder: Path) -> Path:
    """Make a repository of the tracked files, those not yet added too, without results."""
    for name in run(ROOT, "git", "ls-files", "--cached", "--others", "--exclude-standard").splitlines():
        if (
            (ROOT / name).is_file()
            and not name.startswith(("metrics/", "plots/", "reports/", "provenance/"))
            and name != "dvc.lock"
        ):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    run(folder, "git", "init", "-q", "-b", "main")
    return folder


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository of its own that has run the smoke study once and committed its small results."""
    folder = tracked_copy(tmp_path_factory.mktemp("pipeline") / "gapscope")
    run(folder, "gapscope", "compose", "study=smoke")
    run(folder, "git", "add", "-A")
    run(folder, "git", "commit", "-qm", "code")
    first = ran(run(folder, "dvc", "repro"))
    # check, download, plan; four stages a cell; controls, near_rank, tables, plots; claims, settings, report
    assert len(first) == 3 + 4 * 2 + 4 + 3
    assert first[-1] == "report@smoke"
    run(folder, "git", "add", "-A")
    run(folder, "git", "commit", "-qm", "results")
    return folder


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_every_output_is_there_and_git_holds_only_the_small_ones(study: Path) -> None:
    tracked = run(study, "git", "ls-files").splitlines()
    for size in (128, 1024):
        cell = CELL.format(size)
        for record in (f"train/{cell}.csv", f"train/{cell}.json", f"spectra/{cell}.jsonl", f"sharpness/{cell}.json"):
            assert f"metrics/smoke/{record}" in tracked
        for stage in ("train", "spectra", "sharpness"):
            assert f"provenance/smoke/{stage}/{cell}.json" in tracked
        text = "".join((study / f"metrics/smoke/train/{cell}.{kind}").read_text() for kind in ("csv", "json"))
        assert not re.search(r"commit|wall_s|provenance", text)
        assert (study / f"data/runs/smoke/train/{cell}.safetensors").exists()
    assert not [name for name in tracked if name.startswith("data/")]
    assert max((study / name).stat().st_size for name in tracked) < 1_000_000
    runs = pd.read_csv(study / "metrics/smoke/runs.csv")
    cells = pd.read_csv(study / "metrics/smoke/cells.csv")
    assert cells["batch_size"].tolist() == [128, 1024]
    assert (cells["device"].str.startswith("cpu")).all()
    by_shape = {  # notes on LeNet-5 6-16-120-84; 1024 images of 784 pixels
        **{key: [52, 1844] for key in ("run", "reference", "untrained", "random")}, "input": [0, 240],
    }  # fmt: skip
    for sample, known in by_shape.items():
        axes = {"sample": sample, "threshold": 1e-4, "relative": False}
        assert select(runs, "near_rank_structural", axes)["value"].tolist() == known
    layers = read_spectra(study / "metrics/smoke/controls/lenet5-digits-s0.jsonl")[1]
    largest = {(c.sample, c.batch_size, c.layer): [mode.largest for mode in c.modes] for c in layers}
    for (sample, *rest), found in largest.items():
        assert sample != "untrained" or not np.allclose(found, largest["reference", *rest])
    assert pd.read_csv(study / "metrics/smoke/layers.csv").shape[0] == 2 * 2 * 4  # cells, samples, layers
    assert not list((study / "data/runs/smoke/train").glob("tmp*"))
    summary = json.loads((study / "metrics/smoke/summary.json").read_text())
    assert set(summary["lenet5-digits"]) == {"b128", "b1024"}
    for name in ("gap", "near_rank", "spectra", "sharpness", "curves"):
        assert (study / f"plots/smoke/{name}.svg").read_text().startswith("<svg")
    page = (study / "reports/smoke.html").read_text()
    assert not [name for name in tracked if name.startswith("reports/")]
    assert re.findall(r'<figure id="(\w+)">', page) == ["gap", "curves", "near_rank", "spectra", "sharpness"]
    errors = select(runs, "error_pct", {"split": "test", "statistics": "reestimated"})["value"].tolist()
    assert f"{errors[1]:.4g}</td>" in page


def test_a_second_repro_runs_nothing(study: Path) -> None:
    assert ran(run(study, "dvc", "repro")) == []


def test_a_new_threshold_reruns_only_the_counting_also_in_a_fresh_clone(study: Path, tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    run(study, "git", "clone", "-q", ".", str(clone))
    assert not (clone / "data").exists()
    before, kept = pd.read_csv(clone / "metrics/smoke/near_rank.csv"), "metrics/smoke/params.yaml"
    settings, params = (yaml.safe_load((clone / name).read_text()) for name in (kept, "params.yaml"))
    assert settings == {name: value for name, value in params.items() if name != "runtime"}
    edit(clone / "params.yaml", "- 0.0001\n", "- 0.01\n")
    assert ran(run(clone, "dvc", "repro", "--allow-missing")) == [
        "near_rank@smoke", "tables@smoke", "plots@smoke", "settings@smoke", "claims@smoke", "report@smoke",
    ]  # fmt: skip
    after = pd.read_csv(clone / "metrics/smoke/near_rank.csv")
    assert sorted(set(after["threshold"].dropna())) == [1e-5, 0.01]
    at_cut = after.loc[after["threshold"] == 0.01, "value"]  # the highest threshold that needs no new spectra
    assert at_cut.sum() > before.loc[before["threshold"] == 1e-4, "value"].sum()


def test_a_threshold_above_the_cut_is_refused_with_the_command_that_helps(study: Path, tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    run(study, "git", "clone", "-q", ".", str(clone))
    edit(clone / "params.yaml", "- 0.0001\n", "- 0.5\n")
    said = run(clone, "python", "stages/near_rank.py", "--out", "near_rank.csv", fails=True)
    assert "every value only up to 0.01" in said
    assert "gapscope run smoke -S spectra.cut=0.5" in said


@pytest.mark.integration
def test_run_adds_a_seed_to_a_fresh_clone_and_trains_no_other_cell(study: Path, tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    run(study, "git", "clone", "-q", ".", str(clone))
    assert "1 stages" in run(clone, "gapscope", "run")  # the page, which is not in git
    assert "study smoke is up to date" in run(clone, "gapscope", "run")  # though only records are left of its results
    lost = clone / "metrics/smoke/spectra/lenet5-digits-b128-s0.jsonl"  # one that no stage reads by its name
    before = lost.read_text().splitlines()
    lost.unlink()
    run(clone, "gapscope", "run", "smoke", "-S", "seeds=[0,1]")
    logs = "".join(path.read_text() for path in (clone / "data/logs").glob("*.log"))
    assert sorted(ran(logs)) == sorted([
        "download@digits", "plan@smoke-digits",
        "train@smoke-lenet5-digits-128-0",  # the lost record needs its weights
        "activations@smoke-lenet5-digits-128-0", "spectra@smoke-lenet5-digits-128-0",
        *(f"{stage}@smoke-lenet5-digits-{size}-1" for size in (128, 1024)
          for stage in ("train", "activations", "spectra", "sharpness")),
        "controls@smoke-lenet5-digits-1", "near_rank@smoke", "tables@smoke", "plots@smoke", "claims@smoke",
        "settings@smoke", "report@smoke",
    ])  # fmt: skip
    assert pd.read_csv(clone / "metrics/smoke/cells.csv")["seed"].tolist() == [0, 1, 0, 1]
    assert lost.read_text().splitlines() == before  # to the bit
    new = run(clone, "git", "status", "--short", "metrics/smoke/spectra").splitlines()
    assert [line for line in new if line.startswith("??")] == [
        f"?? metrics/smoke/spectra/lenet5-digits-b{size}-s1.jsonl" for size in (1024, 128)
    ]


def test_a_raised_revision_reruns_its_stage_and_nothing_after_equal_numbers(study: Path) -> None:
    before = (study / "revisions.yaml").read_text()
    cells = [CELL.format(size) for size in (128, 1024)]
    made = [(study / f"provenance/smoke/spectra/{cell}.json").read_text() for cell in cells]
    edit(study / "revisions.yaml", "spectra: {revision: 1,", "spectra: {revision: 2,")
    try:
        assert sorted(ran(run(study, "dvc", "repro"))) == [
            "spectra@smoke-lenet5-digits-1024-0", "spectra@smoke-lenet5-digits-128-0",
        ]  # fmt: skip
        again = [json.loads((study / f"provenance/smoke/spectra/{cell}.json").read_text()) for cell in cells]
        assert [how["revision"] for how in again] == [2, 2]
        assert [json.loads(text)["revision"] for text in made] == [1, 1]
    finally:
        (study / "revisions.yaml").write_text(before)
        run(study, "dvc", "repro")


def test_an_edit_of_code_reruns_nothing(study: Path) -> None:
    path = study / "src/gapscope/drawing/axes.py"
    text = path.read_text()
    edit(path, "training batch size b", "batch size in training")
    try:
        assert ran(run(study, "dvc", "repro")) == []
    finally:
        path.write_text(text)


@pytest.mark.integration
def test_exp_run_adds_a_cell_and_trains_no_other(study: Path) -> None:
    output = run(study, "dvc", "exp", "run", "-S", "study=smoke", "-S", "batch_size=512", "-S", "models=[lenet5]")
    assert ran(output) == [
        "check", "plan@smoke-digits", "train@smoke-lenet5-digits-512-0", "activations@smoke-lenet5-digits-512-0",
        "spectra@smoke-lenet5-digits-512-0", "controls@smoke-lenet5-digits-0", "sharpness@smoke-lenet5-digits-512-0",
        "near_rank@smoke", "tables@smoke", "plots@smoke", "settings@smoke", "claims@smoke", "report@smoke",
    ]  # fmt: skip
    assert pd.read_csv(study / "metrics/smoke/cells.csv")["batch_size"].tolist() == [128, 1024, 512]
    run(study, "git", "checkout", "-q", "--", ".")
    run(study, "git", "clean", "-fdq")
    run(study, "dvc", "checkout", "-q")


def test_a_batch_size_above_the_training_set_is_one_line(study: Path) -> None:
    output = run(study, "dvc", "exp", "run", "-S", "study=smoke", "-S", "batch_size=9999", fails=True)
    (line,) = [line for line in output.splitlines() if line.startswith("plan: ")]
    assert re.search(r"batch_size\b.*\b2874\b.*\b9999\b", line)
    assert "Traceback" not in output
    run(study, "git", "checkout", "-q", "--", ".")


TINY = [
    "random_matrices.repetitions=3", "random_matrices.shapes=[[30,20],[20,20]]", "random_matrices.spectrum_values=40",
    "perturbation.repetitions=2", "perturbation.units=30",
]  # fmt: skip


@pytest.mark.integration
def test_a_study_without_networks_runs_its_own_stages_and_keeps_the_others_results(study: Path, tmp_path: Path) -> None:
    copy = tmp_path / "random"
    shutil.copytree(study, copy, symlinks=True)
    run(copy, "gapscope", "compose", "study=random_matrices", *TINY)
    assert "smoke" not in (copy / "dvc.lock").read_text()
    laws = ["gaussian", "uniform", "lognormal"]
    assert sorted(set(ran(run(copy, "dvc", "repro"))) - {"check"}) == sorted(
        [f"random_matrices@random_matrices-{law}" for law in laws]
        + ["perturbation@random_matrices", "random_matrices_report@random_matrices"]
        + ["plots@random_matrices", "settings@random_matrices", "report@random_matrices"]
    )
    assert (copy / "reports/random_matrices.html").read_text().count("<figure") == 6
    results = copy / "metrics/random_matrices"
    values = [pd.read_csv(results / f"random_matrices/{law}.csv") for law in laws]
    assert [len(table.query("quantity == 'sigma_min'")) for table in values] == [2 * 3] * 3
    assert pd.read_csv(results / "paper.csv")["verdict"].unique().tolist() == ["not measured"]
    assert len(list((copy / "plots/random_matrices").glob("*.svg"))) == 6
    assert not [path for path in (copy / "data/unfinished").rglob("*") if path.is_file()]
    assert "printed_cells" in run(copy, "dvc", "metrics", "show", "--json")
    edit(copy / "params.yaml", "workers: null", "workers: 1")  # changes no bit
    assert ran(run(copy, "dvc", "repro")) == []
    run(copy, "gapscope", "compose", "study=smoke")
    assert ran(run(copy, "dvc", "repro")) in ([], ["report@smoke"])  # pages are not in git
    before, after = (set((folder / "dvc.lock").read_text().splitlines()) for folder in (study, copy))
    assert after == before | {"datasets: []"}  # DVC alone made the first one


@pytest.mark.integration
def test_a_diverged_run_is_recorded_and_the_stages_after_it_go_on(study: Path, tmp_path: Path) -> None:
    copy = tmp_path / "diverged"
    shutil.copytree(study, copy, symlinks=True)
    edit(copy / "params.yaml", "lr_start: 0.1", "lr_start: 1.0e+30")
    run(copy, "dvc", "repro")
    assert pd.read_csv(copy / "metrics/smoke/cells.csv")["status"].tolist() == ["diverged", "diverged"]
    assert pd.read_csv(copy / "metrics/smoke/batch_sizes.csv").empty
    assert "diverged" in (copy / "plots/smoke/gap.svg").read_text()
    assert "diverged" in (copy / "reports/smoke.html").read_text()


@pytest.mark.integration
def test_killed_stages_end_with_the_outputs_of_stages_that_were_not(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The short form of `tests/campaigns/kills.py`."""
    copy = tmp_path / "killed"
    shutil.copytree(study, copy, symlinks=True)
    for name, value in (ENVIRONMENT | {"PYTHONPATH": str(copy / "src")}).items():
        monkeypatch.setenv(name, value)
    run(copy, "dvc", "repro")  # pages are not in git: another test may have left one of other batch sizes
    counts = campaign(copy, kills=5, seed=0, stages=["near_rank", "settings", "sharpness", "spectra", "train"])
    assert counts.clean, counts.notes
    assert counts.killed == 5
    assert set(counts.moments) == set(MOMENTS)


def test_a_truncated_input_is_one_line_and_loses_nothing(study: Path, tmp_path: Path) -> None:
    broken, out = tmp_path / "broken.safetensors", tmp_path / "out.json"
    whole = (study / f"data/runs/smoke/train/{CELL.format(128)}.safetensors").read_bytes()
    broken.write_bytes(whole[: len(whole) // 2])
    out.write_text("before")
    arguments = ["--weights", str(broken), "--data", "data/datasets/digits.npz", "--out", str(out)]
    output = run(study, "python", "stages/sharpness.py", *arguments, fails=True)
    assert len(output.strip().splitlines()) == 1
    assert str(broken) in output
    assert out.read_text() == "before"


HELP = """
import pathlib, runpy, sys
for path in sorted(pathlib.Path("stages").glob("*.py")):
    sys.argv = [path.name, "--help"]
    try:
        runpy.run_path(str(path), run_name="__main__")
    except SystemExit as end:
        assert end.code == 0, path
    assert "torch" not in sys.modules, path
"""


def test_help_answers_without_torch() -> None:
    printed = run(ROOT, "python", "-c", HELP)
    assert printed.count("usage: ") == len(list((ROOT / "stages").glob("*.py")))
