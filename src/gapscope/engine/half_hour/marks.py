"""Marks of finished stages on a bare machine: one JSON file per stage, with its code and the digests of what it wrote.

DVC is not there to hash the outputs, and the large ones never reach the machine that has DVC. So their digests are
measured where they lie: MD5 of each file, from which DVC makes its own.
"""

import hashlib
import re
from pathlib import Path
from typing import Any

from gapscope.engine.half_hour.programme import PLACE, Programme, Stage
from gapscope.records.tables import read_record

FOLDER = PLACE / "done"
Digest = dict[str, Any]  # of a file: md5, size; of a folder: files, a mapping of relative paths to those


def mark_of(addressing: str) -> Path:
    """Return the file of a stage's mark."""
    return FOLDER / f"{addressing.replace(':', '.')}.json"


def check_name(command: str) -> str:
    """Return the name under which a check has its mark and its log.

    Example:
        >>> check_name("python benchmarks/graphs.py")
        'check-python-benchmarks-graphs-py'
    """
    return f"check-{re.sub(r'[^A-Za-z0-9]+', '-', command).strip('-')[:80]}"


def digest(path: Path) -> Digest:
    """Return the digest of a file or folder."""
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file())
        return {"files": {file.relative_to(path).as_posix(): digest(file) for file in files}}
    with path.open("rb") as file:
        return {"md5": hashlib.file_digest(file, "md5").hexdigest(), "size": path.stat().st_size}


def marked(programme: Programme) -> dict[str, dict[str, Any]]:
    """Return the marks of a programme's stages: addressing -> mark; those of other commits do not count."""
    found: dict[str, dict[str, Any]] = {}
    for stage in programme.stages:
        if mark_of(stage.addressing).exists():
            mark = read_record(mark_of(stage.addressing))
            if mark["commit"] == programme.commit:
                found[stage.addressing] = mark
    return found


def done(programme: Programme) -> set[str]:
    """Return the stages that need not run: marked ones whose outputs are there, or are read by no further stage."""
    marks = marked(programme)
    readers: dict[str, list[Stage]] = {}
    for stage in programme.stages:
        for before in stage.after:
            readers.setdefault(before, []).append(stage)
    return {
        stage.addressing
        for stage in programme.stages
        if stage.addressing in marks
        and (
            all(Path(out).exists() for out in stage.outs)
            or all(reader.addressing in marks for reader in readers.get(stage.addressing, []))
        )
    }
