"""Running a programme on a bare machine: several stages at once, an end in time, and a pack of what there is.

All stages share this folder's data/, metrics/ and provenance/. Each part of a study has its own params.yaml, in a
folder whose other entries are links.
"""

import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Timer
from typing import Any

from gapscope.engine import runner
from gapscope.engine.half_hour.marks import check_name, digest, done, mark_of, marked
from gapscope.engine.half_hour.pack import Limits, write_pack
from gapscope.engine.half_hour.programme import PLACE, Programme
from gapscope.engine.half_hour.stage import Job
from gapscope.errors import InputError, StoppedError
from gapscope.records.files import write_text
from gapscope.records.tables import read_record

MPS = "nvidia-cuda-mps-control"
Start = Callable[[str, int], "subprocess.Popen[bytes]"]


def execute(
    programme: Programme, out: Path, *, seconds: float, packing_s: float, jobs: int, limits: Limits
) -> dict[str, Any]:
    """Run what is not done yet until the time is up or a signal comes; pack, and return the pack's manifest.

    Args:
        programme: what to run.
        out: folder of the pack.
        seconds: until this function has returned.
        packing_s: the part of them in which stages save their state and the pack is written. Stages that have not
            ended after half of it are killed.
        jobs: stages at once.
        limits: of the pack.

    Raises:
        InputError: no time is left for stages, or a file that the programme reads is missing.
    """
    if seconds <= packing_s:
        raise InputError(f"{seconds:.0f} s are too short: stopping and packing take {packing_s:.0f} of them")
    needed = [file for file in programme.files if not file.startswith("data/checkpoints/")]  # a finished run has none
    if missing := [file for file in needed if not Path(file).exists()]:
        raise InputError(f"missing files: {', '.join(missing)}; take them along, or prepare again where they lie")
    start = time.monotonic()
    started: list[subprocess.Popen[bytes]] = []
    try:
        with _ends(seconds - packing_s, packing_s / 2, started), multi_process_service() as environment:
            _run(programme, jobs, environment, started)
    except (StoppedError, KeyboardInterrupt):
        print("stopped: packing", flush=True)
    manifest = write_pack(_worth(programme), out, _facts(programme), limits)
    packed = sum(part["bytes"] for part in manifest["parts"])
    print(f"{len(manifest['stages'])} of {len(programme.stages)} stages are done; {len(manifest['parts']) + 1} files "
          f"with {packed / 1e6:.1f} MB in {out}, {len(manifest['left_out'])} files left out, "
          f"{time.monotonic() - start:.0f} s in all", flush=True)  # fmt: skip
    return manifest


def _run(
    programme: Programme, jobs: int, environment: dict[str, str], started: "list[subprocess.Popen[bytes]]"
) -> None:
    """Run the checks one by one, whether they pass or not, and then the stages."""
    checks = {check_name(command): command for command in programme.checks}
    jobs_of = {name: (Path(), Job(name, programme.commit, command, (), ())) for name, command in checks.items()}
    ready = done(programme)
    folders = [_folder(index, item.params) for index, item in enumerate(programme.items)]
    for stage in programme.stages:
        job = Job(stage.addressing, programme.commit, stage.command, stage.outs, stage.scratch)
        jobs_of[stage.addressing] = (folders[stage.item], job)
    start = _starts(jobs_of, environment, started)
    runner.run({name: set() for name in checks if not _checked(name, programme.commit)}, start, 1)
    todo = [stage for stage in programme.stages if stage.addressing not in ready]
    runner.run({stage.addressing: set(stage.after) - ready for stage in todo}, start, jobs)


def _checked(name: str, commit: str) -> bool:
    return mark_of(name).exists() and read_record(mark_of(name))["commit"] == commit


def _folder(index: int, params: str) -> Path:
    """Make the folder that an item's stages run in."""
    folder = PLACE / "folders" / str(index)
    folder.mkdir(parents=True, exist_ok=True)
    for shared in ("metrics", "provenance"):
        Path(shared).mkdir(exist_ok=True)
    for path in Path().iterdir():
        link = folder / path.name
        if path.name != "params.yaml" and not path.name.startswith(".") and not link.is_symlink():
            link.symlink_to(path.resolve(), target_is_directory=path.is_dir())
    write_text(folder / "params.yaml", params)
    return folder


def _starts(
    jobs: dict[str, tuple[Path, Job]], environment: dict[str, str], started: "list[subprocess.Popen[bytes]]"
) -> Start:
    """Return the function that starts a stage for `runner.run`; if this process is killed, so are the stages."""
    lives, _ = os.pipe()
    paths = [str(Path("src").resolve()), *filter(None, [os.environ.get("PYTHONPATH")])]
    common = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(paths)} | environment

    def start(name: str, _: int) -> "subprocess.Popen[bytes]":
        folder, job = jobs[name]
        log = runner.log_of(name)
        log.parent.mkdir(parents=True, exist_ok=True)
        command = [*runner.WATCHDOG, sys.executable, "-m", "gapscope.engine.half_hour.stage", job.text()]
        print(f"$ {shlex.join(shlex.split(job.command))}", flush=True)
        with log.open("wb") as file:
            process = subprocess.Popen(
                command, cwd=folder, stdin=lives, stdout=file, stderr=subprocess.STDOUT,
                env=common | {"GAPSCOPE_COMMIT": job.commit}, start_new_session=True,
            )  # fmt: skip
        started.append(process)
        return process

    return start


@contextmanager
def _ends(seconds: float, grace_s: float, started: "list[subprocess.Popen[bytes]]") -> Iterator[None]:
    """Interrupt the block after a time, as Ctrl-C does, and kill the stages that still run after the grace."""

    def kill() -> None:
        for process in started:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)

    timers = [Timer(seconds, os.kill, (os.getpid(), signal.SIGINT)), Timer(seconds + grace_s, kill)]
    for timer in timers:
        timer.daemon = True
        timer.start()
    try:
        yield
    finally:
        for timer in timers:
            timer.cancel()


@contextmanager
def multi_process_service() -> Iterator[dict[str, str]]:
    """Start NVIDIA's multi-process service where it is installed, and yield the environment that uses it."""
    if shutil.which(MPS) is None or os.environ.get("GAPSCOPE_DEVICE") == "cpu":
        yield {}
        return
    folder = (PLACE / "mps").resolve()
    folder.mkdir(parents=True, exist_ok=True)
    environment = {"CUDA_MPS_PIPE_DIRECTORY": str(folder), "CUDA_MPS_LOG_DIRECTORY": str(folder)}
    begun = subprocess.run([MPS, "-d"], env=os.environ | environment, capture_output=True, check=False)
    if begun.returncode:
        print(f"{MPS} does not start ({begun.stderr.decode().strip()}): without it", flush=True)
        yield {}
        return
    try:
        yield environment
    finally:
        subprocess.run([MPS], input=b"quit\n", env=os.environ | environment, capture_output=True, check=False)


def _worth(programme: Programme) -> list[Path]:
    """Return the files to pack, the most valuable first: records, logs, weights, checkpoints."""
    finished = marked(programme)
    outs = [Path(out) for stage in programme.stages if stage.addressing in finished for out in stage.outs]
    there = [out for out in outs if out.is_file()]  # activations are folders, and too large
    records = [out for out in there if out.parts[0] != "data"]
    checks = [check_name(command) for command in programme.checks]
    logs = [path for path in map(runner.log_of, checks) if path.exists()]
    copies = [_copied(path) for path in logs]
    marks = [mark_of(name) for name in checks if _checked(name, programme.commit)]
    studies = dict.fromkeys(item.study for item in programme.items)
    checkpoints = [
        path for study in studies for path in sorted(Path("data/checkpoints", study).rglob("*")) if path.is_file()
    ]
    weights = sorted((out for out in there if out.parts[0] == "data"), key=lambda out: out.stat().st_size)
    return [*records, *copies, *marks, *weights, *checkpoints]


def _copied(log: Path) -> Path:
    place = PLACE / "logs" / log.name
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(log, place)
    return place


def _facts(programme: Programme) -> dict[str, Any]:
    items = [{"study": item.study, "overrides": list(item.overrides), "params": item.params}
             for item in programme.items]  # fmt: skip
    where = {stage.addressing: stage.item for stage in programme.stages}
    stages = {name: {**mark, "item": where[name]} for name, mark in marked(programme).items()}
    data = {file: digest(Path(file)) for file in programme.files if file.startswith("data/datasets/")}
    return {"commit": programme.commit, "items": items, "stages": stages, "data": data}
