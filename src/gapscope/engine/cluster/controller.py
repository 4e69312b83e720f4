"""The controller's side: it answers each waiting shell with the log and the exit status of its stage.

A thread per stage makes the job, gives it to the launcher and looks after its newest attempt. If the attempt has ended,
its outputs and its state are moved into the study's folder. If it was lost, the job is started again.
"""

import json
import select
import shlex
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingUnixStreamServer
from threading import Event, Thread
from typing import Any

from gapscope.engine.cluster import shell
from gapscope.engine.cluster.jobs import Attempt, Job, Spec
from gapscope.engine.cluster.launcher import Ending, Launcher, Started
from gapscope.engine.cluster.relay import Relay
from gapscope.engine.cluster.same_code import Code
from gapscope.engine.cluster.settings import ClusterSettings, Resources
from gapscope.engine.cluster.workfolder import StageFiles, copy_state, move_outputs, state_of
from gapscope.records.provenance import FOLDER as PROVENANCE
from gapscope.records.tables import read_record, write_record

POLL_S = 0.25
LATE_S = 10.0  # how much later than a job's end a shared file system may show its files
STOPPING_S = 40.0  # after it, a job that was asked to end is cancelled
ANYWHERE = ("OMP_NUM_THREADS",)  # and gapscope's own
FORWARDED = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", *ANYWHERE)  # to machines with the same folders


class Controller:
    """Runs stages on a cluster. `shell` is the program that SHELL must name for DVC.

    Args:
        launcher: to start jobs with.
        settings: of the cluster.
        files, needs: of each stage.
        run: folder of this run; its jobs are in `jobs`.
        commit: of the code, for provenance.
        relay: to the workers if they do not see the folder.
    """

    def __init__(
        self,
        launcher: Launcher,
        settings: ClusterSettings,
        *,
        files: Mapping[str, StageFiles],
        needs: Mapping[str, Resources],
        run: Path,
        commit: str | None = None,
        relay: Relay | None = None,
    ) -> None:
        self.launcher, self.settings, self.run = launcher, settings, run.resolve()
        self.stopping = Event()
        self._files, self._needs, self._code, self._root = files, needs, Code.imported(), Path.cwd()
        self._own = {"GAPSCOPE_COMMIT": commit} if commit else {}
        self._relay = relay
        self._place = Path(tempfile.mkdtemp(prefix="gapscope-"))  # a socket's path must be short
        self.shell = self._place / "gapscope-shell"
        self._server = ThreadingUnixStreamServer(str(self._place / "socket"), self._handler())
        self._server.daemon_threads = True

    def __enter__(self) -> "Controller":
        waits = shlex.join([sys.executable, "-I", "-S", shell.__file__, str(self._place / "socket")])
        self.shell.write_text(f'#!/bin/sh\nexec {waits} "$@"\n')
        self.shell.chmod(0o700)
        Thread(target=self._server.serve_forever, args=(0.2,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        shutil.rmtree(self._place, ignore_errors=True)

    def _handler(self) -> type[StreamRequestHandler]:
        controller = self

        class Handler(StreamRequestHandler):
            def handle(self) -> None:
                controller.answer(self.rfile.readline(), self.connection)

        return Handler

    def answer(self, request: bytes, link: socket.socket) -> None:
        """Run the stage that a shell asks for, and send it the log and the exit status."""

        def send(**message: Any) -> None:
            with suppress(OSError):  # the shell was killed
                link.sendall(json.dumps(message).encode() + b"\n")

        asked = json.loads(request)
        if self.settings.runs_here(asked["stage"]):
            send(here=True)
            return
        try:
            send(status=self._attend(asked, link, lambda text: send(log=text)))
        except Exception as error:
            send(log=f"gapscope: the controller failed: {type(error).__name__}: {error}\n")
            send(status=1)
            raise

    def _attend(self, asked: dict[str, Any], link: socket.socket, say: Callable[[str], None]) -> int:
        """Start a stage's job, as often as is needed, and return the exit status of the attempt that counts."""
        job = Job.create(self.run / "jobs", self._spec(asked))
        posted = self._relay.post(job) if self._relay else None
        needs = self._needs[asked["stage"]]
        log = _Log(job, say)
        for number in range(1, self.settings.attempts + 1):
            attended = _Attended(job, self.launcher.start(job, self._command(job), needs), link, self.stopping)
            while attended.goes_on():
                if posted:
                    posted.look()
                log.show()
                time.sleep(POLL_S)
            log.show()
            lost = job.attempts() and attended.ending.again  # one that never began would not begin the next time
            if attended.attempt or attended.stopped or not lost:
                break
            if number < self.settings.attempts:
                say(f"the job was lost ({attended.ending.how}): starting it again\n")
        if posted:
            posted.end()
        return self._finish(job, attended, say)

    def _finish(self, job: Job, attended: "_Attended", say: Callable[[str], None]) -> int:
        files, status = job.spec().files, 1
        if attended.attempt:
            ended = attended.attempt.ended()
            assert ended is not None
            status = ended["status"]
            if status == 0:
                move_outputs(attended.attempt.work, self._root, files)
                _note_host(files, self._root, ended["host"])
            elif status == 128 + 9:
                say("gapscope: killed (signal 9): it may need more memory; memory_gb in the cluster's file gives it\n")
        elif attended.stopped:
            say("gapscope: stopped\n")
        else:
            say(f"gapscope: the job ended without a result: {self._reason(job, attended.ending)}\n")
        if latest := job.latest_work():  # after the outputs: a finished run has no state any more
            copy_state(latest, self._root, files)
        shutil.rmtree(job.folder, ignore_errors=True)
        return status

    def _spec(self, asked: dict[str, Any]) -> Spec:
        stage, command = asked["stage"], asked["command"]
        declared = self._files[stage]
        environment = {
            name: value
            for name, value in asked["environment"].items()
            if name in (ANYWHERE if self._relay else FORWARDED) or name.startswith("GAPSCOPE_")
        }
        return Spec(
            stage=stage,
            command=command,
            root=str(self._root),
            alive=str(self.run / "alive"),
            environment=environment | self._own | self.settings.environment,
            files=StageFiles(declared.deps, declared.outs, state_of(command)),
            code=self._code,
        )

    def _command(self, job: Job) -> list[str]:
        """Return the command that a launcher starts: an attempt, with the variables that its own imports need."""
        own = job.spec().environment
        needed = [f"{name}={own[name]}" for name in ("PYTHONPATH", "LD_LIBRARY_PATH") if name in own]
        python = self.settings.python or sys.executable
        if self._relay:
            return [python, *self._relay.command(job)]
        attempt = ["env", *needed, python, "-m", "gapscope.engine.cluster.attempt", str(job.folder)]
        return ["sh", "-c", f'exec "$@" >>{shlex.quote(str(job.launch_log))} 2>&1', "sh", *attempt]

    def _reason(self, job: Job, ending: Ending) -> str:
        """Return why there is no result, in one line."""
        if job.attempts() or not ending.again or self._relay:
            return " ".join(ending.how.split())
        said = job.launch_log.read_text(errors="replace").split("\n") if job.launch_log.exists() else []
        if lines := [line.strip() for line in said if line.strip()]:
            return lines[-1]
        return f"no worker wrote to {job.folder}; all machines must share the study's folder ({ending.how})"


class _Attended:
    """A job that was started: waits for an attempt that ended, for the loss of the job, or for a stop."""

    def __init__(self, job: Job, started: Started, link: socket.socket, stopping: Event) -> None:
        self._job, self._started, self._link, self._stopping = job, started, link, stopping
        self._before = len(job.attempts())
        self._ended_at: float | None = None
        self._stopped_at: float | None = None
        self.attempt: Attempt | None = None
        self.ending = Ending("it was stopped", again=False)

    @property
    def stopped(self) -> bool:
        """Whether the controller, or DVC, asked it to end."""
        return self._stopped_at is not None

    def goes_on(self) -> bool:
        """Look, and return whether there is still something to wait for."""
        attempts = self._job.attempts()
        if attempts and attempts[-1].ended():
            self.attempt = attempts[-1]
            if self._before:  # it may be one of an earlier start, whose job was not lost after all
                self._started.cancel()
            return False
        now = time.monotonic()
        if not self.stopped and (self._stopping.is_set() or _closed(self._link)):
            self._stopped_at = now
            self._job.stop()
            if len(attempts) == self._before:  # it waits in a queue
                self._started.cancel()
                return False
        if self._stopped_at is not None and now - self._stopped_at > STOPPING_S:
            self._started.cancel()
            return False
        if ending := self._started.ending():
            self.ending, self._ended_at = ending, self._ended_at or now
            return ending.again and now - self._ended_at < LATE_S
        return True


class _Log:
    """Shows what the newest attempt has written since the last look."""

    def __init__(self, job: Job, say: Callable[[str], None]) -> None:
        self._job, self._say = job, say
        self._path, self._seen = Path(), 0

    def show(self) -> None:
        newest = self._job.newest()
        if newest is None or not newest.log.exists():
            return
        if newest.log != self._path:
            self._path, self._seen = newest.log, 0
        with self._path.open("rb") as file:
            file.seek(self._seen)
            new = file.read()
        self._seen += len(new)
        if new:
            self._say(new.decode("utf-8", errors="replace"))


def _closed(link: socket.socket) -> bool:
    """Whether the shell has ended, or asked to stop: it writes nothing after its request."""
    return bool(select.select([link], [], [], 0)[0])


def _note_host(files: StageFiles, root: Path, host: str) -> None:
    """Add to a record's provenance on which machine it was made."""
    for out in files.outs:
        if out.startswith(f"{PROVENANCE}/") and (path := root / out).suffix == ".json" and path.exists():
            write_record(path, read_record(path) | {"host": host})
