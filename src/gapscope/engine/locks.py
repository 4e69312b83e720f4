"""What DVC remembers: `dvc.lock` holds the entries of the current study; each other study has a file in `locks/`.

DVC parses and writes the whole of `dvc.lock` for every stage that it runs. With the entries of all studies in it, a
study of minutes would spend most of its time there.

DVC writes `dvc.lock` in place, and a kill may leave only its beginning. Stages keep a whole copy (`lock_copy`), and
`mend` puts it back. The files in `locks/` are written by this module alone, each to a temporary file that is renamed.

A kill may also leave git's `index.lock`, since DVC tells git of each new lock. git and DVC then refuse to work, and
`mend` removes that file too.
"""

import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from gapscope import lock_copy
from gapscope.errors import InputError
from gapscope.git import git
from gapscope.records.files import atomic_path

LOCK, OTHERS = lock_copy.LOCK, Path("locks")
PATHS_IN_USE = lock_copy.COPY.parents[1] / "rwlock"  # DVC's note of the paths that its processes read and write
CUT = lock_copy.COPY.with_name("dvc.lock.cut")  # keeps what `mend` replaced
PROCESSES = Path("/proc")  # Linux only
GIT_STILL_S = 2.0  # git writes an index within it, or its process is seen
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
    lock_copy.copy_whole()
    own.unlink(missing_ok=True)


def mend(*, say_whole: bool = False) -> None:
    """Put the last whole copy of dvc.lock back if the present one was cut off, and say so; leave a whole one alone.

    What killed DVC processes left beside it, and what keeps DVC from starting, is removed.

    Args:
        say_whole: say it too if nothing is to be done.

    Raises:
        InputError: the lock has markers of a merge conflict, or it was cut off and there is no copy.
    """
    _remove_cut_note()
    _remove_git_lock()
    if not LOCK.exists() or not _needs_copy(LOCK.read_bytes()):
        if say_whole:
            print(f"{LOCK} is whole" if LOCK.exists() else f"there is no {LOCK} to mend")
        return
    copy = lock_copy.copied()
    if not copy:
        raise InputError(
            f"{LOCK} was cut off, and no copy was kept; `git restore {LOCK}` brings the committed one back"
        )
    with _dvc_waits():
        lock = LOCK.read_bytes()
        if _needs_copy(lock):  # no DVC process has written it since
            for path, content in ((CUT, lock), (LOCK, copy)):
                with atomic_path(path) as temporary:
                    temporary.write_bytes(content)
            print(f"{LOCK} was cut off after {len(lock)} bytes: put the last whole one back, of {len(copy)} bytes")


def _remove_cut_note() -> None:
    """Remove DVC's note of paths in use if it was cut off: DVC writes it in place, and would refuse to start."""
    try:
        json.loads(PATHS_IN_USE.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return
    except ValueError:
        PATHS_IN_USE.unlink(missing_ok=True)
        print(f"{PATHS_IN_USE} was cut off when DVC was killed: removed it")


def _remove_git_lock() -> None:
    """Remove git's index.lock if a killed process left it: neither DVC nor git works here, and it does not change.

    Only Linux says which processes work here. A git process of another machine, on a shared disk, is not seen.
    """
    top, path = git("rev-parse", "--show-toplevel").strip(), Path(git("rev-parse", "--git-path", "index.lock").strip())
    if not (top and path.is_file() and PROCESSES.is_dir() and PATHS_IN_USE.parent.is_dir()):
        return
    with suppress(InputError, FileNotFoundError), _dvc_waits():  # DVC is at work, or the file has gone by itself
        while 0 <= time.time() - path.stat().st_mtime < GIT_STILL_S:
            time.sleep(GIT_STILL_S / 10)
        if not _git_runs(Path(top)):
            path.unlink()
            print(f"{path} was left by a killed process: removed it")


def _git_runs(top: Path) -> bool:
    """Whether a process of git works in a repository, or may do so: `git commit -a` holds the index for its editor."""
    for process in PROCESSES.iterdir():
        with suppress(FileNotFoundError, NotADirectoryError, ProcessLookupError):
            if (process / "comm").read_text().startswith("git"):
                try:
                    folder = (process / "cwd").readlink()
                except PermissionError:  # somebody else's
                    return True
                if folder.is_relative_to(top):
                    return True
    return False


def _needs_copy(lock: bytes) -> bool:
    """Whether a lock was cut off; one without our last line was if DVC cannot read it, or if the copy goes on."""
    copy = lock_copy.copied()
    if lock_copy.CONFLICT.search(lock):
        raise InputError(_conflict(LOCK))
    if lock.endswith(lock_copy.END) or lock_copy.was_cut(lock, copy):
        return not lock.endswith(lock_copy.END)
    return not _parsed(lock, LOCK) or (lock != copy and copy.startswith(lock))


def _conflict(path: Path) -> str:
    return (
        f"{path} has markers of a merge conflict; take one side, as in `git checkout --ours {path}`, and run the "
        "pipeline: what the other side had is then run again"
    )


@contextmanager
def _dvc_waits() -> Iterator[None]:
    """Hold DVC's own lock, so that no DVC process writes within the block.

    Raises:
        InputError: a DVC process holds it.
    """
    from dvc.lock import LockError
    from dvc.repo import Repo

    try:
        with Repo() as repo, repo.lock:
            yield
    except LockError as error:
        raise InputError(f"{LOCK} was cut off, or DVC is writing it: another DVC process runs; wait for it") from error


def study_of(entry: dict[str, Any]) -> str | None:
    """Return the study that an entry belongs to, by its params or its command; None for a stage that studies share."""
    if study := entry.get("params", {}).get("params.yaml", {}).get("study"):
        return str(study)
    folder = re.search(r"\b(?:metrics|data/runs)/([^/\s\"]+)", entry["cmd"])
    return folder[1] if folder else None


def read(path: Path) -> Entries:
    """Return the entries of a lock file; none if it does not exist.

    Raises:
        InputError: it is damaged, or has markers of a merge conflict.
    """
    if not path.exists():
        return {}
    content = path.read_bytes()
    if lock_copy.CONFLICT.search(content):
        raise InputError(_conflict(path))
    if (lock := _parsed(content, path)) is None:
        raise InputError(f"{path} is damaged; `git restore {path}` brings the committed one back")
    return lock.get("stages") or {}


def _parsed(content: bytes, path: Path) -> dict[str, Any] | None:
    """Return what a lock file holds; None if DVC could not read it."""
    from dvc.utils.serialize import YAMLError, parse_yaml

    try:
        lock = parse_yaml(content.decode(), path)
    except (YAMLError, UnicodeDecodeError):
        return None
    whole = isinstance(lock, dict) and all(isinstance(entry, dict) for entry in (lock.get("stages") or {}).values())
    return lock if whole else None


def write(path: Path, entries: Entries) -> None:
    """Write a lock file in DVC's own format, with its stages sorted, and `lock_copy.END` as its last line."""
    from dvc.utils.serialize import dump_yaml

    with atomic_path(path) as temporary:
        dump_yaml(str(temporary), {"schema": "2.0", "stages": dict(sorted(entries.items())), "datasets": []})
