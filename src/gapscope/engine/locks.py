"""What DVC remembers: `dvc.lock` holds the entries of the current study; each other study has a file in `locks/`.

DVC parses and writes the whole of `dvc.lock` for every stage that it runs. With the entries of all studies in it, a
study of minutes would spend most of its time there.
"""

import re
from pathlib import Path
from typing import Any

LOCK, OTHERS = Path("dvc.lock"), Path("locks")
Entries = dict[str, dict[str, Any]]  # stage -> its entry in a lock file


def swap(study: str) -> None:
    """Make a study current: move the entries of other studies to their files, and bring back those of `study`.

    Where `dvc.lock` and the study's own file both have a stage, the entry in `dvc.lock` is newer and stays.
    """
    entries, own = read(LOCK), OTHERS / f"{study}.lock"
    current, others = read(own), dict[str, Entries]()
    for stage, entry in entries.items():
        owner = study_of(entry)
        (current if owner in {study, None} else others.setdefault(str(owner), {}))[stage] = entry
    for other, moved in others.items():
        path = OTHERS / f"{other}.lock"
        write(path, read(path) | moved)
    if current != entries:
        write(LOCK, current)
    own.unlink(missing_ok=True)


def study_of(entry: dict[str, Any]) -> str | None:
    """Return the study that an entry belongs to, by its params or its command; None for a stage that studies share."""
    if study := entry.get("params", {}).get("params.yaml", {}).get("study"):
        return str(study)
    folder = re.search(r"\b(?:metrics|data/runs)/([^/\s\"]+)", entry["cmd"])
    return folder[1] if folder else None


def read(path: Path) -> Entries:
    """Return the entries of a lock file; none if it does not exist."""
    from dvc.utils.serialize import load_yaml

    return (load_yaml(str(path)).get("stages") or {}) if path.exists() else {}


def write(path: Path, entries: Entries) -> None:
    """Write a lock file in DVC's own format, with its stages sorted."""
    from dvc.utils.serialize import dump_yaml

    from gapscope.records.files import atomic_path

    with atomic_path(path) as temporary:
        dump_yaml(str(temporary), {"schema": "2.0", "stages": dict(sorted(entries.items()))})
