"""Conversion of an old version's outputs to the present form, by the scripts in `migrations/`.

These scripts were written to convert committed records. A script has an object `MIGRATION` with three members: `old`,
the last commit with the old form; `steps`, for each stage the conversions of one cell's files, each a function
`convert(stage, files)` of a mapping path -> content; and `path(old)`, a file's new path.
"""

import importlib
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gapscope.engine.proofs.versions import follows

FOLDER = Path("migrations")


@dataclass(frozen=True)
class Migration:
    """The migrations that a commit's outputs need, one after the other."""

    scripts: tuple[Any, ...]

    def convert(self, stage: str, root: Path, outs: Sequence[str], target: Path) -> list[str]:
        """Write the outputs of one cell in the present form, and return their paths.

        Args:
            stage: its name.
            root: folder of the old outputs.
            outs: their paths in it; files in metrics/ are converted, and other files keep their content.
            target: folder to write into.
        """
        files = {out: (root / out).read_bytes() for out in outs if out.startswith("metrics/")}
        moved = {out: out for out in outs if out not in files}
        for script in self.scripts:
            for step in script.steps.get(stage, ()):
                files = step.convert(stage, files)
            files = {script.path(place): content for place, content in files.items()}
            moved = {out: script.path(place) for out, place in moved.items()}
        for place, content in files.items():
            (target / place).parent.mkdir(parents=True, exist_ok=True)
            (target / place).write_bytes(content)
        for out, place in moved.items():
            (target / place).parent.mkdir(parents=True, exist_ok=True)
            os.symlink((root / out).resolve(), target / place)
        return [*files, *moved.values()]


def migration_from(commit: str, folder: Path = FOLDER) -> Migration | None:
    """Return the migrations of a commit's outputs; None if they have the present form."""
    sys.path.insert(0, str(folder.resolve().parent))  # scripts import each other as `migrations.NAME`
    try:
        names = sorted(f"{folder.name}.{path.stem}" for path in folder.glob("v*.py"))
        scripts = [importlib.import_module(name).MIGRATION for name in names]
    finally:
        sys.path.pop(0)
    later = tuple(script for script in scripts if follows(script.old, commit))
    return Migration(later) if later else None
