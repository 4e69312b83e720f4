"""A run of a study on a cluster, from its start to its end, and what a run that was killed has left.

A run has a folder, `data/cluster/STUDY/HOST-PID`, with its heartbeat and its jobs. A file `stop` in it stops the run:
`gapscope cancel` makes it, on any machine that sees the folder.
"""

import os
import platform
import shutil
import signal
import time
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from gapscope.config import Params
from gapscope.engine.cluster import sbatch
from gapscope.engine.cluster.dask_launcher import DaskLauncher
from gapscope.engine.cluster.heartbeat import Heart, beats
from gapscope.engine.cluster.jobs import Job
from gapscope.engine.cluster.launcher import Launcher
from gapscope.engine.cluster.relay import Relay, end_of_killed
from gapscope.engine.cluster.remote import RemoteError, remote_of
from gapscope.engine.cluster.settings import ClusterSettings
from gapscope.engine.cluster.workfolder import CLUSTER, StageFiles, copy_state
from gapscope.errors import InputError
from gapscope.records.provenance import Start

if TYPE_CHECKING:
    from gapscope.engine.cluster.controller import Controller

ENDING_S = 90.0  # in which a run that was asked to end does so


def announce(settings: ClusterSettings, params: Params, stages: Collection[str], jobs: int, *, sure: bool) -> None:
    """Say how many jobs will be submitted, and refuse what could not run.

    Args:
        settings: of the cluster.
        params: of the study.
        stages: that are to run.
        jobs: at once, at most.
        sure: whether any number is all right.

    Raises:
        InputError: more jobs than the cluster's file allows without being sure, or a stage that fits nowhere.
    """
    if jobs < 1:
        raise InputError(f"-j must be at least 1, got {jobs}")
    there = [stage for stage in stages if not settings.runs_here(stage)]
    needs = Counter(settings.needs(stage, params) for stage in there)
    if settings.launcher == "sbatch":
        submitted, what = len(there), f"submits {len(there)} jobs, {min(jobs, len(there))} of them at once"
    else:
        submitted = workers(jobs, there)
        what = f"starts {submitted} workers for {len(there)} stages"
        if settings.launcher in ("address", "ssh"):
            submitted, what = 0, f"hands {len(there)} stages to the workers"
    for each, count in sorted(needs.items(), key=lambda pair: -pair[1]):
        what += f"; {count} of {each.threads} threads, {each.memory_gb:g} GB, {each.gpus:g} GPUs"
    print(f"cluster: {what}", flush=True)
    if submitted > settings.confirm_above and not sure:
        raise InputError(f"{submitted} jobs are more than confirm_above: {settings.confirm_above}; add --yes if meant")


def workers(jobs: int, stages: Collection[str]) -> int:
    """Return how many Dask workers to start."""
    return max(1, min(jobs, len(stages)))


@contextmanager
def running(settings: ClusterSettings, params: Params, stages: Collection[str], jobs: int) -> Iterator[dict[str, str]]:
    """Yield the variables with which DVC runs its stages on the cluster; at the end, nothing runs there any longer.

    Args:
        settings: of the cluster.
        params: of the study.
        stages: that are to run.
        jobs: at once, at most.

    Raises:
        InputError: the cluster cannot be reached, or a package is missing.
    """
    from gapscope.engine.cluster.controller import Controller  # its sockets are not on Windows

    run = CLUSTER / params.study / f"{platform.node()}-{os.getpid()}"
    launcher: Launcher = (
        sbatch.Sbatch(settings.options, shared=settings.remote is None)
        if settings.launcher == "sbatch"
        else DaskLauncher(settings, workers(jobs, stages), run / "dask")
    )
    shutil.rmtree(run, ignore_errors=True)
    run.mkdir(parents=True)
    needs = {stage: settings.needs(stage, params) for stage in stages}
    files, commit = stage_files(stages), Start.of("check").commit
    try:
        with (
            launcher,
            _relay(settings, run) as relay,
            Controller(launcher, settings, files=files, needs=needs, run=run, commit=commit, relay=relay) as controller,
            Heart(run / "alive", lambda: _beat(run, controller, relay)),
        ):
            print(launcher.greeting(), flush=True)
            yield {"SHELL": str(controller.shell)}
    finally:
        shutil.rmtree(run, ignore_errors=True)


@contextmanager
def _relay(settings: ClusterSettings, run: Path) -> Iterator[Relay | None]:
    with ExitStack() as stack:
        try:
            place = settings.remote
            yield stack.enter_context(Relay(remote_of(place.name), place.folder, run)) if place else None
        except RemoteError as error:
            raise InputError(str(error)) from error


def _beat(run: Path, controller: "Controller", relay: Relay | None) -> None:
    if relay:
        relay.beat()
    if (run / "stop").exists() and not controller.stopping.is_set():
        controller.stopping.set()
        os.kill(os.getpid(), signal.SIGINT)


def stage_files(stages: Collection[str]) -> dict[str, StageFiles]:
    """Return what stages read and write, as dvc.yaml declares it."""
    from dvc.repo import Repo

    def paths(entries: list[object]) -> tuple[str, ...]:
        return tuple(os.path.relpath(entry.fs_path, repo.root_dir) for entry in entries)  # type: ignore[attr-defined]

    with Repo() as repo:
        wanted = [stage for stage in repo.index.stages if stage.addressing in set(stages)]
        return {stage.addressing: StageFiles(paths(stage.deps), paths(stage.outs)) for stage in wanted}


def bring_back(study: str = "*") -> None:
    """Take over the state that killed runs left with their jobs, and remove their folders.

    Attempts that still run end when their folder is gone. They could not change anything else.

    Args:
        study: its name; by default every study.

    Raises:
        InputError: a run is under way.
    """
    for run in _runs(study):
        name = run.parent.name
        if beats(run / "alive"):
            raise InputError(f"study {name} runs on a cluster, from {run.name}; `gapscope cancel {name}` ends that")
        try:
            end_of_killed(run)
        except RemoteError as error:
            raise InputError(
                f"an earlier run of {name} was killed, and its jobs' state cannot be had: {error}"
            ) from error
        for folder in sorted((run / "jobs").glob("*/")):
            job = Job(folder)
            if latest := job.latest_work():
                copy_state(latest, Path.cwd(), job.spec().files)
            if (folder / "sbatch.log").exists() and shutil.which("scancel"):
                sbatch.cancel(job)
        print(f"an earlier run of {name} was killed ({run.name}): its jobs' state was taken over", flush=True)
        shutil.rmtree(run, ignore_errors=True)


def cancel(study: str) -> str:
    """End what runs of a study on a cluster, and return what was done, in one line.

    Raises:
        InputError: no run of it, or it does not end.
    """
    runs = _runs(study)
    if not runs:
        raise InputError(f"no run of study {study} on a cluster; one on this machine ends with Ctrl-C")
    for run in runs:
        (run / "stop").touch()
        if not beats(run / "alive"):
            bring_back(study)
            continue
        end = time.monotonic() + ENDING_S
        while run.exists():
            if time.monotonic() > end:
                raise InputError(f"{run.name} has not ended within {ENDING_S:.0f} s; end the process of that number")
            time.sleep(0.5)
    return f"study {study}: nothing runs on a cluster any longer; the next `gapscope run {study}` goes on"


def _runs(study: str) -> list[Path]:
    return sorted(CLUSTER.glob(f"{study}/*/"))
