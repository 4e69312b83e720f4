"""Files that a stage has written must still be what it wrote: whoever reads one compares its MD5.

The MD5 that it should have is in dvc.lock, in the lock of its study, or in a note of this checkout (`NOTES`). The locks
have what DVC has run, and git carries them. The notes have what a stage has written here, even if it was started by
hand. A file that neither knows is read as it is. The file itself holds no checksum, because that would change the MD5
by which DVC knows it.

DVC compares MD5 sums too, before it runs a stage, and misses three cases. It takes a file of the same time and size for
unchanged. `--single-item` runs a stage on damaged inputs. If its cache holds a damaged copy (with hard links, the same
file), it puts that copy in place of what a stage has just written.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from gapscope import lock_copy
from gapscope.errors import InputError

DVC = ".dvc"  # marks the folder of a repository
NOTES = Path(".dvc/tmp/gapscope/written")  # one file per output, with the MD5 of the last two; git and DVC ignore them
OUTPUT = re.compile(r"(data/(datasets|runs)|metrics|plots|provenance)/(?!.*\.tmp/)")
OUTS = re.compile(r"^    outs:\n((?:    - .*\n(?:      .*\n)*)+)", re.MULTILINE)
FILE = re.compile(r"^    - path:\s+(\S+)\n      hash: md5\n      md5: (\S+)\n", re.MULTILINE)
STUDY = re.compile(r"(?:metrics/claims|metrics|data/runs|provenance|plots)/(\w[^/]*?)(?:\.csv)?(?:/|$)")
CACHE = Path(".dvc/cache/files/md5")


def note_written(path: Path, content: Path) -> None:
    """Note the MD5 of an output that is about to be put in its place. What is no output of a stage is not noted.

    The MD5 before it stays noted: a reader, or a kill, may come before the output is in its place.

    Args:
        path: of the output, a file or folder.
        content: file or folder that holds it until then.
    """
    for root, name in _places(path) if content.exists() else ():
        if OUTPUT.match(name):
            note = _note(root, name)
            note.parent.mkdir(parents=True, exist_ok=True)
            temporary = note.with_name(f".{note.name}.{os.getpid()}.tmp")
            temporary.write_text("\n".join([*_noted(note)[-1:], md5(content)]), encoding="utf-8")
            os.replace(temporary, note)


def check_written(path: Path) -> None:
    """Refuse a file or folder that is not what its stage wrote, as the locks and the notes have it.

    A file within a folder that is one output is checked with the whole folder. A missing path passes, and so does one
    that neither a lock nor a note knows. What is neither a file nor a folder is left to its reader.

    Raises:
        InputError: its content is another one; the message says what to do.
    """
    changed = None
    for root, name in _places(path) if path.is_file() or path.is_dir() else ():
        for place in (name, Path(name).parent.as_posix()):
            if known := [*_noted(_note(root, place)), *_locked(root, place)]:
                if (found := md5(root / place)) in known:
                    return
                changed = changed or (root, place, found, known[-1])
    if changed:
        root, place, found, wanted = changed
        copies = " and ".join(["it", *(f"DVC's copy {copy}" for copy in _damaged_copies(root, wanted))])
        raise InputError(
            f"{path if name == place else path.parent} is not what its stage wrote (its MD5 is {found}, not {wanted}): "
            f"remove {copies} and run `dvc repro` or the stage, or bring a committed record back with `git checkout`; "
            f"if you put another one there on purpose, `dvc commit {place}`"
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


def _places(path: Path) -> Iterator[tuple[Path, str]]:
    """Yield the repository and the name in it: of a path, and of what it links to, as in a job of a cluster."""
    for place in dict.fromkeys((Path(os.path.abspath(path)), path.resolve())):
        if root := next((folder for folder in place.parents if (folder / DVC).is_dir()), None):
            yield root, place.relative_to(root).as_posix()


def _note(root: Path, name: str) -> Path:
    return root / NOTES / f"{name}.md5"


def _noted(note: Path) -> list[str]:
    return note.read_text(encoding="utf-8").split() if note.is_file() else []


def _locked(root: Path, name: str) -> list[str]:
    """Return the MD5 that the locks have for an output, if any; dvc.lock is newer than a study's own lock."""
    study = STUDY.match(name)
    for place in (lock_copy.LOCK, Path(f"locks/{study[1]}.lock") if study else None):
        if place and (root / place).is_file() and (known := _outputs(_whole(root, place)).get(name)):
            return [known]
    return []


def _whole(root: Path, place: Path) -> tuple[Path, int, int]:
    """Return a lock, or the copy of one that DVC is writing, with what tells whether it has changed."""
    lock, copy = root / place, root / lock_copy.COPY
    if place == lock_copy.LOCK and copy.exists() and not lock_copy.is_whole(lock.read_bytes(), copy.read_bytes()):
        lock = copy
    about = lock.stat()
    return lock, about.st_mtime_ns, about.st_size


@lru_cache(maxsize=8)
def _outputs(lock: tuple[Path, int, int]) -> dict[str, str]:
    text = lock[0].read_text(encoding="utf-8", errors="replace")  # DVC's own format; a YAML parser would take seconds
    return {name: known for outs in OUTS.findall(text) for name, known in FILE.findall(outs)}


def _damaged_copies(root: Path, known: str) -> list[Path]:
    """Return the files of DVC's cache that belong to an output and do not hold what their names say."""
    copy = _copy(root, known)
    parts = [copy]
    if known.endswith(".dir") and copy.exists():
        parts += [_copy(root, part["md5"]) for part in json.loads(copy.read_bytes())]
    return [part for part in parts if part.exists() and md5(part) != part.parent.name + part.name.removesuffix(".dir")]


def _copy(root: Path, known: str) -> Path:
    return root / CACHE / known[:2] / known[2:]
