"""`import gapscope` imports nothing heavy; its functions are there all the same."""

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

import gapscope
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
