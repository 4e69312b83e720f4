"""What DVC remembers: `dvc.lock` holds the study that params.yaml names; the others wait in `locks/`, a file each.

DVC parses and writes the whole of `dvc.lock` again for every stage that it runs. With all studies in it, a study of
minutes would spend most of them there.
"""

import re
from pathlib import Path
from typing import Any

LOCK, WAITING = Path("dvc.lock"), Path("locks")
Entries = dict[str, dict[str, Any]]  # stage -> what DVC writes of it


def swap(study: str) -> None:
    """Put the entries of other studies in `dvc.lock` away and bring back those of `study`; a newer one stays."""
    entries, own = read(LOCK), WAITING / f"{study}.lock"
    kept, others = read(own), dict[str, Entries]()
    for stage, entry in entries.items():
        owner = study_of(entry)
        (kept if owner in {study, None} else others.setdefault(str(owner), {}))[stage] = entry
    for other, away in others.items():
        path = WAITING / f"{other}.lock"
        write(path, read(path) | away)
    if kept != entries:
        write(LOCK, kept)
    own.unlink(missing_ok=True)


def study_of(entry: dict[str, Any]) -> str | None:
    """Return the study that a stage is of, by its params or the folders in its command; None: of no single one."""
    if study := entry.get("params", {}).get("params.yaml", {}).get("study"):
        return str(study)
    found = re.search(r"\b(?:metrics|data/runs)/([^/\s\"]+)", entry["cmd"])
    return found[1] if found else None


def read(path: Path) -> Entries:
    """Return the entries of a lock file; none where there is no file."""
    from dvc.utils.serialize import load_yaml

    return (load_yaml(str(path)).get("stages") or {}) if path.exists() else {}


def write(path: Path, entries: Entries) -> None:
    """Write a lock file by DVC's own function, sorted."""
    from dvc.utils.serialize import dump_yaml

    from gapscope.records.files import atomic_path

    with atomic_path(path) as temporary:
        dump_yaml(str(temporary), {"schema": "2.0", "stages": dict(sorted(entries.items()))})
