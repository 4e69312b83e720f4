"""Several cells of a study at once on one machine: each stage as a process of one thread, or one a GPU.

Two runs of one thread side by side are faster than one run of two. DVC still decides what has changed and writes its
lock file: each stage is a `dvc --wait-for-lock repro --single-item`, started once what it depends on is done.
"""

import io
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gapscope.config import PARAMS, read_yaml
from gapscope.errors import InputError, StoppedError
from gapscope.names import check_names
from gapscope.runtime import stop_requests

LOGS = Path("data/logs")
POLL_S = 0.2
LOOK_S = {True: 1, False: 60}  # how often to say how far the running stages are: on a terminal, and in a file
TAIL = 4096  # bytes of a log in which to look for it

Graph = Mapping[str, set[str]]  # stage -> the stages that it depends on
Running = dict[str, tuple[int, "subprocess.Popen[bytes]", float]]  # stage -> its slot, process and start


@dataclass
class Progress:
    """Where a run of a graph stands; each stage is in exactly one of these, or still to come."""

    done: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)  # they depend on one that failed


def changed() -> tuple[Graph, set[str]]:
    """Return the part of the pipeline that is not up to date, or may not be once what it depends on has run.

    As for `dvc repro --allow-missing`, results that only their records in git are left of are up to date; where another
    stage reads them, they are made again. The stage `check` is run here, since all others wait for it. Unsafe names
    are refused even before: stages are started one by one, and DVC skips what they depend on then.

    Returns:
        That part of the graph, and those of its stages that run only if what the others leave has changed.

    Raises:
        InputError: DVC cannot read the pipeline, or a name in its params is unsafe.
    """
    from dvc.exceptions import DvcException
    from dvc.repo import Repo, lock_repo

    refuse_unsafe_names()
    try:
        with Repo() as repo:
            repo.reproduce("check", single_item=True)
            with lock_repo(repo):
                graph = repo.index.graph
                before = {stage: list(graph.successors(stage)) for stage in graph}
                run = {stage for stage, others in before.items() if _is_changed(stage, others)}
                while needed := {other for stage in run for other in before[stage] if _gives(other, stage)} - run:
                    run |= needed
            depends = {stage.addressing: {other.addressing for other in others} for stage, others in before.items()}
    except DvcException as error:
        raise InputError(f"DVC cannot read the pipeline: {error}") from error
    todo = {stage.addressing for stage in run}
    unsure = set[str]()
    while more := {name for name, others in depends.items() if name not in todo and others & todo}:
        todo |= more
        unsure |= more
    return {name: depends[name] & todo for name in depends if name in todo}, unsure


def refuse_unsafe_names() -> None:
    """Raise InputError where params.yaml has a name that is unsafe in the commands that DVC makes of it."""
    if PARAMS.exists():
        check_names(read_yaml(PARAMS))


def _is_changed(stage: Any, upstream: Sequence[Any]) -> bool:
    records = [out for out in stage.outs if not out.use_cache]  # in git: only a run brings one back
    return stage.changed(allow_missing=True, upstream=upstream) or not all(out.exists for out in records)


def _gives(other: Any, stage: Any) -> bool:
    """Whether a stage reads something of another's that is not there."""
    read = {dep.fs_path for dep in stage.deps}
    return any(out.fs_path in read and not out.exists for out in other.outs)


def run(graph: Graph, start: Callable[[str, int], "subprocess.Popen[bytes]"], jobs: int) -> Progress:
    """Run the stages of a graph, up to `jobs` at once; a failure stops only what depends on it.

    However it ends, none of its processes is left: those that run are sent SIGINT and waited for.

    Args:
        graph: stage -> the stages that it depends on; all of them are run.
        start: (stage, slot in 0..jobs-1) -> its process.
        jobs: at least 1.

    Raises:
        InputError: fewer than one job.
        StoppedError: SIGINT or SIGTERM came.
    """
    if jobs < 1:
        raise InputError(f"-j must be at least 1, got {jobs}")
    progress, waiting, said, looked = Progress(), dict(graph), "", time.monotonic()
    running: Running = {}
    with stop_requests() as stop, _none_left(running):
        while waiting or running:
            for name in [name for name, others in waiting.items() if others & {*progress.failed, *progress.left_out}]:
                progress.left_out.append(name)
                del waiting[name]
            ready = [name for name, others in waiting.items() if others <= set(progress.done)]
            free = sorted(set(range(jobs)) - {slot for slot, _, _ in running.values()})
            for name, slot in zip(ready, free, strict=False):
                running[name] = (slot, start(name, slot), time.monotonic())
                del waiting[name]
            if stop():
                raise StoppedError(f"stopped; {len(progress.done)} of {len(graph)} stages are done")
            for name, (_, process, since) in list(running.items()):
                if process.poll() is not None:
                    (progress.done if process.returncode == 0 else progress.failed).append(name)
                    del running[name]
                    outcome = "done" if process.returncode == 0 else f"FAILED, {log_of(name)} says why"
                    seconds = time.monotonic() - since
                    _say(f"[{_finished(progress)}/{len(graph)}] {name}: {outcome}, {seconds:.0f} s")
            if running and time.monotonic() - looked >= LOOK_S[sys.stdout.isatty()]:
                looked, before = time.monotonic(), said
                said = f"[{_finished(progress)}/{len(graph)}] running: {', '.join(map(how_far, running))}"
                if said != before:
                    _say(said, lasting=False)
            time.sleep(POLL_S)
    return progress


def how_far(name: str) -> str:
    """Return a stage's name and, where its log says so, how much of its work is done: "train@... 18/60"."""
    path = log_of(name)
    with path.open("rb") if path.exists() else io.BytesIO() as log:
        log.seek(max(0, log.seek(0, os.SEEK_END) - TAIL))
        found = re.findall(rb": (\d+/\d+)\s*$", log.read(), re.MULTILINE)
    return f"{name} {found[-1].decode()}" if found else name


def _finished(progress: Progress) -> int:
    return len(progress.done) + len(progress.failed)


def _say(line: str, *, lasting: bool = True) -> None:
    """Print a line; on a terminal one that does not last is written over by the next."""
    if not sys.stdout.isatty():
        print(line, flush=True)
        return
    shown = line if lasting else line[: shutil.get_terminal_size().columns - 1]
    print(f"\r\033[K{shown}", end="\n" if lasting else "", flush=True)


@contextmanager
def _none_left(running: Running) -> Iterator[None]:
    """Stop what still runs when the block ends, whatever ends it, and wait for it."""
    try:
        yield
    finally:
        _stop(running)


def _stop(running: Running) -> None:
    alive = [process for _, process, _ in running.values() if process.poll() is None]
    for process in alive:
        os.killpg(process.pid, signal.SIGINT)  # DVC and its stage, which saves its state
    try:
        for process in alive:
            process.wait()
    except KeyboardInterrupt:  # a second Ctrl-C: it stops a stage at once, and is passed on too
        _stop(running)
        raise


def check(progress: Progress) -> None:
    """Raise InputError where a stage failed, in one line."""
    if progress.failed:
        left_out = f"; {len(progress.left_out)} that depend on them were left out" if progress.left_out else ""
        raise InputError(f"failed: {', '.join(progress.failed)}{left_out}; see {LOGS}/")


def _repro(stage: str, *options: str) -> list[str]:
    return ["--wait-for-lock", "repro", "--single-item", *options, stage]


def start_stage(gpus: int, unsure: Container[str] = ()) -> Callable[[str, int], "subprocess.Popen[bytes]"]:
    """Return a function that starts one stage through DVC, its output in a log file; slots take turns on the GPUs.

    Those of `unsure` run only if what they read has changed, not for results that are missing.
    """

    def start(name: str, slot: int) -> "subprocess.Popen[bytes]":
        refuse_unsafe_names()  # params.yaml may have been edited since the plan was made
        device = {"GAPSCOPE_DEVICE": f"cuda:{slot % gpus}"} if gpus else {}
        options = ["--allow-missing"] if name in unsure else []
        path = log_of(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        _say(f"$ {shlex.join(['dvc', *_repro(name, *options)])}")
        with path.open("wb") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "dvc", *_repro(name, *options)],
                stdout=log,
                stderr=subprocess.STDOUT,
                env=os.environ | {"OMP_NUM_THREADS": "1"} | device,
                start_new_session=True,  # Ctrl-C comes from us, once
            )

    return start


def log_of(name: str) -> Path:
    """Return where a stage's output goes."""
    return LOGS / f"{name.replace(':', '.')}.log"
