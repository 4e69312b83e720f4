"""The launcher without Dask: one SLURM job per stage, `sbatch --wait --requeue`. It opens no port.

SLURM itself starts a job again whose machine is lost. `srun` is not used: it does not return when its machine dies.
"""

import shlex
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gapscope.engine.cluster.jobs import Job, job_name
from gapscope.engine.cluster.launcher import Ending
from gapscope.engine.cluster.settings import Resources
from gapscope.errors import InputError, reason

WARNING_S = 60  # between SIGTERM and the end of the time limit


def cancel(job: Job) -> None:
    """End a job, if SLURM knows it."""
    subprocess.run(["scancel", f"--name={job_name(job)}"], capture_output=True, check=False)


class Sbatch:
    """Starts each job with `sbatch`.

    Args:
        options: of sbatch, without dashes: {partition: gpu, time: "08:00:00"}; an option without a value is true.
        shared: whether the jobs see the study's folder, for their logs.
    """

    def __init__(self, options: Mapping[str, Any], *, shared: bool = True) -> None:
        self._shared = shared
        self._options = ["--chdir=/"] if not shared else []
        self._options += [f"--{name}" if value is True else f"--{name}={value}" for name, value in options.items()]
        self._waiting: list[subprocess.Popen[bytes]] = []  # each `sbatch --wait`, which ends seconds after its job

    def __enter__(self) -> "Sbatch":
        if missing := [name for name in ("sbatch", "scancel") if shutil.which(name) is None]:
            raise InputError(f"{missing[0]} is not installed here; start gapscope on a machine that submits SLURM jobs")
        asked = subprocess.run(["sinfo", "--noheader"], capture_output=True, text=True, check=False)
        if asked.returncode:
            raise InputError(f"SLURM does not answer: {reason(RuntimeError(asked.stderr))}")
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._waiting:
            process.terminate()
            process.wait()

    def greeting(self) -> str:
        """Return how to see the jobs."""
        return "`squeue --me` shows the jobs"

    def start(self, job: Job, command: list[str], resources: Resources) -> "SbatchJob":
        """Submit a job."""
        gpus = [f"--gres=gpu:{int(resources.gpus)}"] if resources.gpus else []
        log = str(job.folder / "slurm.log").replace("%", "%%") if self._shared else "/dev/null"
        arguments = [
            "sbatch", "--wait", "--requeue", "--quiet", f"--job-name={job_name(job)}", "--open-mode=append",
            f"--output={log}", f"--signal=B:TERM@{WARNING_S}",
            "--ntasks=1", f"--cpus-per-task={resources.threads}", f"--mem={round(1000 * resources.memory_gb)}M",
            *gpus, *self._options,
        ]  # fmt: skip
        with (job.folder / "sbatch.log").open("wb") as errors:
            process = subprocess.Popen(
                arguments, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=errors, start_new_session=True
            )
        self._waiting = [*(each for each in self._waiting if each.poll() is None), process]
        assert process.stdin is not None
        with process.stdin as script:
            script.write(f"#!/bin/sh\nexec {shlex.join(command)}\n".encode())
        return SbatchJob(job, process)


class SbatchJob:
    """A job in SLURM, and the `sbatch` that waits for it."""

    def __init__(self, job: Job, process: "subprocess.Popen[bytes]") -> None:
        self._job, self._process = job, process

    def ending(self) -> Ending | None:
        """Return how the job ended; None while it waits or runs."""
        if self._process.poll() is None:
            return None
        said, log = _last_line(self._job.folder / "sbatch.log"), _last_line(self._job.folder / "slurm.log")
        if "error" in said and not self._job.attempts():
            return Ending(said, again=False)  # SLURM did not take it
        return Ending(log or said or f"its sbatch ended with status {self._process.returncode}", again=True)

    def cancel(self) -> None:
        """End the job."""
        cancel(self._job)


def _last_line(path: Path) -> str:
    text = path.read_text(errors="replace") if path.exists() else ""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")
