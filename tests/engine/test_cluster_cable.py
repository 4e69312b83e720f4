"""A network cable is pulled in mid-training: the stage ends on the other host, with the bits of a run without that.

Dask's scheduler is on this machine, and two workers are on hosts that have nothing but a cable to it.
"""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import yaml
from cable import HERE, Cables, cables
from slurm import until
from test_cluster import ROOT, STATE, Asked, alive, attempt_at, content, pid_in
from test_cluster import study as study  # noqa: PLC0414  # a fixture
from test_cluster_dask import _dask as _dask  # noqa: PLC0414  # a fixture
from test_cluster_dask import join, parent
from test_cluster_slurm import DASK_LEAVES, TRAINING, on_launcher

pytestmark = [pytest.mark.integration, *DASK_LEAVES]
TTL = {"DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL": "10s"}  # for gapscope's own schedulers it is 60 s
OUT = Path("metrics/s/train/a.csv")


@pytest.fixture
def hosts() -> Iterator[Cables]:
    with ExitStack() as stack:
        try:
            found = stack.enter_context(cables())
        except (OSError, subprocess.CalledProcessError) as error:
            pytest.skip(f"network namespaces are not allowed here: {getattr(error, 'stderr', None) or error}")
        yield found


class Machines:
    """Dask's scheduler here, and a worker on each host."""

    def __init__(self, folder: Path, hosts: Cables) -> None:
        self._folder, place = folder, folder / "scheduler.json"
        own = ("scheduler", "--host", HERE, "--port", "0", "--no-dashboard", "--scheduler-file", str(place))
        self._scheduler = self._start([], *own)
        until(place.exists)
        self.address = yaml.safe_load(place.read_text())["address"]
        has = ("--nthreads", "1", "--resources", "CPU=1,GPU=0,GB=1", "--no-nanny", "--no-dashboard")
        self.workers = [self._start(hosts.into(number), "worker", self.address, *has) for number in (1, 2)]

    def _start(self, before: list[str], *arguments: str) -> "subprocess.Popen[bytes]":
        command, environment = [*before, sys.executable, "-m", "dask", *arguments], os.environ | TTL
        with (self._folder / "log").open("ab") as log:
            return subprocess.Popen(
                command, cwd=self._folder, stdout=log, stderr=log, env=environment, start_new_session=True
            )

    def end(self) -> None:
        for process in (*self.workers, self._scheduler):
            process.kill()
            process.wait()


@pytest.fixture
def machines(
    tmp_path_factory: pytest.TempPathFactory, hosts: Cables, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Machines]:
    path = os.pathsep.join(map(str, (ROOT / "src", ROOT / "tests/training", ROOT / "tests")))
    monkeypatch.setenv("PYTHONPATH", path)
    found = Machines(tmp_path_factory.mktemp("dask"), hosts)
    yield found
    found.end()


def test_a_pulled_cable_changes_no_bit_and_neither_does_what_it_cut_off(
    study: Path, hosts: Cables, machines: Machines
) -> None:
    """The attempt of the host is stopped with it, as its file system would hang; what it has started trains on."""
    Path("training.py").write_text(TRAINING)
    Path("slow.1").touch()
    with on_launcher(join(machines.address)) as found:
        asked = Asked(found, "train@a", f"python training.py {OUT} --checkpoint {STATE}")
        until((attempt_at(1) / "work" / STATE).exists)
        orphan = pid_in(attempt_at(1) / "work", b"training.py")
        own = parent(parent(orphan))
        (number,) = [n for n, worker in enumerate(machines.workers, 1) if worker.pid == parent(own)]
        hosts.pull(number)
        os.kill(own, signal.SIGSTOP)
        try:
            status, said = asked.end()
            assert (status, "going on from update" in said) == (0, True), said
            assert alive(orphan)
            before = content(study)
            Path("slow.1").unlink()
            until(lambda: not alive(orphan))
            hosts.put_in(number)
        finally:
            os.kill(own, signal.SIGCONT)
        until(lambda: not alive(own))
        assert content(study) == {file: text for file, text in before.items() if file != "slow.1"}
    assert OUT.read_bytes() == of_one_machine()


def of_one_machine() -> bytes:
    """Return what the training ends with if nothing happens."""
    shutil.rmtree(Path(STATE).parent, ignore_errors=True)
    Path(STATE).parent.mkdir(parents=True)
    subprocess.run([sys.executable, "training.py", "whole"], check=True)
    return Path("whole").read_bytes()
