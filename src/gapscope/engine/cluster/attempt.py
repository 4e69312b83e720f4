"""An attempt at a job, on the worker.

Usage: python -m gapscope.engine.cluster.attempt JOB. It runs the command in a folder of its own. It ends the command,
with time to save its state, if the job is stopped or removed, if the controller's heart stops, if a newer attempt has
begun, if the process that started it has ended (a Dask worker), or on SIGTERM (SLURM at the end of the time limit, or
for a job that is more important).
"""

import os
import platform
import signal
import subprocess
import sys
from pathlib import Path

from gapscope.engine.cluster.heartbeat import Pulse
from gapscope.engine.cluster.jobs import Attempt, Job, Spec
from gapscope.engine.cluster.same_code import Code
from gapscope.engine.cluster.workfolder import copy_state, make

LOOK_S = 1.0
SAVING_S = 25  # after it, a command that was asked to end is killed
REFUSED = 2  # as a stage's exit status for wrong input


def main() -> int:
    """Run an attempt at the job that the command line names."""
    return run(Job(Path(sys.argv[1])), os.getppid())


def run(job: Job, parent: int) -> int:
    """Run an attempt, and return the command's exit status.

    Args:
        job: at which it is.
        parent: the process that started this one.
    """
    host, terminated = platform.node(), list[int]()
    signal.signal(signal.SIGTERM, lambda number, _: terminated.append(number))
    try:
        spec = job.spec()
    except FileNotFoundError:
        print(f"{job.folder} has been removed: its controller has ended")
        return 1
    attempt, pulse = job.begin(), Pulse(Path(spec.alive))
    if any(each.ended() for each in job.attempts()):  # SLURM has started the job once more than needed
        attempt.folder.rmdir()
        return 0
    with attempt.log.open("wb", buffering=0) as log:
        log.write(f"attempt {attempt.folder.name} on {host}\n".encode())
        if different := Code.imported().difference(spec.code, host):
            log.write(f"gapscope: {different}\n".encode())
            attempt.end(REFUSED, host)
            return REFUSED
        _prepare(job, attempt, spec)
        process = subprocess.Popen(
            ["/bin/sh", "-c", spec.command], cwd=attempt.work, env=_environment(spec, attempt),
            stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        while process.poll() is None:
            try:
                process.wait(LOOK_S)
            except subprocess.TimeoutExpired:
                if terminated or _given_up(job, attempt, pulse, parent):
                    _end(process)
    status = process.returncode if process.returncode >= 0 else 128 - process.returncode
    if terminated and status:  # the scheduler, or the controller, starts it again
        return 128 + signal.SIGTERM
    if attempt.folder.exists():
        attempt.end(status, host)
    return status


def _prepare(job: Job, attempt: Attempt, spec: Spec) -> None:
    root, latest = Path(spec.root), job.latest_work()
    make(root, attempt.work, spec.files)
    copy_state(latest or root, attempt.work, spec.files)
    attempt.ready.touch()


def _environment(spec: Spec, attempt: Attempt) -> dict[str, str]:
    """Return the variables of the command: `python` is this one, and git looks for no repository above the folder."""
    own = os.environ | spec.environment
    path = os.pathsep.join([str(Path(sys.executable).parent), own.get("PATH", os.defpath)])
    return own | {"PATH": path, "GIT_CEILING_DIRECTORIES": str(attempt.folder.resolve())}


def _given_up(job: Job, attempt: Attempt, pulse: Pulse, parent: int) -> bool:
    try:
        newest = job.newest()
        return (job.folder / "stop").exists() or newest != attempt or pulse.lost() or os.getppid() != parent
    except OSError:  # the job has been removed
        return True


def _end(process: "subprocess.Popen[bytes]") -> None:
    os.killpg(process.pid, signal.SIGINT)  # on which training saves its state
    try:
        process.wait(SAVING_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


if __name__ == "__main__":
    sys.exit(main())
