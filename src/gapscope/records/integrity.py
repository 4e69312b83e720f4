"""Files that a stage has written must still be what it wrote: their MD5 is that of dvc.lock, or of the study's lock.

DVC compares MD5 sums before it runs a stage, and misses three cases. It takes a file of the same time and size for
unchanged. `--single-item` runs a stage on damaged inputs. If its cache holds a damaged copy (with hard links, the same
file), it puts that copy in place of what a stage has just written. So a stage that DVC runs looks again when it reads.
"""

import hashlib
import json
import os
import re
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from gapscope import lock_copy
from gapscope.errors import InputError

RUN_BY_DVC = "DVC_STAGE"  # DVC names the stage in its command's environment
STAGE = re.compile(r"^  (?=\S)", re.MULTILINE)
OUTS = re.compile(r"^    outs:\n((?:    - .*\n(?:      .*\n)*)+)", re.MULTILINE)
FILE = re.compile(r"^    - path:\s+(\S+)\n      hash: md5\n      md5: (\S+)\n", re.MULTILINE)
STUDY = re.compile(r"(?:metrics/claims|metrics|data/runs|provenance|plots)/(\w[^/]*?)(?:\.csv)?(?:/|$)")
CACHE = Path(".dvc/cache/files/md5")


class Written(NamedTuple):
    """An output as a lock has it: the MD5 of its content, and the stage that wrote it."""

    md5: str
    stage: str


def check_written(path: Path) -> None:
    """Refuse a changed file, if DVC runs this stage. By hand, stages may read what no lock knows.

    A stage may read what it has just written, which its lock does not know yet.

    Raises:
        InputError: as `refuse_changed`.
    """
    if stage := os.environ.get(RUN_BY_DVC):
        refuse_changed(path, but=stage)


def refuse_changed(path: Path, root: Path = Path(), *, but: str = "") -> None:
    """Raise InputError if a file or folder is not what its stage wrote, as the locks in `root` have it.

    A file within a folder that is one output is checked with the whole folder. A path that is missing passes, and so
    does one that no lock has as an output.

    Args:
        path: the file or folder.
        root: the repository.
        but: a stage whose own outputs pass.
    """
    if not path.exists():
        return
    written = _written(root, name := Path(os.path.relpath(path, root)).as_posix())
    if written is None and (written := _written(root, within := Path(name).parent.as_posix())):
        path, name = path.parent, within
    if written is None or written.stage == but or (found := md5(path)) == (known := written.md5):
        return
    copies = " and ".join(["it", *(f"DVC's copy {copy}" for copy in _damaged_copies(root, known))])
    raise InputError(
        f"{path} is not what its stage wrote (its MD5 is {found}, in the lock it is {known}): remove {copies} and run "
        "`dvc repro`, or bring a committed record back with `git checkout`; if you made it by hand, "
        f"`dvc commit {name}`"
    )


def md5(path: Path) -> str:
    """Return the MD5 of a file as DVC writes it; of a folder, that of the list of its files, followed by `.dir`."""
    if path.is_dir():
        return f"{hashlib.md5(_listed(path), usedforsecurity=False).hexdigest()}.dir"
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _listed(folder: Path) -> bytes:
    files = (file for file in folder.rglob("*") if file.is_file() and file.suffix != ".tmp")  # as in .dvcignore
    names = sorted(file.relative_to(folder).as_posix() for file in files)
    return json.dumps([{"md5": md5(folder / name), "relpath": name} for name in names]).encode()


def _written(root: Path, name: str) -> Written | None:
    """Return what the lock has for an output; dvc.lock is newer than a study's own lock."""
    study = STUDY.match(name)
    for place in (lock_copy.LOCK, Path(f"locks/{study[1]}.lock") if study else None):
        if place and (root / place).exists() and (known := _outputs(_whole(root, place)).get(name)):
            return known
    return None


def _whole(root: Path, place: Path) -> tuple[Path, int, int]:
    """Return a lock, or the copy of one that DVC is writing, with what tells whether it has changed."""
    lock, copy = root / place, root / lock_copy.COPY
    if place == lock_copy.LOCK and copy.exists() and not lock_copy.is_whole(lock.read_bytes(), copy.read_bytes()):
        lock = copy
    about = lock.stat()
    return lock, about.st_mtime_ns, about.st_size


@lru_cache(maxsize=8)
def _outputs(lock: tuple[Path, int, int]) -> dict[str, Written]:
    text = lock[0].read_text(encoding="utf-8")  # in DVC's own format; a YAML parser would take seconds
    return {
        name: Written(known, entry.partition(":\n")[0])
        for entry in STAGE.split(text)
        for outs in OUTS.findall(entry)
        for name, known in FILE.findall(outs)
    }


def _damaged_copies(root: Path, known: str) -> list[Path]:
    """Return the files of DVC's cache that belong to an output and do not hold what their names say."""
    copy = _copy(root, known)
    parts = [copy]
    if known.endswith(".dir") and copy.exists():
        parts += [_copy(root, part["md5"]) for part in json.loads(copy.read_bytes())]
    return [part for part in parts if part.exists() and md5(part) != part.parent.name + part.name.removesuffix(".dir")]


def _copy(root: Path, known: str) -> Path:
    return root / CACHE / known[:2] / known[2:]
