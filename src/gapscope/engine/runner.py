"""Several cells of a study at once on one machine: each stage is a process of one thread, or one process per GPU.

Two runs of one thread each, side by side, are faster than one run of two threads. DVC still decides what has changed
and writes its lock file: each stage is a `dvc --wait-for-lock repro --single-item`, which starts when the stages that
it depends on are done.
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
from types import MappingProxyType
from typing import Any

from gapscope import lock_copy
from gapscope.config import PARAMS, read_yaml
from gapscope.engine import watchdog
from gapscope.engine.time_left import TimeLeft
from gapscope.errors import InputError, StoppedError
from gapscope.names import check_names
from gapscope.runtime import stop_requests

LOGS = Path("data/logs")
SAVING_S = 60  # after it, a stage whose runner was killed is killed as well
WATCHDOG = (sys.executable, "-I", "-S", watchdog.__file__, str(SAVING_S))
POLL_S = 0.2
LOOK_S = {True: 1, False: 60}  # seconds between progress lines: on a terminal, and in a file
TAIL = 4096  # bytes at the end of a log that are searched for progress, or for the cause of a failure
# lines in which DVC says that a stage failed, not why, and what it says beside that
NO_CAUSE = re.compile(
    r"ERROR: failed to reproduce .* exited with -?\d+$|Running stage |> |Updating lock file|See <|hint: "
    r"|Having any troubles"
)

Graph = Mapping[str, set[str]]  # stage -> the stages that it depends on
Running = dict[str, tuple[int, "subprocess.Popen[bytes]", float]]  # stage -> its slot, process and start


@dataclass
class Progress:
    """Which stages of a graph have ended, and how; a stage that is running or waiting is in none of the lists."""

    done: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)  # depend on a stage that failed


def changed() -> tuple[Graph, set[str]]:
    """Return the part of the pipeline that is out of date, or may be once the stages before it have run.

    As for `dvc repro --allow-missing`, a result is up to date if its records are in git, even if its large files are
    missing; these are made again if another stage reads them. This function runs the stage `check` itself, since all
    other stages wait for it. It refuses unsafe names even before that, because DVC starts single stages without their
    dependencies.

    Returns:
        That part of the graph, and those of its stages that run only if the outputs of others have changed.

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
        cause = f" ({error.__cause__})" if error.__cause__ else ""
        raise InputError(f"DVC cannot read the pipeline: {error}{cause}") from error
    todo = {stage.addressing for stage in run}
    unsure = set[str]()
    while more := {name for name, others in depends.items() if name not in todo and others & todo}:
        todo |= more
        unsure |= more
    return {name: depends[name] & todo for name in depends if name in todo}, unsure


def refuse_unsafe_names() -> None:
    """Raise InputError if params.yaml has a name that is unsafe in DVC's commands."""
    if PARAMS.exists():
        check_names(read_yaml(PARAMS))


def _is_changed(stage: Any, upstream: Sequence[Any]) -> bool:
    records = [out for out in stage.outs if not out.use_cache]  # kept in git, not in DVC's cache: only a run makes them
    return stage.changed(allow_missing=True, upstream=upstream) or not all(out.exists for out in records)


def _gives(other: Any, stage: Any) -> bool:
    """Whether a stage reads a missing output of another stage."""
    read = {dep.fs_path for dep in stage.deps}
    return any(out.fs_path in read and not out.exists for out in other.outs)


def run(
    graph: Graph, start: Callable[[str, int], "subprocess.Popen[bytes]"], jobs: int, left: TimeLeft | None = None
) -> Progress:
    """Run the stages of a graph, up to `jobs` at once; a failure stops only the stages that depend on it.

    However it ends, it leaves no process behind: running ones are sent SIGINT and waited for.

    Args:
        graph: stage -> the stages that it depends on, all of them keys of the graph too.
        start: (stage, slot in 0..jobs-1) -> its process.
        jobs: number of processes, at least 1.
        left: what estimates the time that is left; without it, only ended stages do.

    Raises:
        InputError: fewer than one job.
        StoppedError: SIGINT or SIGTERM came.
    """
    if jobs < 1:
        raise InputError(f"-j must be at least 1, got {jobs}")
    progress, waiting, line, looked = Progress(), dict(graph), "", time.monotonic()
    running: Running = {}
    left = left or TimeLeft({})
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
                    outcome = "done" if process.returncode == 0 else f"FAILED: {cause(name)}"
                    seconds = time.monotonic() - since
                    if process.returncode == 0:
                        left.note(name, seconds)
                    _say(f"[{_finished(progress)}/{len(graph)}] {name}: {outcome}, {seconds:.0f} s")
            if running and time.monotonic() - looked >= LOOK_S[sys.stdout.isatty()]:
                looked, before = time.monotonic(), line
                line = f"[{_finished(progress)}/{len(graph)}] running: {', '.join(map(how_far, running))}"
                if line != before:
                    spent = {name: looked - since for name, (_, _, since) in running.items()}
                    _say(f"{line}; {left.words(waiting, spent, jobs)} left", lasting=False)
            time.sleep(POLL_S)
    return progress


def how_far(name: str) -> str:
    """Return a stage's name, with the progress that its log shows, if any: "train@... 18/60"."""
    counts = re.findall(r": (\d+/\d+)(?:,.*)?\s*$", _end_of_log(name), re.MULTILINE)
    return f"{name} {counts[-1]}" if counts else name


def cause(name: str) -> str:
    """Return why a stage failed: the last line of its log that says so."""
    lines = [line.strip() for line in re.split("[\r\n]", _end_of_log(name)) if line.strip()]
    telling = [line for line in lines if not NO_CAUSE.match(line)]
    return (telling or lines or ["it left no message"])[-1]


def _end_of_log(name: str) -> str:
    path = log_of(name)
    with path.open("rb") if path.exists() else io.BytesIO() as log:
        log.seek(max(0, log.seek(0, os.SEEK_END) - TAIL))
        return log.read().decode("utf-8", errors="replace")


def _finished(progress: Progress) -> int:
    return len(progress.done) + len(progress.failed)


def _say(line: str, *, lasting: bool = True) -> None:
    """Print a line; on a terminal the next line overwrites one that is not lasting."""
    if not sys.stdout.isatty():
        print(line, flush=True)
        return
    shown = line if lasting else line[: shutil.get_terminal_size().columns - 1]
    print(f"\r\033[K{shown}", end="\n" if lasting else "", flush=True)


@contextmanager
def _none_left(running: Running) -> Iterator[None]:
    """When the block ends, for whatever reason, stop the running processes and wait for them."""
    try:
        yield
    finally:
        _stop(running)


def _stop(running: Running) -> None:
    alive = [process for _, process, _ in running.values() if process.poll() is None]
    for process in alive:
        os.killpg(process.pid, signal.SIGINT)  # to DVC and its stage, which saves its state
    try:
        for process in alive:
            process.wait()
    except KeyboardInterrupt:  # a second Ctrl-C stops a stage at once: pass it on
        _stop(running)
        raise


def check(progress: Progress) -> None:
    """Raise InputError if a stage failed, in one line with the cause of each."""
    if progress.failed:
        left_out = f"; {len(progress.left_out)} that depend on them were left out" if progress.left_out else ""
        causes = "; ".join(f"{name}: {cause(name)}" for name in progress.failed)
        raise InputError(f"failed: {causes}{left_out}; the logs are in {LOGS}/")


def _repro(stage: str, *options: str) -> list[str]:
    return ["--wait-for-lock", "repro", "--single-item", *options, stage]


def start_stage(
    gpus: int, unsure: Container[str] = (), environment: Mapping[str, str] = MappingProxyType({})
) -> Callable[[str, int], "subprocess.Popen[bytes]"]:
    """Return a function that starts one stage through DVC and writes its output to a log file.

    If this process is killed, the stage is ended too (`watchdog`).

    Args:
        gpus: number of GPUs; slots are dealt out over them. 0: the processor.
        unsure: stages that run only if their dependencies have changed, and not because of missing outputs.
        environment: further variables for DVC and its stages.
    """
    runner_lives, _ = os.pipe()  # no other process gets the end that is never written to

    def start(name: str, slot: int) -> "subprocess.Popen[bytes]":
        refuse_unsafe_names()  # params.yaml may have been edited since `changed` read it
        lock_copy.copy_whole()  # with the entry of the stage that made room for this one
        device = {"GAPSCOPE_DEVICE": f"cuda:{slot % gpus}"} if gpus else {}
        options = ["--allow-missing"] if name in unsure else []
        path = log_of(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        _say(f"$ {shlex.join(['dvc', *_repro(name, *options)])}")
        with path.open("wb") as log:
            return subprocess.Popen(
                [*WATCHDOG, sys.executable, "-m", "dvc", *_repro(name, *options)],
                stdin=runner_lives,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=os.environ | {"OMP_NUM_THREADS": "1"} | device | dict(environment),
                start_new_session=True,  # so that Ctrl-C reaches it only through us
            )

    return start


def log_of(name: str) -> Path:
    """Return the log file of a stage."""
    return LOGS / f"{name.replace(':', '.')}.log"
