"""A stage's script, run within the test's own process, which has paid for torch."""

import runpy
import sys
from pathlib import Path

import pytest

STAGES = Path(__file__).parents[1] / "stages"


def run(folder: Path, stage: str, *arguments: str) -> None:
    """Run it in a folder, on the CPU."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "argv", [f"{stage}.py", *arguments])
        patch.setenv("GAPSCOPE_DEVICE", "cpu")
        runpy.run_path(str(STAGES / f"{stage}.py"), run_name="__main__")
