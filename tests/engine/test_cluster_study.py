"""A study that begins on this machine, goes on on a SLURM, and ends on this machine: nothing runs twice.

DVC is the real one; the stages count instead of training.
"""

import subprocess
import sys
from pathlib import Path

import pytest
from dvc.repo import Repo
from slurm import Slurm, until
from test_cluster import ROOT
from test_cluster_slurm import launcher_of
from test_cluster_slurm import slurm as slurm  # noqa: PLC0414  # a fixture

from gapscope.engine.cluster import runs
from gapscope.engine.runner import changed

pytestmark = [pytest.mark.integration, pytest.mark.filterwarnings("ignore:_NoneStep:DeprecationWarning")]  # DVC's
# it counts to 6, keeps the count in its state, and notes where it began; the file hold.N.NAME holds it up at N
STAGE = """
import sys, time
from pathlib import Path

name = sys.argv[1]
state, record = Path(f"data/checkpoints/s/{name}.json"), Path(f"metrics/s/train/{name}.csv")
state.parent.mkdir(parents=True, exist_ok=True)
record.parent.mkdir(parents=True, exist_ok=True)
counts = state.read_text().split() if state.exists() else []
counts.append("began")
while counts.count("1") < 6:
    counts.append("1")
    state.with_suffix(".new").write_text(" ".join(counts))
    state.with_suffix(".new").rename(state)
    print(f"{name}: {counts.count('1')}/6", flush=True)
    while Path(f"hold.{counts.count('1')}.{name}").exists():
        time.sleep(0.05)
record.write_text(" ".join(counts))
state.unlink()
"""
PIPELINE = """
stages:
  check: {cmd: cp revisions.yaml digest, deps: [revisions.yaml], outs: [digest: {cache: false}]}
  a: {cmd: python stage.py a --checkpoint data/checkpoints/s/a.json, deps: [digest],
    outs: [metrics/s/train/a.csv: {cache: false}]}
  b: {cmd: python stage.py b --checkpoint data/checkpoints/s/b.json, deps: [digest],
    outs: [metrics/s/train/b.csv: {cache: false}]}
  table: {cmd: cat metrics/s/train/a.csv metrics/s/train/b.csv > metrics/s/table.csv, deps: [metrics/s/train],
    outs: [metrics/s/table.csv: {cache: false}]}
"""
RUN = """
import sys
from types import SimpleNamespace
from gapscope.engine import locks, runner
from gapscope.engine.cluster import runs
from gapscope.engine.cluster.settings import ClusterSettings, Needs, Resources

locks.mend()
runs.bring_back("s")
graph, unsure = runner.changed()
if sys.argv[1] == "here":
    runner.check(runner.run(graph, runner.start_stage(0, unsure), 2))
else:
    params = SimpleNamespace(study="s", groups={"runtime": {"launcher": None}})
    dask = {"walltime": "00:10:00", "interface": "lo"}, Resources(0, 1.0, 1)
    options, worker = dask if sys.argv[1] == "slurm" else ({"time": "10"}, None)
    settings = ClusterSettings(sys.argv[1], options, {"default": Needs(0, 1.0)}, worker, (), {}, None, None, 9, 3)
    runs.announce(settings, params, graph, 2, sure=False)
    with runs.running(settings, params, graph, 2) as environment:
        runner.check(runner.run(graph, runner.start_stage(0, unsure, environment), 2))
"""


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))
    monkeypatch.setenv("DVC_NO_ANALYTICS", "1")
    for name, text in (("stage.py", STAGE), ("dvc.yaml", PIPELINE), ("run.py", RUN)):
        Path(name).write_text(text)
    Path("revisions.yaml").write_text("check: {revision: 1, date: 2026-11-30, changed: first}\n")
    Repo.init(no_scm=True).close()
    return tmp_path


def count_of(name: str) -> int:
    """Return how far a stage is, here or in its newest attempt."""
    places = [Path("."), *sorted(Path("data/cluster").glob(f"s/*/jobs/{name}.1/*/work"))]
    found = [place / f"data/checkpoints/s/{name}.json" for place in places]
    return max((path.read_text().split().count("1") for path in found if path.exists()), default=0)


def start(where: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, "run.py", where], start_new_session=True)


@pytest.mark.parametrize("launcher", ["sbatch", "slurm"])
def test_a_study_moves_to_a_cluster_and_back(study: Path, slurm: Slurm, launcher: str) -> None:
    launcher_of(launcher)  # skips, or fails, where Dask is missing
    Path("hold.2.a").touch()
    with start("here") as here:
        until(lambda: count_of("a") == 2 and Path("metrics/s/train/b.csv").exists())
        here.send_signal(2)
    assert here.returncode != 0
    Path("hold.4.a").touch()
    Path("hold.2.a").unlink()
    with start(launcher) as there:
        until(lambda: count_of("a") == 4)
        assert "goes on" in runs.cancel("s")
    assert there.returncode != 0
    assert not Path("metrics/s/train/a.csv").exists()
    Path("hold.4.a").unlink()
    Path("hold.5.a").touch()
    with start(launcher) as there:  # this time it is killed
        until(lambda: count_of("a") == 5)
        there.kill()
    until(lambda: not slurm.ask("squeue", "--noheader", "--states=RUNNING"))
    Path("hold.5.a").unlink()
    assert subprocess.run([sys.executable, "run.py", "here"], check=False).returncode == 0
    assert Path("metrics/s/table.csv").read_text() == (
        "began 1 1 began 1 1 began 1 began 1" + "began 1 1 1 1 1 1"  # a, in four parts, and b
    )
    assert changed() == ({}, set())
    assert not list(Path("data/cluster/s").iterdir())
