"""A job: one stage's command, in a folder that controller and workers share. It is attempted until an attempt ends.

    STAGE.N/spec.json    what to run
    STAGE.N/stop         made by the controller: end, and keep the state
    STAGE.N/launch.log   what was said before an attempt began
    STAGE.N/1, 2, ...    the attempts, numbered by their start; each number is taken once, by making its folder
        work/            the folder in which the command runs (`workfolder`)
        ready            made when `work` is complete
        log              the command's output
        done.json        how it ended, made at the end

The newest attempt counts, and no other. One that begins after another has ended withdraws at once.
"""

import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from typing import Any

from gapscope.engine.cluster.same_code import Code
from gapscope.engine.cluster.workfolder import StageFiles


@dataclass(frozen=True)
class Spec:
    """What to run.

    Attributes:
        stage: its name.
        command: for a shell.
        root: the study's folder, absolute.
        alive: file of the controller's heartbeat.
        environment: variables to set.
        files: that the stage reads and writes.
        code: the controller's.
    """

    stage: str
    command: str
    root: str
    alive: str
    environment: dict[str, str]
    files: StageFiles
    code: Code


@dataclass(frozen=True)
class Attempt:
    """One attempt at a job."""

    folder: Path

    @property
    def work(self) -> Path:
        """The folder in which the command runs."""
        return self.folder / "work"

    @property
    def ready(self) -> Path:
        """The file that says that `work` is complete."""
        return self.folder / "ready"

    @property
    def log(self) -> Path:
        """The command's output."""
        return self.folder / "log"

    def end(self, status: int, host: str) -> None:
        """Say how it ended: the command's exit status, and on which machine."""
        new = self.folder / "done.new"
        new.write_text(json.dumps({"status": status, "host": host}))
        new.rename(self.folder / "done.json")

    def ended(self) -> dict[str, Any] | None:
        """Return what `end` said; None before."""
        with suppress(FileNotFoundError):  # withdrawn
            if "done.json" in os.listdir(self.folder):  # on NFS a listing is fresher than a name looked up before
                found: dict[str, Any] = json.loads((self.folder / "done.json").read_text())
                return found
        return None


@dataclass(frozen=True)
class Job:
    """A job's folder."""

    folder: Path

    @classmethod
    def create(cls, jobs: Path, spec: Spec) -> "Job":
        """Make a job's folder within `jobs`."""
        for number in count(1):
            folder = jobs / f"{spec.stage.replace(':', '.')}.{number}"
            if not folder.exists():
                break
        folder.mkdir(parents=True)
        (folder / "spec.json").write_text(json.dumps(asdict(spec)))
        return cls(folder)

    def spec(self) -> Spec:
        """Return what to run.

        Raises:
            FileNotFoundError: the job has been removed.
        """
        return spec_of(json.loads((self.folder / "spec.json").read_text()))

    def attempts(self) -> list[Attempt]:
        """Return the attempts, the newest last."""
        numbers = sorted(int(name) for name in os.listdir(self.folder) if name.isdecimal())
        return [Attempt(self.folder / str(number)) for number in numbers]

    def newest(self) -> Attempt | None:
        """Return the attempt that counts; None before the first."""
        return next(reversed(self.attempts()), None)

    def latest_work(self) -> Path | None:
        """Return the folder of the newest attempt whose folder was complete: it has the latest state."""
        return next((each.work for each in reversed(self.attempts()) if each.ready.exists()), None)

    def begin(self) -> Attempt:
        """Make the folder of a new attempt."""
        for number in count(len(self.attempts()) + 1):
            try:
                (self.folder / str(number)).mkdir()
            except FileExistsError:
                continue
            return Attempt(self.folder / str(number))
        raise AssertionError  # count is endless

    @property
    def launch_log(self) -> Path:
        """What was said before an attempt began."""
        return self.folder / "launch.log"

    def stop(self) -> None:
        """Ask the attempts to end and to keep their state."""
        (self.folder / "stop").touch()


def spec_of(found: dict[str, Any]) -> Spec:
    """Return what `asdict` and JSON have made a dictionary of."""
    files = StageFiles(**{name: tuple(paths) for name, paths in found["files"].items()})
    return Spec(**{**found, "files": files, "code": Code(**found["code"])})


def job_name(job: Job) -> str:
    """Return the name under which a scheduler knows a job: that of the study, the run and the job's folder."""
    folder = job.folder.resolve()
    return ".".join(("gapscope", folder.parents[2].name, folder.parents[1].name, folder.name))
