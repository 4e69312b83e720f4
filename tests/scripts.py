"""A stage's script, run within the test's own process, which has paid for torch."""

import runpy
import shutil
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
STAGES = ROOT / "stages"


def run(folder: Path, stage: str, *arguments: str) -> None:
    """Run it in a folder, on the CPU; at the committed revisions where the folder has none."""
    if not (folder / "revisions.yaml").exists():
        shutil.copy(ROOT / "revisions.yaml", folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "argv", [f"{stage}.py", *arguments])
        patch.setenv("GAPSCOPE_DEVICE", "cpu")
        runpy.run_path(str(STAGES / f"{stage}.py"), run_name="__main__")
