"""Which revision of its numbers each stage is at: `revisions.yaml`, a stage's number, date and what it changed."""

from pathlib import Path
from typing import Any

import yaml

from gapscope.errors import InputError

REVISIONS = Path("revisions.yaml")
FIRST = 1  # of every stage where there is no such file yet


def revision(stage: str, root: Path = Path()) -> int:
    """Return a stage's revision.

    Raises:
        InputError: the file has no whole number for the stage.
    """
    path = root / REVISIONS
    if not path.exists():
        return FIRST
    entry: Any = (yaml.safe_load(path.read_text(encoding="utf-8")) or {}).get(stage)
    number = entry.get("revision") if isinstance(entry, dict) else None
    if not isinstance(number, int) or isinstance(number, bool):
        raise InputError(f"{path} has no whole number as revision of {stage}, got {entry!r}")
    return number
