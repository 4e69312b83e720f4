"""Independent pieces of work, spread over processes of one thread each; finished pieces survive a kill."""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import active_children, get_context, parent_process
from pathlib import Path
from threading import Thread
from typing import Any

from gapscope.errors import InputError
from gapscope.records.files import write_text
from gapscope.runtime import cores

DIGITS = 16  # hexadecimal digits of a line's checksum
Piece = tuple[int, ...]
Row = dict[str, Any]


def finish(
    work: Callable[[Piece], Row], pieces: Sequence[Piece], log: Path, about: Mapping[str, Any], workers: int | None
) -> Iterator[Row]:
    """Yield the row of each piece when it is finished, those in the log first. A kill loses only unfinished pieces.

    Args:
        work: a function that can be pickled. Its row, a JSON object, depends only on its piece and `about`.
        pieces: to work on.
        log: file that gets one line per finished piece. Remove it when the rows are written elsewhere.
        about: everything else that a row depends on; a log with another `about` is started again.
        workers: number of processes; None: one per core that this process may use.

    Raises:
        InputError: the system ended a process, as it does for lack of memory.
    """
    done = _read(log, about)
    yield from (done[piece] for piece in pieces if piece in done)
    todo = [piece for piece in pieces if piece not in done]
    if not todo:
        return
    # libraries read these when a process starts: one thread each, so that bits do not depend on the number of cores
    os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    pool = ProcessPoolExecutor(
        min(workers or cores(), len(todo)), mp_context=get_context("spawn"), initializer=_end_with_parent
    )
    try:
        with log.open("a", encoding="utf-8") as file:
            running = {pool.submit(work, piece): piece for piece in todo}
            for future in as_completed(running):
                row = future.result()
                file.write(_line(json.dumps([running.pop(future), row])))
                file.flush()
                os.fsync(file.fileno())
                yield row
    except BrokenProcessPool as error:
        raise InputError(
            "a process of this stage ended at once, most likely for lack of memory; set runtime.workers to a smaller "
            "number and run it again: finished pieces are kept"
        ) from error
    finally:
        try:
            pool.shutdown(cancel_futures=True)
        except RuntimeError:  # for lack of memory its thread did not start, which would have ended the processes
            for process in active_children():
                process.kill()


def _read(log: Path, about: Mapping[str, Any]) -> dict[Piece, Row]:
    """Return the finished pieces, and leave a log of whole lines; a log with another `about` is started again."""
    head = _line(json.dumps(about))
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True) if log.exists() else []
    texts = [line[DIGITS + 1 : -1] for line in lines]
    whole = [text for text, line in zip(texts, lines, strict=True) if line == _line(text)] if head in lines[:1] else []
    if lost := len(lines) - len(whole):  # a kill may have cut the last line
        print(f"{log}: {lost} of {len(lines)} lines are cut, damaged or of other settings: done again", flush=True)
    write_text(log, head + "".join(map(_line, whole[1:])))
    return {tuple(piece): row for piece, row in map(json.loads, whole[1:])}


def _line(text: str) -> str:
    """Return a line of the log: a checksum, and the text."""
    return f"{hashlib.sha256(text.encode()).hexdigest()[:DIGITS]} {text}\n"


def _end_with_parent() -> None:
    Thread(target=_wait_and_end, daemon=True).start()  # otherwise a worker whose parent was killed would wait for ever


def _wait_and_end() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
