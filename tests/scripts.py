"""A stage's script, run within the test's own process, which has paid for torch; a disk without room."""

import resource
import runpy
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
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


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """Let no file grow beyond `size` bytes: a write that fails half-way, as on a full disk, without filling one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
