"""The `gapscope` command."""

import os
import pty
import re
import select
import shlex
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from dvc.repo import Repo
from dvc.utils.hydra import compose_and_dump
from safetensors.torch import save_file

from gapscope import cli, lock_copy
from gapscope.cli import compare, studies
from gapscope.cli.compose import composed
from gapscope.config import load_params
from gapscope.engine import cost, locks, runner

ROOT = Path(__file__).parents[1]
COMMANDS = [module.__name__.split(".")[-1] for module in cli.COMMANDS]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("conf", "hydra_plugins"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int | str | None:
    monkeypatch.setattr(sys, "argv", ["gapscope", *arguments])
    try:
        cli.main()
    except SystemExit as stopped:
        return stopped.code
    return 0


def test_the_version_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(monkeypatch, "--version") == 0
    assert capsys.readouterr().out == f"gapscope {version('gapscope')}\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_a_command_ends_in_an_example_that_it_takes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    assert call(monkeypatch, command, "--help") == 0
    *_, last = re.split(r"\n\s*\n", capsys.readouterr().out.strip())
    program, *words = shlex.split(last.removeprefix("example: "))
    assert (program, words[0]) == ("gapscope", command)
    cli.parser().parse_args(words)


@pytest.mark.parametrize(
    "arguments",
    [
        *("run tabel06", "run -S study=tabel06", "report tabel06", "compose study=tabel06"),
        *("verify tabel06", "verify tabel06 --against recorded"),
    ],
)
def test_a_misspelt_study_gets_the_nearest_one_in_one_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: str
) -> None:
    assert call(monkeypatch, *arguments.split()) == 2
    assert re.fullmatch("gapscope: no study 'tabel06'.*did you mean 'table06'.*\n", capsys.readouterr().err)
    assert not (folder / "params.yaml").exists()


def test_a_study_file_without_its_first_line_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = folder / "conf/study/smoke.yaml"
    text = path.read_text()
    for other in (text.replace("# @package _global_\n", ""), f"# a comment\n{text}"):
        path.write_text(other)
        assert call(monkeypatch, "compose", "study=smoke") == 2
        assert re.fullmatch("gapscope: conf/study/smoke.yaml .*`# @package _global_`.*\n", capsys.readouterr().err)
    path.write_text(f"\n{text}")
    assert call(monkeypatch, "compose", "study=smoke") == 0


def test_a_study_file_with_a_number_that_dvc_reads_as_another_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = folder / "conf/study/smoke.yaml"
    path.write_text(path.read_text().replace("epochs: 1", "epochs: 010"))
    assert call(monkeypatch, "compose", "study=smoke") == 2
    assert re.fullmatch("gapscope: conf/study/smoke.yaml .*010 is another number.*\n", capsys.readouterr().err)
    assert not (folder / "params.yaml").exists()


def test_compose_writes_the_params_of_a_study(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert call(monkeypatch, "compose", "study=smoke", "epochs=7") == 0
    params = load_params(folder / "params.yaml")
    assert (params.study, params.epochs) == ("smoke", 7)


@pytest.mark.parametrize(
    ("override", "hint"),
    [
        ("study=nope", "no study 'nope' in conf/study; known: .*table05"),
        ("bacth_size=3", "unknown param 'bacth_size'; did you mean 'batch_size'?"),
        ("train.lr=0.2", "unknown param 'train.lr'; did you mean 'train."),
        ("train.lr_start=0.2", "params have new names: train.lr_start is now train.schedule.lr_start"),
        ("train.linear=units", "train.linear=units is now train.linear_units=true with train.average_pooling=false"),
        ("train.optimizer=adam", "train.optimizer is now train.optimizer.name"),
        ("batch_size=${train.eval_batch}", "train.eval_batch is now train.evaluation.eval_batch"),
        (
            "train.schedule.lr_strat=1",
            "unknown param 'train.schedule.lr_strat'; did you mean 'train.schedule.lr_start'?",
        ),
        ("batch_size=[1", "no viable alternative"),
        ("batch_size=${nothing}", "Interpolation key 'nothing' not found"),
        ("study=table5", "no study 'table5' .*did you mean 'table05'"),
        ("batch_size=0", "batch_sizes must be at least 1, got 0"),
    ],
)
def test_a_bad_override_is_one_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], override: str, hint: str
) -> None:
    assert call(monkeypatch, "compose", override) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(hint, line)


def test_a_param_that_is_added_is_not_blamed_for_another_s_fault(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "compose", "+data.files.mine=a.npz", "study=nope") == 2
    assert "no study 'nope'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("+epohcs=3", "params.yaml.*'epohcs'.*'epochs'"),
        ("epohcs=3", "'epohcs'.*'epochs'"),
        ("epochs=2.5", r"epochs.*int.*2\.5"),
        ("batch_size=0", "batch.size.*1.*0"),
    ],
)
def test_a_refused_override_changes_no_file(
    stages: list[object], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], override: str, said: str
) -> None:
    assert call(monkeypatch, "compose", "study=smoke", "seeds=[4]") == 0
    smoke = {"plan@smoke-digits": {"cmd": "python stages/plan.py --out data/runs/smoke/plan/digits.txt"}}
    Path("dvc.lock").write_text(yaml.safe_dump({"stages": smoke}))
    before = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}
    for arguments in (["compose", "study=quick", override], ["run", "quick", "-S", override]):
        capsys.readouterr()
        assert call(monkeypatch, *arguments) == 2
        assert re.fullmatch(f"gapscope: .*{said}.*\n", capsys.readouterr().err)
        assert {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()} == before
    assert not stages


@pytest.mark.parametrize("arguments", ["compose study=smoke", "run", "run smoke", "mend"])
def test_a_lock_that_was_cut_is_put_back_first(
    stages: list[object], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: str
) -> None:
    Repo.init(no_scm=True).close()
    assert call(monkeypatch, "compose", "study=smoke") == 0
    locks.write(
        locks.LOCK, {"plan@smoke-digits": {"cmd": "python stages/plan.py --out data/runs/smoke/plan/digits.txt"}}
    )
    before = locks.LOCK.read_bytes()
    lock_copy.keep()
    locks.LOCK.write_bytes(before[:40])
    assert call(monkeypatch, *arguments.split()) == 0
    assert locks.LOCK.read_bytes() == before
    assert "dvc.lock was cut off after 40 bytes" in capsys.readouterr().out


def test_spectra_counts_in_any_tensor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    tensor = rng.standard_normal((12, 4, 3))
    tensor[:, 1] = 0
    matrix = np.linalg.qr(rng.standard_normal((9, 5)))[0] * [1, 1, 1e-2, 2e-5, 1e-6]
    np.save(tmp_path / "one.npy", tensor)
    np.savez(tmp_path / "two.npz", tensor=tensor, matrix=matrix, bias=np.ones(4))
    save_file({"matrix": torch.from_numpy(matrix).contiguous()}, tmp_path / "three.safetensors")
    rows = {}
    for file in sorted(tmp_path.iterdir()):
        assert call(monkeypatch, "spectra", str(file), "--threshold", "1e-4", "1e-5", "--relative", "0.1") == 0
        rows[file.name] = [line.split() for line in capsys.readouterr().out.splitlines()]
    # tensor, mode, size, structural, values, <= 1e-4, <= 1e-5, <= 0.1 of the largest
    assert rows["one.npy"][2][:8] == ["one", "1", "4", "0", "4", "1", "1", "1"]
    assert rows["three.safetensors"][1][:8] == ["matrix", "0", "9", "4", "5", "2", "1", "3"]
    assert "bias" in rows["two.npz"][0]  # left out
    assert [row[0] for row in rows["two.npz"][2:]] == ["tensor"] * 3 + ["matrix"]


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (np.full((5, 4), np.nan), "not finite"),
        (np.zeros((0, 4)), "empty"),
        (np.eye(3, dtype=complex), "no real numbers"),
        (np.array([["a", "b"]]), "no real numbers"),
        (np.array([["2020-01-01"]], dtype="datetime64[D]"), "no real numbers"),
        (np.ones(4), "bad"),
    ],
)
def test_spectra_names_a_tensor_that_it_leaves_out_and_measures_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], bad: np.ndarray, why: str
) -> None:
    np.savez(tmp_path / "mixed.npz", a=np.eye(3), bad=bad, c=np.eye(2))
    assert call(monkeypatch, "spectra", str(tmp_path / "mixed.npz")) == 0
    first, _, *rows = capsys.readouterr().out.splitlines()
    assert "bad" in first
    assert why in first
    assert [row.split()[0] for row in rows] == ["a", "c"]


def test_spectra_says_where_a_count_is_undecidable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "zeros.npy", np.outer(np.ones(30), np.full(20, 1e3)).astype(np.float32))
    assert call(monkeypatch, "spectra", str(tmp_path / "zeros.npy"), "--method", "tensorly") == 0
    assert "[0, 19] ?" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        ("missing.npy", "missing.npy"),
        ("text.npy", "text.npy"),
        ("text.txt", r"text.txt.*\.npy, \.npz.*\.safetensors"),
        ("row.npy", "row.npy"),
        ("nan.npy", "not finite"),
        ("good.npy --method svd", "method.*certified, qr, tensorly"),
        ("good.npy --threshold=-1", "threshold"),
    ],
)
def test_what_spectra_cannot_measure_is_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: str,
    hint: str,
) -> None:
    for text in ("text.npy", "text.txt"):
        (tmp_path / text).write_text("no array")
    np.save(tmp_path / "row.npy", np.ones(3))
    np.save(tmp_path / "nan.npy", np.full((2, 2), np.nan))
    np.save(tmp_path / "good.npy", np.eye(3))
    monkeypatch.chdir(tmp_path)
    assert call(monkeypatch, "spectra", *arguments.split()) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("gapscope: ")]
    assert re.search(hint, line)


def test_help_answers_without_torch_and_dvc() -> None:
    for command in ([], *([name] for name in COMMANDS)):
        code = (
            f"import sys; from gapscope import cli; sys.argv = ['gapscope', *{command}, '--help']\n"
            "try: cli.main()\nexcept SystemExit as end: print(end.code, {'torch', 'dvc', 'pandas'} & set(sys.modules))"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.splitlines()[-1] == "0 set()", command


def test_ctrl_c_is_one_line(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(locks, "swap", interrupted)
    assert call(monkeypatch, "compose", "study=smoke") == 130
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.fixture
def stages(folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[set[str], int]]:
    """Two stages to run, and what was given to the runner, in place of DVC; `fails` is one that fails."""
    calls: list[tuple[set[str], int]] = []

    def run(graph: runner.Graph, _start: object, jobs: int, _left: object) -> runner.Progress:
        calls.append((set(graph), jobs))
        failed = [name for name in graph if "fails" in name]
        return runner.Progress([name for name in graph if name not in failed], failed, [])

    monkeypatch.setattr(runner, "changed", lambda: ({"train@a": set(), "train@b": set()}, set()))
    monkeypatch.setattr(runner, "run", run)
    monkeypatch.setattr(cli.run, "training_seconds", dict)  # a process of seconds, which a test of its own starts
    return calls


def test_run_composes_as_dvc_exp_run_does(folder: Path, stages: list[object], monkeypatch: pytest.MonkeyPatch) -> None:
    assert call(monkeypatch, "run", "smoke", "-j", "3", "-S", "epochs=7", "-S", "train.optimizer.momentum=0.5") == 0
    assert stages == [({"train@a", "train@b"}, 3)]
    by_run = (folder / "params.yaml").read_text()
    folder_config = str(folder / "conf")
    overrides = ["study=smoke", "epochs=7", "train.optimizer.momentum=0.5"]
    compose_and_dump(str(folder / "params.yaml"), folder_config, None, "config", str(ROOT), overrides)
    assert by_run == (folder / "params.yaml").read_text()

    # without a study: the one that params.yaml names, and -S of before are gone, as with dvc exp run
    assert call(monkeypatch, "run", "-S", "seeds=[4]") == 0
    params = load_params(folder / "params.yaml")
    assert (params.study, params.seeds, params.epochs) == ("smoke", (4,), 1)
    assert call(monkeypatch, "run", "-S", "study=table05") == 0
    assert load_params(folder / "params.yaml").study == "table05"
    written = (folder / "params.yaml").stat().st_mtime_ns
    assert call(monkeypatch, "run") == 0
    assert (folder / "params.yaml").stat().st_mtime_ns == written  # composes nothing


def test_run_says_that_there_is_nothing_to_run_and_what_failed(
    stages: list[object], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(runner, "changed", lambda: ({"train@fails": set()}, set()))
    assert call(monkeypatch, "run", "smoke") == 2
    assert re.fullmatch("gapscope: .*train@fails.*data/logs/.*\n", capsys.readouterr().err)
    monkeypatch.setattr(runner, "changed", lambda: ({}, set()))
    assert call(monkeypatch, "run") == 0
    assert re.fullmatch(".*smoke.*\n", capsys.readouterr().out)
    assert len(stages) == 1


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        ("smoke -S study=quick", "study"),
        ("-S other.yaml:epochs=2", "other.yaml"),
        ("-S epochs=2", "params.yaml"),
        ("smoke -S epochs", "epochs"),
        ("smok", "no study 'smok'"),
    ],
)
def test_what_run_cannot_compose_is_one_line_and_runs_nothing(
    stages: list[object], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: str, hint: str
) -> None:
    assert call(monkeypatch, "run", *arguments.split()) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert hint in line
    assert not stages


@pytest.mark.parametrize("unsure", [(), ("report@quick",)])
def test_the_command_that_is_printed_is_the_one_that_is_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], unsure: tuple[str, ...]
) -> None:
    started: list[list[str]] = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(subprocess, "Popen", lambda command, **_: started.append(command))
    runner.start_stage(gpus=0, unsure=unsure)("report@quick", 0)
    (started_as,) = started
    command = started_as[started_as.index("dvc") :]
    assert capsys.readouterr().out == f"$ {' '.join(command)}\n"
    assert ("--allow-missing" in command) == bool(unsure)


@pytest.fixture
def pages(folder: Path) -> Path:
    """A folder in which pages can be made."""
    shutil.copy(ROOT / "dvc.yaml", folder)
    (folder / "stages").symlink_to(ROOT / "stages")
    return folder


def test_report_makes_the_page_of_any_study_and_composes_none(
    pages: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "compose", "study=quick", "seeds=[4]") == 0
    (pages / "dvc.lock").write_text(yaml.safe_dump({"stages": {"report@quick": {"cmd": "--metrics metrics/quick"}}}))
    before = {name: (pages / name).read_bytes() for name in ("params.yaml", "dvc.lock")}
    for study in ("smoke", "quick"):
        (pages / "metrics" / study).mkdir(parents=True)
    capfd.readouterr()
    for arguments, study in ((["smoke"], "smoke"), ([], "quick")):
        assert call(monkeypatch, "report", *arguments) == 0
        made, *said = capfd.readouterr().out.splitlines()
        assert made.startswith(f"$ python stages/report.py --study {study} --metrics metrics/{study} ")
        assert said == [f"study {study}", f"page: reports/{study}.html"]
        assert f"<title>{study}" in (pages / f"reports/{study}.html").read_text()
    assert {name: (pages / name).read_bytes() for name in before} == before
    assert not (pages / "locks").exists()


def test_report_needs_results_and_a_study(
    pages: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "report", "smoke") == 2
    assert "metrics/smoke" in capfd.readouterr().err
    (pages / "metrics/nosuch").mkdir(parents=True)
    assert call(monkeypatch, "report", "nosuch") == 2
    why, failed = capfd.readouterr().err.splitlines()
    assert "conf/study/nosuch.yaml" in why
    assert re.match("gapscope: .*nosuch", failed)


def test_report_writes_no_page_outside_its_folder(
    pages: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (pages / "metrics/smoke").mkdir(parents=True)
    assert call(monkeypatch, "report", "../metrics/smoke") == 2
    assert "'../metrics/smoke' is refused" in capfd.readouterr().err
    assert not list(pages.rglob("*.html"))


def test_compare_refuses_an_unknown_revision_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    assert call(monkeypatch, "compare", "HEAD", "nosuch") == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert re.fullmatch("gapscope: .*'nosuch'.*\n", captured.err)
    assert len(compare.resolved("HEAD")[0]) == 40
    assert compare.resolved("workspace") == [None]


def test_compare_prints_what_it_runs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    outputs = {"params": "epochs 3 4\n", "metrics": "", "plots": "file:///here/dvc_plots/index.html\n"}

    def dvc(command: list[str], **_: object) -> "subprocess.CompletedProcess[str]":
        assert command[:3] == [sys.executable, "-m", "dvc"]
        assert command[4:] == ["diff", "old", "new"]
        code = 0 if command[3] in outputs else 255
        return subprocess.CompletedProcess(command, code, outputs.get(command[3], ""), "WARNING: a\nERROR: no room\n")

    monkeypatch.setattr(compare, "resolved", lambda *_: [None, None])
    monkeypatch.setattr(compare, "in_words", lambda *_: [])
    monkeypatch.setattr(subprocess, "run", dvc)
    assert call(monkeypatch, "compare", "old", "new") == 0
    printed = capsys.readouterr().out.splitlines()[1:]
    assert [line for line in printed if line.startswith("$ ")] == [
        f"$ dvc {what} diff old new" for what in ("params", "metrics", "plots")
    ]
    assert printed[1::2][0::2] == ["epochs 3 4", "file:///here/dvc_plots/index.html"]
    assert len(printed) == 6  # and a line where nothing differs
    del outputs["plots"]
    assert call(monkeypatch, "compare", "old", "new") == 2
    assert re.fullmatch("gapscope: .*dvc plots diff.*no room\n", capsys.readouterr().err)


@pytest.fixture
def four(folder: Path) -> Path:
    """Few studies, one of them broken."""
    for path in (folder / "conf/study").glob("*.yaml"):
        if path.stem not in ("smoke", "random_matrices", "keskar_warmstart", "keskar_table3", "keskar_table3_timit"):
            path.unlink()
    text = (folder / "conf/study/smoke.yaml").read_text()
    (folder / "conf/study/broken.yaml").write_text(text.replace("models: [lenet5]", "modles: [lenet5]"))
    (folder / "conf/study/unclosed.yaml").write_text(text.replace("models: [lenet5]", "models: [lenet5"))
    return folder


def listed(out: str) -> dict[str, list[str]]:
    """Study -> its state and cost, its purpose, and its runs."""
    rows: dict[str, list[str]] = {}
    for line in out.splitlines():
        if re.match(r"  \S", line):
            name, *head = re.split(r"\s{2,}", line.strip())
            rows[name] = [*head]
        elif line.startswith("      "):
            rows[name].append(line.strip())
    return rows


def test_studies_are_listed(four: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(cost, "measure", None)  # called, it would raise
    text = (four / "conf/study/smoke.yaml").read_text()
    (four / "conf/study/a_study_of_mine.yaml").write_text(text.replace("study: smoke", "study: a_study_of_mine"))
    assert call(monkeypatch, "studies", "--no-probe") == 0
    out = capsys.readouterr().out
    rows = listed(out)
    assert [rows["smoke"][place] for place in (0, -1)] == [
        "not run",
        "2 runs: lenet5 x digits x b 128-1024 (2) x 1 seed; 1 epoch",
    ]
    assert rows["keskar_warmstart"][-1] == "36 runs: f1 x mnist x 11 starts x 3 seeds; 100, then 100 epochs"
    assert rows["keskar_table3_timit"][-1].endswith("at most 100 epochs")
    assert rows["random_matrices"][-1] == "no network is trained"
    assert re.search("conf/study/broken.yaml.*'modles'.*'models'", " ".join(rows["broken"]))
    assert "conf/study/unclosed.yaml" in " ".join(rows["unclosed"])
    assert not (four / "params.yaml").exists()
    assert max(map(len, out.splitlines())) <= 100
    heads = [line for line in out.splitlines() if line and not line.startswith(" ")]
    assert heads == ["Oyedotun et al. 2022", "Keskar et al. 2017", "For tests of gapscope itself", "Your own studies"]
    mine = out.index("Your own studies")
    assert all(out.index(f"  {name}\n") > mine for name in ("broken", "unclosed"))
    assert out.index("  a_study_of_mine ") > mine


def test_every_committed_study_has_a_group_that_says_what_it_is_for() -> None:
    grouped = {path.stem: studies.group(path.stem) for path in (ROOT / "conf/study").glob("*.yaml")}
    assert [name for name, title in grouped.items() if title == studies.OTHERS] == []
    start = [title for title in studies.GROUPS if title.startswith("Start here")]
    assert [grouped["quick"]] == start


def test_a_study_has_been_run_where_its_table_is(folder: Path) -> None:
    params, _ = composed(["study=smoke"])

    def state(file: str, text: str) -> str:
        path = folder / "metrics/smoke" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return studies.state(params)

    assert studies.state(params) == "not run"
    assert state("train/lenet5-digits-b128-s0.json", "{}") == "1 of 2 trained"
    table = "model,dataset,batch_size,seed\nlenet5,digits,128,0\n"
    assert state("cells.csv", table) == "run, 1 seed, 1 cell missing"
    more = "lenet5,digits,1024,0\nlenet5,digits,2048,0\nlenet5,digits,128,1\n"  # cells and a seed added with -S
    assert state("cells.csv", table + more) == "run, 2 seeds"


def test_studies_say_what_each_costs(
    four: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GAPSCOPE_DEVICE", "cpu")
    monkeypatch.setattr(cost, "measure", lambda *_: cost.Speed(60.0, 0.0, 0.0))  # a minute an update
    assert call(monkeypatch, "studies") == 0
    out = capsys.readouterr().out
    rows = listed(out)
    assert rows["smoke"][1] == "about 26 min, 0.1 GB"  # 23 and 3 updates on 2,874 images
    assert rows["keskar_table3_timit"][1] == "unknown until downloaded"
    assert rows["random_matrices"][1] == "no training"
    # 3 seeds x 100 epochs x (235 updates at 256, and 11 x 10 at 6000)
    assert rows["keskar_warmstart"][1] == "about 72 days"


def test_studies_need_their_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert call(monkeypatch, "studies") == 2
    assert re.match("gapscope: .*conf/study", capsys.readouterr().err)


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.4, "1 s"), (59, "59 s"), (95, "1.6 min"), (5400, "1.5 h"), (12_345_678, "140 days")]
)
def test_a_duration_in_words(seconds: float, words: str) -> None:
    assert studies.duration(seconds) == words


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        ("gapscope comp", {"compare", "compose", "completion"}),
        (
            "gapscope run table1",
            {
                "table10",
                "table10_gpu",
                "table10_linear",
                "table11",
                "table11_epoch15",
                "table11_epoch45",
                "table11_gpu",
            },
        ),
        ("gapscope export smo", {"smoke"}),
        ("gapscope studies --no", {"--no-probe"}),
        ("gapscope spectra act", {"activations.npy"}),
        ("gapscope new mine --data act", {"activations.npy"}),
    ],
)
def test_bash_completes_commands_studies_and_options(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: str, completed: set[str]
) -> None:
    assert call(monkeypatch, "completion", "bash") == 0
    Path("completion").write_text(capsys.readouterr().out)
    Path("activations.npy").touch()
    typed = words.split()
    script = f"""source ./completion
        COMP_WORDS=({words}) COMP_CWORD={len(typed) - 1}
        $(complete -p gapscope | sed "s/.*-F //; s/ .*//") gapscope {typed[-1]}
        printf '%s\\n' "${{COMPREPLY[@]}}" """
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) == completed


class Zsh:
    """An interactive zsh with a completion script; `seen` is all that it has printed."""

    def __init__(self, script: Path) -> None:
        self.pid, self.terminal = pty.fork()
        if not self.pid:
            os.execvp("zsh", ["zsh", "-f", "-i"])
        self.seen = ""
        self.type("PROMPT=; autoload -Uz compinit; compinit -u -d ./dump\n")
        self.type(f'eval "$(cat {script})"; echo rea""dy\n', "ready")

    def type(self, keys: str, until: str = "") -> None:
        """Type keys, and wait for a text that they bring about; it fails after half a minute without output."""
        os.write(self.terminal, keys.encode())
        start = len(self.seen)
        while until not in self.seen[start:]:
            assert select.select([self.terminal], [], [], 30)[0], f"{until!r} is not in {self.seen[start:]!r}"
            self.seen += os.read(self.terminal, 4096).decode()

    def close(self) -> None:
        os.close(self.terminal)
        os.waitpid(self.pid, 0)


@pytest.mark.skipif(not (shutil.which("zsh") or "GAPSCOPE_NEEDS_ZSH" in os.environ), reason="zsh is not installed")
def test_zsh_completes_too(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(monkeypatch, "completion", "zsh") == 0
    Path("completion").write_text(capsys.readouterr().out)
    Path("activations.npy").touch()
    zsh = Zsh(Path("completion"))
    try:
        zsh.type("gapscope exp\t", "ort")
        zsh.type("smo\t", "ke")
        zsh.type("\x15gapscope spectra act\t", "ivations.npy")
        zsh.type("\x15gapscope new mine --mode\t", "l")
        zsh.type(" \t")  # the value, whose metavar has a colon
        zsh.type("\x15echo do''ne\n", "done")
    finally:
        zsh.close()
    assert "command not found" not in zsh.seen


@pytest.mark.parametrize("lines", [1, 3000])  # less than a pipe holds, which is flushed at the end; more
def test_a_reader_that_has_seen_enough_ends_the_command_quietly(lines: int) -> None:
    code = (
        "import sys; from gapscope import cli; sys.argv[1:] = ['studies', '--no-probe']; "
        f"cli.studies.studies = lambda **_: [print('x' * 99) for _ in range({lines})]; cli.main()"
    )
    command, pipe = [sys.executable, "-c", code], subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) as writer:
        writer.stdout.close()
        assert writer.stderr.read() == ""
    assert writer.returncode == 141
