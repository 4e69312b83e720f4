"""Independent pieces of work over processes of one thread each; what is finished survives a kill."""

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context, parent_process
from pathlib import Path
from threading import Thread
from typing import Any

from gapscope.records.files import write_text
from gapscope.runtime import cores

Piece = tuple[int, ...]
Row = dict[str, Any]


def finish(
    work: Callable[[Piece], Row], pieces: Sequence[Piece], log: Path, about: Mapping[str, Any], workers: int | None
) -> Iterator[Row]:
    """Yield the row of each piece as it is finished, those in the log first: a kill loses only the pieces under way.

    Args:
        work: a function that can be pickled; its row, of what JSON holds, depends on its piece and `about` alone.
        pieces: what to work on.
        log: file that takes a line a finished piece. Remove it when the rows are safe elsewhere.
        about: all else that a row depends on; a log of anything else is begun anew.
        workers: processes; None: as many as this process may use cores.
    """
    done = _read(log, about)
    yield from (done[piece] for piece in pieces if piece in done)
    todo = [piece for piece in pieces if piece not in done]
    if not todo:
        return
    # read by the libraries of a fresh process when they start: one thread each, so that bits depend on no core count
    os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    pool = ProcessPoolExecutor(
        min(workers or cores(), len(todo)), mp_context=get_context("spawn"), initializer=_end_with_parent
    )
    try:
        with log.open("a", encoding="utf-8") as file:
            running = {pool.submit(work, piece): piece for piece in todo}
            for future in as_completed(running):
                row = future.result()
                file.write(json.dumps([running.pop(future), row]) + "\n")
                file.flush()
                os.fsync(file.fileno())
                yield row
    finally:
        pool.shutdown(cancel_futures=True)


def _read(log: Path, about: Mapping[str, Any]) -> dict[Piece, Row]:
    """Return the finished pieces, leaving a log of whole lines about the same; else begin one."""
    head = json.dumps(about)
    lines = log.read_text(encoding="utf-8").splitlines(keepends=True) if log.exists() else []
    whole = [line for line in lines if line.endswith("\n")]  # a kill may have cut the last one
    if not whole or whole[0].rstrip("\n") != head:
        whole = [head + "\n"]
    write_text(log, "".join(whole))
    return {tuple(piece): row for piece, row in map(json.loads, whole[1:])}


def _end_with_parent() -> None:
    Thread(target=_wait_and_end, daemon=True).start()  # a worker whose parent was killed would wait for work for ever


def _wait_and_end() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
