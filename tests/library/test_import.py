"""`import gapscope` imports nothing heavy; its functions are there all the same."""

import importlib
import json
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

import gapscope
from gapscope import cli
from gapscope.records import closure

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "pandas", "matplotlib", "numpy", "scipy")


def loaded_by(code: str) -> list[str]:
    """Return which of the heavy modules a fresh interpreter has loaded after running the code."""
    report = f"{code}\nimport json, sys\nprint(json.dumps([name for name in {HEAVY} if name in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", report], capture_output=True, text=True, check=True)
    return list(json.loads(done.stdout))


def test_the_import_is_light() -> None:
    assert loaded_by("import gapscope; dir(gapscope); gapscope.__version__") == []


def test_a_study_is_loaded_without_torch() -> None:
    assert "torch" not in loaded_by("import gapscope; gapscope.load")
    assert "torch" in loaded_by("import gapscope; gapscope.sharpness")


@pytest.mark.parametrize("name", gapscope.__all__)
def test_every_function_is_there_and_is_its_modules(name: str) -> None:
    function = getattr(gapscope, name)
    assert name in dir(gapscope)
    assert getattr(importlib.import_module(function.__module__), name) is function
    assert function.__module__.startswith("gapscope.library.")


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="sharpnes"):
        gapscope.sharpnes  # noqa: B018


def test_no_stage_seems_to_run_the_library() -> None:
    """Names in strings count as imports there; the package's own file must give none."""
    stages = closure.stages(ROOT)
    assert "train" in stages
    for stage in stages:
        assert not [path for path in closure.closure(stage, ROOT) if path.parent.name == "library"]


MEASURED = """
import torch
import gapscope
torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 3), torch.nn.ReLU(), torch.nn.Linear(3, 2))
data = (torch.rand(16, 1, 2, 2), torch.randint(2, (16,)))
gapscope.near_rank(model, data[0]), gapscope.spectra(data[0]), gapscope.hessian(model, data, k=1)
gapscope.noise_scale(model, data), gapscope.sharpness(model, data, starts=1), gapscope.load("quick").verdicts
"""
COMMAND = "import sys; from gapscope import cli; sys.argv[1:] = ['compose', 'study=quick']; cli.main()"


def without_the_pipeline(code: str) -> "subprocess.CompletedProcess[str]":
    """Run code in an interpreter that finds no package of the pipeline's."""
    blocked = f"import sys; sys.modules |= dict.fromkeys({cli.PIPELINE})\n"
    command = [sys.executable, "-c", blocked + code]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_the_measures_need_no_package_of_the_pipeline() -> None:
    done = without_the_pipeline(MEASURED)
    assert done.returncode == 0, done.stderr


def test_a_command_that_needs_one_says_in_one_line_what_to_install() -> None:
    done = without_the_pipeline(COMMAND)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "gapscope[pipeline]" in line


def test_the_extra_holds_the_packages_of_the_pipeline() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extra, own = (
        {re.split("[^a-z0-9-]", text)[0] for text in texts}
        for texts in (project["optional-dependencies"]["pipeline"], project["dependencies"])
    )
    for module in cli.PIPELINE:
        packages = {re.sub("[-_.]+", "-", name).lower() for name in packages_distributions()[module]}
        assert packages & extra, module
        assert not packages & own, module
