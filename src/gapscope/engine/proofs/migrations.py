"""The scripts in `migrations/` bring committed records to a new form; here they bring an old version's outputs to it.

A script holds `MIGRATION`: the commit `old`, up to which the form is the old one; `steps`, for each stage what is done
to the files of one cell, each with `convert(stage, files)`, path -> content; and `path(old)`, a file's new path.
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
    """Migrations, one after the other: those that a commit has before it."""

    scripts: tuple[Any, ...]

    def convert(self, stage: str, root: Path, outs: Sequence[str], target: Path) -> list[str]:
        """Write the outputs of one cell in the new form, and return their paths.

        Args:
            stage: its name.
            root: folder of the old outputs.
            outs: their paths there; files in metrics/ are records, all else keeps its content.
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
    """Return what brings a commit's outputs to the present form; None where they have it."""
    sys.path.insert(0, str(folder.resolve().parent))  # scripts import each other as `migrations.NAME`
    try:
        names = sorted(f"{folder.name}.{path.stem}" for path in folder.glob("v*.py"))
        scripts = [importlib.import_module(name).MIGRATION for name in names]
    finally:
        sys.path.pop(0)
    later = tuple(script for script in scripts if follows(script.old, commit))
    return Migration(later) if later else None
