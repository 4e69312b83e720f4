"""A whole copy of `dvc.lock`: DVC overwrites that file in place, so a kill while it writes leaves only its beginning.

A lock that gapscope wrote ends with the line `datasets: []`, which DVC keeps in its last place. The line tells a whole
lock from one that was cut off, at any byte and without parsing it. A lock that DVC began by itself lacks the line. It
counts as whole if its last line is the last of an output.
"""

import os
import re
import time
from pathlib import Path

from gapscope.errors import InputError

LOCK, COPY = Path("dvc.lock"), Path(".dvc/tmp/gapscope/dvc.lock")  # git and DVC ignore the copy
END = b"\ndatasets: []\n"
OUTPUT_END = re.compile(rb"^ {6}(size|nfiles|isexec): \w+\n\Z", re.MULTILINE)
CONFLICT = re.compile(rb"^(<{7}|={7}|>{7})( |$)", re.MULTILINE)
STILL_S = 10.0  # a lock that has not changed for so long is not being written: DVC writes 8 KB in well under a second


def keep() -> None:
    """Copy dvc.lock, if it is whole and differs from the copy; every stage does so when it begins.

    Without this, a plain `dvc repro` with a lock that was cut off would compute everything again.

    Raises:
        InputError: dvc.lock was cut off.
    """
    if not LOCK.exists():
        COPY.unlink(missing_ok=True)  # somebody removed it on purpose
        return
    while was_cut(LOCK.read_bytes(), copied()):
        if not 0 <= time.time() - LOCK.stat().st_mtime < STILL_S:
            how = (
                "`gapscope mend` puts the last whole one"
                if copied()
                else f"`git restore {LOCK}` puts the committed one"
            )
            raise InputError(f"{LOCK} was cut off when DVC was killed; {how} back")
        time.sleep(0.1)  # another stage has ended, and DVC is writing
    copy_whole()


def copy_whole() -> None:
    """Copy dvc.lock if it is whole and differs from the copy."""
    lock, copy = (LOCK.read_bytes() if LOCK.exists() else b""), copied()
    if lock != copy and is_whole(lock, copy):
        COPY.parent.mkdir(parents=True, exist_ok=True)
        temporary = COPY.with_name(f".{COPY.name}.{os.getpid()}.tmp")  # stages run side by side
        try:
            temporary.write_bytes(lock)
            os.replace(temporary, COPY)
        finally:
            temporary.unlink(missing_ok=True)


def copied() -> bytes:
    """Return the copy; empty if there is none."""
    return COPY.read_bytes() if COPY.exists() else b""


def is_whole(lock: bytes, copy: bytes) -> bool:
    """Whether a lock ends as a whole one does, and has no markers of a merge conflict."""
    ends = lock.endswith(END) or (not copy.endswith(END) and OUTPUT_END.search(lock))
    return bool(ends) and not CONFLICT.search(lock)


def was_cut(lock: bytes, copy: bytes) -> bool:
    """Whether a lock was certainly cut off: it is empty, or it lacks the last line that its copy has."""
    return not lock or (copy.endswith(END) and not lock.endswith(END) and not CONFLICT.search(lock))
