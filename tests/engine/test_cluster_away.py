"""Stages on machines that share no file system with the controller: a DVC remote is between them.

The machines are processes here, and the remote is a folder. `test_cluster_s3` does the same with an S3 server.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import md5
from pathlib import Path

import pytest
from test_cluster import (
    COMMAND,
    FILES,
    ROOT,
    SETTINGS,
    STATE,
    Asked,
    OneProcess,
    Processes,
    alive,
    content,
    pid_in,
    until,
)  # fmt: skip
from test_cluster import study as study  # noqa: PLC0414  # a fixture

from gapscope.engine.cluster import heartbeat, relay, runs
from gapscope.engine.cluster.controller import Controller
from gapscope.engine.cluster.heartbeat import Heart
from gapscope.engine.cluster.jobs import Job, Spec
from gapscope.engine.cluster.relay import Relay
from gapscope.engine.cluster.remote import Remote, RemoteError, content_name, remote_of
from gapscope.engine.cluster.same_code import Code
from gapscope.engine.cluster.settings import Resources
from gapscope.engine.cluster.workfolder import StageFiles, state_of
from gapscope.errors import InputError

RUN = Path("data/cluster/s/run")
DECLARED = (FILES["train@a"].deps, FILES["train@a"].outs)
THREE = md5(b"3").hexdigest()


class Elsewhere(Processes):
    """Its processes run in another folder; `environment` is what they have beside this one's."""

    def __init__(self, folder: Path, **environment: str) -> None:
        super().__init__()
        self.folder, self.environment = folder, os.environ | environment

    def start(self, job: Job, command: list[str], resources: Resources) -> OneProcess:
        self.machines.append(subprocess.Popen(command, cwd=self.folder, env=self.environment))
        return OneProcess(self.machines[-1])


@pytest.fixture
def place(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for the remote and for the workers."""
    monkeypatch.setattr(relay, "LOOK_S", 0.2)
    folder = tmp_path_factory.mktemp("elsewhere")
    (folder / "cwd").mkdir()
    return folder


def remote_in(place: Path) -> Remote:
    return Remote({"url": str(place / "remote")})


@contextmanager
def on_machines(place: Path, **environment: str) -> Iterator[Controller]:
    RUN.mkdir(parents=True)
    needs = dict.fromkeys(FILES, Resources(0, 1, 1))
    own = Relay(remote_in(place), str(place / "workers"), RUN)
    with (
        Elsewhere(place / "cwd", **environment) as launcher,
        own,
        Controller(launcher, SETTINGS, files=FILES, needs=needs, run=RUN, commit="abc", relay=own) as found,
        Heart(RUN / "alive", own.beat),
    ):
        yield found


def works(place: Path) -> list[Path]:
    """Return the folders in which attempts run their command, the newest last."""
    return sorted(place.glob("workers/*/jobs/train@a.1/1/work"), key=lambda path: path.stat().st_ctime)


def told(place: Path) -> bool:
    """Whether the remote has the state in which a command that is held up counts 3."""
    states = place.glob("remote/gapscope/*/train@a.1/*/state")
    return any((state.parent / content_name(THREE, "files")).exists() for state in states)


def test_outputs_log_status_and_host_come_back_through_the_remote(study: Path, place: Path) -> None:
    with on_machines(place) as found:
        status, said = Asked(found, "train@a", COMMAND).end()
        assert status == 0, said
        kept = {path.read_text() for path in place.glob("workers/kept/files/md5/*/*") if path.stat().st_size < 99}
        assert {"data/in.npz", "params.yaml"} <= kept  # what the stage depends on, and no other result
        assert "metrics/other/x.csv" not in kept
    assert Path("metrics/s/train/a.csv").read_text() == "attempt 1 from 0\n"
    assert [line for line in said.splitlines() if "count" in line] == [f"count: {n}/5" for n in range(1, 6)]
    assert json.loads(Path("provenance/s/train/a.json").read_text())["host"]
    assert not Path(STATE).exists()
    assert not list(place.glob("remote/gapscope/*-*"))
    assert [path for path in (place / "workers").iterdir() if path.name != "kept"] == []


def hold(study: Path) -> None:
    """Hold up the first attempt at 3: a worker has the scripts of the study, not its other files."""
    script = study / "counting.py"
    script.write_text(script.read_text().replace('Path(f"slow.{number}").exists()', f'Path("{study}/slow.1").exists()'))
    Path("slow.1").touch()


def test_a_lost_worker_s_stage_goes_on_and_its_orphan_changes_nothing(study: Path, place: Path) -> None:
    hold(study)
    with on_machines(place) as found:
        asked = Asked(found, "train@a", COMMAND)
        until(lambda: told(place))
        orphan = pid_in(works(place)[0])
        os.kill(orphan, signal.SIGSTOP)
        found.launcher.machines[0].kill()
        Path("slow.1").unlink()
        status, said = asked.end()
        assert (status, Path("metrics/s/train/a.csv").read_text()) == (0, "attempt 1 from 3\n"), said
        assert "starting it again" in said
        before = content(study), contents(place)
        os.kill(orphan, signal.SIGCONT)
        until(lambda: not alive(orphan))
        assert (content(study), contents(place)) == before


def test_a_stop_keeps_the_state(study: Path, place: Path) -> None:
    hold(study)
    with on_machines(place) as found:
        asked = Asked(found, "train@a", COMMAND)
        until(lambda: bool(works(place)) and (works(place)[0] / STATE).exists())
        until(lambda: (works(place)[0] / STATE).read_text() == "3")
        found.stopping.set()
        assert asked.end()[0] != 0
    assert Path(STATE).read_text() == "3"
    assert not Path("metrics/s/train/a.csv").exists()


def test_the_state_of_a_killed_controller_is_gone_on_from(study: Path, place: Path) -> None:
    hold(study)
    RUN.mkdir(parents=True)
    own = Relay(remote_in(place), str(place / "workers"), RUN)
    with own:
        spec = Spec("train@a", COMMAND, str(study), "", {}, StageFiles(*DECLARED, state_of(COMMAND)), Code.imported())
        job = Job.create(RUN / "jobs", spec)
        own.post(job)
        start = time.monotonic()
        with subprocess.Popen([sys.executable, *own.command(job)], cwd=place / "cwd") as machine:
            assert machine.wait() != 0
        assert time.monotonic() - start > heartbeat.DEAD_S
        assert works(place) == []
        runs.bring_back("s")
        assert Path(STATE).read_text() == "3"
        assert not RUN.exists()
        assert contents(place, "gapscope/*-*/**/*") == {}


def test_another_content_than_its_md5_says_is_one_line(study: Path, place: Path) -> None:
    damaged = place / "remote" / content_name(md5(b"data/in.npz").hexdigest())
    damaged.parent.mkdir(parents=True)
    damaged.write_text("something else")
    with on_machines(place) as found:
        status, said = Asked(found, "train@a", COMMAND).end()
    assert (status, f"{damaged.name} has the MD5" in said.splitlines()[-1]) == (2, True), said


def test_a_worker_with_other_code_says_so(study: Path, place: Path) -> None:
    shutil.copytree(ROOT / "src/gapscope", place / "other/gapscope", ignore=shutil.ignore_patterns("__pycache__"))
    with (place / "other/gapscope/errors.py").open("a") as file:
        file.write("EDITED = 1\n")
    with on_machines(place, PYTHONPATH=str(place / "other")) as found:
        status, said = Asked(found, "train@a", COMMAND).end()
    assert (status, "has other code of gapscope" in said.splitlines()[-1]) == (2, True), said


def test_an_unknown_or_unreachable_remote_is_one_line(study: Path) -> None:
    Path(".dvc/config").write_text("['remote \"here\"']\n    url = http://127.0.0.1:9/nothing\n")
    shutil.rmtree(".git")
    subprocess.run(["git", "init", "-q"], check=True)
    with pytest.raises(InputError, match="no DVC remote 'hear'; did you mean 'here'"):
        remote_of("hear")
    with pytest.raises(RemoteError, match=r"cannot be read .*127\.0\.0\.1"):
        remote_of("here").told("x")


def contents(place: Path, pattern: str = "files/**/*") -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in (place / "remote").glob(pattern) if path.is_file()}
