"""The launchers on a real SLURM of two hosts: jobs run, a host is killed, the state is gone on from."""

import importlib.util
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from slurm import HOSTS, Slurm, programs, until
from test_cluster import COMMAND, FILES, ROOT, SETTINGS, STATE, Asked, alive, attempt_at, content, counted, pid_in
from test_cluster import study as study  # noqa: PLC0414  # a fixture

from gapscope.engine.cluster.controller import Controller
from gapscope.engine.cluster.dask_launcher import DaskLauncher
from gapscope.engine.cluster.heartbeat import Heart
from gapscope.engine.cluster.launcher import Launcher
from gapscope.engine.cluster.sbatch import Sbatch
from gapscope.engine.cluster.settings import Resources

DASK_LEAVES = [  # sockets and tasks of its own, when it ends
    pytest.mark.filterwarnings(f"ignore::{name}")
    for name in ("pytest.PytestUnraisableExceptionWarning", "ResourceWarning", "RuntimeWarning", "DeprecationWarning")
]
pytestmark = [pytest.mark.integration, *DASK_LEAVES]
NEEDED = "GAPSCOPE_NEEDS_SLURM"  # where it is set, SLURM and Dask must be there
DASK = replace(
    SETTINGS, launcher="slurm", worker=Resources(0, 1.0, 1), options={"walltime": "00:10:00", "interface": "lo"}
)


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    if missing := [name for name, path in programs().items() if path is None]:
        assert not os.environ.get(NEEDED), f"{missing} are not installed"
        pytest.skip(f"{', '.join(missing)} are not installed; Debian's package slurm-wlm has them")
    with ExitStack() as stack:
        try:
            found = stack.enter_context(Slurm(tmp_path_factory.mktemp("slurm")))
        except (AssertionError, OSError) as error:
            if os.environ.get(NEEDED):
                raise
            pytest.skip(f"SLURM does not start here: {error}")
        yield found


@contextmanager
def on_launcher(launcher: Launcher) -> Iterator[Controller]:
    run = Path("data/cluster/s/run")
    run.mkdir(parents=True)
    needs = dict.fromkeys(FILES, Resources(0, 1, 1))
    (run / "alive").write_text("0")
    with (
        launcher,
        Controller(launcher, SETTINGS, files=FILES, needs=needs, run=run) as found,
        Heart(run / "alive", lambda: None),
    ):
        yield found


def launcher_of(name: str) -> Launcher:
    if name == "sbatch":
        return Sbatch({"time": "10"})
    if importlib.util.find_spec("dask_jobqueue") is None:
        assert not os.environ.get(NEEDED), "dask_jobqueue is not installed"
        pytest.skip("dask_jobqueue is not installed: uv sync --extra cluster")
    return DaskLauncher(DASK, 2, Path("data/cluster/s/run/dask"))


@pytest.mark.parametrize("name", ["sbatch", "slurm"])
def test_a_killed_host_s_stage_goes_on_elsewhere_and_its_orphan_changes_nothing(
    study: Path, slurm: Slurm, name: str
) -> None:
    Path("slow.1").touch()
    with on_launcher(launcher_of(name)) as found:
        asked = Asked(found, "train@a", COMMAND)
        until(counted(1, 3))
        orphan = pid_in(attempt_at(1) / "work")
        slurm.kill(host := host_of(orphan))
        assert alive(orphan)
        status, said = asked.end()
        assert (status, Path("metrics/s/train/a.csv").read_text()) == (0, "attempt 2 from 3\n"), said
        before = content(study)
        Path("slow.1").unlink()
        until(lambda: not alive(orphan))
        assert content(study) == {file: text for file, text in before.items() if file != "slow.1"}
        slurm.revive(host)
    assert not Path(STATE).exists()
    until(lambda: not slurm.ask("squeue", "--noheader"))


# a small network, trained by gapscope's own loop; slow.N holds up attempt N once its first epoch is saved
TRAINING = f"""
import sys, time
from pathlib import Path

import torch
from runs import network, run
from safetensors.torch import save_file
from gapscope.records.checkpoints import Checkpoint

torch.set_num_threads(1)
checkpoint, hold = Checkpoint(Path("{STATE}"), {{"a": 1}}, 1), Path(f"slow.{{Path.cwd().parent.name}}")

def stop():
    while checkpoint.path.exists() and hold.exists():
        time.sleep(0.05)
    return False

model = network()
run(model, checkpoint, stop=stop)
checkpoint.remove()
save_file(model.state_dict(), sys.argv[1])
"""


def test_a_training_whose_host_is_killed_ends_with_the_bits_of_one_that_was_not(
    study: Path, slurm: Slurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(str, (ROOT / "src", ROOT / "tests/training", ROOT / "tests"))))
    Path("training.py").write_text(TRAINING)
    Path("slow.1").touch()
    out = Path("metrics/s/train/a.csv")  # the output that is declared
    with on_launcher(Sbatch({"time": "10"})) as found:
        asked = Asked(found, "train@a", f"python training.py {out} --checkpoint {STATE}")
        until((attempt_at(1) / "work" / STATE).exists)
        orphan = pid_in(attempt_at(1) / "work", b"training.py")
        slurm.kill(host := host_of(orphan))
        assert alive(orphan)
        status, said = asked.end()
        assert (status, "going on from update" in said) == (0, True), said
        ended = out.read_bytes()
        Path("slow.1").unlink()
        until(lambda: not alive(orphan))
        assert out.read_bytes() == ended
        slurm.revive(host)
    Path("data/checkpoints/s").mkdir(parents=True, exist_ok=True)
    subprocess.run([sys.executable, "training.py", "whole"], check=True)
    assert Path("whole").read_bytes() == ended


def test_a_job_that_waits_in_the_queue_is_taken_back(study: Path, slurm: Slurm) -> None:
    with on_launcher(Sbatch({"time": "10", "begin": "now+1hour"})) as found:
        asked = Asked(found, "train@a", COMMAND)
        until(lambda: "PENDING" in slurm.ask("squeue", "--noheader", "--format=%T"))
        found.stopping.set()
        assert asked.end()[0] == 1
    until(lambda: not slurm.ask("squeue", "--noheader", "--states=PENDING,RUNNING"))


def test_a_job_that_slurm_does_not_take_is_one_line(study: Path, slurm: Slurm) -> None:
    with on_launcher(Sbatch({"partition": "no_such"})) as found:
        start = time.monotonic()
        status, said = Asked(found, "train@a", COMMAND).end()
        assert time.monotonic() - start < 60
    assert status == 1
    assert re.search("without a result: .*Invalid partition", said.splitlines()[-1])


def test_the_end_of_the_time_limit_is_gone_on_from(study: Path, slurm: Slurm) -> None:
    """SLURM sends SIGTERM to the attempt, which ends the stage; the job is started again."""
    Path("slow.1").touch()
    with on_launcher(Sbatch({"time": "10"})) as found:
        asked = Asked(found, "train@a", COMMAND)
        until(counted(1, 3))
        slurm.ask("scancel", "--signal=TERM", "--batch", "--name=gapscope.s.run.train@a.1")
        status, said = asked.end()
    assert (status, Path("metrics/s/train/a.csv").read_text()) == (0, "attempt 2 from 3\n"), said


def host_of(pid: int) -> str:
    """Return the host in whose job a process runs."""
    (host,) = re.findall(r"SLURMD_NODENAME=(\w+)", Path(f"/proc/{pid}/environ").read_bytes().decode())
    return host


assert len(HOSTS) == 2  # or a killed one's job would have no other
