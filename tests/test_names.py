"""Unsafe names are refused by the function, load_params, compose and the runner, and by DVC before any command."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from dvc.repo import Repo

from gapscope.config import load_params
from gapscope.engine.runner import changed, start_stage
from gapscope.errors import InputError
from gapscope.names import check_names

ROOT = Path(__file__).parents[1]
GOOD: dict[str, Any] = {
    "study": "table05_b-2", "models": ["lenet5", "lenet5_w0.5", "net", "net_w2"],
    "datasets": ["digits", "cifar10_n5000"], "batch_sizes": [32, 128], "batch_size": 128, "seeds": [0, 1],
    "pipelines": {"networks": ["table05_b-2"], "curvature": []}, "controls": {"seeds": [0]},
    "landscape": {"small": None, "large": 512}, "claims": {"reference": "table05_b-2"},
    "code": {"model": "examples/nets.py", "models": {"net": "examples.nets:Net"}},
    "data": {"files": {"mine": "/any where/x.npz"}},
}  # fmt: skip
INJECTIONS: list[tuple[str, Any]] = [
    ("datasets", ["$(touch pwned)"]),
    ("datasets", ["`touch pwned`"]),
    ("datasets", ['x"; touch pwned; "']),
    ("datasets", ["../../outside"]),
    ("datasets", ["a/b"]),
    ("datasets", [".."]),
    ("datasets", ["digits\ntouch pwned"]),
    ("datasets", ["${oc.env:HOME}"]),
    ("datasets", ["-rf"]),
    ("datasets", [".hidden"]),
    ("datasets", ["a b"]),
    ("datasets", ["größe"]),
    ("datasets", ["x" * 81]),
    ("datasets", "digits"),
    ("study", "a;touch pwned;"),
    ("study", "a&touch pwned"),
    ("study", "quick\n"),
    ("study", "claims"),
    ("study", ""),
    ("models", ["lenet5|touch pwned"]),
    ("models", ["a:b:c"]),
    ("models", ["package.module:Class;touch pwned"]),
    ("models", ["../nets:Net"]),
    ("batch_sizes", ["1; touch pwned"]),
    ("batch_sizes", [True]),
    ("seeds", ["$(touch pwned)"]),
    ("pipelines", {"networks": ["$(touch pwned)"]}),
    ("pipelines", {"networks": "$(touch pwned)"}),
    ("controls", {"seeds": ["0 --out /tmp/x"]}),
    ("landscape", {"small": "$(touch pwned)"}),
    ("claims", {"reference": "../../etc"}),
    ("claims", {"reference": "$(touch pwned)"}),
    ("code", {"model": "../outside.py"}),
    ("code", {"model": "/etc/passwd"}),
    ("code", {"model": "$(touch pwned)"}),
    ("records", {"runs": "../../x"}),
    ("records", {"runs": "x;touch pwned"}),
    ("measures", ["$(touch pwned)"]),
    ("data", {"files": {"$(touch pwned)": "x.npz"}}),
    ("data", {"files": {"../mine": "x.npz"}}),
    ("train", {"launcher": "run ${oc.env:HOME}"}),
]


def test_the_names_in_use_are_allowed() -> None:
    check_names(GOOD)
    check_names({})


@pytest.mark.parametrize(("name", "value"), INJECTIONS)
def test_unsafe_names_are_refused_in_one_line(name: str, value: Any) -> None:
    with pytest.raises(InputError, match=name) as refused:
        check_names(GOOD | {name: value})
    assert "\n" not in str(refused.value)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the project's own dvc.yaml, its stage check and quick's params; other scripts are absent."""
    for name in ("dvc.yaml", "revisions.yaml", "params.yaml", "conf", "hydra_plugins", "src"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "stages").mkdir()
    (tmp_path / "stages/check.py").symlink_to(ROOT / "stages/check.py")
    monkeypatch.chdir(tmp_path)
    Repo.init(no_scm=True).close()
    return tmp_path


def params(folder: Path, name: str, value: Any) -> None:
    text = (ROOT / "params.yaml").read_text()
    (folder / "params.yaml").unlink()
    (folder / "params.yaml").write_text(yaml.safe_dump(yaml.safe_load(text) | {name: value}))


def dvc(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, "-m", "dvc", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("name", "value", "options"),
    [
        ("datasets", ["$(touch pwned)"], []),
        ("datasets", ['x"; touch pwned; "'], ["--keep-going"]),
        ("datasets", ["`touch pwned`"], ["--ignore-errors", "--allow-missing"]),
        ("study", "a;touch pwned;", ["-f"]),
    ],
)
def test_dvc_executes_nothing_of_an_unsafe_name(project: Path, name: str, value: Any, options: list[str]) -> None:
    (project / "checked.yaml").write_text("names: safe\n")  # of names that were safe
    params(project, name, value)
    done = dvc(project, "repro", *options)
    assert (done.returncode == 0) == ("--ignore-errors" in options)
    assert "check: param " in done.stdout + done.stderr
    assert not list(project.rglob("pwned"))
    assert not (project / "checked.yaml").exists()


@pytest.mark.integration
@pytest.mark.parametrize(("name", "value"), INJECTIONS)
def test_no_injection_executes_anything(project: Path, name: str, value: Any) -> None:
    params(project, name, value)
    before = {path for path in project.parent.rglob("*") if ".dvc" not in path.parts and "src" not in path.parts}
    done = dvc(project, "repro")
    assert done.returncode != 0
    assert not [line for line in done.stdout.splitlines() if line.startswith("Running") and "'check'" not in line]
    after = {path for path in project.parent.rglob("*") if ".dvc" not in path.parts and "src" not in path.parts}
    assert {path.name for path in after - before} <= {"checked.yaml", "dvc.lock"}


def test_a_data_set_s_name_deletes_nothing_outside_the_repository(project: Path) -> None:
    outside = project.parent / "outside.npz"
    outside.write_text("mine")
    params(project, "datasets", ["../../../outside"])
    assert dvc(project, "repro").returncode != 0
    assert outside.read_text() == "mine"


def test_our_own_tools_refuse_where_dvc_skips_the_check(project: Path) -> None:
    (project / "checked.yaml").write_text("names: safe\n")
    params(project, "datasets", ["$(touch pwned)"])
    for call in (load_params, changed, lambda: start_stage(0)("download@x", 0)):
        with pytest.raises(InputError, match="datasets"):
            call()
    assert not list(project.rglob("pwned"))


@pytest.mark.parametrize("value", ["'$(touch pwned)'", "'${oc.env:HOME}'", "'../../x'", "'a;b'"])
def test_compose_refuses_and_writes_nothing(project: Path, value: str) -> None:
    (project / "params.yaml").unlink()
    code = "import sys; from gapscope.cli import main; sys.argv = ['gapscope', *sys.argv[1:]]; main()"
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, "-c", code, "compose", f"datasets=[{value}]"]
    done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert not (project / "params.yaml").exists()
