"""The controller's side without a shared file system: the folder of a job, kept like what a worker tells of it.

Controller and workers meet in a DVC remote (`remote`), and each keeps a job's folder of its own (`jobs`). So the code
on both sides is that of a shared file system. In the remote:

    gapscope/RUN/alive                     the controller's heartbeat
    gapscope/RUN/STAGE.N/spec              what to run, which contents it reads, its state
    gapscope/RUN/STAGE.N/control           the attempts that the controller has seen, and whether to stop
    gapscope/RUN/STAGE.N/attempts/1, ...   their names: each attempt makes up one, and writes under it alone
    gapscope/RUN/STAGE.N/NAME/log, state, done

Outputs are contents under their MD5, and `done` lists them. So an attempt that was given up cannot change what another
one has made, however late it writes.
"""

import json
import os
import tarfile
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gapscope.engine.cluster.jobs import Attempt, Job
from gapscope.engine.cluster.remote import ContentError, Remote, RemoteError

LOOK_S = 2.0
PATIENCE_S = 60.0  # so long a remote may be away
TOP = "gapscope"
OPTIONS = "remote.json"  # in the folder of a run
RESULTS = {"data", "metrics", "plots", "provenance", "locks", "reports", "site", "docs", "tests", "verified"}
SCRIPTS = (".py", ".yaml")


class Relay:
    """Tells workers of this run's jobs. At the end of its block, nothing of the run is left in the remote.

    Args:
        remote: where they meet.
        folder: of the workers, for what they fetch and make.
        run: folder of this run.
    """

    def __init__(self, remote: Remote, folder: str, run: Path) -> None:
        self.remote, self.folder = remote, folder
        self.name = f"{TOP}/{run.parent.name}-{run.name}-{os.urandom(4).hex()}"
        (run / OPTIONS).write_text(json.dumps({"options": remote.options, "name": self.name}))
        self._beats, self.scripts = 0, ""

    def __enter__(self) -> "Relay":
        self.scripts = _store_scripts(self.remote)
        self.remote.tell(f"{self.name}/alive", beats=0)
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(RemoteError):
            self.remote.remove(self.name)

    def beat(self) -> None:
        """Say that the controller lives."""
        self._beats += 1
        with suppress(RemoteError):  # workers that hear nothing for long end
            self.remote.tell(f"{self.name}/alive", beats=self._beats)

    def command(self, job: Job) -> list[str]:
        """Return what a worker starts, after its Python."""
        return ["-m", "gapscope.engine.cluster.away", json.dumps(self.remote.options), f"{self.name}/{job.folder.name}"]

    def post(self, job: Job) -> "Posted":
        """Give a job to the workers."""
        spec, name = job.spec(), f"{self.name}/{job.folder.name}"
        root = Path(spec.root)
        self.remote.tell(
            f"{name}/spec", spec=asdict(spec), folder=self.folder, scripts=self.scripts,
            inputs=self.remote.store(root, spec.files.deps),
            state=self.remote.store(root, spec.files.state, below=f"{name}/files"),
        )  # fmt: skip
        return Posted(self.remote, name, job)


class Posted:
    """A job that workers were told of: its folder here is brought up to date with what they tell."""

    def __init__(self, remote: Remote, name: str, job: Job) -> None:
        self._remote, self._name, self._job = remote, name, job
        self._attempts, self._stop = list[str](), False
        self._log: dict[str, Any] | None = None
        self._heard = time.monotonic()
        self._looked = 0.0
        self._control()

    def look(self) -> None:
        """Ask the remote for news, every few seconds.

        Raises:
            RemoteError: it has not answered for long.
        """
        if time.monotonic() - self._looked < LOOK_S:
            return
        try:
            self._look()
            self._heard = time.monotonic()
        except RemoteError:
            if time.monotonic() - self._heard > PATIENCE_S:
                raise
        self._looked = time.monotonic()

    def _look(self) -> None:
        before = len(self._attempts), self._stop
        self._see_attempts()
        self._stop = (self._job.folder / "stop").exists()
        if before != (len(self._attempts), self._stop):
            self._control()
        if self._attempts and (attempt := self._job.newest()) and not attempt.ended():
            self._take_over(attempt, f"{self._name}/{self._attempts[-1]}")

    def _see_attempts(self) -> None:
        while told := self._remote.told(f"{self._name}/attempts/{len(self._attempts) + 1}"):
            self._attempts.append(told["attempt"])
            (self._job.folder / str(len(self._attempts))).mkdir(exist_ok=True)

    def _take_over(self, attempt: Attempt, name: str) -> None:
        done = self._remote.told(f"{name}/done")
        with suppress(FileNotFoundError):
            self._remote.get(f"{name}/log", attempt.log)
        if done is None:
            return
        try:
            self._remote.fetch(done["outs"], attempt.work)
        except ContentError as error:
            with attempt.log.open("a") as log:
                log.write(f"gapscope: {error}\n")
            done["status"] = 1
        if done["status"] == 0:  # it has no state any more
            attempt.work.mkdir(exist_ok=True)
            attempt.ready.touch()
        attempt.end(done["status"], done["host"])

    def _control(self) -> None:
        self._remote.tell(f"{self._name}/control", attempts=self._attempts, stop=self._stop)

    def end(self) -> None:
        """Bring the latest state here, and remove the job from the remote: attempts that still run end."""
        self._see_attempts()
        newest = self._job.newest()
        if newest is None or not newest.ready.exists():
            for number, name in reversed(list(enumerate(self._attempts, 1))):
                if fetch_state(self._remote, f"{self._name}/{name}", (attempt := _attempt(self._job, number)).work):
                    attempt.work.mkdir(exist_ok=True)
                    attempt.ready.touch()
                    break
        self._remote.remove(self._name)


def _attempt(job: Job, number: int) -> Attempt:
    return Attempt(job.folder / str(number))


def fetch_state(remote: Remote, attempt: str, root: Path) -> bool:
    """Fetch the state that an attempt has told, and return whether it has told one.

    Raises:
        ContentError: it does not have what it should.
    """
    for last in (False, True):
        if (state := remote.told(f"{attempt}/state")) is None:
            return False
        try:
            remote.fetch(state["files"], root, below=f"{attempt}/files")
            return True
        except ContentError:
            if last:  # else it was replaced by a later one meanwhile
                raise
    return False


def end_of_killed(run: Path) -> None:
    """Bring the state here that the jobs of a killed run have in the remote, and remove them there.

    Raises:
        RemoteError: the remote cannot be reached.
    """
    if not (run / OPTIONS).exists():
        return
    told: Mapping[str, Any] = json.loads((run / OPTIONS).read_text())
    remote = Remote(told["options"])
    for folder in sorted((run / "jobs").glob("*/")):
        Posted(remote, f"{told['name']}/{folder.name}", Job(folder)).end()
    remote.remove(told["name"])


def _store_scripts(remote: Remote) -> str:
    """Store the scripts and settings of the study's folder as one archive, and return its MD5."""
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(Path(folder, "scripts.tar"), "w") as archive:
            for above, folders, files in os.walk("."):
                folders[:] = sorted(each for each in folders if not each.startswith(".") and each not in RESULTS)
                for path in sorted(Path(above, file) for file in files if file.endswith(SCRIPTS)):
                    archive.add(path, filter=_timeless)
        return remote.store(Path(folder), ["scripts.tar"])["scripts.tar"]


def _timeless(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.mtime = 0  # so that equal scripts have equal MD5s
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    return entry
