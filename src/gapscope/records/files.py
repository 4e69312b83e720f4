"""Atomic writing: a path holds a complete output or none, also after a kill or on a full disk.

The MD5 of what is written is noted (`gapscope.records.integrity`), so that its readers see whether it has changed.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from glob import escape
from pathlib import Path

from gapscope.errors import InputError
from gapscope.records.integrity import note_written


@contextmanager
def atomic_path(path: Path, *, folder: bool = False) -> Iterator[Path]:
    """Yield a temporary path for a file or folder, which is renamed to `path` when the block ends without an error.

    Temporary paths that killed processes left for the same `path` are removed first. Two machines that share a disk
    must not write one path at the same time: neither knows which processes of the other still run.

    Args:
        path: to write.
        folder: whether it is a folder; it replaces an earlier folder.

    Raises:
        InputError: a folder is in the file's place.
        OSError: it cannot be written, as on a full disk; `filename` says what.
    """
    if path.is_dir() and not folder:
        raise InputError(f"{path} is a folder, and a file is to be written there; choose another path")
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_left(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")  # git and DVC ignore it if a kill leaves it behind
    try:
        yield temporary
        _sync(temporary)
        note_written(path, temporary)
        if path.is_dir():
            shutil.rmtree(path)
        os.replace(temporary, path)
        _sync_name(path)
    except OSError as error:
        error.filename = error.filename or str(path)  # a write that fails does not say where
        raise
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


def reserve(file: int, size: int) -> None:
    """Reserve the room of a file that is filled through a memory map, where a full disk would kill the process.

    Args:
        file: number of the open file.
        size: bytes from its start.

    Raises:
        OSError: there is not so much room.
    """
    if hasattr(os, "posix_fallocate"):  # not on macOS
        os.posix_fallocate(file, 0, size)


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
