"""An attempt at a job, on a worker without a shared file system.

Usage: python -m gapscope.engine.cluster.away OPTIONS JOB. OPTIONS are those of the DVC remote, and JOB is the job's
name there (`relay`). It makes a folder like the study's, with the controller's scripts and links to the contents that
the stage reads, and runs an attempt in it (`attempt`). Meanwhile a thread tells the log and the state, and listens.
"""

import json
import os
import platform
import shutil
import sys
import tarfile
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event, Thread
from typing import Any

from gapscope.engine.cluster import attempt
from gapscope.engine.cluster.jobs import Attempt, Job, Spec, spec_of
from gapscope.engine.cluster.relay import fetch_state
from gapscope.engine.cluster.remote import ContentError, Manifest, Remote, RemoteError
from gapscope.engine.cluster.same_code import Code
from gapscope.engine.cluster.workfolder import copy_state

LISTEN_S = 3.0
TELL_S = 9.0  # between two states
CLAIM_S = 1.0  # in which two attempts that begin at once have written their names


def main() -> int:
    """Run an attempt, and return the command's exit status."""
    parent, (options, job) = os.getppid(), sys.argv[1:]
    try:
        remote = Remote(json.loads(options))
        told = remote.told(f"{job}/spec")
        if told is None:
            print(f"{job} is not in {remote.options['url']}: its controller has ended", file=sys.stderr)
            return 1
        own, before = _claim(remote, job)
        if any(remote.told(f"{job}/{other}/done") for other in before):
            return 0
        return _run(_Away(remote, job, own, tuple(before)), told, parent)
    except RemoteError as error:
        print(f"{platform.node()}: {error}", file=sys.stderr)
        return 1


def _claim(remote: Remote, job: str) -> tuple[str, list[str]]:
    """Make up a name for this attempt and put it behind those of the earlier ones; return it, and them."""
    own, before = os.urandom(6).hex(), list[str]()
    while True:
        place = f"{job}/attempts/{len(before) + 1}"
        if told := remote.told(place):
            before.append(told["attempt"])
            continue
        remote.tell(place, attempt=own)
        time.sleep(CLAIM_S)
        if remote.told(place) == {"attempt": own}:
            return own, before


@dataclass(frozen=True)
class _Away:
    """An attempt, and where it tells what it does.

    Attributes:
        remote: where it meets its controller.
        job: name of the job in the remote.
        own: its own name.
        before: those of the attempts before it.
    """

    remote: Remote
    job: str
    own: str
    before: tuple[str, ...]

    @property
    def place(self) -> str:
        """The name in the remote under which it alone writes."""
        return f"{self.job}/{self.own}"

    def refuse(self, why: str) -> int:
        """Tell that it cannot run, and why."""
        with TemporaryDirectory() as folder:
            (log := Path(folder, "log")).write_text(f"gapscope: {why}\n")
            self.remote.put(log, f"{self.place}/log")
        return self.end(attempt.REFUSED, {})

    def end(self, status: int, outs: Manifest) -> int:
        """Tell how it ended, and which contents its outputs are."""
        self.remote.tell(f"{self.place}/done", status=status, host=platform.node(), outs=outs)
        return status

    def make_study(self, told: dict[str, Any], root: Path, kept: Path) -> None:
        """Make a folder like the study's, with the latest state.

        Args:
            told: by the controller, about the job.
            root: the folder to make.
            kept: folder of contents.
        """
        root.mkdir(parents=True)
        self.remote.fetch({"scripts.tar": told["scripts"]}, root, cache=kept)
        with tarfile.open(root / "scripts.tar") as scripts:
            scripts.extractall(root, filter="data")
        self.remote.fetch(told["inputs"], root, cache=kept)
        if not any(fetch_state(self.remote, f"{self.job}/{other}", root) for other in reversed(self.before)):
            self.remote.fetch(told["state"], root, below=f"{self.job}/files")


def _run(away: _Away, told: dict[str, Any], parent: int) -> int:
    if different := Code.imported().difference(Code(**told["spec"]["code"]), platform.node()):
        return away.refuse(different)
    top = Path(os.path.expandvars(told["folder"])).expanduser().resolve()
    folder = top / away.own
    spec = replace(spec_of(told["spec"]), root=str(folder / "study"), alive=str(folder / "alive"))
    try:
        try:
            away.make_study(told, folder / "study", top / "kept")
        except ContentError as error:
            return away.refuse(str(error))
        (folder / "alive").touch()
        job = Job.create(folder / "jobs", spec)
        with _Talk(away, job, spec) as talk:
            status = attempt.run(job, parent)
        talk.tell()
        if (newest := job.newest()) and newest.ended():
            away.end(status, away.remote.store(newest.work, spec.files.outs) if status == 0 else {})
        return status
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class _Talk:
    """Tells the remote of an attempt's log and state, and passes on to the attempt what the controller says.

    If the remote does not answer, the attempt's file `alive` stays as it is. So the attempt takes the controller for
    dead and ends, as it does with a shared file system.
    """

    def __init__(self, away: _Away, job: Job, spec: Spec) -> None:
        self._away, self._job, self._spec = away, job, spec
        self._ended, self._told = Event(), dict[str, Any]()
        self._thread = Thread(target=self._run, daemon=True)

    def __enter__(self) -> "_Talk":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        rounds = 0
        while not self._ended.wait(LISTEN_S):
            rounds += 1
            with suppress(RemoteError):
                self._listen()
                if rounds % round(TELL_S / LISTEN_S) == 0:
                    self.tell()

    def _listen(self) -> None:
        remote, job = self._away.remote, self._away.job
        if alive := remote.told(f"{job.rpartition('/')[0]}/alive"):
            Path(self._spec.alive).write_text(str(alive["beats"]))
        control = remote.told(f"{job}/control")
        if control is None or control["stop"] or self._away.own in control["attempts"][:-1]:
            self._job.stop()

    def tell(self) -> None:
        """Tell the log and the state, if they have changed."""
        if (newest := self._job.newest()) is None:
            return
        if newest.log.exists() and self._told.get("log") != (size := newest.log.stat().st_size):
            self._away.remote.put(newest.log, f"{self._away.place}/log")
            self._told["log"] = size
        if newest.ready.exists():
            self._tell_state(newest)

    def _tell_state(self, newest: Attempt) -> None:
        files, remote, place = self._spec.files, self._away.remote, self._away.place
        with TemporaryDirectory(dir=newest.folder) as copy:  # the stage may write on
            copy_state(newest.work, Path(copy), files)
            state = remote.store(Path(copy), files.state, below=f"{place}/files")
        if self._told.get("state") != state:
            remote.tell(f"{place}/state", files=state)
            self._told["state"] = state


if __name__ == "__main__":
    sys.exit(main())
