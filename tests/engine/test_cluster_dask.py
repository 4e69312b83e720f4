"""The launcher with Dask, on a scheduler and workers that are processes of this machine."""

import importlib.util
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from slurm import until
from test_cluster import COMMAND, SETTINGS, STATE, Asked, alive, attempt_at, content, counted, pid_in
from test_cluster import study as study  # noqa: PLC0414  # a fixture
from test_cluster_slurm import DASK_LEAVES, NEEDED, on_launcher

from gapscope.engine.cluster import dask_launcher
from gapscope.engine.cluster.dask_launcher import DaskLauncher
from gapscope.engine.cluster.settings import Resources
from gapscope.errors import InputError

pytestmark = [pytest.mark.integration, *DASK_LEAVES]
HAS = Resources(0, 1.0, 1)
LOCAL = replace(SETTINGS, launcher="local", worker=HAS)


@pytest.fixture(autouse=True)
def _dask() -> None:
    if importlib.util.find_spec("distributed") is None:
        assert not os.environ.get(NEEDED), "dask is not installed"
        pytest.skip("dask is not installed: uv sync --extra cluster")


class Machines:
    """Dask's scheduler and two workers."""

    def __init__(self, folder: Path) -> None:
        self.place = folder / "scheduler.json"
        own = ["--host", "127.0.0.1", "--no-dashboard", "--scheduler-file", str(self.place)]
        self.scheduler = self._start("scheduler", folder, "--port", "0", *own[:2], "--no-dashboard", *own[3:])
        until(self.place.exists)
        has = ["--nthreads", "1", "--resources", "CPU=1,GPU=0,GB=1", "--no-nanny", "--scheduler-file", str(self.place)]
        self.workers = [self._start("worker", folder, "--name", name, *has) for name in "ab"]
        self.address = re.findall('"address": "([^"]+)"', self.place.read_text())[0]

    def _start(self, name: str, folder: Path, *arguments: str) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-m", "dask", name, *arguments]
        with (folder / f"{name}.log").open("ab") as log:
            return subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, start_new_session=True)

    def end(self) -> None:
        for process in (*self.workers, self.scheduler):
            process.kill()
            process.wait()


@pytest.fixture
def machines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machines]:
    found = Machines(tmp_path_factory.mktemp("dask"))
    yield found
    found.end()


def join(address: str) -> DaskLauncher:
    return DaskLauncher(replace(LOCAL, launcher="address", options={"address": address}), 2, Path("dask"))


def test_a_killed_worker_s_stage_goes_on_on_the_other(study: Path, machines: Machines) -> None:
    Path("slow.1").touch()
    with on_launcher(join(machines.address)) as found:
        asked = Asked(found, "train@a", COMMAND)
        until(counted(1, 3))
        orphan = pid_in(attempt_at(1) / "work")
        own = parent(parent(orphan))  # stage, shell, attempt, worker
        (worker,) = [each for each in machines.workers if each.pid == parent(own)]
        os.kill(own, signal.SIGKILL)
        worker.kill()
        status, said = asked.end()
        assert (status, Path("metrics/s/train/a.csv").read_text()) == (0, "attempt 2 from 3\n"), said
        before = content(study)
        Path("slow.1").unlink()
        until(lambda: not alive(orphan))
        assert content(study) == {file: text for file, text in before.items() if file != "slow.1"}


def test_a_scheduler_that_goes_away_leaves_no_stage_and_is_one_line(study: Path, machines: Machines) -> None:
    Path("slow.1").touch()
    with on_launcher(join(machines.address)) as found:
        asked = Asked(found, "train@a", COMMAND)
        until(counted(1, 3))
        stage = pid_in(attempt_at(1) / "work")
        machines.scheduler.kill()
        status, said = asked.end()
        until(lambda: not alive(stage))
    assert (status, said.splitlines()[-1]) == (
        1,
        "gapscope: the job ended without a result: the Dask scheduler has gone",
    )
    assert Path(STATE).read_text() == "3"


def test_an_unreachable_scheduler_is_one_line(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dask_launcher, "CONNECT", "2s")
    with pytest.raises(InputError, match=r"Dask cannot start the cluster .*127.0.0.1:9"), join("tcp://127.0.0.1:9"):
        pass


def test_workers_of_this_machine(study: Path) -> None:
    with on_launcher(DaskLauncher(LOCAL, 2, Path("dask"))) as found:
        both = [Asked(found, name, f"echo {name}") for name in ("train@a", "tables")]
        assert [asked.end()[0] for asked in both] == [0, 0]


def test_a_missing_package_is_one_line(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dask_launcher, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="needs the package distributed: install"), join("tcp://127.0.0.1:9"):
        pass


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
