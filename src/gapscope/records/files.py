"""Atomic writing: a path holds a complete output or none, also after a kill or on a full disk."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from glob import escape
from pathlib import Path


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path for a file or folder, which is renamed to `path` when the block ends without an error.

    Temporary paths that killed processes left for the same `path` are removed first. Two machines that share a disk
    must not write one path at the same time: neither knows which processes of the other still run.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_left(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")  # git and DVC ignore it if a kill leaves it behind
    try:
        yield temporary
        _sync(temporary)
        if path.is_dir():
            shutil.rmtree(path)
        os.replace(temporary, path)
        _sync_name(path)
    finally:
        _remove(temporary)


def _remove_left(path: Path) -> None:
    """Remove the temporary paths of processes that are gone, and that of a killed one with this process's id."""
    for other in path.parent.glob(f".{escape(path.name)}.*.tmp"):
        process = other.name[len(path.name) + 2 : -len(".tmp")]
        if process.isdecimal() and (int(process) == os.getpid() or not _runs(int(process))):
            _remove(other)


def _runs(process: int) -> bool:
    """Whether a process runs, or may run: only POSIX systems can be asked."""
    if os.name != "posix":
        return True
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True  # somebody else's
    return True


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _sync_name(path: Path) -> None:
    if os.name == "posix":  # names are synced with their folder, which only POSIX systems can open
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _sync(path: Path) -> None:
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if file.is_file():
            with file.open("rb") as handle:
                os.fsync(handle.fileno())
